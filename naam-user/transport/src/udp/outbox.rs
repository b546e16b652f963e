//! Send buffers, each with the message header the kernel reads along with it.

use std::net::SocketAddr;

use naam_abi::limits::DATAGRAM_BYTES;

/// A destination in the kernel's form.
#[derive(Clone, Copy)]
enum Address {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }
}

impl Address {
    fn set_port(&mut self, port: u16) {
        match self {
            Self::V4(v4) => v4.sin_port = port.to_be(),
            Self::V6(v6) => v6.sin6_port = port.to_be(),
        }
    }

    fn raw(&mut self) -> (*mut libc::c_void, libc::socklen_t) {
        match self {
            Self::V4(v4) => ((&raw mut *v4).cast(), size_of::<libc::sockaddr_in>() as u32),
            Self::V6(v6) => ((&raw mut *v6).cast(), size_of::<libc::sockaddr_in6>() as u32),
        }
    }
}

struct Slot {
    payload: [u8; DATAGRAM_BYTES],
    address: Address,
    vector: libc::iovec,
    header: libc::msghdr,
}

/// Send buffers of a transport; a slot taken is in flight until [`give_back`](Outbox::give_back).
pub(super) struct Outbox {
    slots: Box<[Slot]>,
    free: Vec<u16>,
}

// SAFETY: the pointers in the slots' headers lead into the slots themselves.
unsafe impl Send for Outbox {}

impl Outbox {
    /// `count` buffers for datagrams to the address of `host`.
    pub(super) fn new(count: u16, host: SocketAddr) -> Self {
        let slot = || Slot {
            payload: [0; DATAGRAM_BYTES],
            address: host.into(),
            vector: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            header: empty_header(),
        };
        Self { slots: (0..count).map(|_| slot()).collect(), free: (0..count).rev().collect() }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// The buffer that the next [`take`](Self::take) sends.
    ///
    /// # Panics
    /// Without room.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        let slot = *self.free.last().expect("checked by has_room");
        &mut self.slots[usize::from(slot)].payload
    }

    /// Takes that buffer for a datagram of `len` bytes to `port`: the slot, and the header to
    /// give to the kernel, valid until the slot is given back.
    pub(super) fn take(&mut self, port: u16, len: usize) -> (u16, *const libc::msghdr) {
        let index = self.free.pop().expect("checked by has_room");
        let slot = &mut self.slots[usize::from(index)];
        slot.address.set_port(port);
        slot.vector = libc::iovec { iov_base: slot.payload.as_mut_ptr().cast(), iov_len: len };
        (slot.header.msg_name, slot.header.msg_namelen) = slot.address.raw();
        slot.header.msg_iov = &raw mut slot.vector;
        slot.header.msg_iovlen = 1;
        (index, &raw const slot.header)
    }

    pub(super) fn give_back(&mut self, slot: u16) {
        debug_assert!(!self.free.contains(&slot));
        self.free.push(slot);
    }
}

/// A message header that says nothing.
pub(super) fn empty_header() -> libc::msghdr {
    // SAFETY: msghdr is plain data (musl has private padding, so it cannot be written out), and
    // zero means "none" in every field.
    unsafe { std::mem::zeroed() }
}
