//! Run: a datagram's messages advance side by side.
//!
//! One flat loop makes all passes: *begin* checks every message and takes its arguments in, before
//! any has an effect; then *touch* (load a word at every pending READ, so that cache misses overlap;
//! where the app has one region of one map value, eight messages a turn, wherever each last had an op)
//! and *advance* (perform the op, run the handler's next step) take turns until all are served. The
//! loop's position lives in map memory, where the verifier does not follow it.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use naam_abi::{
    handler::{NaamMsg, NaamView1k, Step},
    limits::{MESSAGES_MAX, STEPS_MAX},
    stats::{AppStats, Drop},
    tables::{PROGRAM_REPEATABLE, PROGRAM_TAG, PROGRAM_TIMED, PROGRAM_WRITES},
    wire::{Kind, MESSAGE_DUPLICATE, MESSAGE_SERVED, Status},
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
    carried::clear_view,
    config::{constant, has},
    maps::SCRATCH,
    resolve,
    scratch::{ADVANCE, BEGIN, BEGUN, ENDED, Lane, SERVED, Scratch, TOUCH, TOUCHES, at},
    slot::{self, Claim},
};

/// Upper bound of turns: begin; touch and advance for a carried message to come in, for every step, up to its first effect
/// and behind it, and for the end.
const TURNS: u32 = MESSAGES_MAX as u32 * (1 + 2 * (2 * STEPS_MAX + 2));

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

/// A datagram at work. `CONTINUES`: a Continue, whose messages may come carried and leave so; these programs are apart,
/// so that what they know costs plain requests nothing.
pub struct Running<F, const CONTINUES: bool> {
    pub frame: F,
    pub visit: *const Visit,
    pub scratch: *mut Scratch,
    pub stats: *mut AppStats,
}

/// What the handler sees in its next step.
enum Window {
    /// Zeros.
    Nothing,
    /// What its READ gave.
    Read,
}

/// Runs the datagram of this CPU's visit.
#[inline(always)]
pub fn run<F: Frame, L: Looping, const CONTINUES: bool>(frame: F) -> Verdict {
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
        (*scratch).at = naam_abi::wire::HEADER_BYTES as u32;
        set(&mut (*scratch).over, 0);
        set(&mut (*scratch).started, 0);
        set(&mut (*scratch).steps, 0);
        if CONTINUES {
            set(&mut (*scratch).kind, Kind::Reply as u32);
        }
    }
    let mut running = Running::<F, CONTINUES> { frame, visit, scratch, stats };
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
    let kind = if CONTINUES {
        // SAFETY: as above.
        unsafe { (*scratch).kind as u8 }
    } else if has(PROGRAM_REPEATABLE) {
        Kind::Request as u8
    } else {
        Kind::Reply as u8
    };
    let answer = Answer { kind, status: Status::Ok, handler: constant!(version) as u16 };
    let verdict = reply::send::<F, L>(frame, visit, stats, has(PROGRAM_TAG), &answer);
    if has(PROGRAM_TIMED) {
        // SAFETY: a plain helper.
        stats.busy_ns += unsafe { bpf_ktime_get_ns() } - arrived;
    }
    verdict
}

impl<F: Frame, const CONTINUES: bool> Turn for Running<F, CONTINUES> {
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
            TOUCH if resolve::has_one_value() => {
                let first = index & !(TOUCHES as u64 - 1);
                // SAFETY: the index is below MESSAGES_MAX, which is a multiple of TOUCHES.
                resolve::touch_some(unsafe { (&raw const scratch.messages).cast::<NaamMsg>().add(first as usize) });
                scratch.index += TOUCHES as u32 - 1;
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

impl<F: Frame, const CONTINUES: bool> Running<F, CONTINUES> {
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
        if scratch.steps & u64::from(constant!(clock_mask)) == u64::from(constant!(clock_mask)) {
            look_at_clock(scratch);
        }
        // A message that has had an effect runs on to its end, so that no data structure is left
        // half changed because of the clock; its steps are bounded all the same.
        let steps_end = if CONTINUES { lane.steps_end } else { constant!(steps_max) };
        if (scratch.over != 0 && lane.effects == 0) || lane.steps >= steps_end {
            if CONTINUES {
                self.give_back(op, lane, message);
            } else {
                lane.fail(Status::Budget);
            }
            return None;
        }
        let rights = if CONTINUES { lane.rights } else { visit.rights };
        let fence = &raw mut scratch.fence;
        const READ: u32 = Step::Read as u32;
        const WRITE: u32 = Step::Write as u32;
        const CAS: u32 = Step::Cas as u32;
        let (window, result) = match op {
            BEGUN => {
                if has(PROGRAM_WRITES) && !self.claim(lane, message) {
                    return None;
                }
                if CONTINUES && lane.pending != 0 {
                    // Its first op is for the next turn, behind a touch pass like any other.
                    lane.op = lane.pending;
                    return None;
                }
                (Window::Nothing, Ok(()))
            }
            READ => {
                let view = &raw mut scratch.view;
                if CONTINUES && lane.pending != 0 {
                    clear_view(view, &raw const scratch.zero);
                }
                (Window::Read, resolve::read(message, rights, view.cast(), fence))
            }
            WRITE => {
                self.note_effect(lane);
                (Window::Nothing, resolve::write(message, rights, fence))
            }
            // CAS and FAA: `step` lets nothing else through.
            _ => {
                self.note_effect(lane);
                (Window::Nothing, resolve::atomic(message, rights, op == CAS))
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

    /// Notes that the message changes memory. From the first time on it stays here, with a visit's steps before it,
    /// wherever it was cut before: a message that would have come to its end without a cut does so with cuts.
    #[inline(always)]
    fn note_effect(&self, lane: &mut Lane) {
        if CONTINUES && lane.effects == 0 {
            lane.steps_end = lane.steps + STEPS_MAX;
        }
        lane.effects = 1;
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
}
