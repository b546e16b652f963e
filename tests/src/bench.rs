//! One instance of the datapath for a test.

use std::path::{Path, PathBuf};

use naam_abi::limits::{PORT_BASE, STEPS_MAX};
use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::tables::{APP_SERVING, APP_TAG, AppEntry, RIGHT_ALL, SessionEntry};
use naam_admission::{Admitted, admit};
use naam_loader::{Datapath, Handler, Hook, LoadedHandler, LoaderError, Objects, Options};
use naam_sys::program::Log;
use naam_sys::{Map, MapSpec, MapType, Program, RunInput, RunOutput};

use crate::frame::{Network, Reply, Request};
use crate::objects;

/// XDP verdicts.
pub const XDP_DROP: u32 = 1;
/// The stack goes on with the frame.
pub const XDP_PASS: u32 = 2;
/// The frame goes back.
pub const XDP_TX: u32 = 3;
/// TC: the next filter, in the end the stack, goes on.
pub const TC_UNSPEC: u32 = -1i32 as u32;
/// TC: dropped.
pub const TC_SHOT: u32 = 2;
/// TC: the frame goes back.
pub const TC_REDIRECT: u32 = 7;

/// The test's session.
pub const SESSION: u32 = 1 << 10 | 7;

/// An instance under its own pins, which go when it is dropped.
#[derive(Debug)]
pub struct Bench {
    /// The datapath.
    pub datapath: Datapath,
    /// Where frames enter.
    pub entry: Program,
    /// The hook under test.
    pub hook: Hook,
    /// Whether handlers are loaded for repetition, see `PROGRAM_REPEATABLE`.
    pub repeatable: bool,
    /// Steps of a visit of handlers loaded from now on.
    pub steps_max: u32,
    /// Time of a datagram of handlers loaded from now on: long, because a machine may take the processor away.
    pub time_budget_ns: u64,
    pins: PathBuf,
}

/// A minute.
const PATIENT_NS: u64 = 60_000_000_000;

impl Bench {
    /// A fresh instance at `hook`, with loops by `may_goto` or `bpf_loop`.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn new(hook: Hook, may_goto: bool) -> Self {
        let options = Options { may_goto: Some(may_goto), ..Options::instance(&naam_testbed::instance()) };
        let (entry, shell) = (objects::read("entry"), objects::read("shell"));
        let mut datapath = Datapath::open(&options, Objects { entry: &entry, shell: &shell }).expect("datapath");
        let entry = datapath.entry_program(hook).unwrap_or_else(|error| panic!("{error}"));
        Self {
            datapath,
            entry,
            hook,
            repeatable: false,
            steps_max: STEPS_MAX,
            time_budget_ns: PATIENT_NS,
            pins: options.pins,
        }
    }

    /// Whether loops by `may_goto` suit this kernel: as the loader chooses.
    pub fn may_goto() -> bool {
        naam_sys::features::live_registers() && naam_sys::features::may_goto()
    }

    /// An app with tags on, and the test's session with all rights in it.
    pub fn app(&self, app: u16) {
        self.app_with(app, APP_SERVING | APP_TAG);
    }

    /// An app with these flags.
    pub fn app_with(&self, app: u16, flags: u32) {
        let tables = self.datapath.tables();
        tables.set_app(app, &AppEntry { flags, regions: 0, key: PUBLIC_KEY, reserved: [0; 5] });
        self.session(SESSION, app, RIGHT_ALL);
    }

    /// A session with `rights` on every region.
    pub fn session(&self, session: u32, app: u16, rights: u8) {
        let entry = SessionEntry { session, app: app.into(), handler_rights: [rights; 8], ..SessionEntry::default() };
        self.datapath.tables().open_session(&entry);
    }

    /// Loads an admitted handler.
    ///
    /// # Errors
    /// As the loader has them.
    pub fn load(
        &self,
        (app, function, version): (u16, u16, u16),
        code: &Admitted,
        regions: &[&Map],
    ) -> Result<LoadedHandler, LoaderError> {
        self.datapath.load(&Handler {
            app,
            function,
            version,
            code,
            regions,
            hooks: &[self.hook],
            log: Log::Stats,
            steps_max: self.steps_max,
            time_budget_ns: self.time_budget_ns,
            repeatable: self.repeatable,
        })
    }

    /// Loads a handler of this build as function 16, version 1.
    ///
    /// # Panics
    /// If anybody refuses it.
    pub fn load_built(&self, app: u16, name: &str, regions: &[&Map]) -> LoadedHandler {
        let code = admit(&objects::read(name)).unwrap_or_else(|refusal| panic!("{refusal}"));
        self.load((app, 16, 1), &code, regions).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a frame in; what comes out.
    ///
    /// # Panics
    /// If the kernel cannot run it.
    pub fn send(&self, frame: &[u8]) -> RunOutput {
        self.entry.test_run(&RunInput { data: frame, data_out_max: 4096, ..RunInput::default() }).expect("test run")
    }

    /// Sends a request over IPv4; its reply.
    ///
    /// # Panics
    /// If it is not answered.
    pub fn call(&self, request: &Request) -> Reply {
        let network = Network::v4(port(request.app, request.shard));
        let output = self.send(&network.frame(&request.datagram()));
        assert_eq!(output.retval, self.transmitted(), "the datagram was not answered");
        Reply::read(&output.data[network.header_len()..])
    }

    /// Where its pins are.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The verdict that sends a frame back.
    pub fn transmitted(&self) -> u32 {
        if self.hook == Hook::Xdp { XDP_TX } else { TC_REDIRECT }
    }

    /// The verdict that drops a frame.
    pub fn dropped(&self) -> u32 {
        if self.hook == Hook::Xdp { XDP_DROP } else { TC_SHOT }
    }

    /// The verdict that leaves a frame to the stack.
    pub fn passed(&self) -> u32 {
        if self.hook == Hook::Xdp { XDP_PASS } else { TC_UNSPEC }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = naam_loader::datapath::remove_pins(&self.pins) {
            eprintln!("{error}");
        }
    }
}

/// The UDP port of a shard.
pub fn port(app: u16, shard: u16) -> u16 {
    PORT_BASE + app * 64 + shard
}

/// A region of `values` map values of `value_len` bytes, not pinned.
///
/// # Panics
/// If the kernel refuses it.
pub fn region(value_len: u32, values: u32) -> Map {
    Map::create(&MapSpec {
        name: "naam_test_region",
        map_type: MapType::Array,
        key_size: 4,
        value_size: value_len,
        max_entries: values,
        flags: naam_sys::map::MMAPABLE,
        btf: None,
    })
    .expect("region")
}
