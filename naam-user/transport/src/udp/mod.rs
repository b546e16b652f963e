//! UDP through io_uring: works without privilege, on every interface.
//!
//! One socket sends to all ports of the host. Sends are queued as `SENDMSG` entries and started
//! by one system call a batch; one multishot `RECVMSG` brings everything that arrives into a
//! ring of provided buffers.
//!
//! Where io_uring is forbidden, [`PlainTransport`] does the same by plain system calls.
//!
//! Minimum kernel 6.1 (`IORING_SETUP_DEFER_TASKRUN`; multishot receive is 6.0).

mod buffers;
mod outbox;
mod plain;

use std::io;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use naam_abi::limits::DATAGRAM_BYTES;
use rustix::net::sockopt;

use crate::target::{Path, Target, bound};
use crate::{Incoming, Outgoing, Sent, Transport, TransportError, TransportStats, Waker};
use buffers::ReceiveBuffers;
use outbox::Outbox;
pub use plain::PlainTransport;

/// Datagrams that may be on their way into the kernel.
const SENDS: u16 = 256;
/// Buffers for datagrams on their way out of the kernel.
const RECEIVES: u16 = 512;
/// Bytes of a receive buffer: io_uring's result header, the source address, the datagram.
const RECEIVE_BYTES: usize = (16 + ADDRESS_BYTES + DATAGRAM_BYTES).next_multiple_of(64);
/// Bytes reserved for the source address.
const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Bytes of socket buffer asked for, so that a burst of replies finds room.
const SOCKET_BUFFER: usize = 8 << 20;
const GROUP: u16 = 0;
const SOCKET: Fixed = Fixed(0);
const EVENT: Fixed = Fixed(1);

/// `user_data` of the multishot receive; of sends it is the slot.
const RECEIVE: u64 = 1 << 32;
/// `user_data` of the poll on the waker.
const WAKE: u64 = 2 << 32;

/// See the [module](self).
///
/// The thread that uses it first is the one that must go on using it: io_uring then spares its
/// locks. It may be opened in another.
pub struct UdpTransport {
    ring: IoUring,
    socket: UdpSocket,
    target: Target,
    max_payload: usize,
    // In Drop these are freed only once the kernel has let go of them.
    outbox: ManuallyDrop<Outbox>,
    buffers: ManuallyDrop<ReceiveBuffers>,
    /// What the multishot receive is asked to return; the kernel read it when it was armed.
    template: Box<libc::msghdr>,
    started: bool,
    receiving: bool,
    watching: bool,
    waker: Waker,
    stats: TransportStats,
}

// SAFETY: `template` is read only through &mut self and holds no pointer; the rest is Send.
unsafe impl Send for UdpTransport {}

impl UdpTransport {
    /// Opens a socket for `target` on the address the kernel would choose.
    pub fn open(target: Target) -> Result<Self, TransportError> {
        let (socket, max_payload) = socket_to(&target)?;
        let refused = |operation| move |source| TransportError::Ring { operation, source };
        let waker = Waker::new().map_err(|error| refused("eventfd")(error.into()))?;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_r_disabled()
            .setup_cqsize(u32::from(SENDS + RECEIVES) * 2)
            .build(u32::from(SENDS) * 2)
            .map_err(refused("set up"))?;
        ring.submitter()
            .register_files(&[socket.as_raw_fd(), waker.as_fd().as_raw_fd()])
            .map_err(refused("register files"))?;
        // SAFETY: Drop frees the buffers only after the last request was cancelled.
        let buffers = unsafe { ReceiveBuffers::register(&ring, GROUP, RECEIVES, RECEIVE_BYTES) }
            .map_err(refused("register a buffer ring"))?;
        let mut template = Box::new(outbox::empty_header());
        template.msg_namelen = ADDRESS_BYTES as u32;
        Ok(Self {
            ring,
            socket,
            target,
            max_payload,
            outbox: ManuallyDrop::new(Outbox::new(SENDS, target.socket_address(target.port_base))),
            buffers: ManuallyDrop::new(buffers),
            template,
            started: false,
            receiving: false,
            watching: false,
            waker,
            stats: TransportStats::default(),
        })
    }

    /// Makes the calling thread the ring's, arms the receive and the waker.
    fn start(&mut self) -> Result<(), TransportError> {
        if !self.started {
            self.ring.submitter().register_enable_rings().map_err(failure("enable the ring"))?;
            self.started = true;
        }
        if !self.receiving {
            let receive = opcode::RecvMsgMulti::new(SOCKET, &raw const *self.template, GROUP).build();
            self.push(receive.user_data(RECEIVE))?;
            self.receiving = true;
        }
        if !self.watching {
            let watch = opcode::PollAdd::new(EVENT, libc::POLLIN as u32).build();
            self.push(watch.user_data(WAKE))?;
            self.watching = true;
        }
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry) -> Result<(), TransportError> {
        // SAFETY: entries point to the outbox, the template or nothing at all; the first two live
        // until their completion, see Drop.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.submit()?;
            // SAFETY: as above.
            unsafe { self.ring.submission().push(&entry) }
                .map_err(|_| failure("submit")(io::Error::from(io::ErrorKind::WouldBlock)))?;
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), TransportError> {
        self.stats.syscalls += 1;
        match self.ring.submitter().submit() {
            Ok(_) => Ok(()),
            // Busy: completions must be reaped first, which the next poll does.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINTR | libc::EAGAIN)) => Ok(()),
            Err(error) => Err(failure("io_uring_enter")(error)),
        }
    }
}

/// The datagram in the buffer that a receive named, if it is the target's and whole.
fn arrived<'a>(
    buffers: &'a ReceiveBuffers,
    template: &libc::msghdr,
    target: &Target,
    completion: &cqueue::Entry,
    id: u16,
) -> Option<Incoming<'a>> {
    let len = usize::try_from(completion.result()).ok()?;
    // SAFETY: the completion in hand names this buffer; the caller recycles it afterwards.
    let bytes = unsafe { buffers.received(id, len) };
    let out = RecvMsgOut::parse(bytes, template).ok()?;
    let (host, port) = source(out.name_data())?;
    let (payload, whole) = (out.payload_data().len(), !out.is_payload_truncated());
    // The payload stands at the buffer's end; out's own slice does not outlive it.
    let incoming = Incoming { port, bytes: &bytes[bytes.len() - payload..] };
    (whole && host == target.host && target.owns_port(port)).then_some(incoming)
}

impl Transport for UdpTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn send(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<Sent, TransportError> {
        if !self.outbox.has_room() {
            self.stats.full += 1;
            return Ok(Sent::Full);
        }
        self.start()?;
        let max = self.max_payload;
        let Some(Outgoing { port, len }) = write(&mut self.outbox.buffer()[..max]) else {
            return Ok(Sent::Idle);
        };
        assert!(len <= max, "the writer wrote into a buffer of {max} bytes");
        let (slot, header) = self.outbox.take(port, len);
        self.push(opcode::SendMsg::new(SOCKET, header).build().user_data(u64::from(slot)))?;
        self.stats.sent += 1;
        self.stats.sent_bytes += len as u64;
        Ok(Sent::Queued)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.start()?;
        if self.ring.submission().is_empty() { Ok(()) } else { self.submit() }
    }

    fn poll(&mut self, receive: &mut dyn FnMut(Incoming<'_>)) -> Result<usize, TransportError> {
        self.start()?;
        let queue = self.ring.submission();
        let enter = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if enter {
            self.submit()?;
        }
        let mut received = 0;
        let mut fatal = None;
        for entry in self.ring.completion() {
            match entry.user_data() {
                RECEIVE => {
                    if let Some(id) = cqueue::buffer_select(entry.flags()) {
                        match arrived(&self.buffers, &self.template, &self.target, &entry, id) {
                            Some(incoming) => {
                                received += 1;
                                self.stats.received_bytes += incoming.bytes.len() as u64;
                                receive(incoming);
                            }
                            None => self.stats.foreign += 1,
                        }
                        self.buffers.recycle(id);
                    }
                    self.receiving = cqueue::more(entry.flags());
                    if !self.receiving && !ends_harmlessly(entry.result()) {
                        fatal = Some(io::Error::from_raw_os_error(-entry.result()));
                    }
                }
                WAKE => self.watching = false,
                slot => {
                    self.outbox.give_back(slot as u16);
                    if entry.result() < 0 {
                        self.stats.send_errors += 1;
                    }
                }
            }
        }
        self.stats.received += received;
        match fatal {
            Some(error) => Err(failure("recvmsg")(error)),
            None => Ok(received as usize),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), TransportError> {
        self.start()?;
        if self.waker.is_signalled() {
            self.flush()?;
        } else {
            let time = Timespec::from(timeout);
            let args = SubmitArgs::new().timespec(&time);
            self.stats.syscalls += 1;
            match self.ring.submitter().submit_with_args(1, &args) {
                Ok(_) => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
                Err(error) => return Err(failure("io_uring_enter")(error)),
            }
        }
        self.waker.clear();
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> TransportStats {
        TransportStats { overruns: socket_drops(&self.socket), ..self.stats }
    }
}

impl Drop for UdpTransport {
    fn drop(&mut self) {
        // Requests outlive the descriptor for a while, and they point into our buffers. Another
        // thread than the ring's cannot cancel them: then the buffers stay, once, until exit.
        let cancelled = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let nothing_left = match cancelled {
            Ok(()) => true,
            Err(error) => !self.started || error.raw_os_error() == Some(libc::ENOENT),
        };
        if nothing_left {
            // SAFETY: no request is left that knows the buffers, and this is the last use.
            unsafe {
                ManuallyDrop::drop(&mut self.outbox);
                ManuallyDrop::drop(&mut self.buffers);
            }
        } else {
            tracing::debug!("udp transport dropped outside its thread: its buffers stay allocated");
        }
    }
}

const NAME: &str = "udp";

fn failure(operation: &'static str) -> impl FnOnce(io::Error) -> TransportError {
    move |source| match source.raw_os_error() {
        Some(libc::EEXIST) => TransportError::WrongThread { transport: NAME },
        _ => TransportError::Io { transport: NAME, operation, source },
    }
}

/// Whether a multishot receive may end with `result` and be armed again: nothing wrong, no
/// buffer left for the moment, cancelled with its first thread, or an ICMP error of an earlier send.
fn ends_harmlessly(result: i32) -> bool {
    result >= 0 || result == -libc::ECANCELED || harmless(&io::Error::from_raw_os_error(-result))
}

/// Whether an error concerns one datagram, or the moment: an ICMP error of an earlier send, one that is
/// too long for the path by now, no buffer, a signal.
fn harmless(error: &io::Error) -> bool {
    const ICMP: [i32; 4] = [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EMSGSIZE];
    let errno = error.raw_os_error().unwrap_or(0);
    [libc::ENOBUFS, libc::EINTR].contains(&errno) || ICMP.contains(&errno)
}

/// Address and port of a kernel socket address.
fn source(name: &[u8]) -> Option<(IpAddr, u16)> {
    let family = i32::from(u16::from_ne_bytes([*name.first()?, *name.get(1)?]));
    let port = u16::from_be_bytes([*name.get(2)?, *name.get(3)?]);
    let ip = match family {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(name.get(4..8)?).ok()?),
        libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(name.get(8..24)?).ok()?),
        _ => return None,
    };
    Some((ip, port))
}

/// A socket for `target` on the address the kernel would choose, and the longest payload that goes that way.
fn socket_to(target: &Target) -> Result<(UdpSocket, usize), TransportError> {
    let path = Path::to(target)?;
    let failed = |operation| move |source| TransportError::Socket { operation, host: target.host, source };
    let socket = bound(path.source).map_err(failed("bind"))?;
    forbid_fragments(&socket, target.host).map_err(failed("set IP_MTU_DISCOVER"))?;
    enlarge_buffers(&socket).map_err(failed("set SO_RCVBUF and SO_SNDBUF"))?;
    Ok((socket, path.max_payload))
}

/// A fragment never reaches a handler, so an oversized datagram shall fail at once.
fn forbid_fragments(socket: &UdpSocket, host: IpAddr) -> io::Result<()> {
    match host {
        IpAddr::V4(_) => sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DO)?,
        IpAddr::V6(_) => sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::DO)?,
    }
    Ok(())
}

/// Beyond the system's limit if we may, up to it otherwise.
fn enlarge_buffers(socket: &UdpSocket) -> io::Result<()> {
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER)?;
    }
    Ok(())
}

/// Datagrams that found the socket's buffer full.
fn socket_drops(socket: &UdpSocket) -> u64 {
    /// `SK_MEMINFO_DROPS` of linux/sock_diag.h.
    const DROPS: usize = 8;
    let mut info = [0u32; 9];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the array's size.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, info.as_mut_ptr().cast(), &mut len)
    };
    if result == 0 { u64::from(info[DROPS]) } else { 0 }
}
