//! The client's side of the control plane: blocking, without an async runtime.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::limits::{ANSWER_BYTES_MAX, RDMA_ANSWER_TIME};
use crate::line::to_line;
use crate::protocol::rdma::{RdmaEndpoint, RdmaGrant};
use crate::protocol::session::{RegionRights, SessionGrant, SessionKey};
use crate::protocol::{
    AdminReply, AdminRequest, Answer, Call, Greeting, Hello, Reply, Request, SessionReply, SessionRequest, VERSION,
};
use crate::{ControlError, Name};

/// Time without an answer or a progress report after which a call is given up.
pub const ANSWER_TIME: Duration = Duration::from_secs(120);

/// Why a call has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot connect to {address}: {source} (is `naam serve` running, and may you use its socket?)")]
    Connect {
        /// Socket path or TCP address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke. Whether the request was served is unknown.
    #[error("the connection to {address} broke: {source}")]
    Broken {
        /// Socket path or TCP address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// What came back is not the protocol.
    #[error("{address} answers what this program does not understand: {reason}")]
    Protocol {
        /// Socket path or TCP address.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The daemon refused or failed.
    #[error(transparent)]
    Refused(#[from] ControlError),
}

/// A connection to a daemon. After [`ClientError::Broken`] or [`ClientError::Protocol`] connect
/// again; the daemon also ends connections that are silent for [`crate::limits::IDLE_TIME`].
#[derive(Debug)]
pub struct ControlClient {
    address: String,
    instance: Name,
    stream: BufReader<Stream>,
    next_id: u64,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl ControlClient {
    /// Connects to a daemon's unix socket.
    pub fn connect_unix(path: &Path) -> Result<Self, ClientError> {
        let address = path.display().to_string();
        let stream = UnixStream::connect(path).map(Stream::Unix);
        Self::greet(address, stream)
    }

    /// Connects to a daemon's TCP address: sessions only.
    pub fn connect_tcp(address: impl ToSocketAddrs + std::fmt::Display) -> Result<Self, ClientError> {
        let text = address.to_string();
        let stream = TcpStream::connect(address).and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        });
        Self::greet(text, stream)
    }

    fn greet(address: String, stream: io::Result<Stream>) -> Result<Self, ClientError> {
        let stream = stream.and_then(|stream| stream.set_time(ANSWER_TIME).map(|()| stream));
        let stream = stream.map_err(|source| ClientError::Connect { address: address.clone(), source })?;
        let instance = Name::new("none").expect("a constant name");
        let mut client = Self { address, instance, stream: BufReader::new(stream), next_id: 1 };
        // A daemon that refuses at once may have closed before the hello: its reason is still there.
        let sent = client.send(&Hello { naam: VERSION });
        match client.receive()? {
            Greeting::Welcome { version: VERSION, instance } => {
                sent?;
                client.instance = instance;
                Ok(client)
            }
            Greeting::Welcome { version, .. } => Err(client.protocol(format!("it speaks version {version}"))),
            Greeting::Refused(error) => Err(error.into()),
        }
    }

    /// The instance at the other end.
    pub fn instance(&self) -> &Name {
        &self.instance
    }

    /// Asks for administration; `progress` is told how far long requests have come.
    pub fn admin(
        &mut self,
        request: AdminRequest,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<AdminReply, ClientError> {
        match self.call(Request::Admin(request), progress)? {
            Reply::Admin(reply) => Ok(reply),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Opens a session with an app. No rights named: all through handlers, none raw.
    pub fn open_session(&mut self, app: Name, rights: Vec<RegionRights>) -> Result<SessionGrant, ClientError> {
        match self.session(SessionRequest::Open { app, rights })? {
            SessionReply::Opened(grant) => Ok(*grant),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Renews a session; returns its lease from now.
    pub fn renew_session(&mut self, key: SessionKey) -> Result<Duration, ClientError> {
        match self.session(SessionRequest::Renew(key))? {
            SessionReply::Renewed { lease_ms } => Ok(Duration::from_millis(lease_ms)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Ends a session.
    pub fn close_session(&mut self, key: SessionKey) -> Result<(), ClientError> {
        match self.session(SessionRequest::Close(key))? {
            SessionReply::Closed => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Fetches a handler object of the session's app, by the hash that the function list names. The bytes are whatever
    /// came: compare their hash.
    pub fn fetch_object(&mut self, key: SessionKey, sha256: &str) -> Result<Vec<u8>, ClientError> {
        match self.session(SessionRequest::Object { key, sha256: sha256.to_owned() })? {
            SessionReply::Object { bytes } => Ok(bytes),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Has home connect a queue pair of the session to `endpoint`; returns home's end and what can be reached by it. Waits for
    /// [`RDMA_ANSWER_TIME`] at most: there are other ways to a region.
    pub fn connect_rdma(&mut self, key: SessionKey, endpoint: RdmaEndpoint) -> Result<RdmaGrant, ClientError> {
        match self.within(RDMA_ANSWER_TIME, |client| client.session(SessionRequest::Rdma { key, endpoint }))? {
            SessionReply::Rdma(grant) => Ok(*grant),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Asks, and waits no longer than `time` for each line of an answer.
    fn within<T>(
        &mut self,
        time: Duration,
        ask: impl FnOnce(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.stream.get_ref().set_time(time).map_err(|source| self.broken(source))?;
        let asked = ask(self);
        self.stream.get_ref().set_time(ANSWER_TIME).map_err(|source| self.broken(source))?;
        asked
    }

    fn session(&mut self, request: SessionRequest) -> Result<SessionReply, ClientError> {
        match self.call(Request::Session(request), &mut |_, _| ())? {
            Reply::Session(reply) => Ok(reply),
            other => Err(self.unexpected(&other)),
        }
    }

    fn call(&mut self, request: Request, progress: &mut dyn FnMut(u64, u64)) -> Result<Reply, ClientError> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&Call { id, request })?;
        loop {
            match self.receive()? {
                Answer::Progress { id: of, done, total } if of == id => progress(done, total),
                Answer::Done { id: of, reply } if of == id => return Ok(reply),
                Answer::Failed { id: of, error } if of == id || of == 0 => return Err(error.into()),
                Answer::Progress { id: of, .. } | Answer::Done { id: of, .. } | Answer::Failed { id: of, .. } => {
                    return Err(self.protocol(format!("an answer to request {of} instead of {id}")));
                }
            }
        }
    }

    fn send<T: Serialize>(&mut self, value: &T) -> Result<(), ClientError> {
        let sent = to_line(value).and_then(|line| self.stream.get_mut().write_all(&line));
        sent.map_err(|source| self.broken(source))
    }

    fn receive<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(ANSWER_BYTES_MAX as u64).read_until(b'\n', &mut line);
        read.map_err(|source| self.broken(source))?;
        if line.last() != Some(&b'\n') {
            if line.len() == ANSWER_BYTES_MAX {
                return Err(self.protocol(format!("a line of more than {ANSWER_BYTES_MAX} bytes")));
            }
            return Err(self.broken(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(|error| self.protocol(error.to_string()))
    }

    fn broken(&self, source: io::Error) -> ClientError {
        let source = match source.kind() {
            // As the kernel puts it: "resource temporarily unavailable".
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
            _ => source,
        };
        ClientError::Broken { address: self.address.clone(), source }
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), reason }
    }

    fn unexpected(&self, reply: &dyn std::fmt::Debug) -> ClientError {
        self.protocol(format!("a reply to another request: {reply:?}"))
    }
}

impl Stream {
    fn set_time(&self, time: Duration) -> io::Result<()> {
        let time = Some(time);
        match self {
            Self::Unix(stream) => stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time)),
            Self::Tcp(stream) => stream.set_read_timeout(time).and_then(|()| stream.set_write_timeout(time)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(bytes),
            Self::Tcp(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.flush(),
            Self::Tcp(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_daemon_that_does_not_answer_is_waited_for_as_long_as_is_said() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("silent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let silent = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let welcome = Greeting::Welcome { version: VERSION, instance: Name::new("silent").unwrap() };
            (&stream).write_all(&to_line(&welcome).unwrap()).unwrap();
            // Until the client goes.
            let _ = (&stream).read_to_end(&mut Vec::new());
        });
        let mut client = ControlClient::connect_unix(&socket).unwrap();
        let began = Instant::now();
        let key = SessionKey { session: 1, ticket: 1 };
        let asked = client.within(Duration::from_millis(50), |client| client.session(SessionRequest::Renew(key)));
        let error = asked.unwrap_err().to_string();
        assert!(error.contains("no answer in time") && began.elapsed() < ANSWER_TIME / 2, "{error}");
        drop(client);
        silent.join().unwrap();
    }
}
