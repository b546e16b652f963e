//! One call at this site.

use std::time::Duration;

use naam_abi::wire::Status;
use naam_engine::Run;

use super::{Owner, SiteStats};
use crate::client::now;
use crate::core::{Call, Function, Reply, Shard, Ticket};
use crate::error::CallError;

/// What a visit does, or waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is not in use.
    #[default]
    Nothing,
    /// It stands in line to go on.
    Ready,
    /// A place or a request slot of the client below.
    Lacking,
    /// An answer from home.
    Home,
    /// A READ by built-in function 0.
    Read,
    /// A READ from the memory that was set.
    Fetch,
}

/// A place for one call; used again without allocating.
#[derive(Debug)]
pub(super) struct Visit {
    pub generation: u32,
    /// READs that were asked of another memory: a call may end before its READ has come, and its place be used again.
    pub fetches: u32,
    pub doing: Doing,
    pub run: Option<Run>,
    pub function: Function,
    pub shard: u16,
    /// Handler version that runs.
    pub version: u16,
    /// On the core's clock.
    pub deadline: u64,
    /// It cannot go on here.
    pub goes_home: bool,
    /// Its READ has no answer.
    pub failed: Option<CallError>,
    /// Where the READ that it waits for is answered: a place of the client below.
    pub asked: Option<usize>,
    /// Home has given it back: the call below, whose slot and sequence it has. Its end is that call's.
    pub held: Option<Ticket>,
    reply_room: Option<u16>,
    args: Vec<u8>,
}

impl Default for Visit {
    fn default() -> Self {
        Self {
            generation: 0,
            fetches: 0,
            doing: Doing::Nothing,
            run: None,
            function: Function { number: 0 },
            shard: 0,
            version: 0,
            deadline: 0,
            goes_home: false,
            failed: None,
            asked: None,
            held: None,
            reply_room: None,
            args: Vec::new(),
        }
    }
}

impl Visit {
    /// Takes a call in; its run has begun.
    pub fn begin(&mut self, call: &Call<'_>, shard: u16, version: u16) {
        self.doing = Doing::Ready;
        self.fresh(call, shard);
        self.version = version;
        self.reply_room = call.reply_room;
        self.args.clear();
        self.args.extend_from_slice(call.args);
    }

    /// A call that begins at home.
    pub fn begin_at_home(&mut self, call: &Call<'_>, shard: u16) {
        self.doing = Doing::Home;
        self.fresh(call, shard);
    }

    fn fresh(&mut self, call: &Call<'_>, shard: u16) {
        (self.goes_home, self.failed, self.asked, self.held) = (false, None, None, None);
        (self.function, self.shard) = (call.function, shard);
        self.deadline = now().saturating_add(call.timeout.as_nanos() as u64);
    }

    /// Home has ended it. It may have gone on here all the same, after home had given one copy of it back: nobody waits for
    /// its READ any more.
    pub fn end_at_home(&mut self, owners: &mut [Owner]) {
        if let Some(asked) = self.asked.take() {
            owners[asked] = Owner::Nobody;
        }
        (self.doing, self.held) = (Doing::Nothing, None);
    }

    /// The call as home gets it, with the time that is left.
    pub fn call(&self, timeout: Duration) -> Call<'_> {
        let Self { function, shard, ref args, reply_room, .. } = *self;
        Call { function, shard: Shard::Number(shard), args, reply_room, timeout }
    }

    /// Takes what a memory has brought.
    pub fn fetched(&mut self, bytes: &[u8], stats: &mut SiteStats) {
        self.doing = Doing::Ready;
        if self.run.as_mut().is_some_and(|run| run.on_read(bytes).is_err()) {
            stats.strange_reads += 1;
            self.goes_home = true;
        }
    }

    /// Takes a READ's answer.
    pub fn take(&mut self, outcome: Result<Reply<'_>, CallError>, stats: &mut SiteStats) {
        (self.doing, self.asked) = (Doing::Ready, None);
        let Some(run) = &mut self.run else { return };
        match outcome {
            Ok(reply) => {
                if run.on_read(reply.bytes).is_err() {
                    stats.strange_reads += 1;
                    self.goes_home = true;
                }
            }
            // What home would say of the handler's own READ.
            Err(CallError::Refused { status: status @ (Status::Bounds | Status::NoRegion), .. }) => run.refuse(status),
            Err(CallError::Refused { status: Status::Denied | Status::NoFunction, .. }) => {
                stats.without_right += 1;
                self.goes_home = true;
            }
            // Nothing that reads has had an effect.
            Err(CallError::Timeout { attempts, .. }) => {
                self.failed = Some(CallError::Timeout { attempts, may_have_run: false });
            }
            Err(CallError::Closed { .. }) => self.failed = Some(CallError::Closed { may_have_run: false }),
            Err(CallError::Refused { status: Status::Session, code, .. }) => {
                self.failed = Some(CallError::Refused { status: Status::Session, code, may_have_run: false });
            }
            Err(_) => {
                stats.strange_reads += 1;
                self.goes_home = true;
            }
        }
    }
}
