//! The way to an app: a session, a transport, a client.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use naam_client::connect::{Control, Lease};
use naam_client::site::SiteClient;
use naam_client::site::search::Found;
use naam_client::site::verbs::{self, Connector};
use naam_client::{Client, Options, SessionInfo};
use naam_control::protocol::session::RegionRights;
use naam_control::protocol::{AdminReply, AdminRequest};
use naam_control::{ClientError, Name};
use naam_transport::xsk::{Copying, Mode, Setup, XskOptions};
use naam_transport::{Choice, Opened, Target, open};

use crate::commands::xsk;
use crate::control::{Daemon, expect_reply};
use crate::failure::Failure;
use crate::objects;
use crate::options::Global;

/// Which app, and how to reach it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connect {
    /// The app [default: the only one]
    #[arg(long)]
    pub app: Option<Name>,
    /// Address of the host's interface [default: where --control is; 127.0.0.1 if `lo` is served]
    #[arg(long, env = "NAAM_HOST", value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Open the session over TCP instead of the unix socket
    #[arg(long, env = "NAAM_CONTROL", value_name = "HOST:PORT")]
    control: Option<String>,
    /// How datagrams travel
    #[arg(long, default_value = "auto")]
    pub transport: Way,
    /// AF_XDP: the interface [default: the one that leads to the host]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// AF_XDP: run the XDP program behind the driver
    #[arg(long)]
    generic: bool,
    /// AF_XDP: use the program that `naam xsk attach` has pinned here
    #[arg(long, value_name = "DIR")]
    pins: Option<PathBuf>,
    /// How functions that run here read regions: by RDMA, by one-sided functions, or by RDMA unless READs are found to take
    /// clearly longer by it
    #[arg(long, default_value = "auto")]
    pub memory: MemoryChoice,
    /// Give a call up after so many milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    timeout_ms: u64,
}

/// How datagrams travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// AF_XDP where it can be had, otherwise UDP
    Auto,
    /// AF_XDP or nothing
    AfXdp,
    /// UDP, through io_uring or, where that is forbidden, by plain system calls
    Udp,
}

/// How regions are read by functions that run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MemoryChoice {
    /// RDMA where it can be had and is not clearly slower, otherwise one-sided functions
    Auto,
    /// RDMA or nothing
    Verbs,
    /// One-sided functions
    Onesided,
}

/// A client and what it holds.
pub struct Connected {
    /// The client.
    pub client: Client,
    /// Its session; the last to go.
    pub lease: Lease,
    /// Why this transport.
    pub reason: String,
}

impl Connected {
    /// The app.
    pub fn app(&self) -> Name {
        self.lease.grant().app.clone()
    }
}

/// The only app that there is.
pub fn only_app(global: &Global) -> anyhow::Result<Name> {
    let reply = Daemon::connect(global)?.ask(AdminRequest::AppList)?;
    let apps = expect_reply!(reply, AdminReply::Apps(apps) => apps);
    match &apps[..] {
        [app] => Ok(app.name.clone()),
        [] => Err(choose("there is none".to_owned()).way_out("make one: naam app add NAME").into()),
        apps => {
            let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
            Err(choose(format!("there are {}", names.join(", "))).into())
        }
    }
}

fn choose(cause: String) -> Failure {
    Failure::new("choose", "an app", cause).way_out("name one by --app")
}

impl Connect {
    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Where sessions are opened.
    pub fn control(&self, global: &Global) -> Control {
        match &self.control {
            Some(address) => Control::Tcp(address.clone()),
            None => Control::Unix(global.socket()),
        }
    }

    /// The app that was named, or the only one there is.
    pub fn app(&self, global: &Global) -> anyhow::Result<Name> {
        if let Some(app) = &self.app {
            return Ok(app.clone());
        }
        if self.control.is_some() {
            return Err(choose("over TCP nobody tells which there are".to_owned()).into());
        }
        only_app(global)
    }

    /// Opens a session and a transport.
    pub fn open(&self, global: &Global, options: &Options) -> anyhow::Result<Connected> {
        self.open_with(global, options, vec![])
    }

    /// The same with these rights; none named: all through handlers, none raw.
    pub fn open_with(
        &self,
        global: &Global,
        options: &Options,
        rights: Vec<RegionRights>,
    ) -> anyhow::Result<Connected> {
        let app = self.app(global)?;
        let host = self.host(global)?;
        let lease = Lease::open(&self.control(global), app, rights)?;
        let session = lease.session(host);
        let Opened { transport, reason } = self.transport(&session)?;
        Ok(Connected { client: Client::new(session, options, transport), lease, reason })
    }

    /// Has the READs of a client that runs functions itself go by RDMA, as far as that is wished and can be had.
    pub fn reach_memory(&self, site: &mut SiteClient, control: &Control, lease: &Lease) -> anyhow::Result<()> {
        if self.memory == MemoryChoice::Onesided {
            return Ok(());
        }
        let core = site.client().core();
        let connector = Connector::new(control, lease, core.session().host, core.window() as u32, None);
        let is_measured = self.memory == MemoryChoice::Auto;
        let connected = connector.connect();
        if connected.is_ok() {
            let then = if is_measured { Found::Try } else { Found::Take };
            site.look_for_lost(then, Box::new(move || Ok(Box::new(connector.connect()?))));
        }
        match connected {
            Ok(verbs) => {
                tracing::info!(device = verbs.device(), "RDMA is to be had");
                if is_measured {
                    site.choose_memory(Box::new(verbs))?;
                } else {
                    site.set_memory(Box::new(verbs));
                }
            }
            Err(error) if is_measured => {
                tracing::info!(%error, "READs go by one-sided functions");
                site.do_without(verbs::NAME, error);
            }
            Err(error) => {
                let cause = Failure::new("read", "regions by RDMA", error);
                return Err(cause.way_out("--memory auto does without").into());
            }
        }
        Ok(())
    }

    /// The host's address.
    fn host(&self, global: &Global) -> anyhow::Result<IpAddr> {
        if let Some(host) = self.host {
            return Ok(host);
        }
        if let Some(address) = &self.control {
            let resolved = std::net::ToSocketAddrs::to_socket_addrs(address.as_str())
                .map_err(|error| Failure::new("resolve", format!("address {address}"), error))?
                .next();
            if let Some(address) = resolved {
                return Ok(address.ip());
            }
        }
        let name_it = |cause: &str| {
            Failure::new("choose", "the host's address", cause)
                .way_out("give the address of an interface served: --host")
        };
        let reply = Daemon::connect(global)?.ask(AdminRequest::Status);
        let status = match reply {
            Err(ClientError::Refused(_)) => return Err(name_it("only administrators may ask the daemon").into()),
            reply => expect_reply!(reply?, AdminReply::Status(status) => status),
        };
        match &status.attachments[..] {
            [] => Err(name_it("no interface is served").way_out("naam attach INTERFACE, then --host ADDRESS").into()),
            served if served.iter().any(|attachment| attachment.interface == "lo") => Ok(Ipv4Addr::LOCALHOST.into()),
            _ => Err(name_it("the daemon serves an interface, but does not know how you reach it").into()),
        }
    }

    fn transport(&self, session: &SessionInfo) -> anyhow::Result<Opened> {
        let target = Target::new(session.host, session.port_base);
        let mode = if self.generic { Mode::Generic } else { Mode::Native };
        let pins = self.pins.clone().or_else(|| self.interface.as_deref().and_then(xsk::existing_pins));
        let options = XskOptions {
            setup: match &pins {
                Some(pins) => Setup::Pinned(pins as &Path),
                None => Setup::Attach { object: objects::xsk(), mode },
            },
            copying: if self.generic { Copying::Copy } else { Copying::Kernel },
            interface: self.interface.as_deref(),
            vlan: None,
        };
        let choice = match self.transport {
            Way::Auto => Choice::Best(options),
            Way::AfXdp => Choice::AfXdp(options),
            Way::Udp => Choice::Udp,
        };
        Ok(open(target, &choice)?)
    }
}
