//! Resolve: memory ops on regions.
//!
//! What a handler asks for is an allegation. [`locate`] and the checks behind it are the only way
//! from (region, offset, length) to an address.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::arch::asm;
use naam_abi::{
    handler::NaamMsg,
    limits::{ARGS_BYTES, REPLY_BYTES, VIEW_LARGE, VIEW_SMALL},
    tables::{PROGRAM_WEAKLY_ORDERED, PROGRAM_WRITES, RIGHT_ATOMIC, RIGHT_READ, RIGHT_WRITE},
    wire::Status,
};

use crate::{
    config::{constant, has},
    maps,
    scratch::TOUCHES,
};
use naam_shell::opaque::{compare_exchange, fetch_add, opaque};

const WORD: u64 = 8;

/// A place within one map value of a region. `within` is at most `value_len - 1`.
struct Located {
    base: *mut u8,
    within: u64,
    value_len: u64,
}

impl Located {
    /// The address, if `LEN` bytes lie before the value's end. The verifier follows this check.
    #[inline(always)]
    fn bytes<const LEN: u64>(&self) -> Option<*mut u8> {
        if self.within > self.value_len - LEN {
            return None;
        }
        let within = opaque(self.within);
        // SAFETY: within the value, as just checked.
        Some(unsafe { self.base.add(within as usize) })
    }

    /// Whether `len` bytes lie before the value's end.
    #[inline(always)]
    fn holds(&self, len: u64) -> bool {
        self.within + len <= self.value_len
    }
}

/// Finds the map value of an alleged (region, offset).
///
/// Each arm has its own lookup with its own constants. The markers keep LLVM from merging them into
/// one call with a variable map, which the verifier would not inline.
#[inline(always)]
fn locate(region: u32, offset: u64) -> Result<Located, Status> {
    if has_one_value() {
        let value_len = constant!(value_len[0]);
        if region != 0 {
            return Err(Status::NoRegion);
        }
        if offset >= value_len {
            return Err(Status::Bounds);
        }
        let Some(base) = maps::REGION_0.get_ptr_mut(0) else { return Err(Status::Bounds) };
        return Ok(Located { base: base.cast(), within: offset & (value_len - 1), value_len });
    }
    macro_rules! arms {
        ($($number:literal $map:ident)*) => {
            match region {
                $($number => {
                    let value_len = constant!(value_len[$number]);
                    if value_len == 0 {
                        return Err(Status::NoRegion);
                    }
                    let value = offset >> (constant!(value_shift[$number]) & 63);
                    if value >= u64::from(constant!(values[$number])) {
                        return Err(Status::Bounds);
                    }
                    let Some(base) = maps::$map.get_ptr_mut(value as u32) else { return Err(Status::Bounds) };
                    let mut base: *mut u8 = base.cast();
                    // SAFETY: the register keeps its value.
                    unsafe { asm!(concat!("/* region ", $number, " */ {0} = {0}"), inout(reg) base) };
                    Ok(Located { base, within: offset & (value_len - 1), value_len })
                })*
                _ => Err(Status::NoRegion),
            }
        };
    }
    arms!(0 REGION_0 1 REGION_1 2 REGION_2 3 REGION_3 4 REGION_4 5 REGION_5 6 REGION_6 7 REGION_7)
}

/// Whether `rights` (a byte per region) hold `right` for `region`.
#[inline(always)]
fn allowed(rights: u64, region: u32, right: u8) -> bool {
    rights >> (u64::from(region & 7) * 8) & u64::from(right) != 0
}

/// A full barrier.
#[inline(always)]
fn barrier(fence: *mut u64) {
    // SAFETY: a word of this CPU's scratch.
    unsafe { fetch_add(fence, 0) };
}

/// Whether the handler has one region, of one map value.
#[inline(always)]
pub fn has_one_value() -> bool {
    constant!(regions) == 1 && constant!(values[0]) == 1
}

/// Loads one word where the message's READ will read, so that its cache miss overlaps others.
#[inline(always)]
pub fn touch(message: &NaamMsg) {
    let Ok(located) = locate(message.op_region, message.op_offset) else { return };
    if let Some(word) = located.bytes::<WORD>() {
        // SAFETY: eight bytes of the region. The value is of no interest.
        opaque(unsafe { word.cast::<u64>().read_volatile() });
    }
}

/// The same for the ops of [`TOUCHES`] messages in the handler's one map value, whatever they are: a
/// message without a READ is touched where its last op was, or one of an earlier datagram. So few
/// instructions that a processor has the loads of many messages in flight at once.
#[inline(always)]
pub fn touch_some(messages: *const NaamMsg) {
    let value_len = constant!(value_len[0]);
    if value_len == 0 {
        return;
    }
    let Some(base) = maps::REGION_0.get_ptr_mut(0) else { return };
    let base: *const u8 = base.cast();
    for i in 0..TOUCHES {
        // SAFETY: the caller's messages, and a place in the value, as just masked. The value is of no interest.
        unsafe {
            let offset = (&raw const (*messages.add(i)).op_offset).read_volatile();
            let within = offset & (value_len - 1) & !(WORD - 1);
            opaque(base.add(within as usize).cast::<u64>().read_volatile());
        }
    }
}

/// READ: copies the bytes to `view`.
#[inline(always)]
pub fn read(message: &NaamMsg, rights: u64, view: *mut u64, fence: *mut u64) -> Result<(), Status> {
    let (region, offset, len) = (message.op_region, message.op_offset, u64::from(message.op_len));
    if len == 0 || len > u64::from(constant!(view_len)) || !(len | offset).is_multiple_of(WORD) {
        return Err(Status::BadStep);
    }
    if !allowed(rights, region, RIGHT_READ) {
        return Err(Status::Denied);
    }
    let located = locate(region, offset)?;
    if !located.holds(len) {
        return Err(Status::Bounds);
    }
    if has(PROGRAM_WEAKLY_ORDERED) {
        barrier(fence);
    }
    if len <= VIEW_SMALL as u64
        && let Some(from) = located.bytes::<{ VIEW_SMALL as u64 }>()
    {
        let from = from.cast::<u64>();
        for i in 0..VIEW_SMALL / 8 {
            // SAFETY: VIEW_SMALL bytes of the region; the view is larger.
            unsafe { view.add(i).write_volatile(from.add(i).read_volatile()) };
        }
        return Ok(());
    }
    let len = opaque(len);
    if len > VIEW_LARGE as u64 {
        return Err(Status::BadStep);
    }
    let within = opaque(located.within);
    // SAFETY: `holds` has checked the source; the view has VIEW_LARGE bytes. The helper copies word
    // by word, and the place is mapped as long as the map lives.
    let failed = unsafe {
        bpf_probe_read_kernel(view.cast(), len as u32, located.base.add(within as usize).cast_const().cast())
    };
    if failed == 0 { Ok(()) } else { Err(Status::Bounds) }
}

/// Bytes of `args` and `reply` together, where a WRITE takes its bytes from.
const SOURCE_BYTES: u64 = (ARGS_BYTES + REPLY_BYTES) as u64;

/// WRITE: copies the bytes from the message's `args` or `reply`. Neither does it overtake a READ, nor what follows it.
#[inline(always)]
pub fn write(message: &NaamMsg, rights: u64, fence: *mut u64) -> Result<(), Status> {
    let (region, offset, len) = (message.op_region, message.op_offset, u64::from(message.op_len));
    let source = u64::from(message.op_source);
    if len == 0 || len > ARGS_BYTES as u64 || !(len | offset | source).is_multiple_of(WORD) {
        return Err(Status::BadStep);
    }
    if source > SOURCE_BYTES || source + len > SOURCE_BYTES {
        return Err(Status::BadStep);
    }
    if !has(PROGRAM_WRITES) {
        return Err(Status::ReadOnly);
    }
    if !allowed(rights, region, RIGHT_WRITE) {
        return Err(Status::Denied);
    }
    let located = locate(region, offset)?;
    if !located.holds(len) {
        return Err(Status::Bounds);
    }
    if has(PROGRAM_WEAKLY_ORDERED) {
        barrier(fence);
    }
    let from: *const u64 = message.args.as_ptr();
    let words = opaque(len / WORD);
    let (first, within) = (source / WORD, located.within);
    let mut i = opaque(0);
    while i < (ARGS_BYTES / 8) as u64 && i < words {
        let place = opaque(within + i * WORD);
        let word = opaque(first + i);
        if place > located.value_len - WORD || word >= SOURCE_BYTES / WORD {
            return Err(Status::Bounds);
        }
        // SAFETY: both places were just checked; `reply` follows `args`.
        unsafe {
            let to = located.base.add(place as usize).cast::<u64>();
            to.write_volatile(from.add(word as usize).read_volatile());
        }
        i = opaque(i + 1);
    }
    barrier(fence);
    Ok(())
}

/// CAS and FAA: `op_value` becomes the word found, `op_done` whether CAS exchanged.
#[inline(always)]
pub fn atomic(message: &mut NaamMsg, rights: u64, compare: bool) -> Result<(), Status> {
    let (region, offset) = (message.op_region, message.op_offset);
    if !offset.is_multiple_of(WORD) {
        return Err(Status::BadStep);
    }
    if !has(PROGRAM_WRITES) {
        return Err(Status::ReadOnly);
    }
    if !allowed(rights, region, RIGHT_ATOMIC) {
        return Err(Status::Denied);
    }
    let located = locate(region, offset)?;
    // The offset is aligned; this tells the verifier, which demands it of atomics.
    let located = Located { within: opaque(located.within) & !(WORD - 1), ..located };
    let word = located.bytes::<WORD>().ok_or(Status::Bounds)?.cast::<u64>();
    // SAFETY: eight aligned bytes of the region, as just checked.
    let found = unsafe {
        if compare {
            compare_exchange(word, message.op_expect, message.op_value)
        } else {
            fetch_add(word, message.op_value)
        }
    };
    message.op_done = u32::from(!compare || found == message.op_expect);
    message.op_value = found;
    Ok(())
}
