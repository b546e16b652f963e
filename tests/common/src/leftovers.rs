//! Namespaces of processes that were killed.

use std::{fs, io, path::Path};

use rustix::process::{Pid, test_kill_process};

use crate::{
    command::Error,
    namespace::{self, DIR},
};

/// Removes the namespaces that dead processes left, and what still runs in them. Returns their names.
///
/// Every [`Builder::build`](crate::Builder::build) does it first.
///
/// # Errors
/// When the list of namespaces cannot be read, or one cannot be removed.
pub fn remove_leftovers() -> Result<Vec<String>, Error> {
    let read = |source| Error::Read { path: DIR.into(), source };
    let entries = match fs::read_dir(DIR) {
        Ok(entries) => entries,
        // iproute2 makes the folder with the first namespace.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !is_alive(pid)) {
            match namespace::remove(&name) {
                Ok(()) => removed.push(name),
                // Another process may be cleaning up as well.
                Err(_) if !exists(&name) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

/// Removes the namespaces `naam-NAME-client` and `naam-NAME-host`, which outlived their maker by
/// [`Topology::keep`](crate::Topology::keep), and what still runs in them. Returns whether there were any.
///
/// # Errors
/// When one cannot be removed.
pub fn remove_named(name: &str) -> Result<bool, Error> {
    let ends = ["client", "host"].map(|end| format!("naam-{name}-{end}"));
    let mut found = false;
    for end in ends.iter().filter(|end| exists(end)) {
        namespace::remove(end)?;
        found = true;
    }
    Ok(found)
}

/// Whether a namespace of this name is there.
pub(crate) fn exists(name: &str) -> bool {
    Path::new(DIR).join(name).exists()
}

/// The process whose topology the namespace belongs to: `naam-PID-SERIAL-END`.
fn owner(name: &str) -> Option<Pid> {
    let mut parts = name.strip_prefix("naam-")?.split('-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    (matches!(parts.next(), Some("client" | "host")) && parts.next().is_none()).then(|| Pid::from_raw(pid))?
}

/// Whether there is such a process.
pub fn is_alive(pid: Pid) -> bool {
    // Anything but "no such process" means that there is one, if perhaps not ours to signal.
    test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_process_have_an_owner() {
        assert_eq!(owner("naam-4711-0-client"), Pid::from_raw(4711));
        assert_eq!(owner("naam-4711-12-host"), Pid::from_raw(4711));
        assert_eq!(owner("naam-demo-host"), None);
        assert_eq!(owner("naam-4711-0-dpu"), None);
        assert_eq!(owner("naam-4711-0-host-2"), None);
        assert_eq!(owner("other-4711-0-host"), None);
    }

    #[test]
    fn we_are_alive() {
        assert!(is_alive(rustix::process::getpid()));
    }
}
