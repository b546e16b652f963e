//! What an instance consists of. One thread owns it; nothing in here waits.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use naam_abi::limits::APPS_MAX;
use naam_abi::siphash::{Key, PUBLIC_KEY, SipHash};
use naam_abi::tables::{APP_SERVING, APP_TAG, APP_TIMED, AppEntry};
use naam_control::protocol::admin::{Attachment, Counters, Hook, Unserved};
use naam_control::protocol::session::{Function, Rights};
use naam_control::sessions::Sessions;
use naam_control::{ControlError, FunctionName, Name};
use naam_loader::{Datapath, Tables};
use naam_region::{Region, Regions};

use crate::functions::{Builtins, Drain};
use crate::kernel_log::KernelLog;
use crate::pins::Pins;
use crate::rdma::Rdma;
use crate::state::{AppState, FunctionState, State, StateDir};

/// An instance.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub instance: Name,
    /// The kernel side.
    pub datapath: Datapath,
    /// What the entry programs log.
    pub kernel_log: KernelLog,
    /// Hash of the entry and shell objects: they fit each other, and no others.
    pub build: String,
    /// Handler objects that the serving program carries.
    pub builtins: Builtins,
    /// Versions, by app and function, that served before this build.
    pub versions_before: BTreeMap<(u16, u16), u16>,
    /// Where its pins are.
    pub pins: Rc<Pins>,
    /// Its pinned regions, of apps that are served and others.
    pub regions: Regions,
    /// Apps by number.
    pub apps: BTreeMap<u16, App>,
    /// Open sessions.
    pub sessions: Sessions,
    /// Makes tickets.
    pub ticket_key: Key,
    /// How long a session lives without renewal.
    pub lease: Duration,
    /// The RDMA device, if one was configured.
    pub rdma: Option<Rdma>,
    /// Interfaces served.
    pub interfaces: Vec<Attachment>,
    /// Interfaces that are to be served and are not.
    pub unserved: Vec<Unserved>,
    /// Hooks that were asked for, by interface. What is attached to without being asked for is not here.
    pub wanted_hooks: BTreeMap<String, Hook>,
    /// Interfaces that the configuration names.
    pub configured_interfaces: Vec<String>,
    /// Old versions that still serve late messages.
    pub drains: Vec<Drain>,
    /// For the next daemon.
    pub state: StateDir,
    /// Whether an earlier daemon had set the datapath up.
    pub adopted: bool,
    /// When this daemon started.
    pub started: Instant,
    /// When it last looked at the interfaces.
    pub looked: Instant,
}

/// Time between two looks at the interfaces.
const INTERFACE_LOOKS: Duration = Duration::from_secs(1);

/// An app.
#[derive(Debug)]
pub struct App {
    /// Its name.
    pub name: Name,
    /// Its number.
    pub id: u16,
    /// Whether its datagrams are tagged.
    pub integrity: bool,
    /// Whether time in its handlers is measured.
    pub timed: bool,
    /// Sessions that it may have at a time.
    pub sessions_max: usize,
    /// Whether the configuration names it.
    pub configured: bool,
    /// A region is being restored: nobody may open a session.
    pub restoring: bool,
    /// Its regions, in binding order.
    pub regions: Vec<Region>,
    /// Raw rights that any session may ask for, by region, as configured.
    pub raw: BTreeMap<Name, Rights>,
    /// What may be done by RDMA, by region, where something is said about it.
    pub verbs: BTreeMap<Name, Rights>,
    /// Its functions by number.
    pub functions: BTreeMap<u16, Served>,
    /// Last versions of functions that are no more: their numbers are not used again.
    pub retired: BTreeMap<u16, u16>,
}

/// A function that is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// What clients see of it.
    pub function: Function,
    /// Admission's hash of the handler.
    pub handler: String,
    /// Admission's hash of the handler that the configuration named.
    pub configured: Option<String>,
    /// Hash of what the handler was spliced into and bound to.
    pub binding: String,
    /// Regions bound: so many, from the first.
    pub regions: usize,
    /// The kernel's numbers of its programs.
    pub programs: Vec<u32>,
}

impl Host {
    /// The pinned tables.
    pub fn tables(&self) -> &Tables {
        self.datapath.tables()
    }

    /// Milliseconds since the daemon started: the clock of leases.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// A session's lease in milliseconds.
    pub fn lease_ms(&self) -> u64 {
        self.lease.as_millis() as u64
    }

    /// The ticket of a session: the same after a restart.
    pub fn ticket(key: Key, session: u32) -> u64 {
        SipHash::new(key).word(session.into()).finish(8)
    }

    /// The app of a name.
    pub fn app(&self, operation: &str, name: &Name) -> Result<&App, ControlError> {
        self.apps.values().find(|app| app.name == *name).ok_or_else(|| no_app(operation, name))
    }

    /// The app of a name.
    pub fn app_mut(&mut self, operation: &str, name: &Name) -> Result<&mut App, ControlError> {
        self.apps.values_mut().find(|app| app.name == *name).ok_or_else(|| no_app(operation, name))
    }

    /// Tells the shell about an app.
    pub fn publish(&self, app: &App) {
        let option = |set: bool, flag: u32| if set { flag } else { 0 };
        let flags = APP_SERVING | option(app.integrity, APP_TAG) | option(app.timed, APP_TIMED);
        let regions = app.regions.len() as u32;
        self.tables().set_app(app.id, &AppEntry { flags, regions, key: PUBLIC_KEY, reserved: [0; 5] });
    }

    /// Writes down what the next daemon must know.
    pub fn save(&self) -> Result<(), ControlError> {
        let apps = self.apps.values().map(App::state).collect();
        self.state.save(&State::new(self.build.clone(), self.ticket_key, self.configured_interfaces.clone(), apps))
    }

    /// Counters of every app, and of datagrams of no app: those whose port says none, or one that does not exist.
    pub fn counters(&self) -> Result<Vec<Counters>, ControlError> {
        let apps = self.apps.values().map(|app| (Some(app.name.clone()), vec![u32::from(app.id)]));
        let nobodys = (0..=APPS_MAX as u32).filter(|number| !self.apps.keys().any(|id| u32::from(*id) == *number));
        let all = apps.chain([(None, nobodys.collect())]);
        all.map(|(name, numbers)| {
            let object = name.as_ref().map_or("no app".to_owned(), |name| format!("app `{name}`"));
            let stats = self.tables().stats_of(numbers);
            let stats = stats.map_err(|error| ControlError::new("read the counters of", object, error))?;
            Ok(Counters::new(name, &stats))
        })
        .collect()
    }

    /// What is due: leases that are over, old versions that have had their time, words of the kernel.
    pub fn keep_house(&mut self) {
        self.kernel_log.forward();
        self.expire_sessions();
        self.end_drains();
        if let Some(rdma) = &mut self.rdma {
            rdma.keep_house();
        }
        if self.looked.elapsed() >= INTERFACE_LOOKS {
            self.looked = Instant::now();
            self.follow_interfaces();
        }
    }
}

impl App {
    /// The function of a name.
    pub fn function(&self, operation: &str, name: &FunctionName) -> Result<&Served, ControlError> {
        let found = self.functions.values().find(|served| served.function.name == *name);
        found.ok_or_else(|| {
            ControlError::new(operation, format!("function `{name}` of app `{}`", self.name), "there is none")
                .way_out("`naam handler ls` shows which there are")
        })
    }

    /// The place of a region in binding order.
    pub fn region_index(&self, name: &Name) -> Option<usize> {
        self.regions.iter().position(|region| region.name() == name.as_str())
    }

    /// Names of its regions, in binding order.
    pub fn region_names(&self) -> Vec<Name> {
        let names = self.regions.iter().map(|region| Name::new(region.name()));
        names.map(|name| name.expect("the region was opened by this name")).collect()
    }

    /// A region that an interrupted restore has left as a mixture.
    pub fn torn(&self) -> Option<&str> {
        self.regions.iter().find(|region| region.is_torn()).map(naam_region::Region::name)
    }

    fn state(&self) -> AppState {
        AppState {
            name: self.name.clone(),
            id: self.id,
            integrity: self.integrity,
            timed: self.timed,
            sessions_max: self.sessions_max,
            configured: self.configured,
            regions: self.region_names(),
            verbs: self.verbs.clone(),
            functions: self.functions.values().map(Served::state).collect(),
            retired: self.retired.clone(),
        }
    }
}

impl Served {
    fn state(&self) -> FunctionState {
        let Self { function, handler, configured, binding, regions, programs } = self.clone();
        FunctionState { function, handler, configured, binding, regions, programs }
    }
}

impl From<FunctionState> for Served {
    fn from(state: FunctionState) -> Self {
        let FunctionState { function, handler, configured, binding, regions, programs } = state;
        Self { function, handler, configured, binding, regions, programs }
    }
}

fn no_app(operation: &str, name: &Name) -> ControlError {
    ControlError::new(operation, format!("app `{name}`"), "there is no such app")
        .way_out("`naam app ls` lists the apps")
}
