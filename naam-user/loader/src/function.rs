//! Functions: handlers loaded into the datapath, replaced under load, unloaded.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use naam_abi::handler::META_WRITES;
use naam_abi::limits::{
    APPS_MAX, CONTINUE_OFFSET, FUNCTIONS_MAX, HANDLERS_MAX, REGIONS_MAX, SLOT_REPLY_BYTES, STEPS_MAX, clock_steps,
};
use naam_abi::tables::{
    APP_TAG, APP_TIMED, PROGRAM_REPEATABLE, PROGRAM_TAG, PROGRAM_TIMED, PROGRAM_WEAKLY_ORDERED, PROGRAM_WRITES,
    ProgramConfig, ProgramRef,
};
use naam_admission::Admitted;
use naam_sys::program::Log;
use naam_sys::{Loaded, Map, MapSpec, MapType, Program};

use crate::bind;
use crate::datapath::Datapath;
use crate::error::LoaderError;
use crate::hook::Hook;
use crate::splice::{Spliced, splice};
use crate::template::Shell;

/// A handler to be loaded.
#[derive(Debug)]
pub struct Handler<'a> {
    /// Its app.
    pub app: u16,
    /// Its function number in the app.
    pub function: u16,
    /// Its version, from 1.
    pub version: u16,
    /// The handler, as admission passed it.
    pub code: &'a Admitted,
    /// The app's regions, in binding order.
    pub regions: &'a [&'a Map],
    /// Hooks to load it for.
    pub hooks: &'a [Hook],
    /// How much the verifier shall say.
    pub log: Log,
    /// Steps of a visit; [`STEPS_MAX`] but for tests that cut messages.
    pub steps_max: u32,
    /// Nanoseconds that a datagram's messages may take together; usually
    /// [`TIME_BUDGET_NS`](naam_abi::limits::TIME_BUDGET_NS).
    pub time_budget_ns: u64,
    /// For benches: answers stay requests, see `PROGRAM_REPEATABLE`.
    pub repeatable: bool,
}

/// What became of a load.
#[derive(Debug)]
pub struct LoadedHandler {
    /// Where it stands in the program arrays.
    pub program: u32,
    /// The kernel's programs by hook.
    pub programs: Vec<(Hook, Program)>,
    /// The programs for Continues by hook.
    pub continues: Vec<(Hook, Program)>,
    /// Instructions that the verifier walked through, by hook.
    pub verified_insns: Vec<(Hook, u32)>,
    /// The same of the programs for Continues.
    pub continue_insns: Vec<(Hook, u32)>,
    /// Time the kernel took, by hook, for both.
    pub load_time: Vec<(Hook, Duration)>,
    /// The verifier's logs, by hook, if they were asked for.
    pub logs: Vec<(Hook, String)>,
}

/// A handler on its way to the verifier, with all that it needs: [`Verification::run`] may take seconds,
/// on any thread, while the datapath does other things.
#[derive(Debug)]
pub struct Verification {
    shell: Arc<Shell>,
    spliced: Vec<Candidates>,
    maps: HashMap<String, OwnedFd>,
    config: ProgramConfig,
    log: Log,
    handler: Place,
}

/// A handler's programs for one hook.
#[derive(Debug)]
struct Candidates {
    hook: Hook,
    program: Spliced,
    /// With loops by `bpf_loop`, in case that the verifier gets lost in `may_goto`.
    simpler: Option<Spliced>,
    /// The program for Continues.
    continues: Spliced,
}

/// What a handler's programs are loaded as.
#[derive(Clone, Debug)]
struct Place {
    app: u16,
    function: u16,
    version: u16,
    name: String,
}

/// Programs that the kernel has taken, and that serve nobody yet.
#[derive(Debug)]
pub struct Verified {
    handler: Place,
    programs: Vec<Pair>,
}

/// A hook's programs.
#[derive(Debug)]
struct Pair {
    hook: Hook,
    /// For Requests.
    program: Loaded,
    /// For Continues.
    continues: Loaded,
    /// What the kernel took for both.
    time: Duration,
}

impl Verification {
    /// Has the kernel verify and compile the programs, those of all hooks at once: privileged loads do not wait for each other.
    pub fn run(&self) -> Result<Verified, LoaderError> {
        let programs = thread::scope(|scope| {
            let loads: Vec<_> = self.spliced.iter().map(|candidates| scope.spawn(|| self.verify(candidates))).collect();
            let ends = loads.into_iter().map(|load| load.join().unwrap_or_else(|cause| panic::resume_unwind(cause)));
            ends.collect::<Result<Vec<_>, _>>()
        })?;
        Ok(Verified { handler: self.handler.clone(), programs })
    }

    fn verify(&self, candidates: &Candidates) -> Result<Pair, LoaderError> {
        let Candidates { hook, program, simpler, continues } = candidates;
        let hook = *hook;
        let name = &self.handler.name;
        let maps: HashMap<&str, BorrowedFd<'_>> =
            self.maps.iter().map(|(name, fd)| (name.as_str(), fd.as_fd())).collect();
        let load = |program, log| bind::load(&self.shell, program, &maps, &self.config, name, hook, log);
        let started = Instant::now();
        let program = match (load(program, self.log), simpler) {
            (Err(error), Some(simpler)) if error.is_complexity() => {
                tracing::warn!(name, %hook, "too complex with may_goto for this kernel's verifier: loops by bpf_loop");
                load(simpler, self.log)
            }
            (loaded, _) => loaded,
        }?;
        let continues = load(continues, Log::Off)?;
        Ok(Pair { hook, program, continues, time: started.elapsed() })
    }
}

/// Pins a program, and makes the directory if there is none.
fn pin(program: &Program, path: &Path) -> Result<(), LoaderError> {
    if let Some(parent) = path.parent() {
        let failed = |source| LoaderError::Pin { operation: "create directory", path: path.to_owned(), source };
        fs::create_dir_all(parent).map_err(failed)?;
    }
    Ok(program.pin_replacing(path)?)
}

fn range(what: &'static str, number: u64, most: u64) -> Result<(), LoaderError> {
    if number > most { Err(LoaderError::Range { what, number, most }) } else { Ok(()) }
}

impl Datapath {
    /// Loads a handler and makes it the one that serves: [prepares](Datapath::prepare) it, has it
    /// verified, and [serves](Datapath::serve) it.
    pub fn load(&self, handler: &Handler<'_>) -> Result<LoadedHandler, LoaderError> {
        self.serve(self.prepare(handler)?.run()?)
    }

    /// Makes a verified handler the one that serves. A version that served before goes on serving
    /// messages that name it, until [`Datapath::drained`].
    pub fn serve(&self, verified: Verified) -> Result<LoadedHandler, LoaderError> {
        let Place { app, function, version, .. } = verified.handler;
        let loaded = self.place(verified)?;
        let (current, draining) = self.tables.function(app, function);
        if draining.is_some() {
            self.drained(app, function)?;
        }
        // In this order a message that names the old version finds it at every moment.
        self.tables.set_draining(app, function, current);
        self.tables.set_current(app, function, Some(ProgramRef { version, program: loaded.program }));
        Ok(loaded)
    }

    fn require_unused(&self, handler: &Place) -> Result<(), LoaderError> {
        let (current, draining) = self.tables.function(handler.app, handler.function);
        if [current, draining].into_iter().flatten().any(|served| served.version == handler.version) {
            return Err(LoaderError::VersionInUse { name: handler.name.clone(), version: handler.version });
        }
        Ok(())
    }

    /// Splices a handler and collects what its programs are bound to.
    pub fn prepare(&self, handler: &Handler<'_>) -> Result<Verification, LoaderError> {
        range("app", handler.app.into(), APPS_MAX as u64 - 1)?;
        range("function", handler.function.into(), FUNCTIONS_MAX as u64 - 1)?;
        range("regions", handler.regions.len() as u64, REGIONS_MAX as u64)?;
        let name = handler.code.name().to_owned();
        if handler.version == 0 {
            return Err(LoaderError::VersionZero { name });
        }
        let place = Place { app: handler.app, function: handler.function, version: handler.version, name };
        self.require_unused(&place)?;
        if handler.code.meta.flags & META_WRITES != 0 {
            range("reply_max of a writing handler", handler.code.meta.reply_max.into(), SLOT_REPLY_BYTES as u64)?;
        }
        let scratch = self.scratch(handler.app)?;
        let mut maps = HashMap::new();
        for (name, fd) in self.bindings(handler, &scratch) {
            let object = || LoaderError::Missing { operation: "duplicate the descriptor of map", object: name.into() };
            maps.insert(name.to_owned(), fd.try_clone_to_owned().map_err(|_| object())?);
        }
        let mut spliced = Vec::new();
        for &hook in handler.hooks {
            let splice_into = |may_goto| -> Result<Spliced, LoaderError> {
                Ok(splice(&self.shell, self.shell.template(hook, may_goto)?, handler.code))
            };
            let program = splice_into(self.may_goto)?;
            let may_fall_back = self.may_goto && !self.loops_are_given;
            let simpler = if may_fall_back { Some(splice_into(false)?) } else { None };
            let continues = splice(&self.shell, self.shell.continue_template(hook)?, handler.code);
            spliced.push(Candidates { hook, program, simpler, continues });
        }
        let (shell, config) = (Arc::clone(&self.shell), self.constants(handler));
        Ok(Verification { shell, spliced, maps, config, log: handler.log, handler: place })
    }

    /// Puts programs into the program arrays and pins them, without serving them.
    fn place(&self, verified: Verified) -> Result<LoadedHandler, LoaderError> {
        let Verified { handler, programs } = verified;
        // Another may have been served while this one was verified.
        self.require_unused(&handler)?;
        let program = self.free_place(&handler.name)?;
        let mut loaded = LoadedHandler {
            program,
            programs: Vec::new(),
            continues: Vec::new(),
            verified_insns: Vec::new(),
            continue_insns: Vec::new(),
            load_time: Vec::new(),
            logs: Vec::new(),
        };
        let Place { app, function, version, .. } = handler;
        for Pair { hook, program: result, continues, time } in programs {
            self.array(hook).update_fd(program + CONTINUE_OFFSET, continues.program.as_fd())?;
            pin(&continues.program, &self.continue_pin(app, function, version, hook))?;
            self.array(hook).update_fd(program, result.program.as_fd())?;
            pin(&result.program, &self.function_pin(app, function, version, hook))?;
            loaded.load_time.push((hook, time));
            loaded.verified_insns.push((hook, result.verified_insns));
            loaded.continue_insns.push((hook, continues.verified_insns));
            loaded.logs.push((hook, result.log));
            loaded.programs.push((hook, result.program));
            loaded.continues.push((hook, continues.program));
        }
        Ok(loaded)
    }

    /// Ends the draining version of a function: messages that name it now get VERSION.
    /// Returns the version, if one was draining.
    pub fn drained(&self, app: u16, function: u16) -> Result<Option<u16>, LoaderError> {
        let (current, draining) = self.tables.function(app, function);
        let Some(reference) = draining else { return Ok(None) };
        self.tables.set_draining(app, function, None);
        // A load was killed after it had noted the version as draining, before the next one served.
        if current == Some(reference) {
            return Ok(None);
        }
        self.forget(app, function, reference)?;
        Ok(Some(reference.version))
    }

    /// Stops a function and removes its programs.
    pub fn unload(&self, app: u16, function: u16) -> Result<(), LoaderError> {
        self.drained(app, function)?;
        let (current, _) = self.tables.function(app, function);
        let object = || format!("function {function} of app {app}");
        let reference =
            current.ok_or_else(|| LoaderError::Missing { operation: "unload function", object: object() })?;
        self.tables.set_current(app, function, None);
        self.forget(app, function, reference)
    }

    /// The kernel's programs of a version, opened by their pins.
    pub fn programs_of(&self, app: u16, function: u16, version: u16) -> Result<Vec<(Hook, Program)>, LoaderError> {
        let pins = Hook::ALL.map(|hook| (hook, self.function_pin(app, function, version, hook)));
        let pinned = pins.into_iter().filter(|(_, path)| path.exists());
        pinned.map(|(hook, path)| Ok((hook, Program::open_pinned(&path)?))).collect()
    }

    /// Removes the programs of a version that no table names any more, once no datagram is on its
    /// way to them: such a one would be lost, or meet whatever gets the place next.
    fn forget(&self, app: u16, function: u16, reference: ProgramRef) -> Result<(), LoaderError> {
        naam_sys::grace::wait_for_programs();
        for hook in Hook::ALL {
            self.array(hook).delete(&reference.program.to_ne_bytes())?;
            self.array(hook).delete(&(reference.program + CONTINUE_OFFSET).to_ne_bytes())?;
            let version = reference.version;
            for path in
                [self.function_pin(app, function, version, hook), self.continue_pin(app, function, version, hook)]
            {
                if path.exists() {
                    naam_sys::pin::unpin(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Where a version's program for `hook` is pinned.
    pub fn function_pin(&self, app: u16, function: u16, version: u16, hook: Hook) -> PathBuf {
        self.pins.join("functions").join(format!("app{app}_fn{function}_v{version}_{hook}"))
    }

    /// Where its program for Continues is pinned.
    pub fn continue_pin(&self, app: u16, function: u16, version: u16, hook: Hook) -> PathBuf {
        self.pins.join("functions").join(format!("app{app}_fn{function}_v{version}_{hook}_continue"))
    }

    pub(crate) fn array(&self, hook: Hook) -> &Map {
        match hook {
            Hook::Xdp => &self.programs,
            Hook::Tc => &self.programs_tc,
        }
    }

    fn free_place(&self, name: &str) -> Result<u32, LoaderError> {
        let taken: HashSet<u32> = self.tables.programs().iter().map(|reference| reference.program).collect();
        let free = (0..HANDLERS_MAX as u32).find(|place| !taken.contains(place));
        free.ok_or_else(|| LoaderError::NoPlace { name: name.into(), limit: HANDLERS_MAX })
    }

    fn constants(&self, handler: &Handler<'_>) -> ProgramConfig {
        let app_flags = self.tables.app_flags(handler.app);
        let choose = |condition: bool, flag: u32| if condition { flag } else { 0 };
        let mut config = ProgramConfig {
            app: handler.app.into(),
            version: handler.version.into(),
            flags: choose(handler.code.meta.flags & META_WRITES != 0, PROGRAM_WRITES)
                | choose(app_flags & APP_TAG != 0, PROGRAM_TAG)
                | choose(app_flags & APP_TIMED != 0, PROGRAM_TIMED)
                | choose(!cfg!(target_arch = "x86_64"), PROGRAM_WEAKLY_ORDERED)
                | choose(handler.repeatable, PROGRAM_REPEATABLE),
            regions: handler.regions.len() as u32,
            reply_max: handler.code.meta.reply_max,
            steps_max: handler.steps_max.min(STEPS_MAX),
            time_budget_ns: handler.time_budget_ns,
            view_len: handler.code.view.bytes() as u32,
            function: handler.function.into(),
            clock_mask: clock_steps(handler.code.cost) - 1,
            state_len: handler.code.meta.state_len,
            value_len: [0; REGIONS_MAX],
            value_shift: [0; REGIONS_MAX],
            values: [0; REGIONS_MAX],
        };
        for (place, region) in handler.regions.iter().enumerate() {
            let info = region.info();
            config.value_len[place] = info.value_size.into();
            config.value_shift[place] = info.value_size.trailing_zeros();
            config.values[place] = info.max_entries;
        }
        config
    }

    fn bindings<'a>(&'a self, handler: &Handler<'a>, scratch: &'a Map) -> HashMap<&'a str, BorrowedFd<'a>> {
        let mut maps = HashMap::new();
        for (name, _) in &self.shell.maps {
            let name = name.as_str();
            let map = match name {
                "SCRATCH" => scratch,
                "PROGRAMS" => &self.programs,
                "PROGRAMS_TC" => &self.programs_tc,
                "VISIT" => &self.visit,
                _ => match name.strip_prefix("REGION_").and_then(|number| number.parse::<usize>().ok()) {
                    Some(number) => handler.regions.get(number).copied().unwrap_or(&self.nothing),
                    None => match self.tables.shared_map(name) {
                        Some(map) => map,
                        None => continue,
                    },
                },
            };
            maps.insert(name, map.as_fd());
        }
        maps
    }

    /// Where an app's scratch is pinned.
    pub(crate) fn scratch_pin(&self, app: u16) -> PathBuf {
        self.pins.join("scratch").join(format!("app{app}"))
    }

    /// The app's scratch, made at its first handler.
    fn scratch(&self, app: u16) -> Result<Map, LoaderError> {
        let path = self.scratch_pin(app);
        let shape = self.shell.map("SCRATCH")?;
        if path.exists() {
            let map = Map::open_pinned(&path)?;
            if map.info().value_size == shape.value_size {
                return Ok(map);
            }
            // Another build's: programs that it loaded keep theirs, the next ones get a new one.
            naam_sys::pin::unpin(&path)?;
        }
        let map = Map::create(&MapSpec {
            name: "naam_scratch",
            map_type: MapType::Array,
            key_size: 4,
            value_size: shape.value_size,
            max_entries: naam_sys::map::possible_cpus()? as u32,
            flags: 0,
            btf: None,
        })?;
        map.pin(&path)?;
        Ok(map)
    }
}
