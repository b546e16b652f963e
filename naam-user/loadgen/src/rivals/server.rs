//! Starts a rival's server, in a network namespace of one's choice, and ends it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a server may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// Where `ip netns add` puts its namespaces.
const NAMESPACES: &str = "/run/netns";

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rival {
    /// memcached; listens on TCP and UDP.
    Memcached,
    /// redis; listens on TCP, keeps nothing on disk.
    Redis,
}

impl Rival {
    /// The program's usual name.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Memcached => "memcached",
            Self::Redis => "redis-server",
        }
    }

    /// Where the program is installed, if it is.
    pub fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        let system = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin"].map(PathBuf::from);
        std::env::split_paths(&path).chain(system).map(|dir| dir.join(self.program())).find(|file| file.is_file())
    }

    /// A question whose answer names the server's process, and what stands before its number there.
    const fn identity(self) -> (&'static [u8], &'static str) {
        match self {
            Self::Memcached => (b"stats\r\n", "STAT pid "),
            Self::Redis => (b"INFO server\r\n", "process_id:"),
        }
    }
}

/// How to start a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Which.
    pub rival: Rival,
    /// Its program file.
    pub program: PathBuf,
    /// Network namespace, by its name in `ip netns`; `None` for the caller's own. Another one needs CAP_SYS_ADMIN.
    pub namespace: Option<String>,
    /// Address to listen on, there.
    pub address: IpAddr,
    /// Port to listen on, TCP and UDP.
    pub port: u16,
    /// Threads that serve.
    pub threads: u32,
    /// Memory for records, MiB.
    pub memory_mib: u32,
}

impl ServerConfig {
    /// A server of `rival` on one thread with 1 GiB, in the caller's network namespace.
    pub fn new(rival: Rival, program: &Path, address: SocketAddr) -> Self {
        Self {
            rival,
            program: program.into(),
            namespace: None,
            address: address.ip(),
            port: address.port(),
            threads: 1,
            memory_mib: 1_024,
        }
    }

    fn command(&self) -> Command {
        let mut command = match &self.namespace {
            None => Command::new(&self.program),
            Some(name) => {
                // nsenter becomes the program: its process is the server's.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={NAMESPACES}/{name}")).arg("--").arg(&self.program);
                command
            }
        };
        let (address, port) = (self.address.to_string(), self.port.to_string());
        let (threads, memory) = (self.threads.to_string(), self.memory_mib.to_string());
        match self.rival {
            Rival::Memcached => {
                command.args(["-l", &address, "-p", &port, "-U", &port, "-t", &threads, "-m", &memory, "-u", "root"]);
            }
            Rival::Redis => {
                command.args(["--bind", &address, "--port", &port, "--io-threads", &threads]);
                command.args(["--maxmemory", &format!("{memory}mb"), "--save", "", "--appendonly", "no"]);
                command.args(["--protected-mode", "no", "--daemonize", "no", "--loglevel", "warning"]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The program could not be started.
    #[error("starting {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended before it answered.
    #[error("{program} ended before it answered on {address} ({status}): {output}")]
    Ended {
        /// The program.
        program: PathBuf,
        /// Where it was to listen.
        address: SocketAddr,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        output: String,
    },
    /// It did not answer in time.
    #[error("{program} does not answer on {address} after {READY_TIMEOUT:?}; last: {last}")]
    Silent {
        /// The program.
        program: PathBuf,
        /// Where it was to listen.
        address: SocketAddr,
        /// What the last attempt met.
        last: String,
    },
}

/// A running server. Dropping it ends the process, by its id.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server and waits until this very process answers.
    pub fn start(config: &ServerConfig) -> Result<Self, ServerError> {
        let program = || config.program.clone();
        let address = SocketAddr::new(config.address, config.port);
        let child = config.command().spawn().map_err(|source| ServerError::Start { program: program(), source })?;
        let mut server = Self { child, address };
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let ended = server.child.try_wait().map_err(|source| ServerError::Start { program: program(), source })?;
            if let Some(status) = ended {
                let output = server.output();
                return Err(ServerError::Ended { program: program(), address, status, output });
            }
            let last = match answering_process(config.rival, address, config.namespace.as_deref()) {
                Ok(process) if process == server.process() => return Ok(server),
                Ok(process) => format!("process {process} answers there instead"),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(ServerError::Silent { program: program(), address, last });
            }
            std::thread::sleep(PROBE_PAUSE);
        }
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it said; for a server that has ended.
    fn output(&mut self) -> String {
        let mut text = String::new();
        // What cannot be read is missing from an error message, no more.
        if let Some(pipe) = &mut self.child.stdout {
            let _ = pipe.read_to_string(&mut text);
        }
        if let Some(pipe) = &mut self.child.stderr {
            let _ = pipe.read_to_string(&mut text);
        }
        text.trim().replace('\n', "; ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves the calling thread into a network namespace by its name in `ip netns`: sockets it makes from now on are
/// there. Needs CAP_SYS_ADMIN. Meant for a thread of its own; a load thread, for example.
pub fn enter_namespace(name: &str) -> io::Result<()> {
    let namespace = File::open(Path::new(NAMESPACES).join(name))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Asks whoever listens on `address` for its process id.
fn answering_process(rival: Rival, address: SocketAddr, namespace: Option<&str>) -> io::Result<u32> {
    let probe = move || {
        if let Some(name) = namespace {
            enter_namespace(name)?;
        }
        let (question, before) = rival.identity();
        let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        stream.write_all(question)?;
        let mut answer = vec![0; 8_192];
        let mut filled = 0;
        loop {
            let bytes = stream.read(&mut answer[filled..])?;
            filled += bytes;
            let text = String::from_utf8_lossy(&answer[..filled]);
            let number = text.split_once(before).and_then(|(_, rest)| rest.split_once("\r\n"));
            if let Some(process) = number.and_then(|(number, _)| number.parse().ok()) {
                return Ok(process);
            }
            if bytes == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer without {before:?}")));
            }
        }
    };
    // A thread of its own: it may leave its namespace for good.
    let joined = std::thread::scope(|scope| scope.spawn(probe).join());
    joined.unwrap_or_else(|_| Err(io::Error::other("the probing thread panicked")))
}
