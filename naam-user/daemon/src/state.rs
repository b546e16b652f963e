//! What the next daemon must know and the kernel does not: a directory beside the socket.
//!
//! ```text
//! /run/naam/host.sock
//! /run/naam/host/state.json      names, numbers, versions and hashes; the key of the tickets
//! /run/naam/host/objects/HASH.o  handlers as they were given, by the hash that admission computed
//! ```
//! The file is replaced by rename: a killed daemon leaves the old one or the new one. Nothing is
//! synced to a disk, because a reboot ends the datapath as well.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use naam_abi::siphash::Key;
use naam_control::protocol::session::{Function, Rights};
use naam_control::{ControlError, Name};
use serde::{Deserialize, Serialize};

use crate::error::ServeError;
use crate::folder::Folder;

/// Version of the file's shape.
const VERSION: u32 = 1;
/// The file's name.
const FILE: &str = "state.json";

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// Hash of the entry and shell objects that serve.
    pub build: String,
    /// Two words: tickets are made with them.
    pub ticket_key: [u64; 2],
    /// Interfaces that the configuration named.
    pub interfaces: Vec<String>,
    /// The apps.
    pub apps: Vec<AppState>,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppState {
    /// Its name.
    pub name: Name,
    /// Its number.
    pub id: u16,
    /// Whether its datagrams are tagged.
    pub integrity: bool,
    /// Whether time in its handlers is measured.
    pub timed: bool,
    /// Sessions that it may have at a time.
    pub sessions_max: usize,
    /// Whether the configuration names it.
    pub configured: bool,
    /// Its regions, in binding order.
    pub regions: Vec<Name>,
    /// What may be done by RDMA, by region, where something is said about it. An earlier build did not write it down.
    #[serde(default)]
    pub verbs: BTreeMap<Name, Rights>,
    /// Its functions.
    pub functions: Vec<FunctionState>,
    /// Last versions of functions that are no more.
    pub retired: BTreeMap<u16, u16>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionState {
    /// What clients see of it.
    #[serde(flatten)]
    pub function: Function,
    /// Admission's hash of the handler that serves.
    pub handler: String,
    /// Admission's hash of the handler that the configuration named, if it named one.
    pub configured: Option<String>,
    /// Hash of everything that the handler was spliced into and bound to.
    pub binding: String,
    /// Regions bound: so many, from the first.
    pub regions: usize,
    /// The kernel's numbers of its programs.
    pub programs: Vec<u32>,
}

impl State {
    pub fn new(build: String, ticket_key: Key, interfaces: Vec<String>, apps: Vec<AppState>) -> Self {
        Self { version: VERSION, build, ticket_key: [ticket_key.k0, ticket_key.k1], interfaces, apps }
    }
}

/// The directory.
#[derive(Debug)]
pub struct StateDir {
    folder: Folder,
    objects: Folder,
}

impl StateDir {
    /// Where the directory of `instance` is: beside `socket`.
    pub fn place(socket: &Path, instance: &Name) -> PathBuf {
        socket.parent().unwrap_or(Path::new("")).join(instance.as_str())
    }

    /// Opens the directory of `instance` beside `socket`, or makes it, for this user only. It may be
    /// this process's own, or that of `users`: whom the daemon becomes, and whom an earlier one had become.
    pub fn open(socket: &Path, instance: &Name, users: &[u32]) -> Result<Self, ServeError> {
        let parent = socket.parent().unwrap_or(Path::new(""));
        if !parent.as_os_str().is_empty() {
            fs::create_dir_all(parent).map_err(ServeError::file("create", parent))?;
        }
        let path = Self::place(socket, instance);
        let owners: Vec<u32> = users.iter().copied().chain([rustix::process::geteuid().as_raw()]).collect();
        let folder = Folder::open(&path, &owners).map_err(ServeError::file("use", &path))?;
        let objects = folder.child("objects", &owners).map_err(ServeError::file("use", path.join("objects")))?;
        Ok(Self { folder, objects })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Reads the file. One that is missing or not understood is none: the configuration is then all
    /// there is.
    pub fn load(&self) -> Option<State> {
        let path = self.path().join(FILE);
        let text = match self.folder.read(FILE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the state file cannot be read; starting without it");
                return None;
            }
        };
        match serde_json::from_slice::<State>(&text) {
            Ok(state) if state.version == VERSION => Some(state),
            Ok(State { version, .. }) => {
                tracing::warn!(path = %path.display(), version, "the state file is of another version; starting without it");
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the state file is damaged; starting without it");
                None
            }
        }
    }

    /// Replaces the file, and removes objects that it does not name.
    pub fn save(&self, state: &State) -> Result<(), ControlError> {
        let text = serde_json::to_vec_pretty(state).expect("a state is plain data");
        replace(&self.folder, FILE, &text)?;
        let named = state.apps.iter().flat_map(|app| &app.functions);
        let named: HashSet<String> = named.map(|function| object_name(&function.handler)).collect();
        for name in self.objects.names().unwrap_or_default() {
            if let Some(name) = name.to_str().filter(|name| !named.contains(*name)) {
                // One that stays is only in the way of nothing.
                let _ = self.objects.remove(name);
            }
        }
        Ok(())
    }

    /// Keeps a handler's object.
    pub fn put_object(&self, hash: &str, elf: &[u8]) -> Result<(), ControlError> {
        replace(&self.objects, &object_name(hash), elf)
    }

    /// A handler's object, if it was kept.
    pub fn object(&self, hash: &str) -> Option<Vec<u8>> {
        self.objects.read(&object_name(hash)).ok()
    }
}

fn object_name(hash: &str) -> String {
    format!("{hash}.o")
}

fn replace(folder: &Folder, name: &str, bytes: &[u8]) -> Result<(), ControlError> {
    folder.replace(name, bytes).map_err(|error| {
        ControlError::new("write", folder.path().join(name).display().to_string(), error)
            .way_out("make room there; until then a restarted daemon will not know of the last change")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let app = AppState {
            name: Name::new("kv").unwrap(),
            id: 3,
            integrity: true,
            timed: false,
            sessions_max: 7,
            configured: true,
            regions: vec![Name::new("store").unwrap()],
            verbs: BTreeMap::from([(Name::new("store").unwrap(), Rights::NONE)]),
            functions: vec![FunctionState {
                function: Function {
                    name: naam_control::FunctionName::new("get").unwrap(),
                    id: 16,
                    version: 2,
                    writes: false,
                    reply_max: 64,
                    view: 64,
                    object: None,
                },
                handler: "aa".into(),
                configured: None,
                binding: "bb".into(),
                regions: 1,
                programs: vec![4, 5],
            }],
            retired: BTreeMap::from([(17, 9)]),
        };
        State::new("cc".into(), Key { k0: u64::MAX, k1: 1 }, vec!["eth0".into()], vec![app])
    }

    fn dir() -> (tempfile::TempDir, StateDir) {
        let place = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&place.path().join("control.sock"), &Name::new("test").unwrap(), &[]).unwrap();
        (place, dir)
    }

    #[test]
    fn state_survives_and_unnamed_objects_go() {
        let (_place, dir) = dir();
        assert_eq!(dir.load(), None);
        dir.put_object("aa", b"one").unwrap();
        dir.put_object("cc", b"two").unwrap();
        dir.save(&state()).unwrap();
        assert_eq!(dir.load(), Some(state()));
        assert_eq!((dir.object("aa").as_deref(), dir.object("cc")), (Some(&b"one"[..]), None));
    }

    #[test]
    fn damaged_or_foreign_state_is_none() {
        let (_place, dir) = dir();
        for text in ["", "{", "{\"version\":1}"] {
            fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(dir.load(), None, "{text}");
        }
        let other = State { version: VERSION + 1, ..state() };
        fs::write(dir.path().join(FILE), serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(dir.load(), None);
    }

    #[test]
    fn only_the_owner_may_look() {
        use std::os::unix::fs::PermissionsExt;
        let (_place, dir) = dir();
        dir.save(&state()).unwrap();
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
