//! Which RDMA device the daemon serves regions by.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use crate::protocol::session::Rights;

/// What sessions may do by RDMA to a region of which nothing else is said, so far as they have the same right raw. An RDMA
/// WRITE passes by home's checks, its counters and its stores of whole words, so a region's owner has to name it.
pub const VERBS: Rights = Rights { read: true, ..Rights::NONE };

/// A device, a port of it, an address of that.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rdma {
    /// The device's name, such as `mlx5_0` or `rxe0`.
    pub device: String,
    /// The port, from 1.
    #[serde(default = "first_port")]
    pub port: u8,
    /// Index of the port's address (GID). None: of those that fit the client's, the first.
    pub gid: Option<u8>,
}

fn first_port() -> u8 {
    1
}

/// What names no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` names no RDMA device: DEVICE, DEVICE:PORT or DEVICE:PORT:GID-INDEX, such as rxe0:1:1")]
pub struct RdmaError {
    /// What it is.
    pub text: String,
}

impl FromStr for Rdma {
    type Err = RdmaError;

    fn from_str(text: &str) -> Result<Self, RdmaError> {
        let mut parts = text.split(':');
        let device = parts.next().filter(|device| !device.is_empty());
        let mut number = || parts.next().map(str::parse::<u8>).transpose();
        match (device, number(), number(), parts.next()) {
            (Some(device), Ok(port), Ok(gid), None) => {
                Ok(Self { device: device.to_owned(), port: port.unwrap_or_else(first_port), gid })
            }
            _ => Err(RdmaError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Rdma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.port)?;
        self.gid.map_or(Ok(()), |gid| write!(f, ":{gid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_ports_and_addresses() {
        let rdma = |device: &str, port, gid| Rdma { device: device.into(), port, gid };
        assert_eq!("rxe0".parse(), Ok(rdma("rxe0", 1, None)));
        assert_eq!("mlx5_0:2".parse(), Ok(rdma("mlx5_0", 2, None)));
        assert_eq!("rxe0:1:3".parse(), Ok(rdma("rxe0", 1, Some(3))));
        assert_eq!(rdma("rxe0", 1, Some(3)).to_string(), "rxe0:1:3");
        for bad in ["", ":1", "rxe0:", "rxe0:one", "rxe0:1:256", "rxe0:1:2:3"] {
            assert!(bad.parse::<Rdma>().is_err(), "{bad}");
        }
    }
}
