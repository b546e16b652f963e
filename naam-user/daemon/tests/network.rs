//! The daemon in a network namespace, its clients in another.
//!
//! ```text
//!   client namespace             host namespace
//!   UDP socket ─ naam0 ── veth ── naam0 ─ TC: entry, shell, handlers ─ daemon
//! ```

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{APP, ECHO, Instance, name, root};
use naam_abi::wire::Status;
use naam_control::protocol::admin::{AdminReply, AdminRequest, AttachedHook, Attachment, Hook};
use naam_control::protocol::inspect::{Finding, Verdict};
use naam_testbed::{DEVICE, HOST_V4, Topology};
use naam_tests::frame::{Message, Reply, Request};

const OK: u16 = Status::Ok as u16;

struct Net {
    topology: Topology,
    instance: Instance,
}

impl Net {
    /// A daemon in the host namespace that serves `naam0`; none, and the test is skipped, without root.
    fn start(test: &str) -> Option<Self> {
        if !root(test) {
            return None;
        }
        let topology = Topology::builder().build().expect("two namespaces and a veth pair");
        let mut instance = Instance::kv();
        instance.enter = Some(topology.host().path());
        instance.configure(&format!("[[interface]]\nname = \"{DEVICE}\"\nhook = \"tc\"\n{}", instance.kv_app()));
        instance.start();
        Some(Self { topology, instance })
    }

    fn socket(&self) -> Client {
        let socket = self.topology.client().run(|| UdpSocket::bind("10.77.0.1:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let port = self.instance.port_base + APP * 64 + 5;
        socket.connect((HOST_V4, port)).unwrap();
        Client { socket, next: 0 }
    }

    fn session(&self) -> u32 {
        self.instance.client().open_session(name("kv"), vec![]).unwrap().key.session
    }
}

struct Client {
    socket: UdpSocket,
    next: u32,
}

impl Client {
    /// Calls `echo`, whatever version serves; `None` if no answer comes.
    fn echo(&mut self, session: u32) -> Option<Reply> {
        self.next += 1;
        let messages = vec![Message::new(self.next, &self.next.to_le_bytes(), 4)];
        let request = Request { app: APP, function: ECHO, handler: 0, shard: 5, session, messages };
        self.socket.send(&request.datagram()).unwrap();
        let mut bytes = [0; 2048];
        loop {
            let length = self.socket.recv(&mut bytes).ok()?;
            let reply = Reply::read(&bytes[..length]);
            // A late answer to an earlier call may still come.
            if reply.answers.first().is_none_or(|answer| answer.request == self.next) {
                return Some(reply);
            }
        }
    }
}

#[test]
fn replace_under_load_loses_nothing() {
    let Some(net) = Net::start("replace_under_load_loses_nothing") else { return };
    let (session, mut client) = (net.session(), net.socket());
    let (calls, versions) = std::thread::scope(|scope| {
        let caller = scope.spawn(move || {
            let (mut versions, mut calls) = (vec![], 0);
            let started = Instant::now();
            while versions.last() != Some(&4) {
                assert!(started.elapsed() < Duration::from_secs(60), "stuck at {versions:?}");
                let reply = client.echo(session).expect("every call is answered");
                assert_eq!((reply.status, reply.answers[0].status), (OK, OK));
                assert_eq!(reply.answers[0].reply, client.next.to_le_bytes());
                calls += 1;
                if versions.last() != Some(&reply.handler) {
                    versions.push(reply.handler);
                }
            }
            (calls, versions)
        });
        for version in 2..=4 {
            assert_eq!(net.instance.replace("echo").function.version, version);
        }
        caller.join().unwrap()
    });
    assert!(calls > 10);
    assert!(versions.is_sorted(), "an old version came back: {versions:?}");
}

#[test]
fn killed_daemon_is_not_missed_on_the_wire() {
    let Some(mut net) = Net::start("killed_daemon_is_not_missed_on_the_wire") else { return };
    let (session, mut client) = (net.session(), net.socket());
    assert_eq!(net.instance.status().attachments[0].hook, AttachedHook::Tc);
    let mut serve = |instance: &Instance| {
        for _ in 0..20 {
            let reply = client.echo(session).unwrap_or_else(|| panic!("no answer\n{}", instance.log()));
            assert_eq!((reply.answers[0].status, reply.handler), (OK, 1));
        }
    };
    serve(&net.instance);
    net.instance.kill();
    serve(&net.instance);
    net.instance.start();
    serve(&net.instance);
    let attachment = net.instance.status().attachments[0].clone();
    assert_eq!((attachment.interface.as_str(), attachment.hook), (DEVICE, AttachedHook::Tc));
    assert!(attachment.reason.contains("took over"), "{attachment:?}");
    let AdminReply::Inspection(inspection) = net.instance.done(AdminRequest::Inspect) else { panic!("no inspection") };
    assert_eq!(inspection.links[0].role, format!("tc on {DEVICE}"));
    assert_eq!(inspection.links[0].program_id, attachment.program_id);
    assert!(inspection.programs.iter().any(|program| program.id == attachment.program_id));

    // Detached and attached at run time, and taken over like that.
    net.instance.done(AdminRequest::Detach { interface: DEVICE.into() });
    // The kernel lets go of a link a moment after its last name.
    let started = Instant::now();
    while client.echo(session).is_some() {
        assert!(started.elapsed() < Duration::from_secs(20), "a detached interface goes on answering");
    }
    let attach = AdminRequest::Attach { interface: DEVICE.into(), hook: Hook::Tc };
    net.instance.done(attach.clone());
    assert!(net.instance.refused(attach).contains("already"));
    assert_eq!(client.echo(session).unwrap().status, OK);
    let missing = AdminRequest::Attach { interface: "nowhere0".into(), hook: Hook::Auto };
    assert!(net.instance.refused(missing).contains("nowhere0"));
}

/// Waits until the daemon serves `naam0` as an interface of another number than `before`; how.
fn wait_for_another(net: &Net, before: Option<u32>) -> Attachment {
    let started = Instant::now();
    loop {
        let attached = net.instance.status().attachments.into_iter().find(|attached| attached.interface == DEVICE);
        if let Some(attached) = attached.filter(|attached| Some(attached.ifindex) != before) {
            return attached;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{}", net.instance.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_interface_made_again_is_attached_to_again() {
    let Some(mut net) = Net::start("an_interface_made_again_is_attached_to_again") else { return };
    net.instance.done(AdminRequest::Detach { interface: DEVICE.into() });
    net.instance.kill();
    net.instance.configure(&format!("[[interface]]\nname = \"{DEVICE}\"\n{}", net.instance.kv_app()));
    net.instance.start();
    let before = net.instance.status().attachments[0].ifindex;
    net.topology.host().ip(&format!("link del {DEVICE}")).unwrap();
    // Nothing but what the kernel has.
    let status = net.instance.status();
    assert_eq!((status.attachments, status.unserved[0].interface.as_str()), (vec![], DEVICE));
    let AdminReply::Findings(findings) = net.instance.done(AdminRequest::Doctor) else { panic!("no findings") };
    let is_bad = |finding: &&Finding| finding.verdict == Verdict::Bad && finding.check == "interfaces";
    assert!(findings.iter().find(is_bad).unwrap().detail.contains("naam0 is to be served and is not"), "{findings:?}");

    net.topology.host().ip(&format!("link add {DEVICE} type veth peer name peer0")).unwrap();
    let attached = wait_for_another(&net, Some(before));
    // As it was asked for, not as it was.
    assert_eq!((attached.hook, attached.reason.as_str()), (AttachedHook::XdpNative, "native XDP is the fastest way"));
    assert!(net.instance.log().contains("not served any more"), "{}", net.instance.log());
    let AdminReply::Inspection(inspection) = net.instance.done(AdminRequest::Inspect) else { panic!("no inspection") };
    assert_eq!((inspection.links.len(), inspection.links[0].role.as_str()), (1, "xdp-native on naam0"));

    // Given up, it is no longer waited for.
    net.topology.host().ip(&format!("link del {DEVICE}")).unwrap();
    net.instance.done(AdminRequest::Detach { interface: DEVICE.into() });
    assert!(net.instance.status().unserved.is_empty());
}

#[test]
fn a_link_that_somebody_removes_is_made_again() {
    let Some(mut net) = Net::start("a_link_that_somebody_removes_is_made_again") else { return };
    let (session, mut client) = (net.session(), net.socket());
    for link in std::fs::read_dir(net.instance.pins().join("links")).unwrap() {
        std::fs::remove_file(link.unwrap().path()).unwrap();
    }
    let unserved = net.instance.status().unserved;
    assert!(unserved.first().is_none_or(|unserved| unserved.interface == DEVICE), "{unserved:?}");
    wait_for_another(&net, None);
    assert!(net.instance.log().contains("was removed by somebody else"), "{}", net.instance.log());
    assert_eq!(client.echo(session).unwrap().status, OK);

    // And in one piece with tables that are made again.
    net.instance.kill();
    std::fs::remove_file(net.instance.pins().join("maps/PROGRAMS")).unwrap();
    net.instance.start();
    let session = net.session();
    assert_eq!(client.echo(session).unwrap().status, OK);
}

#[test]
fn a_configured_interface_may_come_later() {
    if !root("a_configured_interface_may_come_later") {
        return;
    }
    let topology = Topology::builder().build().expect("two namespaces and a veth pair");
    let mut instance = Instance::kv();
    instance.enter = Some(topology.host().path());
    let late = "[[interface]]\nname = \"late0\"\nhook = \"tc\"\n";
    instance.configure(&format!("{late}[[interface]]\nname = \"{DEVICE}\"\n{}", instance.kv_app()));
    instance.start();
    let served = |instance: &Instance| -> Vec<String> {
        instance.status().attachments.into_iter().map(|attached| attached.interface).collect()
    };
    assert_eq!(served(&instance), [DEVICE]);
    let unserved = instance.status().unserved;
    assert_eq!((unserved.len(), unserved[0].interface.as_str()), (1, "late0"));
    topology.host().ip("link add late0 type veth peer name peer0").unwrap();
    let started = Instant::now();
    while served(&instance) != [DEVICE, "late0"] {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", instance.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((instance.status().attachments[1].hook, instance.status().unserved), (AttachedHook::Tc, vec![]));
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    if !root("a_start_that_fails_leaves_nothing") {
        return;
    }
    let topology = Topology::builder().build().expect("two namespaces and a veth pair");
    let mut instance = Instance::kv();
    instance.enter = Some(topology.host().path());
    instance.configure(&format!("[[interface]]\nname = \"{DEVICE}\"\n{}", instance.kv_app()));
    // Somebody else's program, which is not ours to replace.
    let pin = std::path::PathBuf::from(format!("/sys/fs/bpf/{}_stranger", instance.name));
    let insns = [naam_sys::Insn::new(0xb7, 0, 0, 0, 2), naam_sys::Insn::new(0x95, 0, 0, 0, 0)];
    let spec = naam_sys::ProgramSpec::new(naam_sys::ProgramType::Xdp, "stranger", &insns);
    naam_sys::Program::load(&spec).unwrap().program.pin(&pin).unwrap();
    topology.host().ip(&format!("link set dev {DEVICE} xdp pinned {}", pin.display())).unwrap();
    std::fs::remove_file(pin).unwrap();
    instance.try_start(&["--detach-on-exit"]).unwrap_err();
    assert!(instance.log().contains("already carries an XDP program"), "{}", instance.log());
    let left = [instance.pins(), instance.dir.path().join(&instance.name), instance.socket()];
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");

    // What was there before stays, regions above all.
    let regions = naam_region::Regions::new(instance.pins());
    regions.create("kv", "kept", 2 << 20).unwrap();
    instance.try_start(&[]).unwrap_err();
    let names: Vec<_> = regions.list().unwrap().iter().map(|region| region.name().to_owned()).collect();
    assert_eq!(names, ["kept"]);
    topology.host().ip(&format!("link set dev {DEVICE} xdp off")).unwrap();
    instance.start();
    assert!(!instance.log().contains("another build"), "{}", instance.log());
}

/// As under `ip netns exec`, which hides bpffs.
#[test]
fn a_bpffs_that_nobody_else_sees_is_warned_of() {
    if !root("a_bpffs_that_nobody_else_sees_is_warned_of") {
        return;
    }
    let mut instance = Instance::kv();
    for (own_mounts, warned) in [(true, true), (false, false)] {
        instance.own_mounts = own_mounts;
        instance.start();
        assert_eq!(instance.pins().exists(), !own_mounts);
        let AdminReply::Findings(findings) = instance.done(AdminRequest::Doctor) else { panic!("no findings") };
        let finding = findings.iter().find(|finding| finding.check == "bpffs");
        assert_eq!(finding.is_some_and(|finding| finding.verdict == Verdict::Warning), warned, "{findings:?}");
        assert!(instance.log().contains("nsenter --net="), "{}", instance.log());
        instance.kill();
    }
}

#[test]
fn datagrams_of_apps_that_do_not_exist_are_counted() {
    let Some(net) = Net::start("datagrams_of_apps_that_do_not_exist_are_counted") else { return };
    let client = net.socket();
    client.socket.connect((HOST_V4, net.instance.port_base + (APP + 1) * 64)).unwrap();
    let messages = vec![Message::new(1, b"hello", 5)];
    let request = Request { app: APP + 1, function: ECHO, handler: 0, shard: 0, session: 1, messages };
    client.socket.send(&request.datagram()).unwrap();
    let mut bytes = [0; 2048];
    let length = client.socket.recv(&mut bytes).unwrap();
    assert_eq!(Reply::read(&bytes[..length]).status, Status::NoApp as u16);
    let counters = || match net.instance.done(AdminRequest::Stats) {
        AdminReply::Stats(counters) => counters,
        other => panic!("{other:?}"),
    };
    let nobodys = || counters().into_iter().find(|counters| counters.app.is_none()).unwrap();
    assert_eq!((nobodys().datagrams, nobodys().replies), (1, 1), "{:?}", nobodys());

    // An app's own counters end with it.
    let create = AdminRequest::AppCreate { app: name("late"), id: Some(APP + 1), integrity: true };
    net.instance.done(create);
    client.socket.send(&request.datagram()).unwrap();
    client.socket.recv(&mut bytes).unwrap();
    net.instance.done(AdminRequest::AppRemove { app: name("late") });
    assert_eq!(nobodys().datagrams, 0);
}

#[test]
fn cold_events_are_logged_and_a_flood_is_not() {
    let Some(net) = Net::start("cold_events_are_logged_and_a_flood_is_not") else { return };
    let (session, client) = (net.session(), net.socket());
    let messages = vec![Message::new(1, b"hello", 5)];
    let request = Request { app: APP, function: ECHO, handler: 0, shard: 5, session, messages };
    let mut bytes = request.datagram();
    *bytes.last_mut().unwrap() ^= 1;
    const FLOOD: usize = 500;
    let started = Instant::now();
    for _ in 0..FLOOD {
        client.socket.send(&bytes).unwrap();
    }
    let seconds = started.elapsed().as_secs() as usize;
    let words = "naam::entry: app 3: datagram dropped, wrong tag (another key, or corruption)";
    let lines = || net.instance.log().matches(words).count();
    while lines() == 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing was logged:\n{}", net.instance.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let cpus = naam_sys::map::possible_cpus().unwrap();
    assert!(lines() <= cpus * (seconds + 2), "{} lines in {seconds} s", lines());
    let AdminReply::Stats(counters) = net.instance.done(AdminRequest::Stats) else { panic!("no counters") };
    let kv = counters.iter().find(|counters| counters.app == Some(name("kv"))).unwrap();
    assert_eq!(kv.drops["tag"], FLOOD as u64, "every one is counted");
}
