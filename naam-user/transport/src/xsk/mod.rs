//! AF_XDP: frames between this process and the interface, past the network stack.
//!
//! One socket per receive queue, since a reply arrives on the queue that the host's CPU chose.
//! Requests leave by all queues in turn, a batch by each, so that they spread over the host's queues.
//! Replies reach the sockets by an XDP program on the interface ([`XskProgram`]); everything else
//! on it goes on as before.
//!
//! The sockets need CAP_NET_RAW; the program needs CAP_BPF and CAP_NET_ADMIN, but may be set up
//! by a helper beforehand. Linux 5.9 or later. On veth, the other end must carry an XDP program too for
//! XDP_TX replies to arrive (any will do).

mod frame;
mod program;
mod queue;

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::error::Device;
use crate::netlink::{Interface, Mac, Netlink};
use crate::target::{Path, Target, bound};
use crate::{Incoming, Outgoing, Sent, Transport, TransportError, TransportStats, Waker};
use frame::{Ends, Framing, HEADER_BYTES_MAX};
use naam_abi::limits::XSK_QUEUES_MAX;
pub use program::{Mode, PINNED, XskProgram};
use queue::{KICK_FRAMES, Offer, Queue};

/// How frames get from the interface to memory and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copying {
    /// The kernel decides: without copies if the driver can.
    #[default]
    Kernel,
    /// Copied, on every driver.
    Copy,
    /// Without copies, or not at all.
    Zero,
}

impl Copying {
    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "0",
            Self::Copy => "XDP_COPY",
            Self::Zero => "XDP_ZEROCOPY",
        }
    }
}

/// Where the XDP program comes from.
#[derive(Clone, Copy, Debug)]
pub enum Setup<'a> {
    /// Attach it now, from the bytes of `xsk.o`, and detach it with the transport.
    Attach {
        /// The ELF file.
        object: &'a [u8],
        /// In the driver or behind it.
        mode: Mode,
    },
    /// A helper attached it and pinned it in this folder.
    Pinned(&'a FilePath),
}

/// How to open an AF_XDP transport.
#[derive(Clone, Copy, Debug)]
pub struct XskOptions<'a> {
    /// The XDP program.
    pub setup: Setup<'a>,
    /// Copies or not.
    pub copying: Copying,
    /// The interface, if not the one that the kernel routes by.
    pub interface: Option<&'a str>,
    /// 802.1Q tag for frames: with `interface`, for a VLAN over that interface.
    pub vlan: Option<u16>,
}

impl<'a> XskOptions<'a> {
    /// Attaches the program of `object`, in the driver, to the interface that the kernel routes by.
    pub const fn attach(object: &'a [u8]) -> Self {
        Self {
            setup: Setup::Attach { object, mode: Mode::Native },
            copying: Copying::Kernel,
            interface: None,
            vlan: None,
        }
    }
}

/// See the [module](self).
pub struct XskTransport {
    queues: Vec<Queue>,
    program: XskProgram,
    framing: Framing,
    max_payload: usize,
    /// Keeps our UDP port from being given to somebody else.
    _port: UdpSocket,
    events: rustix::fd::OwnedFd,
    waker: Waker,
    stats: TransportStats,
}

/// How long to wait for the next hop's MAC.
const NEIGHBOUR_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a queue may stay busy: the kernel frees the queue of a closed socket some time later.
const BUSY_TIMEOUT: Duration = Duration::from_millis(300);
/// With all frames in flight, sleep no longer than this: their completion raises no event.
const FULL_WAIT: Duration = Duration::from_millis(1);
const NAME: &str = "af_xdp";

impl XskTransport {
    /// Sets up sockets on all receive queues of the interface to `target`.
    pub fn open(target: Target, options: &XskOptions<'_>) -> Result<Self, TransportError> {
        let path = Path::to(&target)?;
        let lookup = |source| TransportError::Interface {
            interface: options.interface.map_or_else(|| format!("to host {}", target.host), str::to_owned),
            source,
        };
        let mut netlink = Netlink::connect().map_err(lookup)?;
        let route = netlink.route(target.host).map_err(lookup)?;
        let interface = match options.interface {
            Some(name) => netlink.interface_by_name(name),
            None => netlink.interface(route.interface),
        };
        let interface = interface.map_err(lookup)?;
        let device = Device::from(&interface);
        let unsuitable = |reason| TransportError::Unsuitable { device: device.clone(), reason };
        let source_mac = interface.mac.ok_or_else(|| unsuitable("it is no Ethernet"))?;
        if matches!(options.setup, Setup::Attach { mode: Mode::Native, .. }) && !redirects(&interface) {
            return Err(unsuitable("its driver has no native XDP_REDIRECT"));
        }
        let socket = |operation| move |source| TransportError::Socket { operation, host: target.host, source };
        let port_holder = bound(path.source).map_err(socket("bind"))?;
        let port = port_holder.local_addr().map_err(socket("getsockname"))?.port();
        let next_mac = resolve(&mut netlink, route.interface, route.next_hop, &device, &port_holder)?;
        let program = match options.setup {
            Setup::Attach { object, mode } => XskProgram::attach_to(object, &interface, target.port_base, mode)?,
            Setup::Pinned(dir) => XskProgram::open(dir, &interface.name)?,
        };
        let queues = bind_all(&device, interface.queues, options.copying)?;
        let waker = Waker::new().map_err(|error| io_failure("eventfd")(error.into()))?;
        let ends = Ends { target, source: path.source, port, source_mac, next_mac, vlan: options.vlan };
        let mut transport = Self {
            events: watch(&queues, &waker).map_err(|error| io_failure("epoll")(error.into()))?,
            queues,
            program,
            framing: Framing::new(ends),
            max_payload: path.max_payload,
            _port: port_holder,
            waker,
            stats: TransportStats::default(),
        };
        for (number, queue) in transport.queues.iter().enumerate() {
            transport.program.register(number as u32, queue, port)?;
        }
        Ok(transport)
    }

    /// The interface in use.
    pub fn device(&self) -> &Device {
        self.program.device()
    }

    /// Our UDP port, from which requests come and to which replies go.
    pub fn port(&self) -> u16 {
        self.framing.port()
    }

    /// Sockets, one per receive queue.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }
}

impl Transport for XskTransport {
    fn name(&self) -> &'static str {
        NAME
    }

    fn max_payload(&self) -> usize {
        self.max_payload
    }

    fn send(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<Sent, TransportError> {
        // A full queue holds up the others; requests are spread evenly, so they fill up together.
        let Self { queues, framing, max_payload, stats, .. } = self;
        let turn = stats.sent / KICK_FRAMES as u64 % queues.len() as u64;
        let queue = &mut queues[turn as usize];
        let header_len = framing.header_len();
        let mut written = 0;
        let offer = queue.send(header_len + *max_payload, &mut |frame| {
            let Outgoing { port, len } = write(&mut frame[header_len..])?;
            framing.write(&mut frame[..header_len + len], port);
            written = len;
            Some(header_len + len)
        });
        Ok(match offer {
            Offer::Idle => Sent::Idle,
            Offer::Full => {
                stats.full += 1;
                Sent::Full
            }
            Offer::Queued => {
                stats.sent += 1;
                stats.sent_bytes += written as u64;
                Sent::Queued
            }
        })
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        for queue in &mut self.queues {
            self.stats.syscalls += queue.flush().map_err(io_failure("sendto"))?;
        }
        Ok(())
    }

    fn poll(&mut self, receive: &mut dyn FnMut(Incoming<'_>)) -> Result<usize, TransportError> {
        let Self { queues, framing, stats, .. } = self;
        let before = stats.received;
        for queue in queues {
            if queue.is_unkicked() {
                stats.syscalls += queue.flush().map_err(io_failure("sendto"))?;
            }
            queue.complete();
            queue.poll(&mut |frame| match framing.read(frame) {
                Some((port, bytes)) => {
                    stats.received += 1;
                    stats.received_bytes += bytes.len() as u64;
                    receive(Incoming { port, bytes });
                }
                None => stats.foreign += 1,
            });
        }
        Ok((stats.received - before) as usize)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), TransportError> {
        self.flush()?;
        if !self.waker.is_signalled() {
            let held_up = self.queues.iter().any(|queue| queue.is_full() || queue.is_unkicked());
            let timeout = if held_up { timeout.min(FULL_WAIT) } else { timeout };
            let time = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
            let mut ready = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 1];
            self.stats.syscalls += 1;
            match epoll::wait(&self.events, &mut ready[..], Some(&time)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(io_failure("epoll_wait")(error.into())),
            }
        }
        self.waker.clear();
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> TransportStats {
        TransportStats { overruns: self.queues.iter().map(Queue::overruns).sum(), ..self.stats }
    }
}

impl Drop for XskTransport {
    fn drop(&mut self) {
        for queue in 0..self.queues.len() as u32 {
            self.program.unregister(queue);
        }
    }
}

fn io_failure(operation: &'static str) -> impl FnOnce(io::Error) -> TransportError {
    move |source| TransportError::Io { transport: NAME, operation, source }
}

/// Whether the driver says that it redirects. Kernels before 6.3 do not say; then trying will show.
fn redirects(interface: &Interface) -> bool {
    match xdp::nic::NicIndex::new(interface.index).query_capabilities() {
        Ok(capabilities) => capabilities.xdp_features.basic() && capabilities.xdp_features.redirect(),
        Err(_) => true,
    }
}

/// A socket on every queue in use. The interface may have been made with more queues than it
/// uses; binding to one too many is EINVAL.
fn bind_all(device: &Device, queues: u32, copying: Copying) -> Result<Vec<Queue>, TransportError> {
    let mut bound = Vec::new();
    let start = Instant::now();
    while bound.len() < (queues as usize).clamp(1, XSK_QUEUES_MAX) {
        let error = match Queue::bind(device, bound.len() as u32, copying) {
            Ok(socket) => {
                bound.push(socket);
                continue;
            }
            Err(error) => error,
        };
        match bind_errno(&error) {
            Some(libc::EINVAL) if !bound.is_empty() => break,
            Some(libc::EBUSY) if start.elapsed() < BUSY_TIMEOUT => std::thread::sleep(Duration::from_millis(5)),
            _ => return Err(error),
        }
    }
    Ok(bound)
}

fn bind_errno(error: &TransportError) -> Option<i32> {
    match error {
        TransportError::Xsk { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

/// The next hop's MAC; if the kernel does not know it, a datagram makes it ask.
fn resolve(
    netlink: &mut Netlink,
    interface: u32,
    next_hop: IpAddr,
    device: &Device,
    socket: &UdpSocket,
) -> Result<Mac, TransportError> {
    /// RFC 863: whoever listens there throws datagrams away.
    const DISCARD_PORT: u16 = 9;
    let start = Instant::now();
    loop {
        let known = netlink.neighbour(interface, next_hop);
        let lookup = |source| TransportError::Interface { interface: device.interface.clone(), source };
        if let Some(mac) = known.map_err(lookup)? {
            return Ok(mac);
        }
        if start.elapsed() >= NEIGHBOUR_TIMEOUT {
            let waited_ms = NEIGHBOUR_TIMEOUT.as_millis();
            return Err(TransportError::Neighbour { address: next_hop, device: device.clone(), waited_ms });
        }
        // Its own failure shows as no answer.
        let _ = socket.send_to(&[], (next_hop, DISCARD_PORT));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One descriptor that tells of all queues and of the waker.
fn watch(queues: &[Queue], waker: &Waker) -> rustix::io::Result<rustix::fd::OwnedFd> {
    let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for queue in queues {
        epoll::add(&events, queue, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    epoll::add(&events, waker, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    Ok(events)
}

const _: () = {
    /// Frames of 4 KiB, of which XDP keeps 256 bytes in front.
    const FRAME_ROOM: usize = 4096 - 256;
    assert!(HEADER_BYTES_MAX + naam_abi::limits::DATAGRAM_BYTES <= FRAME_ROOM);
};
