//! Where a handler's READs get their bytes.

use std::time::Duration;

use naam_abi::limits::REGIONS_MAX;
use naam_abi::onesided;
use naam_abi::tables::RIGHT_READ;
use naam_abi::wire::Status;

use super::visit::Doing;
use super::{Owner, SiteClient};
use crate::core::{Call, Shard};
use crate::error::SubmitError;

/// A READ that a visit waits for; offset and length are whole words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub region: u32,
    pub offset: u64,
    pub len: u32,
}

/// What became of asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its answer comes by [`Visit::take`](super::visit::Visit::take).
    Waits,
    /// No more can be asked for now: what is lacking.
    Full(SubmitError),
    /// What home would say of it.
    Refused(Status),
    /// Only home can perform it.
    AtHome,
}

impl SiteClient {
    /// Asks for the bytes of a visit's READ, under the session's raw right: from the memory that was set, or else for as long as
    /// `left` by built-in function 0. READs of one shard share datagrams.
    pub(super) fn read(&mut self, index: u32, wanted: &Wanted, left: Duration) -> Asked {
        let &Wanted { region, offset, len } = wanted;
        let (handler, raw) = self.rights[region as usize % REGIONS_MAX];
        if handler & RIGHT_READ == 0 {
            return Asked::Refused(Status::Denied);
        }
        let visit = &mut self.visits[index as usize];
        let memory = self.memory.as_mut().filter(|_| raw & RIGHT_READ != 0);
        let tag = u64::from(visit.fetches.wrapping_add(1)) << 32 | u64::from(index);
        if memory.is_some_and(|memory| memory.read(tag, region, offset, len)) {
            visit.fetches = visit.fetches.wrapping_add(1);
            visit.doing = Doing::Fetch;
            let deadline = visit.deadline;
            self.fetching_until.note(deadline);
            return Asked::Waits;
        }
        let Some(function) = self.read.filter(|_| raw & RIGHT_READ != 0) else {
            self.stats.without_right += 1;
            return Asked::AtHome;
        };
        let args = onesided::read_args(region, offset, len);
        let visit = &mut self.visits[index as usize];
        let shard = Shard::Number(visit.shard);
        let read = Call { function, shard, args: &args, reply_room: Some(len as u16), timeout: left };
        match self.client.core_mut().submit(&read, self.turn) {
            Ok(ticket) => {
                self.owners[ticket.index()] = Owner::Read(index);
                self.unsent = true;
                (visit.doing, visit.asked) = (Doing::Read, Some(ticket.index()));
                Asked::Waits
            }
            Err(lack @ SubmitError::Busy { .. }) => Asked::Full(lack),
            Err(_) => Asked::AtHome,
        }
    }
}
