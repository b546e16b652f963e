//! The daemon's side of the control plane: listeners and connections.
//!
//! One thread, a task a connection. What the requests mean is the [`Service`]'s business.

mod connection;
mod listen;
mod peer;

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

pub use peer::{Origin, Peer};

use crate::protocol::{Reply, Request};
use crate::{ControlError, Name, limits};

/// What the daemon does with a request.
///
/// Requests of different connections are served at the same time, on one thread: move what blocks
/// to another (`tokio::task::spawn_blocking`). A request that has begun is not cancelled when its
/// peer goes away.
pub trait Service {
    /// Serves a request. Administration has been checked: an [`Request::Admin`] that arrives here
    /// comes from a peer that may administer.
    fn handle(
        &self,
        peer: &Peer,
        request: Request,
        progress: ProgressSink,
    ) -> impl Future<Output = Result<Reply, ControlError>>;
}

/// Tells the peer how far its request has come. Cheap to call and to clone, from any thread; a
/// peer that reads slowly sees fewer reports.
#[derive(Clone, Debug)]
pub struct ProgressSink(watch::Sender<(u64, u64)>);

impl ProgressSink {
    /// Reports `done` of `total`.
    pub fn report(&self, done: u64, total: u64) {
        self.0.send_replace((done, total));
    }
}

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The instance's name, for greetings.
    pub instance: Name,
    /// Path of the unix socket. Its directory must exist.
    pub socket: PathBuf,
    /// Number of the group whose members may administer; the daemon's own if none.
    pub group: Option<u32>,
    /// Address for sessions over TCP.
    pub tcp: Option<std::net::SocketAddr>,
    /// Bounds of connections; [`Limits::default`] outside tests.
    pub limits: Limits,
}

/// Bounds of connections; see [`crate::limits`] for what each means.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "named like the constants that are their defaults")]
pub struct Limits {
    pub line_bytes_unix: usize,
    pub line_bytes_tcp: usize,
    pub connections_unix: usize,
    pub connections_tcp: usize,
    pub connections_address: usize,
    pub line_time: Duration,
    pub idle_time: Duration,
    pub write_time: Duration,
    pub stop_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes_unix: limits::LINE_BYTES_UNIX,
            line_bytes_tcp: limits::LINE_BYTES_TCP,
            connections_unix: limits::CONNECTIONS_UNIX,
            connections_tcp: limits::CONNECTIONS_TCP,
            connections_address: limits::CONNECTIONS_ADDRESS,
            line_time: limits::LINE_TIME,
            idle_time: limits::IDLE_TIME,
            write_time: limits::WRITE_TIME,
            stop_time: limits::STOP_TIME,
        }
    }
}

/// Bound listeners.
#[derive(Debug)]
pub struct Server {
    config: ServerConfig,
    unix: UnixListener,
    tcp: Option<TcpListener>,
    admins: peer::Admins,
    /// Removed when the server goes.
    _socket: listen::SocketFile,
}

/// Pause after `accept` failed: it fails at once again while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time between two words about that.
const FAILURE_WORDS: Duration = Duration::from_secs(10);

impl Server {
    /// Binds the unix socket (mode 0660, of the configured group) and the TCP address. A socket file
    /// that nobody listens on is replaced. Needs a tokio runtime around it.
    pub fn bind(config: ServerConfig) -> Result<Self, ControlError> {
        let (unix, socket, admins) = listen::unix(&config)?;
        let tcp = config.tcp.map(listen::tcp).transpose()?;
        Ok(Self { config, unix, tcp, admins, _socket: socket })
    }

    /// The TCP address bound, with the port that port 0 became.
    pub fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// Serves until `stop` is ready, then lets requests under way finish.
    pub async fn run<S: Service + 'static>(self, service: Rc<S>, stop: impl Future<Output = ()>) {
        let limits = self.config.limits;
        let local = LocalSet::new();
        let (stopping, stopped) = watch::channel(false);
        let mut unix_tasks = JoinSet::new();
        let mut tcp_tasks = JoinSet::new();
        let addresses = Rc::new(Addresses::default());
        let mut failures = Failures::default();
        let serve = async {
            tokio::pin!(stop);
            loop {
                // Finished connections make room.
                while unix_tasks.try_join_next().is_some() || tcp_tasks.try_join_next().is_some() {}
                tokio::select! {
                    () = &mut stop => return,
                    accepted = self.unix.accept() => match accepted {
                        Ok((stream, _)) => {
                            let peer = self.admins.unix_peer(&stream);
                            let full = unix_tasks.len() >= limits.connections_unix;
                            let settings = connection::Settings {
                                instance: self.config.instance.clone(),
                                limits,
                                line_bytes: limits.line_bytes_unix,
                                full,
                            };
                            unix_tasks.spawn_local_on(
                                connection::serve(stream, peer, Rc::clone(&service), settings, stopped.clone()),
                                &local,
                            );
                        }
                        Err(error) => failures.note("unix", &error).await,
                    },
                    accepted = accept(self.tcp.as_ref()) => match accepted {
                        Ok((stream, address)) => {
                            let from = addresses.enter(address.ip());
                            let full = tcp_tasks.len() >= limits.connections_tcp
                                || from.connections() > limits.connections_address;
                            let settings = connection::Settings {
                                instance: self.config.instance.clone(),
                                limits,
                                line_bytes: limits.line_bytes_tcp,
                                full,
                            };
                            let peer = Peer::tcp(address);
                            let serving =
                                connection::serve(stream, peer, Rc::clone(&service), settings, stopped.clone());
                            let task = async move {
                                serving.await;
                                drop(from);
                            };
                            tcp_tasks.spawn_local_on(task, &local);
                        }
                        Err(error) => failures.note("tcp", &error).await,
                    },
                }
            }
        };
        local.run_until(serve).await;
        stopping.send_replace(true);
        let finish = async {
            while unix_tasks.join_next().await.is_some() {}
            while tcp_tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(limits.stop_time, local.run_until(finish)).await.is_err() {
            tracing::warn!("control requests still under way are abandoned");
        }
    }
}

/// Accepts on a listener that may not exist: then never.
async fn accept(tcp: Option<&TcpListener>) -> std::io::Result<(tokio::net::TcpStream, std::net::SocketAddr)> {
    match tcp {
        Some(tcp) => tcp.accept().await,
        None => std::future::pending().await,
    }
}

/// Failures of `accept`: each is waited out, one in a while is told.
#[derive(Default)]
struct Failures {
    told: Option<Instant>,
}

impl Failures {
    async fn note(&mut self, listener: &str, error: &std::io::Error) {
        if self.told.is_none_or(|told| told.elapsed() >= FAILURE_WORDS) {
            self.told = Some(Instant::now());
            tracing::warn!(listener, %error, "cannot accept control connections; is the limit on open files too low?");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Connections by address.
#[derive(Default)]
struct Addresses(RefCell<HashMap<IpAddr, usize>>);

impl Addresses {
    fn enter(self: &Rc<Self>, address: IpAddr) -> FromAddress {
        *self.0.borrow_mut().entry(address).or_default() += 1;
        FromAddress { addresses: Rc::clone(self), address }
    }
}

/// A connection that is counted for its address while it lasts.
struct FromAddress {
    addresses: Rc<Addresses>,
    address: IpAddr,
}

impl FromAddress {
    /// Connections from the address, this one included.
    fn connections(&self) -> usize {
        self.addresses.0.borrow().get(&self.address).copied().unwrap_or(0)
    }
}

impl Drop for FromAddress {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.addresses.0.borrow_mut().entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}
