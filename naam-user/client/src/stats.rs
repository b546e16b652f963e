//! What a client counts.

use serde::Serialize;

/// Counters of a client since it was made.
///
/// `submitted = succeeded + failed + refused + timeouts + closed + in_flight` holds between calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientStats {
    /// Calls taken.
    pub submitted: u64,
    /// Calls answered OK.
    pub succeeded: u64,
    /// Calls whose handler answered FAIL.
    pub failed: u64,
    /// Calls ended by another status.
    pub refused: u64,
    /// Calls without an answer in time.
    pub timeouts: u64,
    /// Of these, calls that certainly did not run.
    pub timeouts_not_run: u64,
    /// Calls ended because the client closed.
    pub closed: u64,
    /// Calls in flight now.
    pub in_flight: u64,
    /// Calls not taken because window or slots were full.
    pub busy: u64,

    /// Datagrams packed.
    pub datagrams: u64,
    /// Messages packed, repeats included.
    pub messages: u64,
    /// Of these, repeats.
    pub retries: u64,
    /// Bytes packed.
    pub bytes: u64,

    /// Datagrams received, good or bad.
    pub received: u64,
    /// Answers that ended a call came in them.
    pub answers: u64,
    /// Answers given from a slot's cache: the message had run before.
    pub from_slot: u64,
    /// Answers to calls that had been answered already.
    pub duplicates: u64,
    /// Answers to calls that had been given up, or to an earlier attempt that changes nothing.
    pub late: u64,
    /// Answers "still running": asked again later.
    pub running: u64,
    /// Answers "runs elsewhere": asked again later.
    pub elsewhere: u64,
    /// Answers "the host's time was up": asked again later.
    pub out_of_time: u64,
    /// Answers "its steps, or the host's time, are used up": asked again at once, as a Continue.
    pub continued: u64,
    /// Messages that home gave back: sent home again, or held for their owner.
    pub pushbacks: u64,
    /// Answers "another handler version serves": asked again with that one.
    pub version_retries: u64,
    /// Times a function's version was corrected.
    pub version_refreshes: u64,

    /// Datagrams that are no NAAM datagram, or contradict themselves.
    pub malformed: u64,
    /// Datagrams of a kind that clients do not get.
    pub unexpected: u64,
    /// Datagrams of another app or session.
    pub foreign: u64,
    /// Datagrams with a wrong tag.
    pub wrong_tag: u64,

    /// Smoothed round-trip time in nanoseconds; 0 before the first reply.
    pub rtt_ns: u64,
}
