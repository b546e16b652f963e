//! A daemon in a process of its own, with its own instance, pins and directory; all gone at the end.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use naam_control::protocol::admin::{AdminReply, AdminRequest, HandlerInfo, Object, Status};
use naam_control::{ClientError, ControlClient, FunctionName, Name};
use naam_loader::{Datapath, Hook, Objects, Options};
use naam_sys::{Program, RunInput};
use naam_tests::frame::{Message, Network, Reply, Request};
use naam_tests::objects;

/// The app of the tests' configuration.
pub const APP: u16 = 3;
/// Its echo.
pub const ECHO: u16 = 16;
/// Its counter.
pub const COUNTER: u16 = 17;

/// An instance: a directory with its configuration, and the daemon that runs, if one does.
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Socket, state, log and configuration.
    pub dir: tempfile::TempDir,
    /// First port.
    pub port_base: u16,
    /// The network namespace that the daemon enters.
    pub enter: Option<PathBuf>,
    /// Whether the daemon sees mounts of its own, as under `ip netns exec`.
    pub own_mounts: bool,
    /// Where the daemon's BPF objects are.
    pub bpf: PathBuf,
    child: Option<Child>,
}

impl Instance {
    /// An instance whose configuration ends with `rest`.
    pub fn new(rest: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("naam-daemon-").tempdir().expect("temporary directory");
        let instance = Self {
            name: naam_testbed::instance(),
            dir,
            port_base: naam_abi::limits::PORT_BASE,
            enter: None,
            own_mounts: false,
            bpf: objects::directory(),
            child: None,
        };
        instance.configure(rest);
        instance
    }

    /// An instance with app `kv`: a region, `echo` and `counter`.
    pub fn kv() -> Self {
        let instance = Self::new("");
        instance.configure(&instance.kv_app());
        instance
    }

    /// An instance with app `kv` whose daemon is ready; none, and the test is skipped, without root.
    pub fn served(test: &str) -> Option<Self> {
        if !root(test) {
            return None;
        }
        let mut instance = Self::kv();
        instance.start();
        Some(instance)
    }

    /// The configuration of app `kv`.
    pub fn kv_app(&self) -> String {
        let app = "[[app]]\nname = \"kv\"\nid = 3\n[[app.region]]\nname = \"store\"\nsize = \"2 MiB\"\n";
        format!("{app}{}{}", function("echo", ECHO), function("counter", COUNTER))
    }

    /// Writes the configuration.
    pub fn configure(&self, rest: &str) {
        let text = format!(
            "instance = \"{}\"\nport_base = {}\n[control]\nsocket = \"{}\"\nlease_s = 60\n{rest}",
            self.name,
            self.port_base,
            self.socket().display()
        );
        fs::write(self.dir.path().join("naam.toml"), text).expect("write the configuration");
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/naam").join(&self.name)
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join(&self.name).join("state.json")
    }

    /// What all daemons of this instance have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Starts a daemon and waits until it says that it is ready.
    pub fn start(&mut self) {
        if let Err(status) = self.try_start(&[]) {
            panic!("the daemon ended ({status}):\n{}", self.log());
        }
    }

    /// What starts a daemon.
    pub fn command_line(&self) -> [PathBuf; 3] {
        [program(), self.dir.path().join("naam.toml"), self.bpf.clone()]
    }

    /// Starts a daemon; its exit status if it ends instead of becoming ready.
    pub fn try_start(&mut self, args: &[&str]) -> Result<(), ExitStatus> {
        let notify = self.dir.path().join("notify");
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify).expect("socket for readiness");
        // As systemd's: services of every user write to it.
        fs::set_permissions(&notify, fs::Permissions::from_mode(0o777)).expect("mode");
        ready.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).expect("log");
        // Of a killed test nothing stays that would go on without its pins.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if let Some(namespace) = &self.enter {
            command.arg("nsenter").arg(format!("--net={}", namespace.display())).arg("--");
        }
        if self.own_mounts {
            let mount = "mount --make-rprivate / && umount -l /sys && mount -t sysfs sysfs /sys && exec \"$@\"";
            command.args(["unshare", "--mount", "--", "sh", "-c", mount, "sh"]);
        }
        command
            .args(self.command_line())
            .args(args)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().expect("start the daemon");
        let started = Instant::now();
        let mut state = [0; 64];
        loop {
            if let Ok(length) = ready.recv(&mut state) {
                assert_eq!(&state[..length], b"READY=1");
                self.child = Some(child);
                return Ok(());
            }
            if let Some(status) = child.try_wait().expect("wait") {
                return Err(status);
            }
            if started.elapsed() > Duration::from_secs(60) {
                child.kill().expect("kill");
                panic!("the daemon is not ready after a minute:\n{}", self.log());
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    /// Ends the daemon at once, as the OOM killer would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running daemon");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Asks the daemon to end, by SIGTERM.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running daemon");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
        child.wait().expect("wait")
    }

    /// A connection to the daemon.
    pub fn client(&self) -> ControlClient {
        ControlClient::connect_unix(&self.socket()).unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Asks for administration.
    pub fn admin(&self, request: AdminRequest) -> Result<AdminReply, ClientError> {
        self.client().admin(request, &mut |_, _| ())
    }

    /// Asks for administration that is done.
    pub fn done(&self, request: AdminRequest) -> AdminReply {
        self.admin(request).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Asks for administration that is refused; the words.
    pub fn refused(&self, request: AdminRequest) -> String {
        match self.admin(request) {
            Err(ClientError::Refused(error)) => error.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn status(&self) -> Status {
        match self.done(AdminRequest::Status) {
            AdminReply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub fn handlers(&self) -> Vec<HandlerInfo> {
        match self.done(AdminRequest::HandlerList { app: None }) {
            AdminReply::Handlers(handlers) => handlers,
            other => panic!("{other:?}"),
        }
    }

    /// Serves another version of a function of app `kv`, from this build's object.
    pub fn replace(&self, function: &str) -> HandlerInfo {
        let object = Object::Bytes(fs::read(object(function)).expect("object"));
        let function = FunctionName::new(function).unwrap();
        match self.done(AdminRequest::HandlerReplace { app: name("kv"), function, object }) {
            AdminReply::Handler(handler) => handler,
            other => panic!("{other:?}"),
        }
    }

    /// A way into the datapath that needs no daemon.
    pub fn door(&self) -> Door {
        let options = Options { port_base: self.port_base, ..Options::instance(&self.name) };
        let (entry, shell) = (objects::read("entry"), objects::read("shell"));
        let mut datapath = Datapath::open(&options, Objects { entry: &entry, shell: &shell }).expect("datapath");
        let entry = datapath.entry_program(Hook::Xdp).unwrap_or_else(|error| panic!("{error}"));
        Door { datapath, entry }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
        if let Err(error) = naam_loader::datapath::remove_pins(&self.pins()) {
            eprintln!("{error}");
        }
    }
}

/// A second process's look at an instance: its tables, and test runs through its programs.
pub struct Door {
    pub datapath: Datapath,
    entry: Program,
}

impl Door {
    /// Sends a request in; what comes back.
    pub fn send(&self, request: &Request) -> Reply {
        const XDP_TX: u32 = 3;
        let port = self.datapath.port_base() + request.app * 64 + request.shard;
        let network = Network::v4(port);
        let frame = network.frame(&request.datagram());
        let run = RunInput { data: &frame, data_out_max: 4096, ..RunInput::default() };
        let output = self.entry.test_run(&run).expect("test run");
        assert_eq!(output.retval, XDP_TX, "the datagram was not answered");
        Reply::read(&output.data[network.header_len()..])
    }

    /// Calls `echo`.
    pub fn echo(&self, session: u32, handler: u16) -> Reply {
        let messages = vec![Message::new(1, b"hello", 5)];
        self.send(&Request { app: APP, function: ECHO, handler, shard: 5, session, messages })
    }

    /// Adds `addend` to the word at 64 of the first region.
    pub fn add(&self, session: u32, slot: u16, sequence: u32, addend: u64) -> Reply {
        let args = [64u64.to_le_bytes(), addend.to_le_bytes()].concat();
        let message = Message { slot, sequence, ..Message::new(1, &args, 8) };
        self.send(&Request { app: APP, function: COUNTER, handler: 0, shard: 5, session, messages: vec![message] })
    }

    /// The word at 64 of a region of app `kv`.
    pub fn word(&self, instance: &Instance) -> u64 {
        let region = naam_region::Regions::new(instance.pins()).open("kv", "store").expect("region");
        region.map().expect("mapping").load(64).expect("inside")
    }
}

/// A function's table in a configuration.
pub fn function(name: &str, id: u16) -> String {
    format!("[[app.function]]\nname = \"{name}\"\nid = {id}\nobject = \"{}\"\n", object(name).display())
}

/// A BPF object of this build.
pub fn object(name: &str) -> PathBuf {
    let path = objects::directory().join(format!("{name}.o"));
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask build`", path.display()))
}

pub fn name(name: &str) -> Name {
    Name::new(name).expect("a name")
}

/// Whether the test can run; says so if not.
pub fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED {test}: needs root");
    }
    root
}

/// The daemon: this package's example, which cargo builds with the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this program");
    let target = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = target.join("examples/serve");
    assert!(program.exists(), "{} is missing: cargo build -p naam-daemon --examples", program.display());
    program
}
