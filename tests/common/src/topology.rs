//! Client and host, joined by veth.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    command::{self, Error},
    leftovers,
    namespace::{self, Namespace},
    signals,
};

/// The client's address.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The host's address.
pub const HOST_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The client's address.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The host's address.
pub const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The veth device, by the same name in both namespaces.
pub const DEVICE: &str = "naam0";

const CLIENT_MAC: &str = "02:77:00:00:00:01";
const HOST_MAC: &str = "02:77:00:00:00:02";

/// What to build.
#[derive(Clone, Debug)]
pub struct Builder {
    name: Option<String>,
    queues: u32,
    mtu: u32,
    offloads: bool,
    signals: bool,
}

impl Builder {
    /// Names the namespaces `naam-NAME-client` and `naam-NAME-host`, and replaces those of an earlier run.
    ///
    /// Without a name they carry the process's id. Named ones are never taken for left-overs, so they may outlive
    /// the process by [`Topology::keep`].
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Receive and transmit queues of each end; one by default.
    #[must_use]
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// Bytes of an IP packet; 1500 by default. Native XDP on veth takes at most about 3,500.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Whether the ends may leave checksums and segmentation to each other, as veth does by default. Without, every
    /// packet carries its full checksum, as on a wire.
    #[must_use]
    pub fn offloads(mut self, offloads: bool) -> Self {
        self.offloads = offloads;
        self
    }

    /// Leaves SIGINT, SIGTERM and SIGHUP to the caller, who then has to drop the topology by itself.
    #[must_use]
    pub fn leave_signals(mut self) -> Self {
        self.signals = false;
        self
    }

    /// Builds it.
    ///
    /// # Errors
    /// When `ip` fails, above all without root. Nothing stays behind.
    pub fn build(&self) -> Result<Topology, Error> {
        leftovers::remove_leftovers()?;
        if self.signals {
            signals::install()?;
        }
        let prefix = match &self.name {
            Some(name) => format!("naam-{name}"),
            None => {
                static SERIAL: AtomicU32 = AtomicU32::new(0);
                format!("naam-{}-{}", process::id(), SERIAL.fetch_add(1, Ordering::Relaxed))
            }
        };
        let client = Guarded::create(format!("{prefix}-client"))?;
        let host = Guarded::create(format!("{prefix}-host"))?;
        let topology = Topology { client, host };
        self.join(&topology)?;
        Ok(topology)
    }

    fn join(&self, topology: &Topology) -> Result<(), Error> {
        let Self { queues, mtu, .. } = self;
        let (client, host) = (topology.client(), topology.host());
        let end = |mac: &str| format!("mtu {mtu} address {mac} numrxqueues {queues} numtxqueues {queues}");
        command::ip(&format!(
            "link add name {DEVICE} netns {} {} type veth peer name {DEVICE} netns {} {}",
            client.name(),
            end(CLIENT_MAC),
            host.name(),
            end(HOST_MAC),
        ))?;
        set_up(client, (CLIENT_V4, CLIENT_V6), (HOST_V4, HOST_V6, HOST_MAC))?;
        set_up(host, (HOST_V4, HOST_V6), (CLIENT_V4, CLIENT_V6, CLIENT_MAC))?;
        if !self.offloads {
            for end in [client, host] {
                let features = ["rx", "tx", "sg", "tso", "gso", "gro"].into_iter().flat_map(|name| [name, "off"]);
                command::run(end.command("ethtool").args(["-K", DEVICE]).args(features))?;
            }
        }
        Ok(())
    }
}

fn set_up(end: &Namespace, own: (Ipv4Addr, Ipv6Addr), peer: (Ipv4Addr, Ipv6Addr, &str)) -> Result<(), Error> {
    let (own_v4, own_v6) = own;
    let (peer_v4, peer_v6, peer_mac) = peer;
    // Silence: no link-local addresses to announce, no multicast groups of neighbour discovery to join, no probes.
    end.ip(&format!("link set {DEVICE} arp off addrgenmode none"))?;
    end.ip(&format!("addr add {own_v4}/24 dev {DEVICE}"))?;
    end.ip(&format!("addr add {own_v6}/64 dev {DEVICE} nodad"))?;
    end.ip(&format!("link set {DEVICE} up"))?;
    end.ip(&format!("neigh replace {peer_v4} lladdr {peer_mac} dev {DEVICE} nud permanent"))?;
    end.ip(&format!("neigh replace {peer_v6} lladdr {peer_mac} dev {DEVICE} nud permanent"))?;
    Ok(())
}

/// Two namespaces joined by veth; removed when dropped, with the processes that run inside.
#[derive(Debug)]
pub struct Topology {
    client: Guarded,
    host: Guarded,
}

impl Topology {
    /// One queue, MTU 1500, offloads on.
    pub fn builder() -> Builder {
        Builder { name: None, queues: 1, mtu: 1500, offloads: true, signals: true }
    }

    /// Where requests come from.
    pub fn client(&self) -> &Namespace {
        &self.client.namespace
    }

    /// Where requests are served.
    pub fn host(&self) -> &Namespace {
        &self.host.namespace
    }

    /// Lets the namespaces and what runs in them outlive this process. Those without a [name](Builder::name) are
    /// left-overs to the next process that makes a topology.
    pub fn keep(self) {
        for mut end in [self.client, self.host] {
            signals::forget(end.namespace.name());
            end.keep = true;
        }
    }
}

/// A namespace that goes with its owner.
#[derive(Debug)]
struct Guarded {
    namespace: Namespace,
    keep: bool,
}

impl Guarded {
    fn create(name: String) -> Result<Self, Error> {
        if leftovers::exists(&name) {
            namespace::remove(&name)?;
        }
        signals::remember(&name);
        match Namespace::create(name.clone()) {
            Ok(namespace) => Ok(Self { namespace, keep: false }),
            Err(error) => {
                signals::forget(&name);
                if leftovers::exists(&name) {
                    // The first error is the one to report.
                    _ = namespace::remove(&name);
                }
                Err(error)
            }
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Whoever takes the name off the list removes the namespace, so that it happens once.
        if signals::forget(self.namespace.name())
            && let Err(error) = namespace::remove(self.namespace.name())
        {
            eprintln!("warning: {error}");
        }
    }
}
