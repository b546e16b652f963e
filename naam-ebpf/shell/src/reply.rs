//! Reply: the frame goes back the way it came, as long as it came.

use naam_abi::{
    stats::{AppStats, Drop},
    tables::SteerEntry,
    wire::{HEADER_BYTES, Status},
};

use crate::{
    checksum,
    frame::{Frame, Verdict},
    loops::Looping,
    tag,
    visit::Visit,
};

/// What a reply's header says.
pub struct Answer {
    /// A [`Kind`](naam_abi::wire::Kind): Reply, Pushback, or Error with a status.
    pub kind: u8,
    /// The datagram's status: Ok unless `kind` is Error.
    pub status: Status,
    /// Handler version that ran, or that serves.
    pub handler: u16,
}

/// Completes the header, turns the frame of `visit` around and sends it; `stats` are the app's.
#[inline(always)]
pub fn send<F: Frame, L: Looping>(
    frame: F,
    visit: &Visit,
    stats: &mut AppStats,
    tagged: bool,
    answer: &Answer,
) -> Verdict {
    if finish::<F, L>(frame, visit, tagged, answer).is_none() {
        // The entry has checked every byte used here, so the frame changed under us: never seen.
        stats.drops[Drop::Frame as usize] += 1;
        return F::DROP;
    }
    stats.replies += 1;
    stats.bytes += u64::from(visit.length);
    frame.transmit()
}

#[inline(always)]
fn finish<F: Frame, L: Looping>(frame: F, visit: &Visit, tagged: bool, answer: &Answer) -> Option<()> {
    let placement = SteerEntry::from_word(visit.placement);
    let at = u64::from(visit.datagram);
    let header = frame.bytes(at, HEADER_BYTES)?;
    // SAFETY: HEADER_BYTES bytes were checked.
    unsafe {
        header.add(5).write(answer.kind);
        header.add(12).cast::<u16>().write_unaligned(answer.handler);
        header.add(22).cast::<u16>().write_unaligned(answer.status as u16);
        header.add(24).cast::<u32>().write_unaligned(placement.epoch);
        header.add(29).write(placement.site);
        header.add(30).cast::<u16>().write_unaligned(placement.lease_ms);
    }
    if tagged {
        let tag = tag::tag::<F, L>(frame, at, visit.length, visit.key)?;
        let header = frame.bytes(at, HEADER_BYTES)?;
        // SAFETY: as above.
        unsafe { header.add(40).cast::<u64>().write_unaligned(tag) };
    }
    turn_around(frame, visit)?;
    checksum::write::<F, L>(frame, visit)
}

/// Swaps Ethernet addresses, IP addresses and UDP ports.
#[inline(always)]
fn turn_around<F: Frame>(frame: F, visit: &Visit) -> Option<()> {
    let ethernet = frame.bytes(0, 12)?;
    // In two words, because the entry reads an address whole: a load that takes its bytes from several
    // narrower stores waits for them all, where frames come back at once.
    // SAFETY: 12 bytes were checked.
    unsafe {
        let (low, high) = (ethernet.cast::<u64>(), ethernet.add(8).cast::<u32>());
        let (to, from) = (low.read_unaligned(), u64::from(high.read_unaligned()) << 16);
        low.write_unaligned(to << 48 | from | to >> 48);
        high.write_unaligned((to >> 16) as u32);
    }
    if visit.v6 != 0 {
        let addresses = frame.bytes(u64::from(visit.ip) + 8, 32)?.cast::<u64>();
        // SAFETY: 32 bytes were checked.
        unsafe {
            swap(addresses, addresses.add(2));
            swap(addresses.add(1), addresses.add(3));
        }
    } else {
        let addresses = frame.bytes(u64::from(visit.ip) + 12, 8)?.cast::<u32>();
        // SAFETY: 8 bytes were checked.
        unsafe { swap(addresses, addresses.add(1)) };
    }
    let ports = frame.bytes(u64::from(visit.datagram) - 8, 4)?.cast::<u16>();
    // SAFETY: 4 bytes were checked.
    unsafe { swap(ports, ports.add(1)) };
    Some(())
}

/// Swaps two values that need no alignment.
///
/// # Safety
/// Both can be read and written.
#[inline(always)]
unsafe fn swap<T: Copy>(a: *mut T, b: *mut T) {
    // SAFETY: the caller vouches for both.
    unsafe {
        let (x, y) = (a.read_unaligned(), b.read_unaligned());
        a.write_unaligned(y);
        b.write_unaligned(x);
    }
}
