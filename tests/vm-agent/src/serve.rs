//! Requests of the host, as they come.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use naam_vm_agent::{Action, Bytes, CHUNK_BYTES, Event, Request, Stream, encode, read};
use rustix::system::uname;

use crate::{kernel_log, run};

/// The way to the host, shared by all that have something to say.
#[derive(Clone)]
pub struct Host {
    port: Arc<Mutex<File>>,
}

impl Host {
    /// Sends an event.
    ///
    /// # Errors
    /// When the port does not take it.
    pub fn send(&self, event: &Event) -> io::Result<()> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner).write_all(&encode(event))
    }

    /// Sends bytes in chunks until their end.
    ///
    /// # Errors
    /// When they cannot be read or sent.
    pub fn copy(&self, id: u64, stream: Stream, mut source: impl io::Read) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match source.read(&mut chunk)? {
                0 => return Ok(()),
                len => self.send(&Event::Output { id, stream, data: Bytes(chunk[..len].to_vec()) })?,
            }
        }
    }
}

/// Says that the machine is ready, and serves until the host goes away or wants the end.
///
/// # Errors
/// When the port fails, or says what no host would.
pub fn run(port: File, warnings: Vec<String>) -> Result<()> {
    let host = Host { port: Arc::new(Mutex::new(port.try_clone().context("cannot copy the port's descriptor")?)) };
    let system = uname();
    host.send(&Event::Ready {
        kernel: system.release().to_string_lossy().into_owned(),
        machine: system.machine().to_string_lossy().into_owned(),
        warnings,
    })
    .context("cannot tell the host that we are ready")?;
    let programs = run::Programs::default();
    let mut requests = BufReader::new(port);
    while let Some(Request { id, action }) = read(&mut requests).context("reading the host's requests")? {
        let outcome = match action {
            Action::PowerOff => return Ok(()),
            Action::Run { program, arguments, time_limit_ms } => {
                match programs.start(&host, id, &program, &arguments, time_limit_ms) {
                    // Its end is reported by the thread that waits for it.
                    Ok(()) => continue,
                    Err(error) => Err(error),
                }
            }
            Action::Kill { target } => programs.kill(target),
            Action::Put { path, mode, append, data } => put(Path::new(&path), mode, append, &data.0),
            Action::Get { path } => get(&host, id, Path::new(&path)),
            Action::KernelLog => log(&host, id),
        };
        let event = match outcome {
            Ok(()) => Event::Done { id },
            Err(error) => Event::Failed { id, message: format!("{error:#}") },
        };
        host.send(&event).context("cannot answer the host")?;
    }
    Ok(())
}

fn put(path: &Path, mode: u32, append: bool, data: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let mut options = OpenOptions::new();
    options.create(true).append(append).truncate(!append).mode(mode);
    let file = if append { options.open(path) } else { options.write(true).open(path) };
    file.and_then(|mut file| file.write_all(data)).with_context(|| format!("cannot write {}", path.display()))
}

fn get(host: &Host, id: u64, path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    host.copy(id, Stream::Stdout, file).with_context(|| format!("cannot read {}", path.display()))
}

fn log(host: &Host, id: u64) -> Result<()> {
    let text = kernel_log::read().context("cannot read the kernel's log")?;
    host.copy(id, Stream::Stdout, text.as_bytes()).context("cannot send the kernel's log")
}
