//! Run: a datagram's messages advance side by side.
//!
//! One flat loop makes all passes: *begin* checks every message and takes its arguments in, before
//! any has an effect; then *touch* (load a word at every pending READ, so that cache misses overlap)
//! and *advance* (perform the op, run the handler's next step) take turns until all are served. The
//! loop's position lives in map memory, where the verifier does not follow it.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_kernel};
use naam_abi::{
    handler::{NaamMsg, NaamView1k, Step},
    limits::{ARGS_BYTES, HOPS_MAX, MESSAGES_MAX, REPLY_BYTES, STEPS_MAX, VIEW_LARGE},
    stats::{AppStats, Drop},
    tables::{PROGRAM_COSTLY, PROGRAM_REPEATABLE, PROGRAM_TAG, PROGRAM_TIMED, PROGRAM_WRITES},
    wire::{Kind, MESSAGE_BYTES, MESSAGE_DUPLICATE, MESSAGE_SERVED, Status},
};

use naam_shell::{
    count,
    frame::{Frame, Verdict},
    loops::{Looping, Turn},
    opaque::{clear_unused_arguments, opaque, set},
    reply::{self, Answer},
    visit::Visit,
};

use crate::{
    config::{constant, has},
    maps::SCRATCH,
    resolve,
    slot::{self, Claim},
};

/// What the shell itself keeps of a message: nothing here was written by a handler.
#[repr(C)]
pub struct Lane {
    /// [`BEGUN`], [`ENDED`], [`SERVED`], or the pending [`Step`].
    op: u32,
    /// Steps run.
    steps: u32,
    /// Where the message starts in its datagram.
    at: u32,
    /// Bytes behind its header.
    room: u32,
    /// Longest reply.
    reply_max: u32,
    /// Its request slot.
    slot: u32,
    /// Its sequence in the slot.
    sequence: u32,
    /// Whether the slot is claimed.
    claimed: u32,
    /// Whether an op has changed memory.
    effects: u32,
    /// How it ends: [`Status`] in the low half, `MESSAGE_*` flags above.
    ///
    /// Ends go through memory on purpose: the verifier knows a constant in a register and would
    /// follow every end separately to the datagram's last byte.
    end: u32,
    /// Bytes of its reply.
    reply_len: u32,
    reserved: u32,
}

/// Lane state: arguments taken in, no step run.
const BEGUN: u32 = 100;
/// Lane state: its end is known. One more than [`BEGUN`]: a message that has passed too many sites
/// begins here.
const ENDED: u32 = BEGUN + 1;
/// Lane state: answered.
const SERVED: u32 = 102;

/// Passes of the loop.
const BEGIN: u32 = 0;
const TOUCH: u32 = 1;
const ADVANCE: u32 = 2;

/// A CPU's messages at work.
#[repr(C)]
pub struct Scratch {
    /// The loop's pass.
    pass: u32,
    /// The loop's message.
    index: u32,
    /// Messages not yet served.
    active: u32,
    /// Advance passes made.
    round: u32,
    /// Begin: where the next message starts in the datagram.
    at: u32,
    /// Nonzero once the time budget is used up.
    over: u32,
    /// Clock at the first look at it; zero before.
    started: u64,
    /// Target of barriers.
    fence: u64,
    /// Steps run for this datagram.
    steps: u64,
    reserved: [u64; 3],
    lanes: [Lane; MESSAGES_MAX],
    /// The view of the handler call at hand.
    view: NaamView1k,
    /// The view before the first READ; never written.
    zero: NaamView1k,
    messages: [NaamMsg; MESSAGES_MAX],
}

/// Upper bound of turns: begin, then touch and advance for every step.
const TURNS: u32 = MESSAGES_MAX as u32 * (1 + 2 * (STEPS_MAX + 1));

/// The handler's place. The loader puts the handler's instructions here; the prototype stays and
/// is what the verifier checks the handler against.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn naam_handler(message: *mut NaamMsg, view: *const NaamView1k) -> u32 {
    let step: u64;
    // SAFETY: sets one register; the operands keep both arguments alive.
    unsafe { core::arch::asm!("{r} = 5", r = out(reg) step, in("r1") message, in("r2") view) };
    step as u32
}

struct Running<F> {
    frame: F,
    visit: *const Visit,
    scratch: *mut Scratch,
    stats: *mut AppStats,
}

/// What the handler sees in its next step.
enum Window {
    /// Zeros.
    Nothing,
    /// What its READ gave.
    Read,
}

impl Lane {
    /// Notes how the message ends.
    #[inline(always)]
    fn end(&mut self, status: u16, flags: u8, reply_len: u32) {
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
    fn fail(&mut self, status: Status) {
        self.end(status as u16, MESSAGE_SERVED, 0);
    }
}

/// Runs the datagram of this CPU's visit.
#[inline(always)]
pub fn run<F: Frame, L: Looping>(frame: F) -> Verdict {
    let Some(visit) = Visit::get() else { return F::DROP };
    // This program's place was another's when the entry looked it up: the function was unloaded in
    // between, and the place given away.
    let (app, function, version) = (constant!(app), constant!(function), constant!(version));
    if visit.app != app || visit.function != function || visit.version != version {
        count::drop(visit.app, Drop::Program);
        return F::DROP;
    }
    // SAFETY: a plain helper.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(scratch) = SCRATCH.get_ptr_mut(cpu) else { return F::DROP };
    let Some(stats) = count::of(visit.app) else { return F::DROP };
    // SAFETY: a plain helper.
    let arrived = if has(PROGRAM_TIMED) { unsafe { bpf_ktime_get_ns() } } else { 0 };
    // SAFETY: this CPU's scratch; programs on one CPU do not overlap.
    unsafe {
        set(&mut (*scratch).pass, BEGIN);
        set(&mut (*scratch).index, 0);
        (*scratch).active = visit.count;
        set(&mut (*scratch).round, 0);
        (*scratch).at = naam_abi::wire::HEADER_BYTES as u32;
        set(&mut (*scratch).over, 0);
        set(&mut (*scratch).started, 0);
        set(&mut (*scratch).steps, 0);
    }
    let mut running = Running { frame, visit, scratch, stats };
    L::repeat_apart(TURNS, &mut running);
    // SAFETY: as above.
    let (active, at, steps) = unsafe { ((*scratch).active, (*scratch).at, (*scratch).steps) };
    stats.steps += steps;
    // Messages that do not fill the datagram, or one whose lengths lie.
    if active != 0 || at != visit.length {
        stats.drops[Drop::Message as usize] += 1;
        return F::DROP;
    }
    stats.messages += u64::from(visit.count);
    let kind = if has(PROGRAM_REPEATABLE) { Kind::Request } else { Kind::Reply };
    let answer = Answer { kind, status: Status::Ok, handler: constant!(version) as u16 };
    let verdict = reply::send::<F, L>(frame, visit, has(PROGRAM_TAG), &answer);
    if has(PROGRAM_TIMED) {
        // SAFETY: a plain helper.
        stats.busy_ns += unsafe { bpf_ktime_get_ns() } - arrived;
    }
    verdict
}

impl<F: Frame> Turn for Running<F> {
    #[inline(always)]
    fn turn(&mut self) -> bool {
        // SAFETY: this CPU's scratch and visit; nothing else refers to them during the turn.
        let (scratch, visit) = unsafe { (&mut *self.scratch, &*self.visit) };
        let index = opaque(u64::from(scratch.index)) & (MESSAGES_MAX as u64 - 1);
        let pass = scratch.pass;
        match pass {
            BEGIN => {
                if !self.begin(index) {
                    return false;
                }
            }
            TOUCH => {
                let (lane, message) = at(self.scratch, index);
                if lane.op == Step::Read as u32 {
                    resolve::touch(message);
                }
            }
            _ => self.advance(index),
        }
        scratch.index += 1;
        if scratch.index < visit.count {
            return true;
        }
        if scratch.active == 0 || (pass == BEGIN && scratch.at != visit.length) {
            return false;
        }
        scratch.index = 0;
        scratch.pass = if pass == ADVANCE && visit.count > 1 { TOUCH } else { ADVANCE };
        if scratch.pass == ADVANCE {
            scratch.round += 1;
            if scratch.round.is_multiple_of(4) {
                look_at_clock(scratch);
            }
        }
        true
    }
}

/// Sets `over` once the datagram's time is used up, counted from the first look.
#[inline(always)]
fn look_at_clock(scratch: &mut Scratch) {
    // SAFETY: a plain helper.
    let now = unsafe { bpf_ktime_get_ns() };
    if scratch.started == 0 {
        scratch.started = now;
    } else if now - scratch.started > constant!(time_budget_ns) {
        scratch.over = 1;
    }
}

/// Lane and message `index` (below MESSAGES_MAX).
#[inline(always)]
fn at<'a>(scratch: *mut Scratch, index: u64) -> (&'a mut Lane, &'a mut NaamMsg) {
    // SAFETY: the index is masked at its source; lanes and messages do not overlap.
    unsafe {
        (
            &mut *(&raw mut (*scratch).lanes).cast::<Lane>().add(index as usize),
            &mut *(&raw mut (*scratch).messages).cast::<NaamMsg>().add(index as usize),
        )
    }
}

impl<F: Frame> Running<F> {
    /// Checks message `index` and takes it in; false if its lengths lie. Nothing has run yet then.
    #[inline(always)]
    fn begin(&mut self, index: u64) -> bool {
        // SAFETY: this CPU's scratch and visit.
        let (scratch, visit) = unsafe { (&mut *self.scratch, &*self.visit) };
        let start = scratch.at;
        let frame_at = u64::from(visit.datagram) + u64::from(start);
        let Some(header) = self.frame.bytes(frame_at, MESSAGE_BYTES) else { return false };
        // SAFETY: MESSAGE_BYTES bytes were checked.
        let (sequence, slot, flags, hops, arg_len, room): (u32, u16, u8, u8, u16, u16) = unsafe {
            (
                header.add(8).cast::<u32>().read_unaligned(),
                header.add(12).cast::<u16>().read_unaligned(),
                header.add(17).read(),
                header.add(19).read(),
                header.add(20).cast::<u16>().read_unaligned(),
                header.add(24).cast::<u16>().read_unaligned(),
            )
        };
        let (arg_len, room) = (u32::from(arg_len), u32::from(room));
        let next = start + MESSAGE_BYTES as u32 + room;
        if !room.is_multiple_of(8) || arg_len > room || arg_len > ARGS_BYTES as u32 || flags != 0 || next > visit.length
        {
            return false;
        }
        scratch.at = next;
        let most = constant!(reply_max);
        let reply_max = if room < most { room } else { most };
        let (lane, message) = at(self.scratch, index);
        // Without a branch: one more way through here multiplies what the verifier walks through.
        let tired = opaque(u64::from(HOPS_MAX - 1).wrapping_sub(u64::from(hops))) >> 63;
        set(&mut lane.op, BEGUN + tired as u32);
        set(&mut lane.end, Status::Hops as u32 | u32::from(MESSAGE_SERVED) << 16);
        set(&mut lane.reply_len, 0);
        set(&mut lane.steps, 0);
        set(&mut lane.at, start);
        set(&mut lane.room, room);
        set(&mut lane.reply_max, reply_max);
        if has(PROGRAM_WRITES) {
            set(&mut lane.slot, u32::from(slot));
            set(&mut lane.sequence, sequence);
            set(&mut lane.claimed, 0);
        }
        set(&mut lane.effects, 0);
        clear(message, reply_max, &raw const scratch.zero);
        message.arg_len = arg_len;
        message.reply_max = reply_max;
        message.shard = visit.shard;
        self.take_arguments(frame_at + MESSAGE_BYTES as u64, arg_len, message)
    }

    /// Copies the arguments: word by word while that is quicker than the helper.
    #[inline(always)]
    fn take_arguments(&self, frame_at: u64, len: u32, message: &mut NaamMsg) -> bool {
        const QUICK: u32 = 64;
        if len == 0 {
            return true;
        }
        if len <= QUICK {
            for i in 0..QUICK / 8 {
                if i * 8 >= len {
                    break;
                }
                let Some(word) = self.frame.bytes(frame_at + u64::from(i) * 8, 8) else { return false };
                // SAFETY: eight bytes were checked.
                message.args[i as usize] = unsafe { word.cast::<u64>().read_unaligned() };
            }
            return true;
        }
        let len = opaque(u64::from(len));
        if len == 0 || len > ARGS_BYTES as u64 {
            return false;
        }
        // SAFETY: `args` has ARGS_BYTES bytes.
        unsafe { self.frame.load(frame_at as u32, message.args.as_mut_ptr().cast(), len as u32) }
    }

    /// Performs the pending op, runs one step, and notes what the handler wants next.
    #[inline(always)]
    fn advance(&mut self, index: u64) {
        let (lane, message) = at(self.scratch, index);
        let op = lane.op;
        if op == SERVED {
            return;
        }
        if op != ENDED
            && let Some(window) = self.perform(op, lane, message)
        {
            self.step(lane, message, window);
        }
        // SAFETY: the field is the lane's; volatile, because only memory knows.
        if unsafe { (&raw const lane.op).read_volatile() } == ENDED {
            self.finish(lane, message);
        }
    }

    /// Performs `op`; what the handler sees in its next step, or `None` if the message has ended.
    #[inline(always)]
    fn perform(&mut self, op: u32, lane: &mut Lane, message: &mut NaamMsg) -> Option<Window> {
        // SAFETY: this CPU's scratch and visit.
        let (scratch, visit) = unsafe { (&mut *self.scratch, &*self.visit) };
        if has(PROGRAM_COSTLY) {
            look_at_clock(scratch);
        }
        // A message that has had an effect runs on to its end, so that no data structure is left
        // half changed because of the clock; its steps are bounded all the same.
        if (scratch.over != 0 && lane.effects == 0) || lane.steps >= constant!(steps_max) {
            lane.fail(Status::Budget);
            return None;
        }
        let fence = &raw mut scratch.fence;
        const READ: u32 = Step::Read as u32;
        const WRITE: u32 = Step::Write as u32;
        const CAS: u32 = Step::Cas as u32;
        let (window, result) = match op {
            BEGUN => {
                if has(PROGRAM_WRITES) && !self.claim(lane, message) {
                    return None;
                }
                (Window::Nothing, Ok(()))
            }
            READ => {
                let view = &raw mut scratch.view;
                (Window::Read, resolve::read(message, visit.rights, view.cast(), fence))
            }
            WRITE => {
                lane.effects = 1;
                (Window::Nothing, resolve::write(message, visit.rights, fence))
            }
            // CAS and FAA: `step` lets nothing else through.
            _ => {
                lane.effects = 1;
                (Window::Nothing, resolve::atomic(message, visit.rights, op == CAS))
            }
        };
        match result {
            Ok(()) => Some(window),
            Err(status) => {
                lane.fail(status);
                None
            }
        }
    }

    /// Claims a writing message's slot; false if that ends the message.
    #[inline(always)]
    fn claim(&self, lane: &mut Lane, message: &mut NaamMsg) -> bool {
        // SAFETY: this CPU's visit.
        let session = unsafe { (*self.visit).session };
        match slot::claim(session, lane.slot, lane.sequence) {
            Claim::Run => {
                lane.claimed = 1;
                true
            }
            Claim::Refused(status) => {
                lane.fail(status);
                false
            }
            Claim::Duplicate(entry, word) => {
                // SAFETY: this CPU's scratch.
                let fence = unsafe { &raw mut (*self.scratch).fence };
                match slot::recall(entry, word, message, fence) {
                    // The first try may have left more room than this one.
                    Some((_, reply_len)) if reply_len > lane.room => {
                        lane.end(Status::Room as u16, MESSAGE_SERVED | MESSAGE_DUPLICATE, 0);
                    }
                    Some((status, reply_len)) => lane.end(status, MESSAGE_SERVED | MESSAGE_DUPLICATE, reply_len),
                    None => lane.fail(Status::Stale),
                }
                false
            }
        }
    }

    /// Runs the handler's next step and notes what it wants.
    #[inline(always)]
    fn step(&mut self, lane: &mut Lane, message: &mut NaamMsg, window: Window) {
        message.step = lane.steps;
        lane.steps += 1;
        // SAFETY: this CPU's scratch.
        let view = unsafe {
            (*self.scratch).steps += 1;
            match window {
                Window::Nothing => &raw const (*self.scratch).zero,
                Window::Read => &raw const (*self.scratch).view,
            }
        };
        clear_unused_arguments();
        let step = naam_handler(message, view);
        if step == Step::Done as u32 {
            let reply_len = message.reply_len;
            if reply_len > lane.reply_max {
                lane.fail(Status::Room);
            } else {
                lane.end(Status::Ok as u16, MESSAGE_SERVED, reply_len);
            }
        } else if step == Step::Fail as u32 {
            lane.fail(Status::Failed);
        } else if step > Step::Fail as u32 {
            lane.fail(Status::BadStep);
        } else {
            lane.op = step;
            message.op_done = 1;
        }
    }

    /// Writes the message's end into the datagram.
    #[inline(always)]
    fn finish(&mut self, lane: &mut Lane, message: &mut NaamMsg) {
        // SAFETY: this CPU's scratch and visit, the app's counters on this CPU.
        let (scratch, visit, stats) = unsafe { (&mut *self.scratch, &*self.visit, &mut *self.stats) };
        lane.op = SERVED;
        scratch.active = scratch.active.wrapping_sub(1);
        // SAFETY: the lane's fields; volatile, because they went through memory on purpose.
        let (end, reply_len) =
            unsafe { ((&raw const lane.end).read_volatile(), (&raw const lane.reply_len).read_volatile()) };
        let (status, flags) = (end as u16, (end >> 16) as u8);
        if has(PROGRAM_WRITES) && lane.claimed != 0 {
            if status == Status::Budget as u16 && lane.effects == 0 {
                slot::release(visit.session, lane.slot, lane.sequence);
            } else {
                slot::complete(visit.session, lane.slot, lane.sequence, status, message, reply_len);
            }
        }
        let reply_len = if reply_len > lane.room { 0 } else { reply_len };
        stats.duplicates += u64::from(flags & MESSAGE_DUPLICATE != 0);
        count::status(stats, status);
        let frame_at = u64::from(visit.datagram) + u64::from(lane.at);
        let Some(header) = self.frame.bytes(frame_at, MESSAGE_BYTES) else { return };
        // SAFETY: MESSAGE_BYTES bytes were checked.
        unsafe {
            header.add(4).cast::<u32>().write_unaligned(message.code);
            header.add(14).cast::<u16>().write_unaligned(status);
            header.add(17).write(if has(PROGRAM_REPEATABLE) { 0 } else { flags });
            header.add(18).write(lane.steps as u8);
            // One site more; the benches' repetition would use the hops up.
            if !has(PROGRAM_REPEATABLE) {
                header.add(19).write(header.add(19).read().saturating_add(1));
            }
            header.add(22).cast::<u16>().write_unaligned(reply_len as u16);
        }
        let mut reply_at = frame_at + MESSAGE_BYTES as u64;
        if has(PROGRAM_REPEATABLE) {
            // The next run needs the arguments.
            reply_at += u64::from(message.arg_len.next_multiple_of(8) & 0x7f8);
        }
        self.give_reply(reply_at, reply_len, message);
    }

    /// Copies the reply: word by word while that is quicker than the helper. The last word may hold
    /// bytes behind the reply: zeros, or what the handler put there.
    #[inline(always)]
    fn give_reply(&self, frame_at: u64, len: u32, message: &NaamMsg) {
        const QUICK: u32 = 64;
        if len <= QUICK {
            for i in 0..QUICK / 8 {
                if i * 8 >= len {
                    break;
                }
                let Some(word) = self.frame.bytes(frame_at + u64::from(i) * 8, 8) else { return };
                // SAFETY: eight bytes were checked; rooms are whole words.
                unsafe { word.cast::<u64>().write_unaligned(message.reply[i as usize]) };
            }
            return;
        }
        let len = opaque(u64::from(len));
        if len == 0 || len > REPLY_BYTES as u64 {
            return;
        }
        // SAFETY: `reply` has REPLY_BYTES bytes.
        unsafe { self.frame.store(frame_at as u32, message.reply.as_ptr().cast(), len as u32) };
    }
}

/// Clears what a handler may read without having written: ops, state, and the reply up to its
/// longest. What lies in `args` behind the arguments stays: it was this app's already.
#[inline(always)]
fn clear(message: &mut NaamMsg, reply_max: u32, zero: *const NaamView1k) {
    const { assert!(VIEW_LARGE >= REPLY_BYTES) };
    const QUICK: u32 = 64;
    let head: *mut u64 = (&raw mut *message).cast();
    for i in 0..core::mem::offset_of!(NaamMsg, args) / 8 {
        // SAFETY: everything before `args` is plain words.
        unsafe { head.add(i).write_volatile(0) };
    }
    if reply_max <= QUICK {
        for i in 0..QUICK as usize / 8 {
            // SAFETY: `reply` is longer than QUICK bytes.
            unsafe { message.reply.as_mut_ptr().add(i).write_volatile(0) };
        }
        return;
    }
    let len = opaque(u64::from(reply_max));
    if len > REPLY_BYTES as u64 {
        return;
    }
    // SAFETY: `reply` and the zero page have REPLY_BYTES bytes.
    unsafe { bpf_probe_read_kernel(message.reply.as_mut_ptr().cast(), len as u32, zero.cast()) };
}
