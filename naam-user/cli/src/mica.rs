//! The MICA store as its clients use it: functions, geometry, codes.

use naam_client::{Client, Function};
use naam_control::Name;
use naam_control::protocol::admin::AppInfo;
use naam_control::protocol::{AdminReply, AdminRequest};
use naam_handlers::mica::layout::Geometry;

use crate::client::Connect;
use crate::control::{Daemon, expect_reply};
use crate::failure::Failure;
use crate::options::Global;

/// The functions of a store, as far as the app serves them.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    pub get: Option<Function>,
    pub set: Option<Function>,
    pub cas: Option<Function>,
    pub delete: Option<Function>,
}

impl Functions {
    /// Those that the client's session knows.
    pub fn of(client: &Client) -> Self {
        let function = |name| client.function(name);
        Self {
            get: function("mica_get"),
            set: function("mica_set"),
            cas: function("mica_cas"),
            delete: function("mica_delete"),
        }
    }
}

/// The function, or how to load it.
pub fn require(function: Option<Function>, name: &str, app: &Name) -> Result<Function, Failure> {
    function.ok_or_else(|| {
        Failure::new("use", format!("app `{app}` as a store"), format!("it does not serve {name}"))
            .way_out(format!("naam handler load --app {app} --builtin {name}"))
    })
}

/// Where the geometry comes from: GET's arguments hold the number of buckets.
pub fn geometry(global: &Global, connect: &Connect, log2_buckets: Option<u32>) -> anyhow::Result<Geometry> {
    if let Some(log2_buckets) = log2_buckets {
        // Of a geometry word, clients use nothing but the number of buckets.
        return Ok(Geometry(Geometry::MAGIC << 48 | u64::from(log2_buckets) << 32));
    }
    let app = connect.app(global)?;
    let mut daemon = Daemon::connect(global)?;
    let region = region(&mut daemon, &app)?;
    let request = AdminRequest::RegionDump { app: app.clone(), region: region.clone(), offset: 0, len: 16 };
    let bytes = expect_reply!(daemon.ask(request)?, AdminReply::Bytes { bytes, .. } => bytes);
    let word = bytes.first_chunk().map(|word| Geometry(u64::from_le_bytes(*word)));
    let geometry = word.filter(|geometry| geometry.is_valid()).ok_or_else(|| {
        Failure::new("use", format!("region `{app}/{region}`"), "it holds no store")
            .way_out(format!("naam store format --app {app}"))
    })?;
    Ok(geometry)
}

/// The region that holds the app's store: the first.
pub fn region(daemon: &mut Daemon, app: &Name) -> anyhow::Result<Name> {
    let apps = expect_reply!(daemon.ask(AdminRequest::AppList)?, AdminReply::Apps(apps) => apps);
    let found: &AppInfo = apps.iter().find(|info| info.name == *app).ok_or_else(|| {
        Failure::new("find", format!("app `{app}`"), "there is no such app").way_out("naam app ls lists them")
    })?;
    let region = found.regions.first().cloned().ok_or_else(|| {
        Failure::new("use", format!("app `{app}` as a store"), "it has no region")
            .way_out(format!("naam region create {app} store 64MiB, then load the handlers"))
    })?;
    Ok(region)
}
