//! What an interface can do.

use std::io;

use naam_abi::limits::{DATAGRAM_BYTES, XSK_QUEUES_MAX};
use naam_control::protocol::admin::{AttachedHook, Attachment};
use naam_control::protocol::inspect::Finding;
use naam_sys::xdp::{self, XdpFeatures, XdpState};
use naam_transport::netlink::{Interface, Netlink};

use super::{bad, good, warning};

/// Bytes of IP and UDP headers around a datagram, IPv6.
const HEADERS: u32 = 48;

pub fn findings(name: &str) -> Vec<Finding> {
    match look(name) {
        Ok((interface, state, peer)) => {
            let checks = [link(&interface), native(&interface, &state), occupied(&interface, &state)];
            let mut findings: Vec<_> = checks.into();
            findings.extend(veth_peer(&interface, peer));
            findings.push(queues(&interface));
            findings
        }
        Err(error) => vec![bad(name, error.to_string(), "`ip link` lists the interfaces of this network namespace")],
    }
}

/// Whether replies of an interface served arrive: on veth that is up to the other end. Nothing of an interface that is
/// not to be seen in this namespace.
pub fn replies(served: &Attachment) -> Option<Finding> {
    let (interface, _, peer) = look(&served.interface).ok()?;
    (served.hook == AttachedHook::XdpNative && interface.index == served.ifindex).then_some(())?;
    veth_peer(&interface, peer)
}

/// The interface, its XDP, and the XDP of its other end if it has one in this namespace.
fn look(name: &str) -> io::Result<(Interface, XdpState, Option<XdpState>)> {
    let mut netlink = Netlink::connect()?;
    let interface = netlink.interface_by_name(name)?;
    let state = xdp::query(interface.index).map_err(io::Error::other)?;
    let here = interface.peer.filter(|_| !interface.peer_is_elsewhere);
    let peer = here.map(xdp::query).transpose().map_err(io::Error::other)?;
    Ok((interface, state, peer))
}

fn link(interface: &Interface) -> Finding {
    let Interface { name, mtu, kind, .. } = interface;
    let check = format!("{name}: link");
    let largest = DATAGRAM_BYTES as u32 + HEADERS;
    let kind = kind.as_deref().unwrap_or("device");
    if !interface.up {
        return bad(check, "it is down", format!("ip link set {name} up"));
    }
    if *mtu >= largest {
        good(check, format!("{kind}, up, MTU {mtu} takes the longest datagrams"))
    } else {
        let detail = format!("{kind}, up, MTU {mtu}: datagrams of at most {} bytes", mtu.saturating_sub(HEADERS));
        // The usual Ethernet frame is no fault.
        if *mtu >= 1500 { good(check, detail) } else { warning(check, detail, format!("ip link set {name} mtu 1500")) }
    }
}

fn native(interface: &Interface, state: &XdpState) -> Finding {
    let check = format!("{}: XDP", interface.name);
    let way_out = "naam attach --hook auto chooses TC; --hook xdp takes generic XDP";
    match state.features {
        None => warning(check, "the kernel does not tell what the driver can do (it does from 6.3 on)", way_out),
        Some(features) if features.include(XdpFeatures::BASIC) => {
            let zero_copy = if features.include(XdpFeatures::ZERO_COPY) { ", AF_XDP without copies" } else { "" };
            good(check, format!("native{zero_copy}"))
        }
        Some(_) => warning(check, "the driver has no native XDP", way_out),
    }
}

fn occupied(interface: &Interface, state: &XdpState) -> Finding {
    let name = &interface.name;
    let check = format!("{name}: program");
    match state.program() {
        None => good(check, "no XDP program in the way"),
        Some(id) => {
            let mode = if state.generic == Some(id) { "generic" } else { "native" };
            let detail = format!("it carries XDP program {id} ({mode})");
            let way_out =
                format!("`bpftool prog show id {id}` says whose; if it is not NAAM's, ip link set dev {name} xdp off");
            warning(check, detail, way_out)
        }
    }
}

/// A veth drops what XDP_TX sends back unless its other end has an XDP program too.
fn veth_peer(interface: &Interface, peer: Option<XdpState>) -> Option<Finding> {
    if interface.kind.as_deref() != Some("veth") {
        return None;
    }
    let check = format!("{}: other end", interface.name);
    let way_out =
        "attach any XDP program to the other end (an AF_XDP client does, `naam xsk attach` too), or use --hook tc";
    Some(match peer {
        Some(state) if state.native.is_some() => good(check, "it carries an XDP program, so replies of XDP arrive"),
        Some(_) => warning(check, "it carries no XDP program: replies of XDP are lost there", way_out),
        None => {
            warning(check, "it is in another namespace: without an XDP program there, replies of XDP are lost", way_out)
        }
    })
}

fn queues(interface: &Interface) -> Finding {
    let check = format!("{}: queues", interface.name);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let queues = interface.queues as usize;
    let detail = format!("{queues} receive queues for {cpus} CPUs");
    if queues > XSK_QUEUES_MAX {
        let way_out = format!("ethtool -L {} combined {cpus}", interface.name);
        warning(check, format!("{detail}: AF_XDP clients take at most {XSK_QUEUES_MAX}"), way_out)
    } else if queues < cpus {
        let way_out = format!("ethtool -L {} combined {cpus}, if the device can", interface.name);
        warning(check, format!("{detail}: not all CPUs can serve at once"), way_out)
    } else {
        good(check, detail)
    }
}

#[cfg(test)]
mod tests {
    use naam_control::protocol::inspect::Verdict;

    use super::*;

    fn veth() -> Interface {
        Interface {
            index: 2,
            name: "naam0".into(),
            kind: Some("veth".into()),
            up: true,
            mtu: 1500,
            queues: 1024,
            peer: Some(3),
            ..Interface::default()
        }
    }

    #[test]
    fn a_veth_wants_a_program_at_its_other_end() {
        let finding = |peer| veth_peer(&veth(), peer).unwrap().verdict;
        let with = XdpState { native: Some(7), ..XdpState::default() };
        assert_eq!(finding(Some(with)), Verdict::Good);
        assert_eq!(finding(Some(XdpState::default())), Verdict::Warning);
        assert_eq!(finding(None), Verdict::Warning);
        assert!(veth_peer(&Interface { kind: None, ..veth() }, None).is_none());
    }

    #[test]
    fn features_and_programs_are_told() {
        let state = |bits| XdpState { features: Some(XdpFeatures(bits)), ..XdpState::default() };
        assert_eq!(native(&veth(), &state(11)).detail, "native, AF_XDP without copies");
        assert_eq!(native(&veth(), &state(0)).verdict, Verdict::Warning);
        let carrying = occupied(&veth(), &XdpState { generic: Some(9), ..XdpState::default() });
        assert!(carrying.detail.contains("program 9 (generic)") && carrying.way_out.unwrap().contains("show id 9"));
    }

    #[test]
    fn links_and_queues_are_judged() {
        assert_eq!(link(&veth()).verdict, Verdict::Good);
        assert_eq!(link(&Interface { up: false, ..veth() }).verdict, Verdict::Bad);
        assert_eq!(link(&Interface { mtu: 900, ..veth() }).verdict, Verdict::Warning);
        assert_eq!(queues(&veth()).verdict, Verdict::Warning);
    }
}
