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
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use naam_abi::siphash::Key;
use naam_control::protocol::session::Function;
use naam_control::{ControlError, Name};
use serde::{Deserialize, Serialize};

use crate::error::ServeError;

/// Version of the file's shape.
const VERSION: u32 = 1;

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
    path: PathBuf,
}

impl StateDir {
    /// Opens the directory of `instance` beside `socket`, or makes it, for this user only.
    pub fn open(socket: &Path, instance: &Name) -> Result<Self, ServeError> {
        let path = socket.parent().unwrap_or(Path::new("")).join(instance.as_str());
        let objects = path.join("objects");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&objects).map_err(ServeError::file("create", &objects))?;
        Ok(Self { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. One that is missing or not understood is none: the configuration is then all
    /// there is.
    pub fn load(&self) -> Option<State> {
        let path = self.file();
        let text = match fs::read(&path) {
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
        self.replace(&self.file(), &text)?;
        let named = state.apps.iter().flat_map(|app| &app.functions).map(|function| function.handler.as_str());
        let named: HashSet<&str> = named.collect();
        for entry in fs::read_dir(self.objects()).into_iter().flatten().flatten() {
            let path = entry.path();
            if !path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| named.contains(stem)) {
                // One that stays is only in the way of nothing.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Keeps a handler's object.
    pub fn put_object(&self, hash: &str, elf: &[u8]) -> Result<(), ControlError> {
        self.replace(&self.object_path(hash), elf)
    }

    /// A handler's object, if it was kept.
    pub fn object(&self, hash: &str) -> Option<Vec<u8>> {
        fs::read(self.object_path(hash)).ok()
    }

    fn file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    fn objects(&self) -> PathBuf {
        self.path.join("objects")
    }

    fn object_path(&self, hash: &str) -> PathBuf {
        self.objects().join(hash).with_extension("o")
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), ControlError> {
        let temporary = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&temporary).and_then(|mut file| io::Write::write_all(&mut file, bytes));
        written.and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
            ControlError::new("write", path.display().to_string(), error)
                .way_out("make room there; until then a restarted daemon will not know of the last change")
        })
    }
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
            functions: vec![FunctionState {
                function: Function {
                    name: naam_control::FunctionName::new("get").unwrap(),
                    id: 16,
                    version: 2,
                    writes: false,
                    reply_max: 64,
                    view: 64,
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
        let dir = StateDir::open(&place.path().join("control.sock"), &Name::new("test").unwrap()).unwrap();
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
            fs::write(dir.file(), text).unwrap();
            assert_eq!(dir.load(), None, "{text}");
        }
        let other = State { version: VERSION + 1, ..state() };
        fs::write(dir.file(), serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(dir.load(), None);
    }

    #[test]
    fn only_the_owner_may_look() {
        use std::os::unix::fs::PermissionsExt;
        let (_place, dir) = dir();
        dir.save(&state()).unwrap();
        assert_eq!(fs::metadata(dir.file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
