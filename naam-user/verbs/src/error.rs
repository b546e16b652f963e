//! What can go wrong with RDMA.

use std::io;

use thiserror::Error;

use crate::Gid;

/// A device, a port, a queue pair or a request that is not as it should be.
#[derive(Debug, Error)]
pub enum Error {
    /// rdma-core is not installed.
    #[error(
        "RDMA: cannot load {library}: {cause}; install rdma-core's library (Debian: libibverbs1 ibverbs-providers)"
    )]
    NoLibrary {
        /// Its name.
        library: &'static str,
        /// What the dynamic linker says.
        cause: String,
    },
    /// The machine has no RDMA device.
    #[error(
        "no RDMA device on this machine; for one in software over an interface: \
         modprobe rdma_rxe; rdma link add rxe0 type rxe netdev INTERFACE"
    )]
    NoDevice,
    /// Whether it has one is not to be known.
    #[error("cannot list RDMA devices: {source}")]
    NoList {
        /// Why not.
        source: io::Error,
    },
    /// There is none of this name.
    #[error("no RDMA device {name}, only {known}")]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No device has this address.
    #[error("no port of an RDMA device that is up has the address {}; `rdma link` shows them", gid.ip())]
    NoDeviceWith {
        /// The address.
        gid: Gid,
    },
    /// A call failed.
    #[error("{operation} of RDMA device {device}: {source}{}", cure(operation, source))]
    Call {
        /// What was to be done.
        operation: &'static str,
        /// The device.
        device: String,
        /// Why not.
        source: io::Error,
    },
    /// A port that carries nothing.
    #[error("port {port} of RDMA device {device} is {state}; bring its interface up (`rdma link` shows it)")]
    PortDown {
        /// The device.
        device: String,
        /// The port, from 1.
        port: u8,
        /// For example `PORT_DOWN`.
        state: String,
    },
    /// There is none of this number.
    #[error("RDMA device {device} has no port {port}, only 1 to {ports}")]
    NoPort {
        /// The device.
        device: String,
        /// What was asked for.
        port: u8,
        /// How many it has.
        ports: u8,
    },
    /// A port without an address, or without the one that is wanted.
    #[error("port {port} of RDMA device {device} has no GID{}{}", at(*index), has(known))]
    NoGid {
        /// The device.
        device: String,
        /// The port, from 1.
        port: u8,
        /// The index asked for, if one was.
        index: Option<u8>,
        /// What there is: `INDEX: GID`, separated by commas.
        known: String,
    },
    /// What is no GID.
    #[error("`{text}` is no GID: 32 hexadecimal digits")]
    BadGid {
        /// What it is.
        text: String,
    },
    /// A range outside of memory.
    #[error("{len} bytes at {offset} of {what} end after its {bytes} bytes")]
    Range {
        /// `the local memory region` or `the peer's memory`.
        what: &'static str,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Bytes there are.
        bytes: u64,
    },
    /// As many requests are on their way as the queue pair takes.
    #[error("queue pair {qpn:#x} of RDMA device {device} is full: {most} requests on their way; poll first")]
    Full {
        /// The device.
        device: String,
        /// The queue pair's number.
        qpn: u32,
        /// Requests, at most.
        most: u32,
    },
    /// A queue pair that cannot be connected.
    #[error(
        "{operation} at port {port} of RDMA device {device}, from GID {} to GID {} (queue pair {peer_qpn:#x}): {source}; \
         there has to be a way between these addresses, and the peer's queue pair", ip(*gid), ip(*peer)
    )]
    Connect {
        /// What was to be done.
        operation: &'static str,
        /// The device.
        device: String,
        /// The port, from 1.
        port: u8,
        /// Its address.
        gid: Gid,
        /// The peer's address.
        peer: Gid,
        /// The peer's queue pair.
        peer_qpn: u32,
        /// Why not.
        source: io::Error,
    },
    /// A request did not succeed. The queue pair takes no others.
    #[error(
        "{operation} by queue pair {qpn:#x} of RDMA device {device}, connected to GID {}: {status} (vendor's code {vendor:#x}); {}, \
         and connect a new queue pair", ip(*peer), remedy(status)
    )]
    Completion {
        /// The device.
        device: String,
        /// The queue pair's number.
        qpn: u32,
        /// The peer's address.
        peer: Gid,
        /// What was asked for.
        operation: &'static str,
        /// For example `remote access error`.
        status: String,
        /// The device's own number.
        vendor: u32,
    },
}

fn ip(gid: Gid) -> std::net::IpAddr {
    gid.ip()
}

/// What to do first about a request that failed, by what the library calls its status.
fn remedy(status: &str) -> &'static str {
    match status {
        "transport retry counter exceeded" | "RNR retry counter exceeded" => {
            "the peer does not answer: look whether it and its device are up (`rdma link` there)"
        }
        "remote access error" => {
            "the peer's memory is not open to this queue pair: ask the peer for its address and key again"
        }
        "remote invalid request error" | "remote operation error" => {
            "the peer does not serve such a request here: ask it for the right"
        }
        "local protection error" | "local access violation error" => {
            "register the memory here with the access that this takes"
        }
        _ => "ask the peer for its memory's address and key again",
    }
}

fn at(index: Option<u8>) -> String {
    index.map_or_else(|| " that is of use".to_owned(), |index| format!(" at index {index}"))
}

fn has(known: &str) -> String {
    if known.is_empty() { ": give its interface an address".to_owned() } else { format!(", only {known}") }
}

fn cure(operation: &str, source: &io::Error) -> &'static str {
    match source.kind() {
        // Nothing at all may be locked, or not as much.
        io::ErrorKind::OutOfMemory | io::ErrorKind::PermissionDenied if operation == crate::memory::REGISTER => {
            "; registered memory counts as locked: raise the limit (ulimit -l, LimitMEMLOCK= in a unit), or grant CAP_IPC_LOCK"
        }
        io::ErrorKind::PermissionDenied => "; it takes access to /dev/infiniband/uverbs*",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_to_do() {
        let call = |operation, code| Error::Call {
            operation,
            device: "rxe0".to_owned(),
            source: io::Error::from_raw_os_error(code),
        };
        assert!(call(crate::memory::REGISTER, 12).to_string().contains("ulimit -l"));
        assert!(!call("create a queue pair", 12).to_string().contains("ulimit"));
        assert!(call("open", 13).to_string().contains("uverbs"));
        let no_gid = |index, known: &str| Error::NoGid { device: "rxe0".into(), port: 1, index, known: known.into() };
        assert!(no_gid(None, "").to_string().contains("give its interface an address"));
        assert!(no_gid(Some(9), "0: fe80").to_string().ends_with("no GID at index 9, only 0: fe80"));
        let completion = |status: &str| {
            let (device, peer, status) =
                ("rxe0".into(), Gid::from(std::net::IpAddr::from([10, 0, 0, 2])), status.into());
            Error::Completion { device, qpn: 17, peer, operation: "READ", status, vendor: 0 }.to_string()
        };
        for (status, cure) in [
            ("transport retry counter exceeded", "does not answer"),
            ("remote access error", "address and key"),
            ("remote invalid request error", "for the right"),
            ("something new", "address and key"),
        ] {
            let text = completion(status);
            for part in ["READ", "0x11", "rxe0", "10.0.0.2", status, cure, "connect a new queue pair"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert!(Error::NoDevice.to_string().contains("rdma link add"));
    }
}
