//! The table of calls in flight, and their arguments, which stay until the last attempt.

use std::ops::{Index, IndexMut};

use naam_abi::limits::REPLY_BYTES;
use naam_abi::wire::{Carried, Message};

use super::{Serving, Slot};
use crate::list::Lists;

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not in use; the request id is that of the last use.
    Free,
    /// In line for a datagram.
    Queued,
    /// Sent, waiting for an answer or the next attempt.
    Sent,
    /// Given back by home: it waits for its owner. See [`held`](super::held).
    Held,
}

#[derive(Debug)]
pub(super) struct Call {
    /// Number of this use: the table's index in the low bits, the use in the high ones.
    pub request: u32,
    pub phase: Phase,
    /// When free: the last use ended by an answer, so another answer is a duplicate.
    pub answered: bool,
    pub function: u16,
    pub shard: u16,
    pub arg_len: u16,
    /// Room of its next attempt.
    pub room: u16,
    /// Room of its plain request, which bounds the reply wherever it ends.
    pub plain_room: u16,
    /// Times sent.
    pub attempts: u16,
    /// Handler version named in the last attempt.
    pub version: u16,
    /// What an answer to an attempt that named none has told, if it was not the last.
    pub serving: Option<Serving>,
    /// Stamp of the last attempt.
    pub stamp: u32,
    pub slot: Option<Slot>,
    pub deadline: u64,
    /// Sent as a Continue, so that home may give it back instead of ending it for its budget.
    pub continues: bool,
    /// What it carries, once it has been cut. The only thing that is allocated for a call, with `held`.
    pub cargo: Option<Box<Cargo>>,
    /// What home has given back, while that waits for its owner.
    pub held: Option<Box<Cargo>>,
}

/// A carried message as it travels.
#[derive(Debug)]
pub(super) struct Cargo {
    /// Handler version whose state it is: no other may go on with it.
    pub version: u16,
    /// Sites it had passed when it came here.
    pub passed: u8,
    /// Its part of the header.
    pub header: Message,
    /// Its parts as they lie in the room, and the rest of the room that it needs.
    pub body: Vec<u8>,
}

impl Cargo {
    pub(super) fn new(carried: &Carried<'_>, version: u16, hops: u8) -> Box<Self> {
        let mut cargo = Box::new(Self { version, passed: hops, header: Message::default(), body: Vec::new() });
        cargo.replace(carried, hops);
        cargo
    }

    /// Takes the same message in as it stands some steps further.
    pub(super) fn replace(&mut self, carried: &Carried<'_>, hops: u8) {
        self.header = Message { hops, ..Message::default() };
        carried.fill(&mut self.header);
        self.body.clear();
        self.body.extend_from_slice(carried.body());
        self.body.resize(carried.room(), 0);
    }
}

impl Call {
    /// Longest reply that it allows, in bytes.
    pub(super) fn reply_max(&self) -> usize {
        usize::from(self.plain_room).min(REPLY_BYTES)
    }

    /// Forgets what it carries: it begins anew, as a plain request under its slot and sequence.
    pub(super) fn begin_anew(&mut self) {
        self.cargo = None;
        self.continues = false;
        self.room = self.plain_room;
    }
}

pub(super) struct Calls {
    entries: Box<[Call]>,
    args: Box<[u8]>,
    args_max: usize,
    /// One list: entries not in use, the one used last in front, as its memory is warm.
    free: Lists,
}

const FREE: u32 = 0;

impl Calls {
    /// `window` is a power of two.
    pub(super) fn new(window: usize, args_max: usize) -> Self {
        let mut free = Lists::new(window, 1);
        (0..window as u32).for_each(|index| free.push_back(FREE, index));
        let entry = |index| Call {
            // The use before the first: never sent, so nothing can answer it.
            request: index,
            phase: Phase::Free,
            answered: false,
            function: 0,
            shard: 0,
            arg_len: 0,
            room: 0,
            plain_room: 0,
            attempts: 0,
            version: 0,
            serving: None,
            stamp: 0,
            slot: None,
            deadline: 0,
            continues: false,
            cargo: None,
            held: None,
        };
        Self {
            entries: (0..window as u32).map(entry).collect(),
            args: vec![0; window * args_max].into(),
            args_max,
            free,
        }
    }

    pub(super) fn window(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn args_max(&self) -> usize {
        self.args_max
    }

    pub(super) fn in_use(&self) -> usize {
        self.window() - self.free.len(FREE)
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty(FREE)
    }

    /// Fills a free entry.
    ///
    /// # Panics
    /// If the table is full or the arguments are too long.
    pub(super) fn start(
        &mut self,
        function: u16,
        shard: u16,
        slot: Option<Slot>,
        args: &[u8],
        room: usize,
        deadline: u64,
    ) -> u32 {
        let index = self.free.pop_front(FREE).expect("checked by is_full");
        let window = self.window() as u32;
        let call = &mut self.entries[index as usize];
        *call = Call {
            request: call.request.wrapping_add(window),
            phase: Phase::Queued,
            answered: false,
            function,
            shard,
            arg_len: args.len() as u16,
            room: room as u16,
            plain_room: room as u16,
            attempts: 0,
            version: 0,
            serving: None,
            stamp: call.stamp,
            slot,
            deadline,
            continues: false,
            cargo: None,
            held: None,
        };
        let at = index as usize * self.args_max;
        self.args[at..at + args.len()].copy_from_slice(args);
        index
    }

    /// Frees an entry and hands back its slot.
    pub(super) fn finish(&mut self, index: u32, answered: bool) -> Option<Slot> {
        let call = &mut self.entries[index as usize];
        debug_assert_ne!(call.phase, Phase::Free);
        call.phase = Phase::Free;
        call.answered = answered;
        (call.cargo, call.held) = (None, None);
        self.free.push_front(FREE, index);
        call.slot.take()
    }

    /// The arguments of an entry.
    pub(super) fn args(&self, index: u32) -> &[u8] {
        let at = index as usize * self.args_max;
        &self.args[at..at + usize::from(self[index].arg_len)]
    }

    /// The entry that a request id on the wire belongs to, in this or an earlier use.
    pub(super) fn index_of(&self, request: u32) -> u32 {
        request & (self.window() as u32 - 1)
    }
}

impl Index<u32> for Calls {
    type Output = Call;

    fn index(&self, index: u32) -> &Call {
        &self.entries[index as usize]
    }
}

impl IndexMut<u32> for Calls {
    fn index_mut(&mut self, index: u32) -> &mut Call {
        &mut self.entries[index as usize]
    }
}
