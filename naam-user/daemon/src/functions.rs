//! Functions: admitted, loaded, replaced under load, unloaded.

use std::path::Path;
use std::time::{Duration, Instant};

use naam_abi::handler::META_WRITES;
use naam_abi::limits::{BUILTIN_FUNCTIONS, FUNCTIONS_MAX, STEPS_MAX, TIME_BUDGET_NS};
use naam_abi::onesided;
use naam_admission::{Admitted, admit};
use naam_control::config::ObjectSource;
use naam_control::limits::OBJECT_BYTES_MAX;
use naam_control::protocol::admin::{HandlerInfo, Object};
use naam_control::protocol::session::{Function, ListedObject};
use naam_control::{ControlError, FunctionName, Name};
use naam_loader::{Handler, Hook, Verification, Verified};
use naam_sys::program::Log;
use sha2::{Digest, Sha256};

use crate::host::{App, Host, Served};
use crate::steering;

/// Time for which a replaced version goes on serving messages that name it.
pub const DRAIN_TIME: Duration = Duration::from_secs(1);

/// A version that is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Its app.
    pub app: u16,
    /// Its function.
    pub function: u16,
    /// The version.
    pub version: u16,
    /// When.
    pub due: Instant,
}

/// A handler on its way: prepared, or verified. It holds nothing of the host.
#[derive(Debug)]
pub struct Load<Work = Verification> {
    app: u16,
    object: String,
    served: Served,
    work: Work,
}

impl Load {
    /// Has the kernel verify it. Takes up to seconds, on any thread.
    pub fn run(self) -> Result<Load<Verified>, ControlError> {
        let Self { app, object, served, work } = self;
        let work = work.run().map_err(|error| ControlError::new("load", object.clone(), error))?;
        Ok(Load { app, object, served, work })
    }
}

/// Finds the handler objects that the serving program carries.
pub type Builtins = fn(&str) -> Option<&'static [u8]>;

/// A handler that passed admission, with its object.
#[derive(Debug)]
pub struct Candidate {
    /// The object.
    pub elf: Vec<u8>,
    /// What admission made of it.
    pub code: Admitted,
    /// Its name.
    pub name: FunctionName,
}

impl Candidate {
    /// Reads and admits an object. Slow: parsing, and an abstract interpretation.
    pub fn read(object: Object) -> Result<Self, ControlError> {
        match object {
            Object::Path(path) => Self::read_file(&path)
                .map_err(|cause| ControlError::new("load", format!("handler object {}", path.display()), cause)),
            Object::Bytes(elf) => {
                Self::admit(elf).map_err(|cause| ControlError::new("load", "the handler object sent", cause))
            }
        }
    }

    /// Reads and admits what a configuration names; the cause if that fails.
    pub fn configured(source: &ObjectSource, builtins: Builtins) -> Result<Self, String> {
        match source {
            ObjectSource::File(path) => Self::read_file(path),
            ObjectSource::Builtin(name) => match builtins(name) {
                Some(elf) => Self::admit(elf.to_vec()),
                None => Err("this program carries no handler of that name".to_owned()),
            },
        }
    }

    /// The built-in one-sided functions, by number; the cause if the serving program carries none.
    pub fn onesided(builtins: Builtins) -> Result<Vec<Self>, String> {
        let object = |name: &&str| Self::configured(&ObjectSource::Builtin((*name).to_owned()), builtins);
        onesided::NAMES.iter().map(|name| object(name).map_err(|cause| format!("`{name}`: {cause}"))).collect()
    }

    /// Reads and admits a file; the cause if that fails.
    pub fn read_file(path: &Path) -> Result<Self, String> {
        let length = std::fs::metadata(path).map_err(|error| format!("it cannot be read: {error}"))?.len();
        if length > OBJECT_BYTES_MAX as u64 {
            return Err(format!("it has {length} bytes, at most {OBJECT_BYTES_MAX} are read"));
        }
        Self::admit(std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?)
    }

    /// Admits an object; the rule that it breaks if it may not run.
    pub fn admit(elf: Vec<u8>) -> Result<Self, String> {
        let code = admit(&elf).map_err(|refusal| refusal.to_string())?;
        let name = FunctionName::new(code.name()).map_err(|error| error.to_string())?;
        Ok(Self { elf, code, name })
    }

    /// Admission's hash of what runs, in hexadecimal digits.
    pub fn hash(&self) -> String {
        hex(&self.code.hash)
    }
}

/// Hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Host {
    /// Begins to serve an admitted handler as a new function.
    pub fn load_handler(&self, app: &Name, id: Option<u16>, candidate: &Candidate) -> Result<Load, ControlError> {
        let found = self.app("load a handler for", app)?;
        let refused =
            |cause: String| ControlError::new("load", format!("handler `{}` for app `{app}`", candidate.name), cause);
        if found.functions.values().any(|served| served.function.name == candidate.name) {
            return Err(refused("the app has a function of this name".into()).way_out("use `naam handler replace`"));
        }
        let number = match id {
            Some(id) if !(BUILTIN_FUNCTIONS..FUNCTIONS_MAX as u16).contains(&id) => {
                let cause = format!("{id} is no function's number: {BUILTIN_FUNCTIONS} to {}", FUNCTIONS_MAX - 1);
                return Err(refused(cause));
            }
            Some(id) => match found.functions.get(&id) {
                Some(other) => return Err(refused(format!("number {id} is function `{}`", other.function.name))),
                None => id,
            },
            None => {
                let mut numbers = BUILTIN_FUNCTIONS..FUNCTIONS_MAX as u16;
                let free = numbers.find(|id| !found.functions.contains_key(id));
                free.ok_or_else(|| refused("all of the app's functions are in use".into()))?
            }
        };
        let id = found.id;
        self.begin_load(id, number, candidate, None)
    }

    /// Begins to serve one of the built-in one-sided functions of an app, bound to the regions that it has now.
    pub fn serve_onesided(&self, app: &Name, number: u16, candidate: &Candidate) -> Result<Load, ControlError> {
        let found = self.app("serve one-sided functions of", app)?;
        let refused = |cause: String| ControlError::new("serve one-sided functions of", format!("app `{app}`"), cause);
        if found.regions.is_empty() {
            let way_out = "make one: naam region create";
            return Err(refused("it has no region that they could reach".into()).way_out(way_out));
        }
        let same = found.functions.values().find(|served| served.function.name == candidate.name);
        if same.is_some_and(|served| served.function.id != number) {
            return Err(refused(format!("it has a function `{}` of its own", candidate.name)));
        }
        let (id, configured) = (found.id, same.and_then(|served| served.configured.clone()));
        self.begin_load(id, number, candidate, configured)
    }

    /// Begins to serve another version of a function; the one before goes on for [`DRAIN_TIME`] then.
    pub fn replace_handler(
        &self,
        app: &Name,
        function: &FunctionName,
        candidate: &Candidate,
    ) -> Result<Load, ControlError> {
        let found = self.app("replace a handler of", app)?;
        let served = found.function("replace", function)?;
        if candidate.name != *function {
            let cause = format!("the object's handler is called `{}`", candidate.name);
            let object = format!("function `{function}` of app `{app}`");
            return Err(ControlError::new("replace", object, cause).way_out("load it as a function of its own"));
        }
        let (id, number, configured) = (found.id, served.function.id, served.configured.clone());
        self.begin_load(id, number, candidate, configured)
    }

    /// Stops a function.
    pub fn unload_handler(&mut self, app: &Name, function: &FunctionName) -> Result<(), ControlError> {
        let found = self.app("unload a handler of", app)?;
        let (id, number) = (found.id, found.function("unload", function)?.function.id);
        self.retire(id, number)?;
        self.save()
    }

    /// Stops a function and remembers its version.
    pub fn retire(&mut self, app: u16, function: u16) -> Result<(), ControlError> {
        let failed = |error| ControlError::new("unload", format!("function {function} of app {app}"), error);
        let (current, _) = self.tables().function(app, function);
        if let Some(current) = current {
            self.datapath.unload(app, function).map_err(failed)?;
            self.versions_before.remove(&(app, function));
            if let Some(found) = self.apps.get_mut(&app) {
                found.retired.insert(function, current.version);
            }
            steering::announce(self.tables(), app);
        }
        self.drains.retain(|drain| (drain.app, drain.function) != (app, function));
        if let Some(found) = self.apps.get_mut(&app) {
            found.functions.remove(&function);
        }
        Ok(())
    }

    /// Loads a handler as the next version of a function. Blocks while the kernel verifies it.
    pub fn serve(
        &mut self,
        app: u16,
        function: u16,
        candidate: &Candidate,
        configured: Option<String>,
    ) -> Result<(), ControlError> {
        let verified = self.begin_load(app, function, candidate, configured)?.run()?;
        self.end_load(verified)
    }

    /// Prepares a handler as the next version of a function, bound to all of the app's regions.
    fn begin_load(
        &self,
        app: u16,
        function: u16,
        candidate: &Candidate,
        configured: Option<String>,
    ) -> Result<Load, ControlError> {
        let found = &self.apps[&app];
        let object = format!("handler `{}` for app `{}`", candidate.name, found.name);
        let version = self.next_version(found, function);
        let regions: Vec<_> = found.regions.iter().map(naam_region::Region::bpf_map).collect();
        self.state.put_object(&candidate.hash(), &candidate.elf)?;
        let handler = Handler {
            app,
            function,
            version,
            code: &candidate.code,
            regions: &regions,
            hooks: &Hook::ALL,
            log: Log::Off,
            steps_max: STEPS_MAX,
            time_budget_ns: TIME_BUDGET_NS,
            repeatable: false,
        };
        let work = self.datapath.prepare(&handler);
        let work = work.map_err(|error| ControlError::new("load", object.clone(), error))?;
        let meta = &candidate.code.meta;
        let served = Served {
            function: Function {
                name: candidate.name.clone(),
                id: function,
                version,
                writes: meta.flags & META_WRITES != 0,
                reply_max: meta.reply_max,
                view: candidate.code.view.bytes() as u32,
                object: Some(ListedObject {
                    sha256: hex(&Sha256::digest(&candidate.elf)),
                    bytes: candidate.elf.len() as u64,
                }),
            },
            handler: candidate.hash(),
            configured,
            binding: self.binding(found),
            regions: regions.len(),
            programs: Vec::new(),
        };
        Ok(Load { app, object, served, work })
    }

    /// Serves what the kernel has verified, if its app is still there.
    pub fn end_load(&mut self, load: Load<Verified>) -> Result<(), ControlError> {
        let Load { app, object, mut served, work } = load;
        let failed = |error: &dyn ToString| ControlError::new("load", object.clone(), error.to_string());
        let Some(found) = self.apps.get_mut(&app) else { return Err(failed(&"the app is gone")) };
        let loaded = self.datapath.serve(work).map_err(|error| failed(&error))?;
        let ids: Result<_, _> = loaded.programs.iter().map(|(_, program)| program.info().map(|info| info.id)).collect();
        served.programs = ids.map_err(|error| failed(&error))?;
        let Function { name, id, version, .. } = served.function.clone();
        tracing::info!(app = %found.name, function = %name, id, version, "serving");
        found.functions.insert(id, served);
        self.note_drain(app, id);
        if self.tables().function(app, id).1.is_some() {
            steering::announce(self.tables(), app);
        }
        Ok(())
    }

    /// Serves what the kernel has verified, and tells of it.
    pub fn end_request(&mut self, load: Load<Verified>) -> Result<HandlerInfo, ControlError> {
        let (app, function) = (load.app, load.served.function.id);
        self.end_load(load)?;
        self.save()?;
        self.handler_info(&self.apps[&app], function)
    }

    /// The bytes of the object with this hash that serves a function of an app.
    pub fn listed_object(&self, app: u16, sha256: &str) -> Result<Vec<u8>, ControlError> {
        let refused = |cause: &str| ControlError::new("hand out", format!("handler object {sha256}"), cause.to_owned());
        let is_it = |served: &&Served| served.function.object.as_ref().is_some_and(|object| object.sha256 == sha256);
        let served = self.apps.get(&app).and_then(|app| app.functions.values().find(is_it));
        let served = served.ok_or_else(|| {
            refused("no function of the app is served by it").way_out("open a session anew: its list is of now")
        })?;
        let kept = self.state.object(&served.handler).filter(|elf| hex(&Sha256::digest(elf)) == sha256);
        kept.ok_or_else(|| {
            refused("the daemon no longer has its bytes").way_out("serve it again: naam handler replace")
        })
    }

    /// Notes the version that a function drains, if there is one.
    pub fn note_drain(&mut self, app: u16, function: u16) {
        self.drains.retain(|drain| (drain.app, drain.function) != (app, function));
        if let (_, Some(draining)) = self.tables().function(app, function) {
            let due = Instant::now() + DRAIN_TIME;
            self.drains.push(Drain { app, function, version: draining.version, due });
        }
    }

    /// Ends the versions whose time is over.
    pub fn end_drains(&mut self) {
        let now = Instant::now();
        let (due, left) = self.drains.iter().partition::<Vec<Drain>, _>(|drain| drain.due <= now);
        self.drains = left;
        for drain in due {
            let Drain { app, function, version, .. } = drain;
            match self.datapath.drained(app, function) {
                Ok(_) => tracing::info!(app, function, version, "drained"),
                Err(error) => tracing::warn!(app, function, version, %error, "cannot end a drained version"),
            }
        }
    }

    /// A version that no message in flight can name.
    fn next_version(&self, app: &App, function: u16) -> u16 {
        let (current, draining) = self.tables().function(app.id, function);
        let last = match current {
            Some(current) => current.version,
            None => {
                let before = self.versions_before.get(&(app.id, function)).copied();
                before.or_else(|| app.retired.get(&function).copied()).unwrap_or(0)
            }
        };
        let mut next = last.checked_add(1).unwrap_or(1);
        while draining.is_some_and(|draining| draining.version == next) {
            next = next.checked_add(1).unwrap_or(1);
        }
        next
    }

    /// Hash of everything besides the handler that makes a program what it is.
    pub fn binding(&self, app: &App) -> String {
        let mut hash = Sha256::new();
        hash.update(self.build.as_bytes());
        hash.update([u8::from(self.datapath.may_goto()), u8::from(app.integrity), u8::from(app.timed)]);
        hash.update(STEPS_MAX.to_le_bytes());
        hash.update(TIME_BUDGET_NS.to_le_bytes());
        hash.update(app.id.to_le_bytes());
        for region in &app.regions {
            hash.update(region.bpf_map().info().id.to_le_bytes());
        }
        hex(&hash.finalize())
    }

    /// Functions of one app, or of all.
    pub fn list_handlers(&self, app: Option<&Name>) -> Result<Vec<HandlerInfo>, ControlError> {
        let apps: Vec<&App> = match app {
            Some(name) => vec![self.app("list the handlers of", name)?],
            None => self.apps.values().collect(),
        };
        let functions = apps.iter().flat_map(|app| app.functions.keys().map(move |function| (app, *function)));
        functions.map(|(app, function)| self.handler_info(app, function)).collect()
    }

    fn handler_info(&self, app: &App, function: u16) -> Result<HandlerInfo, ControlError> {
        let served = &app.functions[&function];
        let failed = |error: &dyn ToString| {
            let object = format!("function `{}` of app `{}`", served.function.name, app.name);
            ControlError::new("look at", object, error.to_string())
        };
        let programs = self.datapath.programs_of(app.id, function, served.function.version);
        let programs = programs.map_err(|error| failed(&error))?;
        let infos: Result<Vec<_>, _> = programs.iter().map(|(_, program)| program.info()).collect();
        let infos = infos.map_err(|error| failed(&error))?;
        let (_, draining) = self.tables().function(app.id, function);
        Ok(HandlerInfo {
            app: app.name.clone(),
            function: served.function.clone(),
            draining: draining.map(|draining| draining.version),
            program_ids: infos.iter().map(|info| info.id).collect(),
            verified_insns: infos.iter().map(|info| info.verified_insns).sum(),
            jited_bytes: infos.iter().map(|info| info.jited_bytes).sum(),
        })
    }
}
