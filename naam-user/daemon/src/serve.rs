//! From start to stop.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use naam_control::config::Config;
use naam_control::server::{Limits, ServerConfig};
use naam_control::{Name, Server};
use naam_loader::{Objects, Options, Remains, remains};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::adopt;
use crate::capabilities::{self, Account};
use crate::daemon::Daemon;
use crate::error::ServeError;
use crate::functions::Builtins;
use crate::host::Host;
use crate::notify::notify;
use crate::pins::{Pins, Undo};
use crate::rdma::Rdma;
use crate::state::StateDir;

/// Time that work on other threads has to end after the last answer.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The configuration.
    pub config: Config,
    /// The build's entry object.
    pub entry: Cow<'static, [u8]>,
    /// The build's shell object.
    pub shell: Cow<'static, [u8]>,
    /// Handler objects that the configuration may name as `builtin:NAME`.
    pub builtins: Builtins,
    /// Whether to remove everything from the kernel at the end, regions included. Otherwise the
    /// datapath goes on serving, and the next daemon takes it over.
    pub detach_on_exit: bool,
}

/// Serves until SIGTERM, SIGINT, or a request to shut down.
///
/// Gives up capabilities on the way, which belong to threads: call it from a process with one
/// thread.
///
/// # Errors
/// When the instance cannot be set up or adopted. What served before goes on serving.
pub fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let ServeOptions { config, entry, shell, builtins, detach_on_exit } = options;
    capabilities::require(&config.daemon.capabilities)?;
    capabilities::lift_memory_lock();
    let limits = Limits::default();
    let limits = Limits { connections_tcp: capabilities::file_budget(limits.connections_tcp)?, ..limits };
    let account = config.daemon.user.as_deref().map(Account::of).transpose()?;
    let group = config.control.group.as_deref().map(capabilities::group).transpose()?;
    if let Some(parent) = config.control.socket.parent() {
        fs::create_dir_all(parent).map_err(ServeError::file("create", parent))?;
    }
    let state_dir = StateDir::place(&config.control.socket, &config.instance);
    account.as_ref().map(|account| account.require_reach(&state_dir)).transpose()?;
    // Everything up to the last capability given up happens on this thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::runtime("start the asynchronous runtime"))?;
    let (server, mut signals) = {
        let _entered = runtime.enter();
        let server = Server::bind(ServerConfig {
            instance: config.instance.clone(),
            socket: config.control.socket.clone(),
            group,
            tcp: config.control.tcp,
            limits,
        })?;
        (server, Signals::install()?)
    };
    // Before anything is touched: whether it is there.
    config.rdma.as_ref().map(Rdma::check).transpose()?;
    let place = Options::instance(config.instance.as_str()).pins;
    naam_sys::pin::ensure_bpffs(Path::new(naam_sys::pin::BPFFS)).map_err(naam_loader::LoaderError::from)?;
    let pins = Rc::new(Pins::open(&place, account.as_ref())?);
    let objects = Objects { entry: &entry, shell: &shell };
    let remains = remains::look(pins.path(), objects)?;
    let undo = (remains == Remains::Nothing).then(|| Undo::new(&pins, &state_dir));
    let begun = begin(&config, account.as_ref(), objects, builtins, &pins, &remains);
    if let (Err(_), Some(undo)) = (&begun, undo) {
        undo.run(&pins);
    }
    let host = begun?;
    log_start(&config.instance, &config.control.socket, server.tcp_address());

    let host = Rc::new(RefCell::new(host));
    let daemon = Rc::new(Daemon::new(Rc::clone(&host), detach_on_exit));
    notify("READY=1");
    runtime.block_on(async {
        let stop = async {
            tokio::select! {
                name = signals.next() => tracing::info!(signal = name, "ending"),
                () = daemon.shut_down() => {}
                () = daemon.keep_house() => {}
            }
            notify("STOPPING=1");
        };
        server.run(Rc::clone(&daemon), stop).await;
    });
    runtime.shutdown_timeout(STOP_TIME);
    host.borrow_mut().rdma = None;
    if detach_on_exit {
        drop(daemon);
        pins.remove()?;
        remove_state(&state_dir).map_err(ServeError::file("remove", &state_dir))?;
        tracing::info!(pins = %pins.shown().display(), "detached; nothing is left in the kernel");
    } else {
        tracing::info!(pins = %pins.shown().display(), "the datapath goes on serving");
    }
    Ok(())
}

/// Everything between the sockets and the first request.
fn begin(
    config: &Config,
    account: Option<&Account>,
    objects: Objects<'_>,
    builtins: Builtins,
    pins: &Rc<Pins>,
    remains: &Remains,
) -> Result<Host, ServeError> {
    let mut host = adopt::set_up(config, account.map(Account::uid), objects, builtins, pins, remains)?;
    let state_dir = host.state.path().to_owned();
    // Whoever has had them: root takes back what an earlier daemon's user had, if this one stays root.
    if account.is_some() || rustix::process::geteuid().is_root() {
        for directory in [pins.shown(), &state_dir] {
            capabilities::give(account, directory).map_err(ServeError::file("give to the user", directory))?;
        }
    }
    capabilities::reduce(&config.daemon.capabilities, account)?;
    host.rdma = config.rdma.as_ref().map(Rdma::open).transpose()?;
    Ok(host)
}

/// Removes the directory of the state. Another user than root cannot remove it from one of root's, but empty it.
fn remove_state(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && fs::read_dir(directory)?.next().is_none() => {
            Ok(())
        }
        removed => removed,
    }
}

fn log_start(instance: &Name, socket: &Path, tcp: Option<std::net::SocketAddr>) {
    let capabilities = capabilities::effective().unwrap_or_default().join(" ");
    let tcp = tcp.map_or("none".to_owned(), |tcp| tcp.to_string());
    tracing::info!(%instance, socket = %socket.display(), tcp, capabilities, "serving");
}

/// The signals that end a daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> Result<Self, ServeError> {
        let install = |kind| signal(kind).map_err(ServeError::runtime("install signal handlers"));
        Ok(Self { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }

    /// Name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
