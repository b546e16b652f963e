//! A network for tests and demos on one machine: namespaces *client* and *host*, joined by a veth pair.
//!
//! ```text
//!   naam-PID-N-client                         naam-PID-N-host
//!   ┌──────────────────────┐   veth    ┌──────────────────────┐
//!   │ naam0  10.77.0.1/24  ├───────────┤ naam0  10.77.0.2/24  │
//!   │        fd77::1/64    │           │        fd77::2/64    │
//!   └──────────────────────┘           └──────────────────────┘
//! ```
//! Neighbours are entered by hand and ARP and ND are off, so that no packet mixes with a test's own; a test of theirs
//! turns them on by `ip("link set naam0 arp on")`. Nothing leaves the two namespaces. They vanish when [`Topology`] is
//! dropped and on SIGINT, SIGTERM and SIGHUP; what a killed process left is removed by the next one that makes a
//! topology. [`instance`] does the same for what tests pin in bpffs.
//!
//! ```no_run
//! let topology = naam_testbed::Topology::builder().queues(2).build()?;
//! let sent = topology.client().run(|| {
//!     let socket = std::net::UdpSocket::bind("10.77.0.1:0")?;
//!     socket.send_to(b"hello", (naam_testbed::HOST_V4, 7))
//! })?;
//! # Ok::<(), naam_testbed::Error>(())
//! ```
//!
//! Takes root (CAP_SYS_ADMIN and CAP_NET_ADMIN), iproute2, and ethtool for [`Builder::offloads`].

mod command;
mod leftovers;
mod namespace;
mod objects;
mod pins;
mod signals;
mod topology;

pub use self::{
    command::Error,
    leftovers::{is_alive, remove_leftovers, remove_named},
    namespace::Namespace,
    objects::{object, program},
    pins::{Pins, instance},
    topology::{Builder, CLIENT_V4, CLIENT_V6, DEVICE, HOST_V4, HOST_V6, Topology},
};
