//! The pinned tables, written word by word through mappings.
//!
//! Programs read these tables while they change. Each entry is published by its first word: it is
//! zeroed, the rest is written, then it is stored with release order.

use std::path::Path;
use std::sync::atomic::Ordering;

use naam_abi::limits::{APPS_MAX, FUNCTIONS_MAX, INTERFACES_MAX, REGIONS_MAX, SESSIONS_MAX, SHARDS_MAX, SLOTS_MAX};
use naam_abi::siphash::Key;
use naam_abi::stats::AppStats;
use naam_abi::tables::{AppEntry, FunctionEntry, InterfaceWord, ProgramRef, SessionEntry, SlotEntry, SteerEntry};
use naam_sys::map::Update;
use naam_sys::{Map, Mapping};

use crate::error::LoaderError;
use crate::template::MapShape;

/// An array whose entries are whole words.
#[derive(Debug)]
struct Words {
    map: Map,
    mapping: Mapping,
    /// Words of an entry.
    stride: u64,
    entries: u64,
}

impl Words {
    fn open(directory: &Path, name: &str, bytes: usize, entries: usize) -> Result<Self, LoaderError> {
        let path = directory.join(name);
        let map = Map::open_pinned(&path)?;
        let found = MapShape { value_size: map.info().value_size, max_entries: map.info().max_entries };
        let wanted = MapShape { value_size: bytes as u32, max_entries: entries as u32 };
        if found != wanted {
            return Err(LoaderError::Shape { path, found, wanted });
        }
        let mapping = map.mmap()?;
        Ok(Self { map, mapping, stride: bytes as u64 / 8, entries: entries as u64 })
    }

    fn offset(&self, index: u64, word: u64) -> u64 {
        assert!(index < self.entries && word < self.stride, "table indices are checked by the caller");
        (index * self.stride + word) * 8
    }

    fn load(&self, index: u64, word: u64) -> u64 {
        self.mapping.load(self.offset(index, word), Ordering::Acquire).expect("inside the mapping")
    }

    fn store(&self, index: u64, word: u64, value: u64) {
        self.mapping.store(self.offset(index, word), value, Ordering::Release).expect("inside the mapping");
    }

    fn publish(&self, index: u64, words: &[u64]) {
        self.store(index, 0, 0);
        for (at, word) in (1..).zip(&words[1..]) {
            self.store(index, at, *word);
        }
        self.store(index, 0, words[0]);
    }
}

/// All tables of an instance.
#[derive(Debug)]
pub struct Tables {
    apps: Words,
    functions: Words,
    steer: Words,
    sessions: Words,
    slots: Words,
    interfaces: Words,
    stats: Map,
}

impl Tables {
    /// Opens the pinned maps of `directory`.
    pub fn open(directory: &Path) -> Result<Self, LoaderError> {
        Ok(Self {
            apps: Words::open(directory, "APPS", size_of::<AppEntry>(), APPS_MAX)?,
            functions: Words::open(directory, "FUNCTIONS", size_of::<FunctionEntry>(), APPS_MAX * FUNCTIONS_MAX)?,
            steer: Words::open(directory, "STEER", 8, APPS_MAX * SHARDS_MAX)?,
            sessions: Words::open(directory, "SESSIONS", size_of::<SessionEntry>(), SESSIONS_MAX)?,
            slots: Words::open(directory, "SLOTS", size_of::<SlotEntry>(), SESSIONS_MAX * SLOTS_MAX)?,
            interfaces: Words::open(directory, "INTERFACES", 8, INTERFACES_MAX)?,
            stats: Map::open_pinned(&directory.join("APP_STATS"))?,
        })
    }

    /// Publishes an app. One that keeps its key changes at one instant, without a gap.
    pub fn set_app(&self, app: u16, entry: &AppEntry) {
        let first = u64::from(entry.regions) << 32 | u64::from(entry.flags);
        let Key { k0, k1 } = entry.key;
        if (self.apps.load(app.into(), 1), self.apps.load(app.into(), 2)) == (k0, k1) {
            self.apps.store(app.into(), 0, first);
        } else {
            self.apps.publish(app.into(), &[first, k0, k1, 0, 0, 0, 0, 0]);
        }
    }

    /// Whether the app is served.
    pub fn app_flags(&self, app: u16) -> u32 {
        self.apps.load(app.into(), 0) as u32
    }

    fn function_index(app: u16, function: u16) -> u64 {
        u64::from(app) * FUNCTIONS_MAX as u64 + u64::from(function)
    }

    /// The function's versions: the one that serves, and the one that drains.
    pub fn function(&self, app: u16, function: u16) -> (Option<ProgramRef>, Option<ProgramRef>) {
        let index = Self::function_index(app, function);
        let read = |word| Some(ProgramRef::from_word(self.functions.load(index, word))).filter(|r| r.version != 0);
        (read(0), read(1))
    }

    /// Sets the version that serves; `None` stops the function.
    pub fn set_current(&self, app: u16, function: u16, program: Option<ProgramRef>) {
        self.functions.store(Self::function_index(app, function), 0, program.map_or(0, ProgramRef::to_word));
    }

    /// Sets the version that drains.
    pub fn set_draining(&self, app: u16, function: u16, program: Option<ProgramRef>) {
        self.functions.store(Self::function_index(app, function), 1, program.map_or(0, ProgramRef::to_word));
    }

    /// All program references in use.
    pub fn programs(&self) -> Vec<ProgramRef> {
        let words = (0..self.functions.entries).flat_map(|index| [(index, 0), (index, 1)]);
        let references = words.map(|(index, word)| ProgramRef::from_word(self.functions.load(index, word)));
        references.filter(|reference| reference.version != 0).collect()
    }

    /// A shard's placement.
    pub fn placement(&self, app: u16, shard: u16) -> SteerEntry {
        SteerEntry::from_word(self.steer.load(u64::from(app) * SHARDS_MAX as u64 + u64::from(shard), 0))
    }

    /// Moves a shard: one store, seen by the next datagram.
    pub fn set_placement(&self, app: u16, shard: u16, entry: SteerEntry) {
        self.steer.store(u64::from(app) * SHARDS_MAX as u64 + u64::from(shard), 0, entry.to_word());
    }

    /// Publishes a session, after clearing its request slots.
    ///
    /// Where an earlier session had the entry, its messages may still be running, and would put
    /// their replies into the slots of the new one: this waits for them, some 10 ms.
    pub fn open_session(&self, entry: &SessionEntry) {
        let index = u64::from(entry.session) % SESSIONS_MAX as u64;
        let used = self.sessions.load(index, 0) | self.sessions.load(index, 7) != 0;
        self.sessions.store(index, 0, 0);
        if used {
            naam_sys::grace::wait_for_programs();
        }
        for slot in 0..SLOTS_MAX as u64 {
            self.slots.store(index * SLOTS_MAX as u64 + slot, 0, 0);
        }
        let first = u64::from(entry.app) << 32 | u64::from(entry.session);
        let (rights, raw) = (u64::from_le_bytes(entry.handler_rights), u64::from_le_bytes(entry.raw_rights));
        let last = entry.session.into();
        self.sessions.publish(index, &[first, rights, raw, entry.key.k0, entry.key.k1, 0, 0, last]);
    }

    /// The entry of an open session.
    pub fn session(&self, session: u32) -> Option<SessionEntry> {
        let index = u64::from(session) % SESSIONS_MAX as u64;
        let words: [u64; 8] = std::array::from_fn(|word| self.sessions.load(index, word as u64));
        (session != 0 && words[0] as u32 == session).then(|| SessionEntry {
            session,
            app: (words[0] >> 32) as u32,
            handler_rights: words[1].to_le_bytes(),
            raw_rights: words[2].to_le_bytes(),
            key: Key { k0: words[3], k1: words[4] },
            reserved: [0; 2],
            last: words[7],
        })
    }

    /// Changes an open session's rights, each word at one instant.
    pub fn set_rights(&self, session: u32, handler: [u8; REGIONS_MAX], raw: [u8; REGIONS_MAX]) {
        let index = u64::from(session) % SESSIONS_MAX as u64;
        if self.sessions.load(index, 0) as u32 == session {
            self.sessions.store(index, 1, u64::from_le_bytes(handler));
            self.sessions.store(index, 2, u64::from_le_bytes(raw));
        }
    }

    /// The number of the last session, open or ended, that had each entry; 0 for entries never used.
    pub fn last_sessions(&self) -> Vec<u32> {
        (0..SESSIONS_MAX as u64).map(|index| self.sessions.load(index, 7) as u32).collect()
    }

    /// Ends a session if it is still the entry's.
    pub fn close_session(&self, session: u32) {
        let index = u64::from(session) % SESSIONS_MAX as u64;
        if self.sessions.load(index, 0) as u32 == session {
            self.sessions.store(index, 0, 0);
        }
    }

    /// Sessions that the kernel serves: number and app.
    pub fn sessions(&self) -> Vec<(u32, u16)> {
        let words = (0..SESSIONS_MAX as u64).map(|index| self.sessions.load(index, 0));
        words.filter(|word| *word as u32 != 0).map(|word| (word as u32, (word >> 32) as u16)).collect()
    }

    /// Tells XDP the addresses of the interfaces that it serves, by index, and forgets those of others.
    /// Each place changes at one instant. Of several interfaces in one place the last is known.
    pub fn set_interfaces(&self, served: &[(u32, [u8; 6])]) {
        let mut words = [0; INTERFACES_MAX];
        for (index, address) in served {
            words[InterfaceWord::place(*index) as usize] = InterfaceWord::new(*index, *address).0;
        }
        for (place, word) in (0..).zip(words) {
            if self.interfaces.load(place, 0) != word {
                self.interfaces.store(place, 0, word);
            }
        }
    }

    /// An app's counters, all CPUs added up; `APPS_MAX` for datagrams of no number.
    pub fn stats(&self, app: u32) -> Result<AppStats, LoaderError> {
        self.stats_of([app])
    }

    /// Sets an app's counters to zero. What is counted meanwhile may be lost.
    pub fn clear_stats(&self, app: u32) -> Result<(), LoaderError> {
        let zero = [0; size_of::<AppStats>()];
        let values = vec![&zero[..]; naam_sys::map::possible_cpus()?];
        Ok(self.stats.update_per_cpu(&app.to_ne_bytes(), &values, Update::Any)?)
    }

    /// Counters of several apps, added up.
    pub fn stats_of(&self, apps: impl IntoIterator<Item = u32>) -> Result<AppStats, LoaderError> {
        let mut sum = [0u64; size_of::<AppStats>() / 8];
        let mut per_cpu = Vec::new();
        for app in apps {
            per_cpu.extend(self.stats.lookup_per_cpu(&app.to_ne_bytes())?.unwrap_or_default());
        }
        for value in &per_cpu {
            for (total, word) in sum.iter_mut().zip(value.chunks_exact(8)) {
                *total = total.wrapping_add(u64::from_ne_bytes(word.try_into().expect("chunks of eight")));
            }
        }
        Ok(AppStats {
            datagrams: sum[0],
            replies: sum[1],
            bytes: sum[2],
            messages: sum[3],
            steps: sum[4],
            duplicates: sum[5],
            busy_ns: sum[6],
            pushbacks: sum[7],
            drops: sum[8..24].try_into().expect("16 words"),
            statuses: sum[24..56].try_into().expect("32 words"),
        })
    }

    /// The maps' descriptors by the names that the shell object uses.
    pub(crate) fn shared_map(&self, name: &str) -> Option<&Map> {
        Some(match name {
            "APPS" => &self.apps.map,
            "FUNCTIONS" => &self.functions.map,
            "STEER" => &self.steer.map,
            "SESSIONS" => &self.sessions.map,
            "SLOTS" => &self.slots.map,
            "APP_STATS" => &self.stats,
            _ => return None,
        })
    }
}
