//! What is said on a control connection, line by line.

pub mod admin;
mod encoding;
pub mod inspect;
pub mod rdma;
pub mod session;

use serde::{Deserialize, Serialize};

pub use admin::{AdminReply, AdminRequest};
pub use session::{SessionReply, SessionRequest};

use crate::{ControlError, Name};

/// Version of the protocol; both sides must speak the same.
pub const VERSION: u32 = 1;

/// The client's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub naam: u32,
}

/// The daemon's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Greeting {
    /// Requests may follow.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// The instance that is speaking.
        instance: Name,
    },
    /// The daemon closes the connection.
    Refused(ControlError),
}

/// Every further line of the client. One request is served at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The client's number for this request.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// By those who administer the instance, on the unix socket.
    Admin(AdminRequest),
    /// By clients.
    Session(SessionRequest),
}

/// Every further line of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The request is still being served.
    Progress {
        /// The request.
        id: u64,
        /// Bytes or items done.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// The request was served.
    Done {
        /// The request.
        id: u64,
        /// What came of it.
        reply: Reply,
    },
    /// The request was not served.
    Failed {
        /// The request; 0 if the line had no readable number.
        id: u64,
        /// Why.
        error: ControlError,
    },
}

/// What may come of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Admin`].
    Admin(AdminReply),
    /// To [`Request::Session`].
    Session(SessionReply),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json<T: Serialize>(value: &T) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn lines_look_as_documented() {
        assert_eq!(json(&Hello { naam: 1 }), r#"{"naam":1}"#);
        let call = Call {
            id: 2,
            request: Request::Admin(AdminRequest::RegionSave {
                app: Name::new("kv").unwrap(),
                region: Name::new("store").unwrap(),
                path: "/tmp/x".into(),
            }),
        };
        assert_eq!(
            json(&call),
            r#"{"id":2,"request":{"admin":{"region_save":{"app":"kv","region":"store","path":"/tmp/x"}}}}"#
        );
        assert_eq!(json(&Answer::Progress { id: 2, done: 1, total: 3 }), r#"{"progress":{"id":2,"done":1,"total":3}}"#);
        assert_eq!(json(&Request::Admin(AdminRequest::Status)), r#"{"admin":"status"}"#);
    }
}
