//! The entry on interfaces that change under it, and at TC without links.
//!
//! ```text
//!   client namespace                     host namespace
//!   UDP socket ─ naam0 ──── veth ──── naam0 ─ entry, shell, echo
//! ```

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::tables::{APP_SERVING, APP_TAG, AppEntry, RIGHT_ALL, SessionEntry};
use naam_admission::admit;
use naam_loader::{Attached, Attachment, Datapath, Handler, Hook, Objects, Options};
use naam_sys::program::Log;
use naam_sys::{Insn, Program, ProgramSpec, ProgramType};
use naam_testbed::{CLIENT_V4, DEVICE, HOST_V4, Topology, object};
use naam_tests::bench::{SESSION, port};
use naam_tests::frame::{Message, Request};
use naam_tests::objects;
use naam_transport::xsk::{Mode, XskProgram};

const APP: u16 = 3;

/// Two namespaces, and an instance that goes at the end, whatever the test did with it.
struct Scene {
    topology: Topology,
    options: Options,
    socket: UdpSocket,
}

impl Scene {
    fn new(tcx: Option<bool>) -> Self {
        let topology = Topology::builder().build().unwrap();
        let socket = topology.client().run(|| UdpSocket::bind((CLIENT_V4, 0)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let options = Options { tcx, ..Options::instance(&naam_testbed::instance()) };
        Self { topology, options, socket }
    }

    /// A process that serves, as far as the kernel can tell.
    fn open(&self) -> Datapath {
        let (entry, shell) = (objects::read("entry"), objects::read("shell"));
        Datapath::open(&self.options, Objects { entry: &entry, shell: &shell }).unwrap()
    }

    fn serve(&self) -> Datapath {
        let datapath = self.open();
        let app = AppEntry { flags: APP_SERVING | APP_TAG, regions: 0, key: PUBLIC_KEY, reserved: [0; 5] };
        datapath.tables().set_app(APP, &app);
        let session =
            SessionEntry { session: SESSION, app: APP.into(), handler_rights: [RIGHT_ALL; 8], ..<_>::default() };
        datapath.tables().open_session(&session);
        let code = admit(&objects::read("echo")).expect("our own handler");
        let (hooks, log) = (&Hook::ALL[..], Log::Off);
        let handler = Handler {
            app: APP,
            function: 16,
            version: 1,
            code: &code,
            regions: &[],
            hooks,
            log,
            steps_max: naam_abi::limits::STEPS_MAX,
            time_budget_ns: naam_abi::limits::TIME_BUDGET_NS,
            repeatable: false,
        };
        datapath.load(&handler).unwrap();
        datapath
    }

    fn attach(&self, datapath: &mut Datapath, hook: Hook) -> Attached {
        self.topology.host().run(|| datapath.attach(DEVICE, Some(hook)).unwrap()).unwrap()
    }

    fn attached(&self, datapath: &Datapath) -> Vec<String> {
        let attached = self.topology.host().run(|| datapath.attached()).unwrap();
        attached.into_iter().map(|(interface, _)| interface).collect()
    }

    fn tc(&self, command: &str) {
        let status = self.topology.host().command("tc").args(command.split_whitespace()).status();
        assert!(status.unwrap().success(), "{command}");
    }

    fn look(&self, datapath: &Datapath) -> Vec<(String, Hook)> {
        self.topology.host().run(|| datapath.look_at_interfaces().unwrap()).unwrap()
    }

    fn is_answered(&self) -> bool {
        let messages = vec![Message::new(1, b"hello", 8)];
        let request = Request { app: APP, function: 16, handler: 0, shard: 0, session: SESSION, messages };
        self.socket.send_to(&request.datagram(), (HOST_V4, port(APP, 0))).unwrap();
        self.socket.recv(&mut [0; 4096]).is_ok()
    }

    fn filters(&self) -> usize {
        self.filters_on(DEVICE)
    }

    fn filters_on(&self, device: &str) -> usize {
        let output = self.topology.host().command("tc").args(["filter", "show", "dev", device, "ingress"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().filter(|line| line.contains(" handle ") && line.contains("naam_entry_tc")).count()
    }

    fn links(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.options.pins.join("links")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    fn host(&self, command: &str) {
        self.topology.host().ip(command).unwrap();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.topology.host().run(|| naam_loader::datapath::remove_pins(&self.options.pins));
    }
}

/// Before 6.6 there are no links at TC: the filter is found again by what its pin says.
#[test]
fn a_filter_at_tc_is_taken_over_and_removed() {
    let scene = Scene::new(Some(false));
    let mut first = scene.serve();
    scene.attach(&mut first, Hook::Tc);
    assert!(scene.is_answered());
    let attached = scene.topology.host().run(|| first.attached()).unwrap();
    assert_eq!((scene.filters(), attached), (1, vec![(DEVICE.into(), Attachment::Tc)]));
    drop(first);
    assert!(scene.is_answered(), "the filter serves while nobody runs");

    let mut second = scene.open();
    assert!(scene.attach(&mut second, Hook::Tc).reason.contains("took over"));
    assert_eq!((scene.filters(), scene.links().len()), (1, 1), "replaced in place");
    assert!(scene.is_answered());

    // Somebody removes it.
    let delete = ["filter", "del", "dev", DEVICE, "ingress"];
    assert!(scene.topology.host().command("tc").args(delete).status().unwrap().success());
    assert!(!scene.is_answered());
    let mut third = scene.open();
    assert!(!scene.attach(&mut third, Hook::Tc).reason.contains("took over"));
    assert_eq!((scene.filters(), scene.links().len(), scene.is_answered()), (1, 1, true));

    assert!(scene.topology.host().run(|| third.detach(DEVICE).unwrap()).unwrap());
    assert_eq!((scene.filters(), scene.links().len(), scene.is_answered()), (0, 0, false));

    scene.attach(&mut third, Hook::Tc);
    assert_eq!(scene.filters(), 1);
    drop(third);
    scene.topology.host().run(|| naam_loader::datapath::remove_pins(&scene.options.pins).unwrap()).unwrap();
    assert_eq!((scene.filters(), scene.options.pins.exists()), (0, false), "no filter outlives the pins");
}

/// Links know interfaces by index, configurations by name.
#[test]
fn an_interface_made_again_is_told_from_the_one_before() {
    for (hook, tcx) in [(Hook::Xdp, None), (Hook::Tc, None), (Hook::Tc, Some(false))] {
        let scene = Scene::new(tcx);
        let mut datapath = scene.serve();
        scene.attach(&mut datapath, hook);
        assert_eq!(scene.look(&datapath), []);

        // Under another name it is not what was configured.
        scene.host(&format!("link set {DEVICE} down"));
        scene.host(&format!("link set {DEVICE} name old0"));
        scene.host(&format!("link add {DEVICE} type veth peer name peer0"));
        assert_eq!(scene.look(&datapath), [(DEVICE.to_owned(), hook)]);
        assert!(!scene.attach(&mut datapath, hook).reason.contains("took over"), "{hook}");
        assert_eq!((scene.look(&datapath), scene.links().len()), (vec![], 1));

        scene.host(&format!("link del {DEVICE}"));
        assert_eq!(scene.look(&datapath), [], "an interface that is gone may come back");
        scene.host(&format!("link add {DEVICE} type veth peer name peer0"));
        assert_eq!(scene.look(&datapath), [(DEVICE.to_owned(), hook)]);
        let mut next = scene.open();
        assert!(!scene.attach(&mut next, hook).reason.contains("took over"), "{hook}");
        assert_eq!((scene.look(&next), scene.links().len()), (vec![], 1));
    }
}

/// It is the interface that is served, whatever it is called.
#[test]
fn a_renamed_interface_goes_on_being_served() {
    for (hook, tcx) in [(Hook::Xdp, None), (Hook::Tc, None), (Hook::Tc, Some(false))] {
        let scene = Scene::new(tcx);
        let mut datapath = scene.serve();
        scene.attach(&mut datapath, hook);
        for command in [&format!("link set {DEVICE} down"), &format!("link set {DEVICE} name lan0"), "link set lan0 up"]
        {
            scene.host(command);
        }
        assert_eq!((scene.look(&datapath), scene.attached(&datapath)), (vec![], vec!["lan0".to_owned()]), "{hook}");

        // Not our own link in the way, nor a second filter.
        let mut next = scene.open();
        let host = scene.topology.host();
        let taken = host.run(|| next.attach("lan0", Some(hook))).unwrap().unwrap();
        assert!(taken.reason.contains("took over"), "{taken:?}");
        assert_eq!((scene.links().len(), scene.filters_on("lan0")), (1, usize::from(tcx == Some(false))), "{hook}");
        assert!(scene.links()[0].to_str().unwrap().ends_with(":lan0"), "{:?}", scene.links());

        // Another of the old name is another.
        scene.host(&format!("link add {DEVICE} type veth peer name peer0"));
        assert_eq!(scene.look(&next), []);
        assert!(!scene.attach(&mut next, hook).reason.contains("took over"));
        assert_eq!((scene.look(&next), scene.links().len()), (vec![], 2));

        assert!(host.run(|| next.detach("lan0")).unwrap().unwrap());
        assert_eq!((scene.filters_on("lan0"), scene.attached(&next)), (0, vec![DEVICE.to_owned()]), "{hook}");
        scene.host(&format!("link del {DEVICE}"));
    }
}

/// Two pins change places with their interfaces' names.
#[test]
fn interfaces_that_swap_names_keep_what_they_carry() {
    for (hook, tcx) in [(Hook::Xdp, None), (Hook::Tc, Some(false))] {
        let scene = Scene::new(tcx);
        let mut datapath = scene.serve();
        let host = scene.topology.host();
        scene.host("link add swap0 type veth peer name peer0");
        scene.attach(&mut datapath, hook);
        host.run(|| datapath.attach("swap0", Some(hook))).unwrap().unwrap();
        scene.host(&format!("link set {DEVICE} down"));
        for (from, to) in [(DEVICE, "aside0"), ("swap0", DEVICE), ("aside0", "swap0")] {
            scene.host(&format!("link set {from} name {to}"));
        }
        let mut next = scene.open();
        for interface in [DEVICE, "swap0"] {
            let taken = host.run(|| next.attach(interface, Some(hook))).unwrap().unwrap();
            assert!(taken.reason.contains("took over"), "{hook}: {taken:?}");
        }
        assert_eq!((scene.look(&next), scene.links().len()), (vec![], 2), "{hook}");
        scene.host("link del peer0");
    }
}

/// The place of a filter says nothing of whose it is; its program does.
#[test]
fn a_filter_that_is_not_ours_is_left_alone() {
    let scene = Scene::new(Some(false));
    let mut datapath = scene.serve();
    scene.attach(&mut datapath, Hook::Tc);
    assert_eq!(scene.look(&datapath), []);
    scene.tc(&format!("filter del dev {DEVICE} ingress"));
    assert_eq!(scene.look(&datapath), [(DEVICE.to_owned(), Hook::Tc)], "one that vanishes is noticed");

    // Somebody else's, where ours was.
    let pin = scene.options.pins.join("stranger");
    let insns = [Insn::new(0xb7, 0, 0, 0, -1), Insn::new(0x95, 0, 0, 0, 0)];
    let stranger = Program::load(&ProgramSpec::new(ProgramType::SchedCls, "stranger", &insns)).unwrap().program;
    stranger.pin(&pin).unwrap();
    let pinned = scene.links().pop().unwrap();
    let numbers: Vec<_> = pinned.file_name().unwrap().to_str().unwrap().split(['-', ':']).collect();
    let [priority, handle] = [numbers[3], numbers[4]].map(|number| u32::from_str_radix(number, 16).unwrap());
    let place = format!("dev {DEVICE} ingress prio {priority} handle {handle} bpf da");
    scene.tc(&format!("filter add {place} object-pinned {}", pin.display()));
    let id = stranger.info().unwrap().id;
    let is_there = || {
        let output = scene.topology.host().command("tc").args(["filter", "show", "dev", DEVICE, "ingress"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().contains(&format!(" id {id} "))
    };
    assert!(is_there());
    assert_eq!(scene.look(&datapath), [(DEVICE.to_owned(), Hook::Tc)]);

    let mut next = scene.open();
    assert!(!scene.attach(&mut next, Hook::Tc).reason.contains("took over"));
    assert!(is_there() && scene.filters() == 1 && scene.is_answered(), "beside it, not in its place");
    scene.tc(&format!("filter del dev {DEVICE} ingress"));
    scene.tc(&format!("filter add {place} object-pinned {}", pin.display()));
    assert!(scene.topology.host().run(|| next.detach(DEVICE).unwrap()).unwrap());
    assert!(is_there() && scene.links().is_empty(), "nor removed");
    std::fs::remove_file(pin).unwrap();
}

/// The client goes on sending to the address that the host had: to XDP that is somebody else now.
#[test]
fn xdp_serves_the_address_that_the_interface_has() {
    let scene = Scene::new(None);
    let mut datapath = scene.serve();
    scene.attach(&mut datapath, Hook::Xdp);
    let xsk = object("xsk").unwrap();
    let client = scene.topology.client();
    let _program =
        client.run(|| XskProgram::attach(&xsk, DEVICE, naam_abi::limits::PORT_BASE, Mode::Native).unwrap()).unwrap();
    assert!(scene.is_answered());
    // Whatever the interface is called.
    scene.host(&format!("link set {DEVICE} down"));
    scene.host(&format!("link set {DEVICE} name lan0"));
    scene.host("link set lan0 promisc on up address 02:00:00:00:77:01");
    scene.look(&datapath);
    while scene.socket.recv(&mut [0; 4096]).is_ok() {}
    assert!(!scene.is_answered());
    client.ip(&format!("neigh replace {HOST_V4} lladdr 02:00:00:00:77:01 dev {DEVICE} nud permanent")).unwrap();
    assert!(scene.is_answered());
}
