//! Apps: made, listed, removed.

use std::collections::BTreeMap;

use naam_abi::limits::{APPS_MAX, FUNCTIONS_MAX, REGIONS_MAX, SESSIONS_MAX};
use naam_abi::tables::AppEntry;
use naam_control::protocol::admin::AppInfo;
use naam_control::{ControlError, Name};
use naam_loader::LoaderError;

use crate::host::{App, Host};
use crate::steering::home;

impl Host {
    /// Makes an app, with the regions that an earlier app of its name has left.
    pub fn create_app(&mut self, name: Name, id: Option<u16>, integrity: bool) -> Result<(), ControlError> {
        let refused = |cause: String| ControlError::new("create", format!("app `{name}`"), cause);
        if self.apps.values().any(|app| app.name == name) {
            return Err(refused("there is one of this name".into()).way_out("choose another name"));
        }
        let free = (0..APPS_MAX as u16).find(|id| !self.apps.contains_key(id));
        let id = match id {
            Some(id) if usize::from(id) >= APPS_MAX => {
                return Err(refused(format!("{id} is no app's number: 0 to {}", APPS_MAX - 1)));
            }
            Some(id) => match self.apps.get(&id) {
                Some(other) => {
                    let cause = format!("number {id} is app `{}`", other.name);
                    return Err(refused(cause).way_out("choose another number, or none"));
                }
                None => id,
            },
            None => free.ok_or_else(|| refused(format!("all {APPS_MAX} apps are in use")))?,
        };
        let mut regions: Vec<_> = self
            .regions
            .list()
            .map_err(|error| refused(error.to_string()))?
            .into_iter()
            .filter(|region| region.app() == name.as_str())
            .collect();
        regions.sort_by_key(naam_region::Region::created);
        if regions.len() > REGIONS_MAX {
            let cause =
                format!("{} regions of an app of this name are left, {REGIONS_MAX} can be bound", regions.len());
            return Err(refused(cause).way_out("remove some by `naam region remove`"));
        }
        let app = App {
            name,
            id,
            integrity,
            timed: false,
            sessions_max: SESSIONS_MAX,
            configured: false,
            restoring: false,
            regions,
            functions: BTreeMap::new(),
            retired: BTreeMap::new(),
            raw: BTreeMap::new(),
            verbs: BTreeMap::new(),
        };
        home(self.tables(), id);
        self.publish(&app);
        self.apps.insert(id, app);
        self.save()
    }

    /// Removes an app with its functions and sessions. Its regions stay.
    pub fn remove_app(&mut self, name: &Name) -> Result<(), ControlError> {
        let app = self.app("remove", name)?;
        if app.restoring {
            let busy = ControlError::new("remove", format!("app `{name}`"), "one of its regions is being restored");
            return Err(busy.way_out("wait until that is done"));
        }
        let id = app.id;
        self.apps.remove(&id);
        self.end_app(id).map_err(|error| ControlError::new("remove", format!("app `{name}`"), error))?;
        self.save()
    }

    /// Ends everything that the kernel serves of an app's number, whatever it is.
    pub fn end_app(&mut self, id: u16) -> Result<(), LoaderError> {
        // In this order clients learn that the app is gone, not that a part of it is missing.
        self.tables().set_app(id, &AppEntry::default());
        self.end_sessions(id);
        for function in 0..FUNCTIONS_MAX as u16 {
            let (current, draining) = self.tables().function(id, function);
            if draining.is_some() {
                self.datapath.drained(id, function)?;
            }
            if current.is_some() {
                self.datapath.unload(id, function)?;
            }
        }
        self.drains.retain(|drain| drain.app != id);
        // They were its own: not those of datagrams of no app, nor of the next app of this number.
        self.tables().clear_stats(id.into())?;
        self.datapath.sweep().map(drop)
    }

    /// All apps.
    pub fn list_apps(&self) -> Vec<AppInfo> {
        let info = |app: &App| AppInfo {
            name: app.name.clone(),
            id: app.id,
            integrity: app.integrity,
            functions: app.functions.values().map(|served| served.function.name.clone()).collect(),
            regions: app.region_names(),
            sessions: self.sessions.of_app(app.id).count() as u32,
        };
        self.apps.values().map(info).collect()
    }
}
