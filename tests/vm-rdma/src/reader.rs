//! A client that runs GETs itself, over RDMA or one-sided functions, or has them run at home.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use naam_client::{
    Call, Client, Options, OwnedReply, Shard,
    connect::{Control, Lease},
    site::{Placement, SiteClient, verbs::Connector},
};
use naam_control::protocol::session::{RegionRights, Rights};
use naam_handlers::{
    cell,
    mica::{self, layout::Geometry},
};
use naam_transport::{Choice, Target, open};

/// Buckets of the store, as a power of two.
const LOG2_BUCKETS: u64 = 10;
/// Much longer than anything takes.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Times that a GET is asked again, because too much changed meanwhile.
const AGAIN_MAX: usize = 1000;

/// What holds the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Structure {
    /// App `kv`, a MICA store
    Mica,
    /// App `tree`, a Cell tree
    Cell,
}

/// Where GETs run, and what they read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Host,
    Onesided,
    Verbs,
}

/// A session with its client.
pub struct Reader {
    pub site: SiteClient,
    structure: Structure,
    _lease: Lease,
}

impl Structure {
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Mica => ("kv", "store", "mica_get"),
            Self::Cell => ("tree", "nodes", "cell_get"),
        }
    }

    /// What a GET of `key` is called with.
    pub fn get_args(self, key: &[u8]) -> Vec<u8> {
        match self {
            Self::Mica => {
                // Of a geometry word, clients use nothing but the number of buckets.
                let geometry = Geometry(Geometry::MAGIC << 48 | LOG2_BUCKETS << 32);
                mica::args::get(&mut [0; mica::args::GET_ARGS_MAX], geometry, key).to_vec()
            }
            Self::Cell => cell::args::get(&mut [0; cell::args::ARGS_MAX], key).to_vec(),
        }
    }

    /// The value in a reply; none if others changed too much meanwhile.
    fn value(self, reply: &OwnedReply) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Mica if reply.code == mica::Code::Retry as u32 => Ok(None),
            Self::Cell if reply.code == cell::Code::Retry as u32 => Ok(None),
            _ if reply.code != 0 => bail!("a GET answers code {}", reply.code),
            // A version goes before it.
            Self::Mica => Ok(Some(reply.bytes.get(8..).unwrap_or_default().to_vec())),
            Self::Cell => Ok(Some(reply.bytes.clone())),
        }
    }
}

impl Reader {
    /// Opens a session that may READ the structure's region by itself.
    pub fn open(control: &str, structure: Structure, way: Way) -> Result<Self> {
        let (app, region, function) = structure.names();
        let raw = Rights { read: true, ..Rights::NONE };
        let rights = RegionRights { region: region.parse()?, handler: Rights::ALL, raw };
        let (client, lease, control) = client(control, app, vec![rights])?;
        let host = client.core().session().host;
        let placement = if way == Way::Host { Placement::Host } else { Placement::Client };
        let mut site = SiteClient::new(client, placement);
        for (name, listed, bytes) in lease.objects(&control, |name| name == function)? {
            site.learn(&name, &listed.sha256, &bytes)?;
        }
        if way == Way::Verbs {
            site.set_memory(Box::new(Connector::new(&control, &lease, host, 1, None).connect()?));
        }
        Ok(Self { site, structure, _lease: lease })
    }

    /// A GET.
    pub fn get(&mut self, key: &[u8]) -> Result<Vec<u8>> {
        let (_, _, name) = self.structure.names();
        let function = self.site.client().function(name).with_context(|| format!("no function {name}"))?;
        let args = self.structure.get_args(key);
        let call = Call { shard: Shard::Number(0), timeout: TIMEOUT, ..Call::new(function, &args) };
        for _ in 0..AGAIN_MAX {
            if let Some(value) = self.structure.value(&self.site.call(&call)?.outcome?)? {
                return Ok(value);
            }
        }
        bail!("a GET came to no end in {AGAIN_MAX} times")
    }
}

/// A client over UDP.
pub fn client(control: &str, app: &str, rights: Vec<RegionRights>) -> Result<(Client, Lease, Control)> {
    let address: SocketAddr = control.to_socket_addrs()?.next().context("no address")?;
    let host: IpAddr = address.ip();
    let control = Control::Tcp(control.to_owned());
    let lease = Lease::open(&control, app.parse()?, rights)?;
    let session = lease.session(host);
    let opened = open(Target::new(host, session.port_base), &Choice::Udp)?;
    Ok((Client::new(session, &Options::default(), opened.transport), lease, control))
}
