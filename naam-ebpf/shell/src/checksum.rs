//! UDP checksums of replies.
//!
//! IPv4 replies carry none (zero). IPv6 demands one. A frame that came from a socket of the same
//! machine may still have its checksum to be filled in: the field holds the pseudo-header's sum, and
//! whoever sends the frame to a wire adds the rest. At TC that stays so, and the field is left
//! alone (addresses and ports only change places, the sum does not); at XDP the frame leaves
//! without that promise.

use crate::{
    frame::Frame,
    loops::{Looping, Turn},
    visit::Visit,
    words::Words,
};

/// IPv6 addresses in the header, and both together.
const ADDRESSES_AT: u64 = 8;
const ADDRESSES_WORDS: usize = 4;
const IPV4_ADDRESSES_AT: u64 = 12;
const UDP_BYTES: u64 = 8;

/// Folds a sum of 16-bit units into one.
#[inline(always)]
fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[inline(always)]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// The pseudo-header's sum, in memory order; `None` if the frame is too short.
#[inline(always)]
fn pseudo_header<F: Frame>(frame: F, ip: u64, v6: bool, udp_length: u16) -> Option<u64> {
    let mut sum = u64::from(udp_length.to_be()) + u64::from(17u16.to_be());
    if v6 {
        let addresses = frame.bytes(ip + ADDRESSES_AT, ADDRESSES_WORDS * 8)?;
        for i in 0..ADDRESSES_WORDS {
            // SAFETY: four words were checked.
            sum += halves(unsafe { addresses.cast::<u64>().add(i).read_unaligned() });
        }
    } else {
        let addresses = frame.bytes(ip + IPV4_ADDRESSES_AT, 8)?;
        // SAFETY: one word was checked.
        sum += halves(unsafe { addresses.cast::<u64>().read_unaligned() });
    }
    Some(sum)
}

struct Summing<F> {
    frame: F,
    sum: u64,
    words: Words,
}

impl<F: Frame> Turn for Summing<F> {
    #[inline(always)]
    fn turn(&mut self) -> bool {
        let sum = &mut self.sum;
        self.words.take(self.frame, |word| *sum = sum.wrapping_add(halves(word)))
    }
}

/// Writes the checksum of the reply to `visit`.
#[inline(always)]
pub fn write<F: Frame, L: Looping>(frame: F, visit: &Visit) -> Option<()> {
    let (ip, at, length, v6) = (u64::from(visit.ip), u64::from(visit.datagram), visit.length, visit.v6 != 0);
    let udp_at = at - UDP_BYTES;
    let udp_length = length as u16 + UDP_BYTES as u16;
    if F::KEEPS_PARTIAL_CHECKSUM {
        let pseudo = fold(pseudo_header(frame, ip, v6, udp_length)?);
        let udp = frame.bytes(udp_at, UDP_BYTES as usize)?;
        // SAFETY: eight bytes were checked.
        if unsafe { udp.cast::<u16>().add(3).read_unaligned() } == pseudo {
            return Some(());
        }
    }
    let mut checksum = 0;
    if v6 {
        let pseudo = pseudo_header(frame, ip, true, udp_length)?;
        let udp = frame.bytes(udp_at, UDP_BYTES as usize)?;
        // SAFETY: eight bytes were checked; the checksum's own field counts as zero.
        let header = unsafe { udp.cast::<u64>().read_unaligned() } & 0x0000_ffff_ffff_ffff;
        let words = Words::new(at, u64::from(length), 0)?;
        let mut summing = Summing { frame, sum: pseudo + halves(header), words };
        L::repeat(Words::TURNS, &mut summing);
        checksum = !fold(summing.sum);
        if checksum == 0 {
            checksum = 0xffff;
        }
    }
    let udp = frame.bytes(udp_at, UDP_BYTES as usize)?;
    // SAFETY: eight bytes were checked.
    unsafe { udp.cast::<u16>().add(3).write_unaligned(checksum) };
    Some(())
}
