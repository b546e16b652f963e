//! From a kernel that has just started to a system that programs can run in.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use naam_vm_agent::{MODULES, PORT};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    system::finit_module,
};

/// The kernel finds devices in the background.
const PORT_TIME: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Kind and place of what is mounted, in order.
const MOUNTS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("bpf", "/sys/fs/bpf"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
];

/// Boots, and returns the port to the host with what did not go well.
///
/// # Errors
/// When there is no port.
pub fn run() -> Result<(File, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut note = |result: Result<()>| warnings.extend(result.err().map(|error| format!("{error:#}")));
    for (kind, place) in MOUNTS {
        note(mount_at(kind, Path::new(place)));
    }
    match fs::read_to_string(MODULES) {
        Ok(list) => list.lines().for_each(|module| note(load(module))),
        Err(error) => note(Err(error).with_context(|| format!("cannot read {MODULES}"))),
    }
    note(install_applets());
    let place = find_port()?;
    let open = OpenOptions::new().read(true).write(true).open(&place);
    Ok((open.with_context(|| format!("cannot open {}", place.display()))?, warnings))
}

fn mount_at(kind: &str, place: &Path) -> Result<()> {
    fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    match mount(kind, place, kind, MountFlags::empty(), None) {
        // devtmpfs may be mounted by the kernel itself.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot mount {kind} at {}", place.display())),
    }
}

fn load(module: &str) -> Result<()> {
    let file = File::open(module).with_context(|| format!("cannot open module {module}"))?;
    match finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("the kernel refuses module {module}")),
    }
}

/// Busybox is one program with many names.
fn install_applets() -> Result<()> {
    const BUSYBOX: &str = "/bin/busybox";
    if !Path::new(BUSYBOX).exists() {
        return Ok(());
    }
    let list = Command::new(BUSYBOX).arg("--list").stdin(Stdio::null()).output().context("cannot run busybox")?;
    for applet in String::from_utf8_lossy(&list.stdout).lines() {
        // A program of the image goes before busybox's version of it.
        let taken = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(applet).exists());
        if !taken {
            let place = Path::new("/bin").join(applet);
            symlink(BUSYBOX, &place).with_context(|| format!("cannot make {}", place.display()))?;
        }
    }
    Ok(())
}

/// Without udev nobody makes `/dev/virtio-ports/NAME`; sysfs knows which port has which name.
fn find_port() -> Result<PathBuf> {
    let deadline = Instant::now() + PORT_TIME;
    loop {
        if let Some(port) = named_port("/sys/class/virtio-ports")? {
            return Ok(port);
        }
        if Instant::now() > deadline {
            bail!("no virtio port is called {PORT} after {} s: is virtio_console loaded?", PORT_TIME.as_secs());
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn named_port(class: &str) -> Result<Option<PathBuf>> {
    let entries = match fs::read_dir(class) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot read {class}"))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {class}"))?;
        // A port that has just come may have no name yet.
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        let device = Path::new("/dev").join(entry.file_name());
        if name.trim_end() == PORT && device.exists() {
            return Ok(Some(device));
        }
    }
    Ok(None)
}
