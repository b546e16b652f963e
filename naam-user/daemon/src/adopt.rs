//! Start: what the configuration wants, what an earlier daemon has left, what is left to do.
//!
//! What serves is not touched unless it must change. A function that the configuration names is
//! kept if its object is the one that is served, or the one that the configuration named when it
//! was loaded (it has then been replaced at run time, which a restart does not undo).

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use naam_abi::limits::{APPS_MAX, FUNCTIONS_MAX, REGIONS_MAX};
use naam_abi::siphash::Key;
use naam_control::config::{self, Config};
use naam_control::protocol::admin::Hook;
use naam_control::sessions::Sessions;
use naam_control::{ControlError, Name};
use naam_loader::{Attachment, Datapath, Objects, Options, Remains, remains};
use naam_region::{RegionError, Regions};
use sha2::{Digest, Sha256};

use crate::error::ServeError;
use crate::functions::{Builtins, Candidate, hex};
use crate::host::{App, Host, Served};
use crate::kernel_log::KernelLog;
use crate::pins::Pins;
use crate::state::{AppState, FunctionState, State, StateDir};
use crate::steering::{announce, settle};

/// A function of the configuration that passed admission.
struct Wanted {
    app: u16,
    function: u16,
    candidate: Candidate,
}

impl Wanted {
    fn is_in_the_way_of(&self, state: &FunctionState) -> bool {
        self.function == state.function.id || self.candidate.name == state.function.name
    }
}

/// Admits every handler of the configuration, before anything in the kernel changes.
fn admit_all(config: &Config, builtins: Builtins) -> Result<Vec<Wanted>, ServeError> {
    let mut wanted = Vec::new();
    for app in &config.apps {
        for function in &app.functions {
            let blame = |key: &'static str, cause: String| ServeError::Config {
                key,
                object: format!("function `{}` of app `{}` ({})", function.name, app.name, function.object),
                cause,
            };
            let candidate = Candidate::configured(&function.object, builtins)
                .map_err(|cause| blame("app.function.object", cause))?;
            if candidate.name != function.name {
                let cause = format!("the object's handler is called `{}`", candidate.name);
                return Err(blame("app.function.name", cause));
            }
            wanted.push(Wanted { app: app.id, function: function.id, candidate });
        }
        if app.onesided {
            let candidates = Candidate::onesided(builtins).map_err(|cause| ServeError::Config {
                key: "app.onesided",
                object: format!("app `{}`", app.name),
                cause,
            })?;
            let numbered = (0..).zip(candidates);
            wanted.extend(numbered.map(|(function, candidate)| Wanted { app: app.id, function, candidate }));
        }
    }
    Ok(wanted)
}

/// Sets the instance up, or takes over what `remains` of it. `user` is whom the daemon becomes.
pub fn set_up(
    config: &Config,
    user: Option<u32>,
    objects: Objects<'_>,
    builtins: Builtins,
    pins: &Rc<Pins>,
    remains: &Remains,
) -> Result<Host, ServeError> {
    let wanted = admit_all(config, builtins)?;
    let options = Options {
        pins: pins.path().to_owned(),
        port_base: config.port_base,
        ..Options::instance(config.instance.as_str())
    };
    let adopted = *remains == Remains::Whole;
    let owner = pins.owner().map_err(ServeError::file("look at", pins.shown()))?;
    let dir = StateDir::open(&config.control.socket, &config.instance, &[user.unwrap_or(owner), owner])?;
    // Without the datapath that it tells of, a state is nothing.
    let state = if *remains == Remains::Nothing { None } else { dir.load() };
    let build = hex(&Sha256::new().chain_update(objects.entry).chain_update(objects.shell).finalize());
    let build_before = state.as_ref().map(|state| state.build.clone());
    let rebuilt = adopted && build_before.as_ref() != Some(&build);
    if rebuilt {
        part_from_old_build(&options.pins)?;
    }
    let mut links = Vec::new();
    if let Remains::Broken { cause } = remains {
        tracing::warn!(
            pins = %pins.shown().display(), cause,
            "the datapath of an earlier daemon is broken: it is made anew, with a gap, and its sessions end; regions stay"
        );
        links = hooks(remains::dismantle(&options.pins, objects)?);
    }
    let mut datapath = Datapath::open(&options, objects)?;
    if !adopted {
        // The slots of those that are left are gone.
        let tables = datapath.tables();
        tables.sessions().into_iter().for_each(|(session, _)| tables.close_session(session));
    }
    let kernel_log = KernelLog::of(&mut datapath)?;
    let mut random = [0u8; 20];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| ServeError::runtime("draw random numbers")(errno.into()))?;
    let word = |at: usize| u64::from_ne_bytes(random[at..at + 8].try_into().expect("eight bytes"));
    let first_generation = u32::from_ne_bytes(random[16..].try_into().expect("four bytes"));
    let fresh = State::new(build.clone(), Key { k0: word(0), k1: word(8) }, Vec::new(), Vec::new());
    let State { ticket_key: [k0, k1], interfaces: configured_before, apps: apps_before, .. } = state.unwrap_or(fresh);
    let functions = apps_before.iter().flat_map(|app| app.functions.iter().map(|state| (app.id, &state.function)));
    let versions_before = functions.map(|(app, function)| ((app, function.id), function.version)).collect();
    let mut host = Host {
        instance: config.instance.clone(),
        regions: Regions::new(&options.pins),
        pins: Rc::clone(pins),
        datapath,
        kernel_log,
        build,
        builtins,
        versions_before,
        apps: BTreeMap::new(),
        sessions: Sessions::new(),
        ticket_key: Key { k0, k1 },
        lease: config.control.lease,
        // Once rights have been given up: files of RDMA are of use only to who opened them.
        rdma: None,
        interfaces: Vec::new(),
        unserved: Vec::new(),
        wanted_hooks: BTreeMap::new(),
        configured_interfaces: config.interfaces.iter().map(|interface| interface.name.clone()).collect(),
        drains: Vec::new(),
        state: dir,
        adopted,
        started: Instant::now(),
        looked: Instant::now(),
    };
    if rebuilt {
        links = host.end_old_build(build_before.is_some())?;
    }
    host.take_apps(config, apps_before, &wanted)?;
    let swept = host.datapath.sweep()?;
    let sessions = host.adopt_sessions(first_generation);
    for interface in &config.interfaces {
        host.serve_configured(&interface.name, interface.hook)?;
    }
    host.adopt_links(&configured_before)?;
    for (interface, hook) in links {
        if !host.is_wanted(&interface) && !configured_before.contains(&interface) {
            host.serve_configured(&interface, hook)?;
        }
    }
    host.save()?;
    if adopted {
        let (apps, pins) = (host.apps.len(), pins.shown().display());
        tracing::info!(%pins, apps, sessions, ?swept, "adopted the datapath of an earlier daemon");
    }
    Ok(host)
}

/// Where an entry was attached, as it is asked for.
fn hooks(links: Vec<(String, Attachment)>) -> Vec<(String, Hook)> {
    let hook = |attachment: Attachment| if attachment.hook() == naam_loader::Hook::Tc { Hook::Tc } else { Hook::Xdp };
    links.into_iter().map(|(interface, attachment)| (interface, hook(attachment))).collect()
}

/// Removes the names of maps that entry and handler programs of one build share among themselves: a
/// new build has its own, and the old programs keep theirs as long as they run.
fn part_from_old_build(pins: &Path) -> Result<(), ServeError> {
    let scratch = std::fs::read_dir(pins.join("scratch")).into_iter().flatten().flatten();
    let shared = scratch.map(|entry| entry.path()).chain([pins.join("maps/VISIT")]);
    for pin in shared.filter(|pin| pin.exists()) {
        naam_sys::pin::unpin(&pin).map_err(naam_loader::LoaderError::from)?;
    }
    Ok(())
}

impl Host {
    /// Takes the programs of another build out of service: entry and handler programs fit each other
    /// only within a build. Returns where they were attached. Regions, sessions and slots stay.
    fn end_old_build(&mut self, is_known: bool) -> Result<Vec<(String, Hook)>, ServeError> {
        if is_known {
            tracing::warn!("an earlier daemon was of another build: its programs are replaced, with a gap");
        } else {
            tracing::warn!(
                "an earlier daemon's state is lost, and so of which build it was: its programs are replaced, with a gap"
            );
        }
        let links = self.datapath.attached();
        for (interface, _) in &links {
            self.datapath.detach(interface)?;
        }
        for app in 0..APPS_MAX as u16 {
            for function in 0..FUNCTIONS_MAX as u16 {
                if let Some(current) = self.tables().function(app, function).0 {
                    self.versions_before.insert((app, function), current.version);
                    self.datapath.unload(app, function)?;
                }
            }
        }
        Ok(hooks(links))
    }

    fn take_apps(&mut self, config: &Config, before: Vec<AppState>, wanted: &[Wanted]) -> Result<(), ServeError> {
        let (kept, dropped): (Vec<_>, Vec<_>) = before.into_iter().partition(|app| is_kept(app, config));
        for app in dropped {
            tracing::info!(app = %app.name, id = app.id, "no longer configured");
            self.end_app(app.id)?;
        }
        let mut kept: BTreeMap<u16, AppState> = kept.into_iter().map(|app| (app.id, app)).collect();
        for id in 0..APPS_MAX as u16 {
            let configured = config.apps.iter().find(|app| app.id == id);
            let before = kept.remove(&id);
            match (configured, before) {
                (Some(configured), before) => self.take_configured(configured, before, wanted)?,
                (None, Some(before)) => self.take_other(before)?,
                (None, None) if self.tables().app_flags(id) != 0 => {
                    tracing::warn!(app = id, "an app of an earlier daemon is not known any more: ended");
                    self.end_app(id)?;
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// An app that the configuration names.
    fn take_configured(
        &mut self,
        configured: &config::App,
        before: Option<AppState>,
        wanted: &[Wanted],
    ) -> Result<(), ServeError> {
        let id = configured.id;
        let is_new = self.tables().app_flags(id) == 0;
        // The configuration's word is the last one.
        let mut verbs = before.as_ref().map(|before| before.verbs.clone()).unwrap_or_default();
        verbs.extend(configured.regions.iter().map(|region| (region.name.clone(), region.verbs)));
        let names_before = before.as_ref().map(|before| before.regions.clone()).unwrap_or_default();
        let mut app = App {
            name: configured.name.clone(),
            id,
            integrity: configured.integrity,
            timed: configured.timed,
            sessions_max: configured.sessions_max,
            configured: true,
            restoring: false,
            regions: Vec::new(),
            raw: configured.regions.iter().map(|region| (region.name.clone(), region.raw)).collect(),
            verbs,
            functions: BTreeMap::new(),
            retired: before.as_ref().map(|before| before.retired.clone()).unwrap_or_default(),
        };
        for region in &configured.regions {
            app.regions.push(self.configured_region(&app.name, region)?);
        }
        self.add_left_regions(&mut app, &names_before)?;
        self.end_sessions_of_other_meaning(&app, before.as_ref(), configured.regions.len());
        if is_new {
            settle(self.tables(), id, &configured.steer);
        } else {
            announce(self.tables(), id);
        }
        self.publish(&app);
        self.apps.insert(id, app);

        let before = before.map(|before| before.functions).unwrap_or_default();
        let ours: Vec<_> = wanted.iter().filter(|wanted| wanted.app == id).collect();
        // Loaded at run time, and in nobody's way.
        let others: Vec<_> = before
            .iter()
            .filter(|state| state.configured.is_none())
            .filter(|state| !ours.iter().any(|wanted| wanted.is_in_the_way_of(state)))
            .collect();
        self.end_unknown_functions(id, |number| {
            ours.iter().any(|wanted| wanted.function == number)
                || others.iter().any(|state| state.function.id == number)
        })?;
        for wanted in ours {
            self.take_wanted(id, wanted, before.iter().find(|state| state.function.id == wanted.function))?;
        }
        for state in others {
            self.take_function(id, state)?;
        }
        Ok(())
    }

    /// An app that was made at run time.
    fn take_other(&mut self, before: AppState) -> Result<(), ServeError> {
        let id = before.id;
        let mut app = App {
            name: before.name.clone(),
            id,
            integrity: before.integrity,
            timed: before.timed,
            sessions_max: before.sessions_max,
            configured: false,
            restoring: false,
            regions: Vec::new(),
            raw: BTreeMap::new(),
            verbs: before.verbs.clone(),
            functions: BTreeMap::new(),
            retired: before.retired.clone(),
        };
        self.add_left_regions(&mut app, &before.regions)?;
        self.end_sessions_of_other_meaning(&app, Some(&before), 0);
        announce(self.tables(), id);
        self.publish(&app);
        self.apps.insert(id, app);
        self.end_unknown_functions(id, |number| before.functions.iter().any(|state| state.function.id == number))?;
        for state in &before.functions {
            self.take_function(id, state)?;
        }
        Ok(())
    }

    /// Ends an app's sessions if they would mean something else than what they were opened for: rights
    /// are by place, and a removal of a region may have been interrupted halfway. Without a state only
    /// the places of `configured` regions are known.
    fn end_sessions_of_other_meaning(&mut self, app: &App, before: Option<&AppState>, configured: usize) {
        let same = before.map_or(app.regions.len() == configured, |before| {
            before.integrity == app.integrity && app.region_names().starts_with(&before.regions)
        });
        if !same && self.tables().sessions().iter().any(|(_, of)| *of == app.id) {
            tracing::warn!(app = %app.name, "its integrity or its regions have changed, or are not known: its sessions end");
            self.end_sessions(app.id);
        }
        if let Some(region) = app.torn() {
            tracing::error!(
                app = %app.name,
                region,
                "a restore of the region was interrupted, it holds parts of two states: no sessions until it is restored or accepted"
            );
            self.end_sessions(app.id);
        }
    }

    /// Opens or makes a region of the configuration.
    fn configured_region(&self, app: &Name, wanted: &config::Region) -> Result<naam_region::Region, ServeError> {
        let (name, bytes) = (&wanted.name, wanted.bytes);
        let blame = |cause: String| ServeError::Config {
            key: "app.region.size",
            object: format!("region `{name}` of app `{app}`"),
            cause,
        };
        let region = match self.regions.create(app.as_str(), name.as_str(), bytes) {
            Ok(region) => region,
            Err(RegionError::Exists { .. }) => {
                self.regions.open(app.as_str(), name.as_str()).map_err(|error| blame(error.to_string()))?
            }
            Err(error) => return Err(blame(error.to_string())),
        };
        if region.bytes() == bytes {
            return Ok(region);
        }
        let cause = format!(
            "it exists with {} bytes, {bytes} are configured; change the size back, or save the region, stop the \
             daemon, remove {} and restore it into a new one",
            region.bytes(),
            region.pin().display()
        );
        Err(blame(cause))
    }

    /// Adds the regions that are pinned for the app besides: first those in the order of an earlier
    /// daemon, then others by age.
    fn add_left_regions(&self, app: &mut App, order: &[Name]) -> Result<(), ServeError> {
        let failed =
            |error: RegionError| ControlError::new("open the regions of", format!("app `{}`", app.name), error);
        let mut left = self.regions.list().map_err(failed)?;
        left.retain(|region| {
            region.app() == app.name.as_str() && !app.regions.iter().any(|own| own.name() == region.name())
        });
        left.sort_by_key(|region| {
            let place = order.iter().position(|name| name.as_str() == region.name());
            (place.unwrap_or(REGIONS_MAX), region.created())
        });
        for region in left {
            if app.regions.len() < REGIONS_MAX {
                app.regions.push(region);
            } else {
                tracing::warn!(app = %app.name, region = region.name(), "a region beyond the limit is left alone");
            }
        }
        Ok(())
    }

    /// Ends functions in the kernel's tables that nobody has asked for.
    fn end_unknown_functions(&mut self, app: u16, is_known: impl Fn(u16) -> bool) -> Result<(), ServeError> {
        for number in 0..FUNCTIONS_MAX as u16 {
            if self.tables().function(app, number).0.is_some() && !is_known(number) {
                tracing::info!(app, function = number, "no longer wanted");
                self.retire(app, number)?;
            }
        }
        Ok(())
    }

    /// A function of the configuration: kept as it serves, or loaded.
    fn take_wanted(&mut self, app: u16, wanted: &Wanted, before: Option<&FunctionState>) -> Result<(), ServeError> {
        let hash = wanted.candidate.hash();
        let mut kept = None;
        if let Some(state) = before.filter(|state| state.function.name == wanted.candidate.name) {
            let unchanged = state.handler == hash || state.configured.as_ref() == Some(&hash);
            if unchanged && self.still_serves(app, state) {
                self.keep(app, FunctionState { configured: Some(hash), ..state.clone() });
                return Ok(());
            }
            if unchanged && state.handler != hash {
                kept = self.kept_candidate(state);
            }
        }
        let candidate = kept.as_ref().unwrap_or(&wanted.candidate);
        Ok(self.serve(app, wanted.function, candidate, Some(hash))?)
    }

    /// A function that was loaded at run time: kept as it serves, or loaded again from its object.
    fn take_function(&mut self, app: u16, state: &FunctionState) -> Result<(), ServeError> {
        if self.still_serves(app, state) {
            self.keep(app, state.clone());
            return Ok(());
        }
        match self.kept_candidate(state) {
            Some(candidate) => Ok(self.serve(app, state.function.id, &candidate, state.configured.clone())?),
            None => {
                tracing::warn!(app, function = %state.function.name, "its object is lost: no longer served");
                Ok(self.retire(app, state.function.id)?)
            }
        }
    }

    fn keep(&mut self, app: u16, state: FunctionState) {
        let function = state.function.id;
        let served = Served::from(state);
        self.apps.get_mut(&app).expect("inserted before its functions").functions.insert(function, served);
        self.note_drain(app, function);
    }

    /// Whether the kernel serves exactly what the state says, bound to what it would be bound to now.
    fn still_serves(&self, app: u16, state: &FunctionState) -> bool {
        let Some(current) = self.tables().function(app, state.function.id).0 else { return false };
        let programs = self.datapath.programs_of(app, state.function.id, current.version).unwrap_or_default();
        let ids: Vec<_> = programs.iter().filter_map(|(_, program)| program.info().ok()).map(|info| info.id).collect();
        current.version == state.function.version
            && ids == state.programs
            && self.binding(&self.apps[&app]) == state.binding
    }

    fn kept_candidate(&self, state: &FunctionState) -> Option<Candidate> {
        let candidate = Candidate::admit(self.state.object(&state.handler)?).ok()?;
        (candidate.hash() == state.handler && candidate.name == state.function.name).then_some(candidate)
    }
}

/// Whether an earlier daemon's app lives on.
fn is_kept(app: &AppState, config: &Config) -> bool {
    let same = config.apps.iter().any(|configured| configured.id == app.id && configured.name == app.name);
    let conflict = config.apps.iter().any(|configured| configured.id == app.id || configured.name == app.name);
    same || (!app.configured && !conflict)
}
