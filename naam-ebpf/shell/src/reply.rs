//! Reply: the frame goes back the way it came, as long as it came.

use naam_abi::{
    siphash::Key,
    tables::SteerEntry,
    wire::{HEADER_BYTES, Kind, Status},
};

use crate::{
    checksum, count,
    frame::{Frame, Verdict},
    loops::Looping,
    tag,
};
use naam_abi::stats::Drop;

/// What a reply's header says.
pub struct Answer {
    /// Reply, or Error with a status.
    pub kind: Kind,
    /// The datagram's status: Ok unless `kind` is Error.
    pub status: Status,
    /// Handler version that ran, or that serves.
    pub handler: u16,
    /// The shard's placement word.
    pub placement: u64,
    /// Makes the tag; `None` leaves it zero.
    pub key: Option<Key>,
}

/// Where the answered datagram lies.
pub struct Place {
    /// Where the IP header starts.
    pub ip: u64,
    /// Where the datagram starts.
    pub at: u64,
    /// Its length.
    pub length: u32,
    /// Whether the frame is IPv6.
    pub v6: bool,
    /// The app whose counters count it.
    pub app: u32,
}

/// Completes the header, turns the frame around and sends it.
#[inline(always)]
pub fn send<F: Frame, L: Looping>(frame: F, place: &Place, answer: &Answer) -> Verdict {
    if finish::<F, L>(frame, place, answer).is_none() {
        // The entry has checked every byte used here, so the frame changed under us: never seen.
        count::drop(place.app, Drop::Frame);
        return F::DROP;
    }
    if let Some(stats) = count::of(place.app) {
        stats.replies += 1;
        stats.bytes += u64::from(place.length);
    }
    frame.transmit()
}

#[inline(always)]
fn finish<F: Frame, L: Looping>(frame: F, place: &Place, answer: &Answer) -> Option<()> {
    let placement = SteerEntry::from_word(answer.placement);
    let header = frame.bytes(place.at, HEADER_BYTES)?;
    // SAFETY: HEADER_BYTES bytes were checked.
    unsafe {
        header.add(5).write(answer.kind as u8);
        header.add(12).cast::<u16>().write_unaligned(answer.handler);
        header.add(22).cast::<u16>().write_unaligned(answer.status as u16);
        header.add(24).cast::<u32>().write_unaligned(placement.epoch);
        header.add(29).write(placement.site);
        header.add(30).cast::<u16>().write_unaligned(placement.lease_ms);
    }
    if let Some(key) = answer.key {
        let tag = tag::tag::<F, L>(frame, place.at, place.length, key)?;
        let header = frame.bytes(place.at, HEADER_BYTES)?;
        // SAFETY: as above.
        unsafe { header.add(40).cast::<u64>().write_unaligned(tag) };
    }
    turn_around(frame, place)?;
    checksum::write::<F, L>(frame, place.ip, place.at, place.length, place.v6)
}

/// Swaps Ethernet addresses, IP addresses and UDP ports.
#[inline(always)]
fn turn_around<F: Frame>(frame: F, place: &Place) -> Option<()> {
    let ethernet = frame.bytes(0, 12)?.cast::<u16>();
    // SAFETY: 12 bytes were checked.
    unsafe {
        for i in 0..3 {
            swap(ethernet.add(i), ethernet.add(i + 3));
        }
    }
    if place.v6 {
        let addresses = frame.bytes(place.ip + 8, 32)?.cast::<u64>();
        // SAFETY: 32 bytes were checked.
        unsafe {
            swap(addresses, addresses.add(2));
            swap(addresses.add(1), addresses.add(3));
        }
    } else {
        let addresses = frame.bytes(place.ip + 12, 8)?.cast::<u32>();
        // SAFETY: 8 bytes were checked.
        unsafe { swap(addresses, addresses.add(1)) };
    }
    let ports = frame.bytes(place.at - 8, 4)?.cast::<u16>();
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
