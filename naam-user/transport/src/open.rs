//! Choosing a transport.

use crate::udp::{PlainTransport, UdpTransport};
use crate::xsk::{XskOptions, XskTransport};
use crate::{Target, Transport, TransportError};

/// Which transport to open.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// AF_XDP if it can be had, otherwise UDP as under [`Choice::Udp`].
    Best(XskOptions<'a>),
    /// AF_XDP or an error.
    AfXdp(XskOptions<'a>),
    /// UDP, by io_uring or, where that is forbidden, without.
    Udp,
}

/// An open transport, and why it is this one.
pub struct Opened {
    /// The transport.
    pub transport: Box<dyn Transport>,
    /// For people and reports; the same was logged.
    pub reason: String,
}

/// Opens a transport to `target` and logs which, and why.
///
/// # Errors
/// Those of the transport chosen; under [`Choice::Best`] those of UDP.
pub fn open(target: Target, choice: &Choice<'_>) -> Result<Opened, TransportError> {
    let (transport, reason): (Box<dyn Transport>, String) = match choice {
        Choice::Udp => udp(target, "as chosen".to_owned())?,
        Choice::AfXdp(options) => af_xdp(target, options)?,
        Choice::Best(options) => match af_xdp(target, options) {
            Ok(opened) => opened,
            Err(error) => udp(target, format!("AF_XDP cannot be had: {error}"))?,
        },
    };
    tracing::info!(host = %target.host, transport = transport.name(), reason, "transport opened");
    Ok(Opened { transport, reason })
}

/// By io_uring, or without it where it is forbidden: as in most containers.
fn udp(target: Target, reason: String) -> Result<(Box<dyn Transport>, String), TransportError> {
    match UdpTransport::open(target) {
        Ok(transport) => Ok((Box::new(transport), reason)),
        Err(error @ TransportError::Ring { .. }) => {
            let reason = format!("{reason}; without {error}: a system call a datagram");
            Ok((Box::new(PlainTransport::open(target)?), reason))
        }
        Err(error) => Err(error),
    }
}

fn af_xdp(target: Target, options: &XskOptions<'_>) -> Result<(Box<dyn Transport>, String), TransportError> {
    let transport = XskTransport::open(target, options)?;
    let reason = format!("{} lets us, on {} queues", transport.device(), transport.queues());
    Ok((Box::new(transport), reason))
}
