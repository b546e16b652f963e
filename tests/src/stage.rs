//! A bench with a puppet on it: app 3, function 16, two regions filled with a pattern.

use std::sync::atomic::{AtomicU32, Ordering};

use naam_abi::tables::{RIGHT_ALL, SessionEntry};
use naam_admission::Admitted;
use naam_loader::Hook;
use naam_sys::{Map, Mapping};

use crate::bench::{Bench, SESSION, port, region};
use crate::frame::{Answer, Message, Network, Reply, Request};
use crate::handlers::{Order, strings};
use crate::verdict::Outcome;

/// The puppet's app.
pub const APP: u16 = 3;
/// The shard that tests use.
pub const SHARD: u16 = 5;
/// The puppet's function.
pub const FUNCTION: u16 = 16;
/// Bytes of region 0, one map value.
pub const SINGLE: u64 = 2 << 20;
/// Bytes of one of region 1's values.
pub const VALUE: u64 = 64 << 10;
/// Values of region 1.
pub const VALUES: u64 = 4;

/// The bench, its regions and their mappings.
#[derive(Debug)]
pub struct Stage {
    /// The bench.
    pub bench: Bench,
    /// The regions' maps.
    pub maps: [Map; 2],
    /// Their pages.
    pub memory: [Mapping; 2],
    /// The last sequence of slot 0.
    sequence: AtomicU32,
}

/// What stands at `offset` of region `region` before anybody writes.
pub fn pattern(region: u32, offset: u64) -> u64 {
    (u64::from(region) + 1) << 56 | offset
}

impl Stage {
    /// Puts `handler` on a fresh bench.
    ///
    /// # Panics
    /// If anybody refuses it.
    pub fn new(hook: Hook, may_goto: bool, handler: &Admitted) -> Self {
        let bench = Bench::new(hook, may_goto);
        let maps = [region(SINGLE as u32, 1), region(VALUE as u32, VALUES as u32)];
        let memory = maps.each_ref().map(|map| map.mmap().expect("mmap"));
        let stage = Self { bench, maps, memory, sequence: AtomicU32::new(0) };
        stage.bench.app(APP);
        stage.load(FUNCTION, 1, handler);
        stage.reset();
        stage
    }

    /// Loads another handler of the app, with both regions.
    ///
    /// # Panics
    /// If anybody refuses it.
    pub fn load(&self, function: u16, version: u16, handler: &Admitted) {
        let regions = self.maps.each_ref();
        self.bench.load((APP, function, version), handler, &regions).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Fills both regions with their patterns.
    pub fn reset(&self) {
        for (region, memory) in (0..).zip(&self.memory) {
            for offset in (0..memory.len()).step_by(8) {
                memory.store(offset, pattern(region, offset), Ordering::Relaxed).expect("inside");
            }
        }
    }

    /// The words that differ from the pattern: (region, offset, word).
    pub fn changes(&self) -> Vec<(u32, u64, u64)> {
        let words = (0..).zip(&self.memory).flat_map(|(region, memory)| {
            (0..memory.len()).step_by(8).map(move |offset| (region, offset, memory.load(offset, Ordering::SeqCst)))
        });
        words
            .map(|(region, offset, word)| (region, offset, word.expect("inside")))
            .filter(|(region, offset, word)| *word != pattern(*region, *offset))
            .collect()
    }

    /// Whether the word at `offset` is as [`Stage::reset`] left it.
    pub fn memory_is(&self, region: u32, offset: u64) -> bool {
        self.memory[region as usize].load(offset, Ordering::SeqCst) == Ok(pattern(region, offset))
    }

    /// Puts one word back.
    pub fn restore(&self, region: u32, offset: u64) {
        let word = pattern(region, offset);
        self.memory[region as usize].store(offset, word, Ordering::SeqCst).expect("inside");
    }

    /// Opens the test's session anew, its slots fresh, with rights by region.
    pub fn rights(&self, handler_rights: [u8; 8]) {
        let entry = SessionEntry { session: SESSION, app: APP.into(), handler_rights, ..SessionEntry::default() };
        self.bench.datapath.tables().open_session(&entry);
    }

    /// Opens the test's session anew with all rights.
    pub fn fresh_session(&self) {
        self.rights([RIGHT_ALL; 8]);
    }

    /// A datagram of `messages` to the puppet.
    pub fn request(messages: Vec<Message>) -> Request {
        Request { app: APP, function: FUNCTION, handler: 0, shard: SHARD, session: SESSION, messages }
    }

    /// Sends a request; its fate and its reply.
    ///
    /// # Panics
    /// If it is not answered.
    #[track_caller]
    pub fn judge(&self, request: &Request, what: &str) -> (Outcome, Reply) {
        let network = Network::v4(port(request.app, request.shard));
        let frame = network.frame(&request.datagram());
        let outcome = self.bench.judge(request.app.into(), &frame);
        let reply = outcome.assert_answered(&network, &frame, what);
        assert!(reply.signed, "{what}");
        (outcome, reply)
    }

    /// Changes the test's session's rights, by region.
    pub fn set_rights(&self, handler_rights: [u8; 8]) {
        self.bench.datapath.tables().set_rights(SESSION, handler_rights, [0; 8]);
    }

    /// Lets the puppet perform `orders` as the next message of slot 0.
    ///
    /// # Panics
    /// If it is not answered.
    #[track_caller]
    pub fn perform(&self, orders: &[Order], what: &str) -> Answer {
        // Sequences from here on are out of the way of those that tests choose.
        let sequence = 1 << 16 | self.sequence.fetch_add(1, Ordering::Relaxed);
        let message = Message { sequence, ..Message::new(1, &strings(orders, 240), 240) };
        let (_, reply) = self.judge(&Self::request(vec![message]), what);
        reply.answers.into_iter().next().expect("one answer")
    }
}
