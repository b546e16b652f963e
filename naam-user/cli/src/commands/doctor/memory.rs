//! How a client on this machine would read an app's regions, measured.

use naam_client::Options;
use naam_client::site::{Placement, SiteClient};
use naam_control::protocol::inspect::Finding;

use super::{good, warning};
use crate::client::{Connect, Connected};
use crate::commands::site;
use crate::options::Global;

/// Nothing unless an app is named: which sessions there will be, nobody knows.
pub fn finding(connect: &Connect, global: &Global) -> Option<Finding> {
    let app = connect.app.as_ref()?;
    let check = format!("memory of app {app}");
    Some(match tried(connect, global) {
        Ok(detail) => good(check, detail),
        Err(error) => {
            let way_out =
                "sessions need the raw right to READ a region (`raw` in the configuration); naam doctor without --app";
            warning(check, format!("{error:#}"), way_out)
        }
    })
}

/// What `--memory` comes to in a session that may READ all regions by itself.
fn tried(connect: &Connect, global: &Global) -> anyhow::Result<String> {
    let Connected { client, lease, .. } = site::open(connect, global, &Options::default(), vec![], true)?;
    let mut site = SiteClient::new(client, Placement::Client);
    connect.reach_memory(&mut site, &connect.control(global), &lease)?;
    let name = site.memory_name();
    Ok(site.choice().map_or_else(|| format!("READs by {name}, as chosen"), ToString::to_string))
}
