//! RDMA: a queue pair for each session that asks, in a domain that holds what it may reach, and nothing else.
//!
//! ```text
//!   session ─▶ Connection: queue pair ─┐
//!   session ─▶ Connection: queue pair ─┴─▶ Reach: domain with a memory region for each region that is open to them
//! ```
//! Keys of memory regions can be guessed, and are honoured by every queue pair of their domain. So sessions share a domain only
//! if they reach the same regions of the same app by the same rights: a forged key gains nothing. A queue pair is destroyed
//! before what it reached is deregistered, and before its session's rights change; deregistering takes long, and is done elsewhere.
//!
//! | module | what |
//! |---|---|
//! | [`doors`] | which regions a session reaches: never more sets than the configuration makes |
//! | [`reach`] | what is registered of such a set |
//! | [`connect`] | a queue pair, from the request until it is taken in |
//! | [`under_way`] | how many of those at a time |
//! | [`release`] | the thread that deregisters |

mod connect;
mod doors;
mod reach;
mod release;
mod under_way;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use naam_control::protocol::rdma::RdmaStatus;
use naam_control::{ControlError, config};
use naam_verbs::{Device, Error, Event};

pub use self::under_way::UnderWay;

use self::doors::Open;
use self::reach::{Connection, Registered, Set};
use self::release::Releases;
use crate::error::ServeError;

/// Time between two looks at whether the device is there.
const LOOKS: Duration = Duration::from_secs(1);
/// Time for what is still registered at the end; what takes longer, the kernel deregisters behind us.
const END_TIME: Duration = Duration::from_secs(2);

/// The device and all that is made of it.
#[derive(Debug)]
pub struct Rdma {
    choice: config::Rdma,
    /// Or why there is none just now.
    device: Result<Arc<Device>, String>,
    /// By session.
    connections: BTreeMap<u32, Connection>,
    /// Those that a connection has, or will have.
    sets: Vec<Weak<Set>>,
    releases: Releases<Registered>,
    /// Bytes.
    registered: Arc<AtomicU64>,
    port_is_down: bool,
    looked: Instant,
    connected: u64,
    refused: u64,
    broken: u64,
    lost: u64,
}

impl Rdma {
    /// Whether the device that is chosen is there, if only with a port that is down.
    ///
    /// # Errors
    /// Without rdma-core, without the device, its port or its address.
    pub fn check(choice: &config::Rdma) -> Result<(), Error> {
        open(choice).map(drop)
    }

    /// Opens the device. One whose port is down serves nobody until that comes up.
    ///
    /// # Errors
    /// As [`check`](Self::check); or when there is no thread to be had.
    pub fn open(choice: &config::Rdma) -> Result<Self, ServeError> {
        let (device, down) = open(choice)?;
        if let Some(down) = &down {
            tracing::warn!(device = choice.device, %down, "sessions get no RDMA until the port comes up");
        }
        Ok(Self {
            device: Ok(device),
            choice: choice.clone(),
            connections: BTreeMap::new(),
            sets: Vec::new(),
            releases: Releases::start().map_err(ServeError::runtime("start a thread"))?,
            registered: Arc::default(),
            port_is_down: down.is_some(),
            looked: Instant::now(),
            connected: 0,
            refused: 0,
            broken: 0,
            lost: 0,
        })
    }

    /// What it is doing.
    pub fn status(&self) -> RdmaStatus {
        RdmaStatus {
            device: self.choice.device.clone(),
            port: self.choice.port,
            gid: self.choice.gid,
            away: match &self.device {
                Ok(_) if self.port_is_down => Some(format!("port {} is down", self.choice.port)),
                Ok(_) => None,
                Err(cause) => Some(cause.clone()),
            },
            connections: self.connections.len() as u32,
            registered_bytes: self.registered.load(Ordering::Relaxed),
            connected: self.connected,
            refused: self.refused,
            broken: self.broken,
            lost: self.lost,
        }
    }

    /// Destroys a session's queue pair.
    pub fn disconnect(&mut self, session: u32) {
        self.connections.remove(&session);
    }

    /// Destroys every queue pair that reaches a region of `app` at place `from` or behind it.
    pub fn close(&mut self, app: u16, from: usize) {
        let reaches_it = |set: &Set| set.app == app && set.open.iter().any(|open| usize::from(open.index) >= from);
        self.connections.retain(|_, connection| !reaches_it(&connection.set));
    }

    /// Counts a request that was refused.
    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    /// The set of these regions, which sessions share.
    fn set(&mut self, app: u16, open: Vec<Open>) -> Arc<Set> {
        self.sets.retain(|set| set.strong_count() > 0);
        let known = self.sets.iter().filter_map(Weak::upgrade).find(|set| set.app == app && set.open == open);
        known.unwrap_or_else(|| {
            let set = Arc::new(Set::new(app, open));
            self.sets.push(Arc::downgrade(&set));
            set
        })
    }

    /// Takes in what the device has told, and whether it is there.
    pub fn keep_house(&mut self) {
        if let Ok(device) = &self.device {
            for event in Arc::clone(device).events() {
                self.note(event);
            }
        }
        if self.looked.elapsed() < LOOKS {
            return;
        }
        self.looked = Instant::now();
        let is_there = match &self.device {
            Ok(device) => device.is_there(),
            Err(_) => Device::is_present(&self.choice.device),
        };
        if self.device.is_ok() && !is_there {
            self.lose("it was taken away");
        } else if self.device.is_err() && is_there {
            match open(&self.choice) {
                Ok((device, down)) => {
                    tracing::info!(device = self.choice.device, "the RDMA device is back");
                    self.device = Ok(device);
                    self.port_is_down = down.is_some();
                }
                Err(error) => self.device = Err(error.to_string()),
            }
        } else if let Ok(device) = &self.device
            && self.port_is_down
            && device.port(self.choice.port).is_ok()
        {
            self.note(Event::PortUp(self.choice.port));
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Gone => self.lose("it reported a fatal error"),
            Event::PortDown(port) if port == self.choice.port => {
                tracing::warn!(device = self.choice.device, port, "the RDMA port went down: clients go by datagrams");
                self.lost += u64::from(!self.port_is_down);
                self.port_is_down = true;
            }
            Event::PortUp(port) if port == self.choice.port => {
                tracing::info!(device = self.choice.device, port, "the RDMA port came up");
                self.port_is_down = false;
            }
            Event::QueuePair { qpn, what } => {
                let found = self.connections.iter().find(|(_, connection)| connection.pair.number() == qpn);
                if let Some((&session, _)) = found {
                    tracing::info!(session, qpn, what, "a session's queue pair broke");
                    self.broken += 1;
                    self.disconnect(session);
                }
            }
            Event::PortDown(_) | Event::PortUp(_) => {}
            Event::Other(what) => tracing::debug!(device = self.choice.device, what, "the RDMA device says"),
        }
    }

    /// Gives everything up that was made of the device.
    fn lose(&mut self, cause: &str) {
        if self.device.is_err() {
            return;
        }
        self.lost += 1;
        let sessions = self.connections.len();
        let device = &self.choice.device;
        tracing::warn!(device, cause, sessions, "the RDMA device is gone: regions are served without it");
        self.connections.clear();
        // Whatever is being registered is of the old device.
        self.sets.clear();
        self.device = Err(cause.to_owned());
    }
}

impl Drop for Rdma {
    fn drop(&mut self) {
        self.connections.clear();
        if !self.releases.settle(END_TIME) {
            tracing::info!("regions are still being deregistered: the kernel goes on with that");
        }
    }
}

/// The device; and why its port is down, if it is.
fn open(choice: &config::Rdma) -> Result<(Arc<Device>, Option<Error>), Error> {
    let device = Device::open(Some(&choice.device))?;
    match device.local(choice.port, choice.gid, None, None) {
        Ok(_) => Ok((device, None)),
        Err(down @ Error::PortDown { .. }) => Ok((device, Some(down))),
        Err(error) => Err(error),
    }
}

fn refused(session: u32, cause: &dyn ToString) -> ControlError {
    ControlError::new("connect", format!("a queue pair of session {session}"), cause.to_string())
}
