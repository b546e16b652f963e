//! What this process, and so a daemon or client started like it, may do.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use caps::{CapSet, Capability};
use naam_abi::limits::PORT_BASE;
use naam_control::protocol::inspect::Finding;
use naam_transport::Target;
use naam_transport::udp::UdpTransport;
use naam_verbs::Device;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Resource, getrlimit};

use super::{bad, good, warning};

/// What the daemon and AF_XDP clients need, and what for.
const NEEDED: [(Capability, &str); 4] = [
    (Capability::CAP_BPF, "maps and programs"),
    (Capability::CAP_NET_ADMIN, "attaching"),
    (Capability::CAP_PERFMON, "the shell's pointer arithmetic"),
    (Capability::CAP_NET_RAW, "AF_XDP sockets"),
];

/// Memory that one AF_XDP socket locks, and some.
const MEMLOCK_BYTES: u64 = 64 << 20;

pub fn findings() -> Vec<Finding> {
    vec![capabilities(), memlock(), io_uring(), af_xdp(), rdma()]
}

fn capabilities() -> Finding {
    let check = "capabilities";
    match caps::read(None, CapSet::Effective) {
        Err(error) => bad(check, format!("cannot be read: {error}"), "mount /proc"),
        Ok(held) => {
            let missing: Vec<_> = NEEDED.iter().filter(|(capability, _)| !held.contains(capability)).collect();
            let names = |list: &[&(Capability, &str)]| {
                list.iter().map(|(capability, what)| format!("{capability} ({what})")).collect::<Vec<_>>().join(", ")
            };
            if missing.is_empty() {
                good(check, names(&NEEDED.iter().collect::<Vec<_>>()))
            } else {
                let detail = format!("missing: {}", names(&missing));
                bad(check, detail, "run as root; UDP clients need none of them")
            }
        }
    }
}

fn memlock() -> Finding {
    let check = "locked memory";
    let privileged = caps::has_cap(None, CapSet::Effective, Capability::CAP_IPC_LOCK).unwrap_or(false);
    match getrlimit(Resource::Memlock).current {
        None => good(check, "unlimited"),
        Some(bytes) if bytes >= MEMLOCK_BYTES => good(check, format!("up to {} MiB", bytes >> 20)),
        Some(bytes) if privileged => good(check, format!("{} KiB, which CAP_IPC_LOCK overrides", bytes >> 10)),
        Some(bytes) => {
            let detail = format!("{} KiB: too little for the frames of an AF_XDP socket", bytes >> 10);
            warning(check, detail, "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit")
        }
    }
}

fn io_uring() -> Finding {
    let check = "io_uring";
    let target = Target::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_BASE);
    match UdpTransport::open(target) {
        Ok(_) => good(check, "a UDP transport can be opened"),
        Err(error) => {
            let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            let way_out = match setting.trim() {
                "1" => "sysctl kernel.io_uring_disabled=0, or join the group of kernel.io_uring_group",
                "2" => "sysctl kernel.io_uring_disabled=0",
                _ => "kernel 6.1 or newer, and no seccomp filter against it (containers often have one)",
            };
            let detail =
                format!("{error}; clients use plain sockets, and `naam region save` and `restore` do not work");
            warning(check, detail, way_out)
        }
    }
}

/// Without RDMA nothing is missing: regions are read by one-sided functions.
fn rdma() -> Finding {
    let check = "RDMA";
    match Device::names() {
        Ok(names) if names.is_empty() => good(check, "no device: clients read regions by one-sided functions"),
        Ok(names) => {
            let able = names.iter().map(|name| {
                match Device::open(Some(name)).and_then(|device| device.local(1, None, None, None)) {
                    Ok(local) => format!("{name} (port 1, {})", local.gid.ip()),
                    Err(error) => format!("{name} (of no use: {error})"),
                }
            });
            good(check, able.collect::<Vec<_>>().join(", "))
        }
        Err(error) => good(check, format!("{error}; clients read regions by one-sided functions")),
    }
}

fn af_xdp() -> Finding {
    let check = "AF_XDP";
    match socket(AddressFamily::XDP, SocketType::RAW, None) {
        Ok(_) => good(check, "sockets can be made"),
        Err(errno) => {
            let way_out = "CAP_NET_RAW, and a kernel with CONFIG_XDP_SOCKETS; clients fall back to UDP";
            warning(check, format!("no socket: {errno}"), way_out)
        }
    }
}
