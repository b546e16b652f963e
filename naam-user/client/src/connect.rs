//! Sessions from a daemon.
//!
//! ```no_run
//! use naam_client::connect::{Control, Lease};
//! use naam_client::{Call, Client, Options};
//! use naam_transport::{Choice, Target, open};
//!
//! let control = Control::Unix("/run/naam/host.sock".into());
//! let lease = Lease::open(&control, "kv".parse()?, vec![])?;
//! let session = lease.session([10, 77, 0, 2].into());
//! let transport = open(Target::new(session.host, session.port_base), &Choice::Udp)?.transport;
//! let mut client = Client::new(session, &Options::default(), transport);
//! let echo = client.function("echo").ok_or("no function echo")?;
//! assert_eq!(client.call(&Call::new(echo, b"hello"))?.bytes, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

#[cfg(feature = "site")]
use naam_control::protocol::session::ListedObject;
use naam_control::protocol::session::{GrantedRegion, RegionRights, SessionGrant, SessionKey, Tag};
use naam_control::{ClientError, ControlClient, Name};

use crate::session::{FunctionInfo, Integrity, RegionInfo, SessionInfo};

/// Where a daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Its unix socket.
    Unix(PathBuf),
    /// Its TCP address, `HOST:PORT`: sessions only.
    Tcp(String),
}

impl Control {
    /// Connects.
    pub fn connect(&self) -> Result<ControlClient, ClientError> {
        match self {
            Self::Unix(path) => ControlClient::connect_unix(path),
            Self::Tcp(address) => ControlClient::connect_tcp(address.as_str()),
        }
    }
}

/// A session that a thread renews until this value is dropped, which ends the session.
///
/// A daemon that restarts is found again. One that refuses to renew has ended the session: calls
/// then are answered with [`Status::Session`](naam_abi::wire::Status::Session).
#[derive(Debug)]
pub struct Lease {
    grant: SessionGrant,
    renewal: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    /// Opens a session of `app`. No rights named: all through handlers, none raw.
    ///
    /// # Errors
    /// When there is no daemon, or it refuses.
    pub fn open(control: &Control, app: Name, rights: Vec<RegionRights>) -> Result<Self, ClientError> {
        let mut client = control.connect()?;
        let grant = client.open_session(app, rights)?;
        let (stop, stopped) = channel();
        let renewal = Renewal { control: control.clone(), key: grant.key, stopped };
        let lease = Duration::from_millis(grant.lease_ms);
        let thread = std::thread::Builder::new()
            .name("naam-lease".to_owned())
            .spawn(move || renewal.run(client, lease))
            .map_err(|source| ClientError::Broken { address: "this process's own threads".to_owned(), source })?;
        Ok(Self { grant, renewal: Some((stop, thread)) })
    }

    /// Fetches the handler objects that the grant lists for functions whose name is `wanted`. What a daemon hands out is
    /// judged by [`SiteClient::learn`](crate::site::SiteClient::learn).
    ///
    /// # Errors
    /// When there is no daemon, or it refuses.
    #[cfg(feature = "site")]
    pub fn objects(
        &self,
        control: &Control,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, ListedObject, Vec<u8>)>, ClientError> {
        let mut client = control.connect()?;
        let functions = self.grant.functions.iter().filter(|function| wanted(function.name.as_str()));
        let listed = functions.filter_map(|function| Some((function, function.object.as_ref()?)));
        listed
            .map(|(function, object)| {
                let bytes = client.fetch_object(self.grant.key, &object.sha256)?;
                Ok((function.name.to_string(), object.clone(), bytes))
            })
            .collect()
    }

    /// What the daemon granted.
    pub fn grant(&self) -> &SessionGrant {
        &self.grant
    }

    /// The session as a client of the host at `host` needs it. A session belongs to one client.
    pub fn session(&self, host: IpAddr) -> SessionInfo {
        session(&self.grant, host)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.renewal.take() {
            drop(stop);
            // It has logged what went wrong, if anything did.
            let _ = thread.join();
        }
    }
}

/// The thread that keeps a session.
struct Renewal {
    control: Control,
    key: SessionKey,
    stopped: Receiver<()>,
}

impl Renewal {
    fn run(self, client: ControlClient, mut lease: Duration) {
        let mut client = Some(client);
        let session = self.key.session;
        // Three chances a lease.
        while self.stopped.recv_timeout(lease / 3) == Err(RecvTimeoutError::Timeout) {
            match self.with_client(&mut client, |client| client.renew_session(self.key)) {
                Ok(granted) => lease = granted,
                Err(ClientError::Refused(error)) => {
                    tracing::warn!(session, %error, "the session is lost");
                    return;
                }
                Err(error) => tracing::warn!(session, %error, "the session cannot be renewed just now"),
            }
        }
        if let Err(error) = self.with_client(&mut client, |client| client.close_session(self.key)) {
            tracing::debug!(session, %error, "the session will end with its lease");
        }
    }

    /// Asks over the connection there is, or over a new one if that broke.
    fn with_client<T>(
        &self,
        client: &mut Option<ControlClient>,
        ask: impl Fn(&mut ControlClient) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        if let Some(connected) = client {
            match ask(connected) {
                Err(ClientError::Broken { .. } | ClientError::Protocol { .. }) => *client = None,
                answered => return answered,
            }
        }
        ask(client.insert(self.control.connect()?))
    }
}

/// What a client needs of a grant.
pub fn session(grant: &SessionGrant, host: IpAddr) -> SessionInfo {
    let functions = grant.functions.iter().map(|function| {
        let info = FunctionInfo {
            number: function.id,
            version: function.version,
            writes: function.writes,
            // Replies are never longer than 1,024 bytes.
            reply_max: u16::try_from(function.reply_max).unwrap_or(u16::MAX),
        };
        (function.name.to_string(), info)
    });
    SessionInfo {
        host,
        port_base: grant.port_base,
        app: grant.app_id,
        session: grant.key.session,
        shards: grant.shards,
        slots: grant.slots,
        integrity: match grant.tag {
            Tag::Off => Integrity::Off,
            Tag::Keyed { key_id, key } => Integrity::Tagged { id: key_id, key },
        },
        functions: functions.collect(),
        epochs: grant.epochs.clone(),
        regions: grant.regions.iter().map(region).collect(),
    }
}

fn region(granted: &GrantedRegion) -> (String, RegionInfo) {
    let info = RegionInfo {
        index: granted.index.into(),
        bytes: granted.bytes,
        value_len: granted.value_len,
        handler_rights: granted.rights.handler.bits(),
        raw_rights: granted.rights.raw.bits(),
    };
    (granted.rights.region.to_string(), info)
}

#[cfg(test)]
mod tests {
    use naam_abi::siphash::PUBLIC_KEY;
    use naam_abi::tables::RIGHT_READ;
    use naam_control::FunctionName;
    use naam_control::protocol::session::{Function, Rights};

    use super::*;

    #[test]
    fn grants_become_sessions() {
        let function = Function {
            name: FunctionName::new("mica_get").unwrap(),
            id: 17,
            version: 3,
            writes: false,
            reply_max: 1008,
            view: 1024,
            object: None,
        };
        let grant = SessionGrant {
            key: SessionKey { session: 1025, ticket: 7 },
            lease_ms: 30_000,
            app: Name::new("kv").unwrap(),
            app_id: 3,
            port_base: 20_000,
            shards: 64,
            slots: 64,
            tag: Tag::Keyed { key_id: 2, key: PUBLIC_KEY },
            epochs: vec![4, 4],
            functions: vec![function],
            regions: vec![GrantedRegion {
                rights: RegionRights {
                    region: Name::new("store").unwrap(),
                    handler: Rights::ALL,
                    raw: Rights { read: true, ..Rights::NONE },
                },
                index: 1,
                bytes: 4 << 20,
                value_len: 4 << 20,
            }],
        };
        let info = session(&grant, [10, 0, 0, 1].into());
        assert_eq!((info.session, info.port(5)), (1025, 20_000 + 3 * 64 + 5));
        assert_eq!(info.integrity, Integrity::Tagged { id: 2, key: PUBLIC_KEY });
        let expected = FunctionInfo { number: 17, version: 3, writes: false, reply_max: 1008 };
        assert_eq!(info.functions["mica_get"], expected);
        assert_eq!(info.epochs, [4, 4]);
        let expected =
            RegionInfo { index: 1, bytes: 4 << 20, value_len: 4 << 20, handler_rights: 7, raw_rights: RIGHT_READ };
        assert_eq!(info.regions["store"], expected);
        assert_eq!(session(&SessionGrant { tag: Tag::Off, ..grant }, info.host).integrity, Integrity::Off);
    }
}
