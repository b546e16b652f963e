//! What became of a frame, and which counters it moved.

use naam_abi::stats::{AppStats, DROP_COUNT, DROP_NAMES, Drop};
use naam_abi::wire::{STATUS_COUNT, STATUS_NAMES};
use naam_loader::Hook;

use crate::bench::Bench;
use crate::frame::{Network, Reply};

/// A frame's fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left to the stack.
    Pass,
    /// Dropped.
    Drop,
    /// Sent back: the frame.
    Answered(Vec<u8>),
}

/// A frame's fate with the counters of its app.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The fate.
    pub verdict: Verdict,
    /// The frame as the programs left it, whatever its fate.
    pub frame: Vec<u8>,
    /// What its counters grew by.
    pub stats: AppStats,
}

/// Both hooks with both loops.
pub const VARIANTS: [(Hook, bool); 4] = [(Hook::Xdp, true), (Hook::Xdp, false), (Hook::Tc, true), (Hook::Tc, false)];

/// Those of them that this kernel's verifier gets through.
pub fn variants() -> impl Iterator<Item = (Hook, bool)> {
    VARIANTS.into_iter().filter(|(_, may_goto)| !may_goto || Bench::may_goto())
}

impl Bench {
    /// Every program variant, one after another.
    pub fn variants() -> impl Iterator<Item = Self> {
        VARIANTS.into_iter().map(|(hook, may_goto)| Self::new(hook, may_goto))
    }

    /// How messages about this bench name it.
    pub fn name(&self) -> String {
        format!("{} by {}", self.hook, if self.datapath.may_goto() { "may_goto" } else { "bpf_loop" })
    }

    /// Sends a frame in, and tells its fate and what the counters of `app` grew by.
    ///
    /// # Panics
    /// If the kernel cannot run it, or the verdict is none of the three.
    pub fn judge(&self, app: u32, frame: &[u8]) -> Outcome {
        let before = self.datapath.tables().stats(app).expect("counters");
        let output = self.send(frame);
        let after = self.datapath.tables().stats(app).expect("counters");
        let verdict = match output.retval {
            retval if retval == self.passed() => Verdict::Pass,
            retval if retval == self.dropped() => Verdict::Drop,
            retval if retval == self.transmitted() => Verdict::Answered(output.data.clone()),
            retval => panic!("{}: verdict {retval}", self.name()),
        };
        Outcome { verdict, frame: output.data, stats: difference(&after, &before) }
    }
}

/// `after - before`, counter by counter.
pub fn difference(after: &AppStats, before: &AppStats) -> AppStats {
    AppStats {
        datagrams: after.datagrams - before.datagrams,
        replies: after.replies - before.replies,
        bytes: after.bytes - before.bytes,
        messages: after.messages - before.messages,
        steps: after.steps - before.steps,
        duplicates: after.duplicates - before.duplicates,
        pushbacks: after.pushbacks - before.pushbacks,
        busy_ns: after.busy_ns - before.busy_ns,
        drops: std::array::from_fn(|i| after.drops[i] - before.drops[i]),
        statuses: std::array::from_fn(|i| after.statuses[i] - before.statuses[i]),
    }
}

impl Outcome {
    /// The drop counters that rose.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        assert!(self.stats.drops[DROP_COUNT..].iter().all(|count| *count == 0), "a counter without a reason");
        DROP_NAMES.into_iter().zip(self.stats.drops).filter(|(_, count)| *count != 0).collect()
    }

    /// The status counters that rose.
    pub fn statuses(&self) -> Vec<(&'static str, u64)> {
        assert!(self.stats.statuses[STATUS_COUNT..].iter().all(|count| *count == 0), "a counter without a status");
        STATUS_NAMES.into_iter().zip(self.stats.statuses).filter(|(_, count)| *count != 0).collect()
    }

    /// Demands that the stack got the frame as it came, and that nobody counted it.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn assert_passed(&self, sent: &[u8], what: &str) {
        assert_eq!(self.verdict, Verdict::Pass, "{what}");
        assert_eq!(self.frame, sent, "{what}: the frame changed on its way to the stack");
        assert_eq!(self.stats, AppStats::ZERO, "{what}: a frame that is not ours was counted");
    }

    /// Demands a drop for `reason`, counted once, and nothing else counted but the datagram.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn assert_dropped(&self, reason: Drop, what: &str) {
        assert_eq!((&self.verdict, self.drops()), (&Verdict::Drop, vec![(DROP_NAMES[reason as usize], 1)]), "{what}");
        let mut rest = self.stats;
        rest.drops = [0; 16];
        assert_eq!(rest, AppStats { datagrams: 1, ..AppStats::ZERO }, "{what}: counted as something else, too");
    }

    /// Demands an answer that the network would carry back, and returns what is in it.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn assert_answered(&self, network: &Network, sent: &[u8], what: &str) -> Reply {
        let Verdict::Answered(frame) = &self.verdict else { panic!("{what}: {:?}, {:?}", self.verdict, self.drops()) };
        network.assert_turned_around(sent, frame, what);
        assert_eq!((self.stats.datagrams, self.stats.replies), (1, 1), "{what}");
        Reply::read(&frame[network.header_len()..])
    }
}
