//! What a CPU keeps of the messages of one datagram.

use naam_abi::{
    handler::{NaamMsg, NaamView1k},
    limits::MESSAGES_MAX,
    wire::{MESSAGE_SERVED, Status},
};

/// What the shell itself keeps of a message: nothing here was written by a handler.
#[repr(C)]
pub struct Lane {
    /// [`BEGUN`], [`ENDED`], [`SERVED`], or the pending [`Step`].
    pub op: u32,
    /// Steps run, at all sites.
    pub steps: u32,
    /// Where the message starts in its datagram.
    pub at: u32,
    /// Bytes behind its header.
    pub room: u32,
    /// Longest reply.
    pub reply_max: u32,
    /// Its request slot.
    pub slot: u32,
    /// Its sequence in the slot.
    pub sequence: u32,
    /// Whether the slot is claimed.
    pub claimed: u32,
    /// Whether an op has changed memory.
    pub effects: u32,
    /// How it ends: [`Status`] in the low half, `MESSAGE_*` flags above.
    ///
    /// Ends go through memory on purpose: the verifier knows a constant in a register and would
    /// follow every end separately to the datagram's last byte.
    pub end: u32,
    /// Bytes of its reply.
    pub reply_len: u32,
    /// Of a carried message: the [`Step`] that it waits for when it comes, or when it leaves. Else 0.
    pub pending: u32,
    /// Sites passed before this one.
    pub hops: u32,
    /// Steps at which its visit ends.
    pub steps_end: u32,
    /// What its ops may do, a byte per region.
    pub rights: u64,
}

/// Lane state: arguments taken in, no step run.
pub const BEGUN: u32 = 100;
/// Lane state: its end is known. One more than [`BEGUN`]: a message that has passed too many sites
/// begins here.
pub const ENDED: u32 = BEGUN + 1;
/// Lane state: answered.
pub const SERVED: u32 = 102;

/// Passes of the loop.
pub const BEGIN: u32 = 0;
pub const TOUCH: u32 = 1;
pub const ADVANCE: u32 = 2;

/// Messages of one turn of the touch pass, where the region is one map value.
pub const TOUCHES: usize = 8;

const _: () = assert!(TOUCHES.is_power_of_two() && MESSAGES_MAX.is_multiple_of(TOUCHES));

/// A CPU's messages at work.
#[repr(C)]
pub struct Scratch {
    /// The loop's pass.
    pub pass: u32,
    /// The loop's message.
    pub index: u32,
    /// Messages not yet served.
    pub active: u32,
    /// Begin: where the next message starts in the datagram.
    pub at: u32,
    /// Nonzero once the time budget is used up.
    pub over: u32,
    /// The answer's kind.
    pub kind: u32,
    pub reserved: [u32; 6],
    /// Clock at the first look at it; zero before.
    pub started: u64,
    /// Target of barriers.
    pub fence: u64,
    /// Steps run for this datagram.
    pub steps: u64,
    pub lanes: [Lane; MESSAGES_MAX],
    /// The view of the handler call at hand.
    pub view: NaamView1k,
    /// The view before the first READ; never written.
    pub zero: NaamView1k,
    pub messages: [NaamMsg; MESSAGES_MAX],
}

impl Lane {
    /// Notes how the message ends.
    #[inline(always)]
    pub fn end(&mut self, status: u16, flags: u8, reply_len: u32) {
        let lane: *mut Self = self;
        // SAFETY: plain fields; volatile, so that the values leave their registers.
        unsafe {
            (&raw mut (*lane).end).write_volatile(u32::from(status) | u32::from(flags) << 16);
            (&raw mut (*lane).reply_len).write_volatile(reply_len);
            (&raw mut (*lane).op).write_volatile(ENDED);
        }
    }

    /// Notes an end without reply.
    #[inline(always)]
    pub fn fail(&mut self, status: Status) {
        self.end(status as u16, MESSAGE_SERVED, 0);
    }
}

/// Lane and message `index` (below MESSAGES_MAX).
#[inline(always)]
pub fn at<'a>(scratch: *mut Scratch, index: u64) -> (&'a mut Lane, &'a mut NaamMsg) {
    // SAFETY: the index is masked at its source; lanes and messages do not overlap.
    unsafe {
        (
            &mut *(&raw mut (*scratch).lanes).cast::<Lane>().add(index as usize),
            &mut *(&raw mut (*scratch).messages).cast::<NaamMsg>().add(index as usize),
        )
    }
}
