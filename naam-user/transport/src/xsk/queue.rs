//! One AF_XDP socket: frames, rings, and who owns which frame.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use xdp::nic::NicIndex;
use xdp::slab::{HeapSlab, Slab};
use xdp::socket::{SocketError, XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{CompletionRing, FillRing, Packet, RingConfigBuilder, RxRing, TxRing, Umem};

use super::Copying;
use crate::TransportError;
use crate::error::Device;

/// Frames on their way out. The peer's ring has 256 entries on veth, and drops what exceeds them.
const IN_FLIGHT_MAX: usize = 128;
/// Frames in the kernel's hands for what comes in; the receive ring holds them all.
const RECEIVES: u32 = 1024;
/// Frames taken from the receive ring at once.
const BATCH: usize = 128;
/// Frames that the kernel sends per system call in copy mode.
pub(super) const KICK_FRAMES: usize = 32;

pub(super) struct Queue {
    // Dropped in this order: the kernel lets go of rings and frames with the socket.
    socket: XdpSocket,
    fill: FillRing,
    receive: RxRing,
    completion: CompletionRing,
    transmit: TxRing,
    umem: Umem,
    /// Written, not yet in the transmit ring.
    outgoing: HeapSlab,
    arrived: HeapSlab,
    /// Frames that were sent or wait to be, until the kernel has given them back.
    in_flight: usize,
    /// Received frames that the fill ring has not got back yet.
    owed: usize,
    /// Frames in the transmit ring may still need a system call.
    unkicked: bool,
}

// SAFETY: the packets in the slabs point into the frames' memory, which goes with them.
unsafe impl Send for Queue {}

impl Queue {
    /// A socket bound to `queue` of an interface.
    pub(super) fn bind(device: &Device, queue: u32, copying: Copying) -> Result<Self, TransportError> {
        let failed = |operation: &str, source| TransportError::Xsk {
            operation: operation.to_owned(),
            device: device.clone(),
            queue,
            flags: copying.name(),
            source,
        };
        let refused = |error| {
            let (operation, source) = explain(error);
            failed(&operation, source)
        };
        let invalid = |error: xdp::error::Error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
        let frames = UmemCfgBuilder {
            frame_size: FrameSize::FourK,
            frame_count: RECEIVES + IN_FLIGHT_MAX as u32,
            ..UmemCfgBuilder::default()
        };
        let frames = frames.build().map_err(|error| failed("lay out frames", invalid(error)))?;
        let umem = Umem::map(frames).map_err(|error| failed("map frames", error))?;
        let rings = RingConfigBuilder {
            rx_count: RECEIVES,
            tx_count: IN_FLIGHT_MAX as u32 * 2,
            fill_count: RECEIVES,
            completion_count: IN_FLIGHT_MAX as u32 * 2,
        };
        let rings = rings.build().map_err(|error| failed("lay out rings", invalid(error)))?;
        let mut builder = XdpSocketBuilder::new().map_err(refused)?;
        let (rings, mut flags) = builder.build_rings(&umem, rings).map_err(refused)?;
        match copying {
            Copying::Kernel => {}
            Copying::Copy => flags.force_copy(),
            Copying::Zero => flags.force_zerocopy(),
        }
        let socket = builder.bind(NicIndex::new(device.ifindex), queue, flags).map_err(refused)?;
        let (Some(receive), Some(transmit)) = (rings.rx_ring, rings.tx_ring) else {
            return Err(failed("map rings", io::Error::from(io::ErrorKind::InvalidData)));
        };
        let mut bound = Self {
            socket,
            fill: rings.fill_ring,
            receive,
            completion: rings.completion_ring,
            transmit,
            umem,
            outgoing: HeapSlab::with_capacity(IN_FLIGHT_MAX),
            arrived: HeapSlab::with_capacity(BATCH),
            in_flight: 0,
            owed: RECEIVES as usize,
            unkicked: false,
        };
        bound.refill();
        Ok(bound)
    }

    /// Lets `write` fill a frame of `len` bytes and say how many it used. False if all are in flight.
    pub(super) fn send(&mut self, len: usize, write: &mut dyn FnMut(&mut [u8]) -> Option<usize>) -> Offer {
        if self.in_flight >= IN_FLIGHT_MAX / 2 {
            self.complete();
        }
        if self.in_flight >= IN_FLIGHT_MAX {
            return Offer::Full;
        }
        // SAFETY: packets stand in our slabs, in the rings, or on this function's stack, all of
        // which the frames' memory outlives.
        let Some(mut packet) = (unsafe { self.umem.alloc() }) else { return Offer::Full };
        packet.adjust_tail(len as i32).expect("a frame holds the longest datagram");
        let Some(used) = write(&mut packet[..]) else {
            self.umem.free_packet(packet);
            return Offer::Idle;
        };
        packet.adjust_tail(used as i32 - len as i32).expect("no longer than before");
        self.in_flight += 1;
        let refused: Option<Packet> = self.outgoing.push_front(packet);
        debug_assert!(refused.is_none(), "the slab holds all that may be in flight");
        Offer::Queued
    }

    /// Hands what was written to the kernel; returns the system calls made.
    pub(super) fn flush(&mut self) -> io::Result<u64> {
        let queued = self.outgoing.len();
        if queued > 0 {
            // SAFETY: the frames' memory outlives the socket, see the order of fields.
            let sent = unsafe { self.transmit.send(&mut self.outgoing) };
            debug_assert_eq!(sent, queued, "the ring holds all that may be in flight");
            self.unkicked = true;
        }
        if self.unkicked { self.kick() } else { Ok(0) }
    }

    /// In copy mode the system call sends, a batch at a time, and says EAGAIN if more is left. It
    /// may also be short of buffers; then the next poll tries again.
    fn kick(&mut self) -> io::Result<u64> {
        let calls = IN_FLIGHT_MAX / KICK_FRAMES + 1;
        for call in 1..=calls as u64 {
            match send(self.socket_fd(), &[], SendFlags::DONTWAIT) {
                Ok(_) => {
                    self.unkicked = false;
                    return Ok(call);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::BUSY | Errno::NOBUFS) => return Ok(call),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(calls as u64)
    }

    /// Hands arrived frames to `receive`; returns how many there were.
    pub(super) fn poll(&mut self, receive: &mut dyn FnMut(&[u8])) -> usize {
        // SAFETY: as in `send`.
        let count = unsafe { self.receive.recv(&self.umem, &mut self.arrived) };
        while let Some(packet) = self.arrived.pop_back() {
            receive(&packet[..]);
            self.umem.free_packet(packet);
        }
        self.owed += count;
        if self.owed > 0 {
            self.refill();
        }
        count
    }

    /// Takes back the frames that were sent.
    pub(super) fn complete(&mut self) {
        self.in_flight -= self.completion.dequeue(&mut self.umem, IN_FLIGHT_MAX);
    }

    fn refill(&mut self) {
        // SAFETY: the frames' memory outlives the socket, see the order of fields.
        self.owed -= unsafe { self.fill.enqueue(&mut self.umem, self.owed) };
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= IN_FLIGHT_MAX
    }

    pub(super) fn is_unkicked(&self) -> bool {
        self.unkicked
    }

    /// Datagrams for which the kernel found no frame or no room in the ring.
    pub(super) fn overruns(&self) -> u64 {
        self.socket.statistics().map_or(0, |stats| stats.rx_dropped + stats.rx_ring_full)
    }

    fn socket_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// What came of an offer to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Queued,
    Idle,
    Full,
}

/// The call behind a socket error, and the kernel's answer.
fn explain(error: SocketError) -> (String, io::Error) {
    match error {
        SocketError::SocketCreation(source) => ("socket".to_owned(), source),
        SocketError::SetSockOpt { inner, option } => (format!("setsockopt {option:?}"), inner),
        SocketError::GetSockOpt { inner, option } => (format!("getsockopt {option:?}"), inner),
        SocketError::RingMap { inner, ring } => (format!("map the {ring:?} ring"), inner),
        SocketError::Bind(source) => ("bind".to_owned(), source),
    }
}
