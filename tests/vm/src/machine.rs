//! One machine: its process, and the agent inside.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use naam_vm_agent::{Action, Bytes, CHUNK_BYTES, End, Event, Request, Stream, encode, read};

use crate::{
    Accelerator, Error, console,
    image::Image,
    qemu::{self, Card, Spec},
};

/// How long a command may take, unless the caller says otherwise.
pub const COMMAND_TIME: Duration = Duration::from_secs(60);
/// How long a service may take until it serves.
const SERVE_TIME: Duration = Duration::from_secs(300);
/// How long a service may run that nobody ends.
const SERVICE_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// How much longer than the agent we wait, for an emulated machine to say how it went.
pub(crate) const GRACE: Duration = Duration::from_secs(20);
/// How long QEMU may take to end after the machine's side of the port was closed.
const EXIT_TIME: Duration = Duration::from_secs(2);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What a machine is doing until its agent says that it is ready.
pub(crate) const BOOTING: &str = "booting";
/// Number of the only event that nobody asked for.
const READY: u64 = 0;

/// A machine that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    qemu: Mutex<Child>,
    port: Mutex<UnixStream>,
    routes: Arc<Mutex<Routes>>,
    ready: Receiver<Event>,
    next_id: AtomicU64,
    console: PathBuf,
    kernel: String,
    grace: Duration,
}

/// Where events go, by request.
#[derive(Debug, Default)]
struct Routes {
    receivers: BTreeMap<u64, Sender<Event>>,
    /// Why no more events come.
    closed: Option<String>,
}

/// What a program wrote, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub end: End,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it succeeded.
    pub fn success(&self) -> bool {
        self.end == End::Code(0)
    }

    /// Both, for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&[self.stdout.as_slice(), &self.stderr].concat()).into_owned()
    }

    fn failure(&self, machine: &Machine, line: &str) -> Error {
        let (vm, line) = (machine.name.clone(), line.trim().to_owned());
        Error::Failed { vm, line, end: self.end, output: self.text() }
    }
}

/// A program that runs in a machine. It is killed when this is dropped, unless it was [left](Self::leave).
#[derive(Debug)]
pub struct Running<'a> {
    machine: &'a Machine,
    id: u64,
    line: String,
    events: Receiver<Event>,
    deadline: Instant,
    time: Duration,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    over: bool,
}

impl Machine {
    /// Starts QEMU; the machine is [ready](Self::wait_until_ready) later. Logs go to files in `logs`.
    pub(crate) fn start(
        name: &str,
        image: &Image,
        accelerator: Accelerator,
        cards: Vec<Card>,
        logs: &Path,
        shell: bool,
        grace: Duration,
    ) -> Result<Self, Error> {
        let failed = |action| move |source| Error::Io { vm: name.to_owned(), action, source };
        fs::create_dir_all(logs).map_err(|source| Error::File { action: "create", path: logs.to_owned(), source })?;
        let console = logs.join(format!("{name}.console.log"));
        let messages = logs.join(format!("{name}.qemu.log"));
        let (ours, theirs) = UnixStream::pair().map_err(failed("make the agent's socket"))?;
        // A machine that stands still takes nothing either.
        ours.set_write_timeout(Some(COMMAND_TIME)).map_err(failed("limit the time of requests"))?;
        let agent = theirs.into();
        let spec = Spec { name, image, accelerator, cards, agent, console: &console, messages: &messages, shell };
        let qemu = qemu::start(spec)?;
        let source = ours.try_clone().map_err(failed("copy the agent's socket"))?;
        let (sender, ready) = mpsc::channel();
        let routes = Routes { receivers: BTreeMap::from([(READY, sender)]), closed: None };
        let routes = Arc::new(Mutex::new(routes));
        thread::spawn({
            let routes = Arc::clone(&routes);
            move || dispatch(source, &routes)
        });
        let (qemu, port) = (Mutex::new(qemu), Mutex::new(ours));
        let (name, next_id, kernel) = (name.to_owned(), AtomicU64::new(READY + 1), String::new());
        Ok(Self { name, qemu, port, routes, ready, next_id, console, kernel, grace })
    }

    /// Waits until the agent says that the machine is up, whole.
    pub(crate) fn wait_until_ready(&mut self, time: Duration) -> Result<(), Error> {
        match self.receive(&self.ready, Instant::now() + time, time, BOOTING)? {
            Event::Ready { warnings, .. } if !warnings.is_empty() => {
                Err(Error::Faulty { vm: self.name.clone(), faults: warnings.join("; ") })
            }
            Event::Ready { kernel, .. } => {
                self.kernel = kernel;
                Ok(())
            }
            event => Err(self.gone(BOOTING, format!("its first words are {event:?}"))),
        }
    }

    /// Its name in the topology.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `uname -r` says.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Runs a shell script to its end and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it fails, takes longer than a minute, or the machine is gone.
    pub fn sh(&self, script: &str) -> Result<String, Error> {
        self.sh_within(script, COMMAND_TIME)
    }

    /// Like [`sh`](Self::sh), with another time limit.
    ///
    /// # Errors
    /// As there.
    pub fn sh_within(&self, script: &str, time: Duration) -> Result<String, Error> {
        let output = self.run("sh", &["-c", script], time)?;
        if output.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(output.failure(self, script))
    }

    /// Runs a program to its end, however it ends.
    ///
    /// # Errors
    /// When it cannot start, or the machine is gone.
    pub fn run(&self, program: &str, arguments: &[&str], time: Duration) -> Result<Output, Error> {
        self.start_program(program, arguments, time)?.wait()
    }

    /// Starts a program. It is killed after `time`.
    ///
    /// # Errors
    /// When the machine is gone. That it cannot start is said by [`Running::wait`].
    pub fn start_program(&self, program: &str, arguments: &[&str], time: Duration) -> Result<Running<'_>, Error> {
        let line = [program].iter().chain(arguments).copied().collect::<Vec<_>>().join(" ");
        let time_limit_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (id, events) =
            self.request(Action::Run { program: program.to_owned(), arguments, time_limit_ms }, &line)?;
        let deadline = Instant::now() + time + self.grace;
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Ok(Running { machine: self, id, line, events, deadline, time, stdout, stderr, over: false })
    }

    /// Starts a shell command that goes on running, and waits until another one, repeated, succeeds.
    ///
    /// # Errors
    /// When the service ends instead, or does not serve within five minutes: what it said.
    pub fn serve(&self, command: &str, until: &str) -> Result<Running<'_>, Error> {
        const PAUSE: Duration = Duration::from_millis(200);
        let deadline = Instant::now() + SERVE_TIME;
        let mut service = self.start_program("sh", &["-c", &format!("exec {command}")], SERVICE_LIMIT)?;
        loop {
            let ready = self.sh(until);
            let end = match &ready {
                // It may have succeeded before the service failed.
                Ok(_) => service.ended()?,
                Err(Error::Failed { .. }) if Instant::now() < deadline => service.ended()?,
                Err(Error::Failed { .. }) => return Err(service.kill()?.failure(self, command)),
                Err(_) => None,
            };
            match end {
                Some(output) => return Err(output.failure(self, command)),
                None if matches!(ready, Err(Error::Failed { .. })) => thread::sleep(PAUSE),
                None => return ready.map(|_| service),
            }
        }
    }

    /// Writes a file, making its folders.
    ///
    /// # Errors
    /// When the machine cannot.
    pub fn put(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), Error> {
        let doing = format!("writing {path}");
        let empty: [&[u8]; 1] = [&[]];
        let chunks: Vec<&[u8]> = if bytes.is_empty() { empty.into() } else { bytes.chunks(CHUNK_BYTES).collect() };
        for (number, chunk) in chunks.into_iter().enumerate() {
            let data = Bytes(chunk.to_vec());
            self.ask(Action::Put { path: path.to_owned(), mode, append: number > 0, data }, &doing)?;
        }
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When the machine cannot.
    pub fn get(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.ask(Action::Get { path: path.to_owned() }, &format!("reading {path}"))
    }

    /// The kernel's log: a line a record, with its level and time.
    ///
    /// # Errors
    /// When the machine cannot say.
    pub fn kernel_log(&self) -> Result<String, Error> {
        let bytes = self.ask(Action::KernelLog, "reading the kernel's log")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Fails if the kernel found something broken in itself.
    ///
    /// # Errors
    /// [`Error::Complaint`].
    pub fn check_kernel_log(&self) -> Result<(), Error> {
        let log = self.kernel_log()?;
        let complaints = console::complaints(&log);
        if complaints.is_empty() {
            return Ok(());
        }
        Err(Error::Complaint { vm: self.name.clone(), complaints: complaints.join("\n") })
    }

    /// Switches it off and waits for QEMU's end. What the kernel said behind the last look at its log counts too: a panic
    /// makes QEMU end with success.
    pub(crate) fn power_off(self, time: Duration) -> Result<(), Error> {
        self.request(Action::PowerOff, "switching off")?;
        match self.exit_status(time) {
            Some(status) if status.success() => match console::complaints_of(&self.console) {
                none if none.is_empty() => Ok(()),
                complaints => Err(Error::Complaint { vm: self.name.clone(), complaints: complaints.join("\n") }),
            },
            Some(_) => Err(self.gone("switching off", "QEMU failed".to_owned())),
            None => Err(self.silent("switching off", time)),
        }
    }

    /// Asks, and waits for the end: the bytes that came.
    fn ask(&self, action: Action, doing: &str) -> Result<Vec<u8>, Error> {
        let (_, events) = self.request(action, doing)?;
        let deadline = Instant::now() + COMMAND_TIME;
        let mut bytes = Vec::new();
        loop {
            match self.receive(&events, deadline, COMMAND_TIME, doing)? {
                Event::Output { data, .. } => bytes.extend(data.0),
                Event::Done { .. } => return Ok(bytes),
                Event::Failed { message, .. } => return Err(self.refused(doing, message)),
                event => return Err(self.gone(doing, format!("it says {event:?}"))),
            }
        }
    }

    fn request(&self, action: Action, doing: &str) -> Result<(u64, Receiver<Event>), Error> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel();
        {
            let mut routes = lock(&self.routes);
            if let Some(cause) = &routes.closed {
                let cause = cause.clone();
                drop(routes);
                return Err(self.gone(doing, cause));
            }
            routes.receivers.insert(id, sender);
        }
        let sent = lock(&self.port).write_all(&encode(&Request { id, action }));
        sent.map_err(|error| self.gone(doing, error.to_string()))?;
        Ok((id, events))
    }

    fn receive(
        &self,
        events: &Receiver<Event>,
        deadline: Instant,
        time: Duration,
        doing: &str,
    ) -> Result<Event, Error> {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => Ok(event),
            Err(RecvTimeoutError::Timeout) => Err(self.silent(doing, time)),
            Err(RecvTimeoutError::Disconnected) => {
                let cause = lock(&self.routes).closed.clone().unwrap_or_default();
                Err(self.gone(doing, cause))
            }
        }
    }

    fn gone(&self, doing: &str, cause: String) -> Error {
        let status = self.exit_status(EXIT_TIME);
        let console = Box::new(console::tail(&self.console));
        let cause = console.panic.clone().unwrap_or(cause);
        Error::Gone { vm: self.name.clone(), doing: doing.to_owned(), cause, status, console }
    }

    fn silent(&self, doing: &str, time: Duration) -> Error {
        let console = Box::new(console::tail(&self.console));
        Error::Silent { vm: self.name.clone(), doing: doing.to_owned(), time, console }
    }

    fn refused(&self, doing: &str, message: String) -> Error {
        Error::Refused { vm: self.name.clone(), doing: doing.to_owned(), message }
    }

    fn exit_status(&self, time: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + time;
        loop {
            if let Ok(Some(status)) = lock(&self.qemu).try_wait() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let qemu = self.qemu.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself.
        _ = qemu.kill();
        if let Err(error) = qemu.wait() {
            eprintln!("warning: QEMU of machine {}: {error}", self.name);
        }
    }
}

impl Running<'_> {
    /// Waits for its end.
    ///
    /// # Errors
    /// When it could not start, or the machine is gone.
    pub fn wait(mut self) -> Result<Output, Error> {
        let doing = format!("running `{}`", self.line);
        loop {
            let event = self.machine.receive(&self.events, self.deadline, self.time, &doing)?;
            if let Some(end) = self.take(event)? {
                return Ok(self.output(end));
            }
        }
    }

    /// What it wrote and how it ended, if it did.
    ///
    /// # Errors
    /// When it could not start.
    pub fn ended(&mut self) -> Result<Option<Output>, Error> {
        while let Ok(event) = self.events.try_recv() {
            if let Some(end) = self.take(event)? {
                return Ok(Some(self.output(end)));
            }
        }
        Ok(None)
    }

    /// The command line.
    pub fn line(&self) -> &str {
        &self.line
    }

    fn take(&mut self, event: Event) -> Result<Option<End>, Error> {
        match event {
            Event::Output { stream: Stream::Stdout, data, .. } => self.stdout.extend(data.0),
            Event::Output { stream: Stream::Stderr, data, .. } => self.stderr.extend(data.0),
            Event::Exited { end, .. } => {
                self.over = true;
                return Ok(Some(end));
            }
            Event::Failed { message, .. } => {
                self.over = true;
                return Err(self.machine.refused(&format!("running `{}`", self.line), message));
            }
            event => return Err(self.machine.gone(&self.line, format!("it says {event:?}"))),
        }
        Ok(None)
    }

    fn output(&mut self, end: End) -> Output {
        Output { end, stdout: std::mem::take(&mut self.stdout), stderr: std::mem::take(&mut self.stderr) }
    }

    /// Kills it and returns what it wrote.
    ///
    /// # Errors
    /// When it could not start, or the machine is gone.
    pub fn kill(self) -> Result<Output, Error> {
        self.machine.ask(Action::Kill { target: self.id }, "killing a program")?;
        self.wait()
    }

    /// Lets it run as long as its time limit and the machine last.
    pub fn leave(mut self) {
        self.over = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.over {
            // A machine that does not take this is gone, and the program with it.
            _ = self.machine.request(Action::Kill { target: self.id }, "killing a program");
        }
    }
}

/// Gives every event to whom it concerns, until no more come.
fn dispatch(source: UnixStream, routes: &Mutex<Routes>) {
    let mut source = BufReader::new(source);
    let cause = loop {
        let event = match read(&mut source) {
            Ok(Some(event)) => event,
            Ok(None) => break "it has closed its port".to_owned(),
            Err(error) => break format!("its port: {error}"),
        };
        let (id, last) = match &event {
            Event::Ready { .. } => (READY, true),
            Event::Output { id, .. } => (*id, false),
            Event::Exited { id, .. } | Event::Done { id } | Event::Failed { id, .. } => (*id, true),
        };
        let mut routes = lock(routes);
        if let Some(receiver) = routes.receivers.get(&id) {
            // Whoever asked may have lost interest.
            _ = receiver.send(event);
        }
        if last {
            routes.receivers.remove(&id);
        }
    };
    let mut routes = lock(routes);
    routes.closed = Some(cause);
    // Receivers that wait learn of the end by this.
    routes.receivers.clear();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
