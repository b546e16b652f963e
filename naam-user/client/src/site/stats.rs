//! What the client site counts.

use serde::Serialize;

/// Counters since the client was made.
///
/// `ended_here + ended_at_host + in flight` calls were submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SiteStats {
    /// Calls whose first step ran here.
    pub begun_here: u64,
    /// Calls that ran here to their end.
    pub ended_here: u64,
    /// Calls that ran at the host to their end.
    pub ended_at_host: u64,
    /// Of these, calls that had begun here.
    pub sent_home: u64,
    /// Of these, calls that went on there where they stood: carried.
    pub carried_home: u64,
    /// Of those sent home, because the session has no raw right to READ, or the app serves no one-sided functions.
    pub without_right: u64,
    /// Times that home gave a call back and it went on here.
    pub taken_back: u64,
    /// Of these, times that it went home again: to write, to end under its slot, or because its steps were used up.
    pub returned: u64,
    /// Messages given back that no run of their handler could have left: not taken in.
    pub strange_pushbacks: u64,
    /// Calls that could not go home before their deadline, for want of a request slot or a place: ended here, never sent.
    pub never_sent: u64,
    /// Steps run of calls that ended here.
    pub steps: u64,
    /// One-sided READs answered.
    pub reads: u64,
    /// READs that another memory brought, such as RDMA.
    pub memory_reads: u64,
    /// Times that nothing was to be done until another memory told of bytes: slept.
    pub memory_sleeps: u64,
    /// Memories that were lost.
    pub memory_lost: u64,
    /// READs on their way then, which were asked for again.
    pub memory_again: u64,
    /// Memories that were found again after a loss, and taken.
    pub memory_found: u64,
    /// Times that a memory was tried beside one-sided functions; their READs are counted nowhere.
    pub memory_trials: u64,
    /// READs whose answer was no READ's: the call went home.
    pub strange_reads: u64,
    /// Handler objects that were not what the daemon lists, or not admitted.
    pub refused_objects: u64,
}

impl SiteStats {
    /// Adds another client's.
    pub fn add(&mut self, other: &Self) {
        self.begun_here += other.begun_here;
        self.ended_here += other.ended_here;
        self.ended_at_host += other.ended_at_host;
        self.sent_home += other.sent_home;
        self.carried_home += other.carried_home;
        self.without_right += other.without_right;
        self.taken_back += other.taken_back;
        self.returned += other.returned;
        self.strange_pushbacks += other.strange_pushbacks;
        self.never_sent += other.never_sent;
        self.steps += other.steps;
        self.reads += other.reads;
        self.memory_reads += other.memory_reads;
        self.memory_sleeps += other.memory_sleeps;
        self.memory_lost += other.memory_lost;
        self.memory_again += other.memory_again;
        self.memory_found += other.memory_found;
        self.memory_trials += other.memory_trials;
        self.strange_reads += other.strange_reads;
        self.refused_objects += other.refused_objects;
    }
}
