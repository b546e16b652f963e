//! Calls that may run in this process.

use std::time::Duration;

use clap::ValueEnum;
use naam_abi::onesided;
use naam_client::connect::{Control, Lease};
use naam_client::site::{Placement, SiteClient};
use naam_client::{Call, Client, Options, Shard};
use naam_control::protocol::session::{RegionRights, Rights};

use crate::client::{Connect, Connected};
use crate::options::Global;

/// Where a call shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SiteChoice {
    /// At the host
    Host,
    /// Here, if the function only reads and the session may read the regions one-sidedly
    Client,
    /// Where the host's replies say
    Auto,
}

/// Opens a session that may READ every region one-sidedly, besides the rights `wanted`. If that is not allowed: fails if it is
/// `needed`, and otherwise does without.
pub fn open(
    connect: &Connect,
    global: &Global,
    options: &Options,
    wanted: Vec<RegionRights>,
    needed: bool,
) -> anyhow::Result<Connected> {
    // A session tells which regions there are.
    let plain = connect.open_with(global, options, wanted.clone())?;
    let read = Rights { read: true, ..Rights::NONE };
    let rights = plain.lease.grant().regions.iter().map(|granted| {
        let mut rights = granted.rights.clone();
        rights.raw = Rights::from_bits(rights.raw.bits() | read.bits());
        rights
    });
    let rights: Vec<_> = rights.collect();
    if rights.is_empty() {
        return Ok(plain);
    }
    drop(plain);
    match connect.open_with(global, options, rights) {
        Err(error) if !needed => {
            tracing::info!(%error, "calls run at the host");
            connect.open_with(global, options, wanted)
        }
        opened => opened,
    }
}

/// A client that knows the handler of `function`, and where the host says that the call's shard runs.
pub fn learned(
    mut client: Client,
    lease: &Lease,
    way: (&Connect, &Control),
    function: &str,
    call: &Call<'_>,
    choice: SiteChoice,
) -> anyhow::Result<SiteClient> {
    if choice == SiteChoice::Auto {
        ask_for_hint(&mut client, call.shard, call.timeout);
    }
    over(client, lease, way, &[function], choice)
}

/// Lets the host say where the shard's calls run.
pub fn ask_for_hint(client: &mut Client, shard: Shard, timeout: Duration) {
    if let Some(function) = client.function(onesided::NAMES[usize::from(onesided::READ)]) {
        // Its answer brings the hint, whatever it says of the word.
        let args = onesided::read_args(0, 0, 8);
        let _ = client.call(&Call { function, shard, args: &args, reply_room: Some(8), timeout });
    }
}

/// A client that knows the handlers of `functions`, as far as they may run here, and reads regions as `connect` says.
pub fn over(
    client: Client,
    lease: &Lease,
    (connect, control): (&Connect, &Control),
    functions: &[&str],
    choice: SiteChoice,
) -> anyhow::Result<SiteClient> {
    let placement = match choice {
        SiteChoice::Host => return Ok(SiteClient::new(client, Placement::Host)),
        SiteChoice::Client => Placement::Client,
        SiteChoice::Auto => Placement::Hint,
    };
    let mut site = SiteClient::new(client, placement);
    for (name, listed, bytes) in lease.objects(control, |name| functions.contains(&name))? {
        match site.learn(&name, &listed.sha256, &bytes) {
            Ok(()) => {}
            Err(error) if choice == SiteChoice::Auto => tracing::warn!(%error, "it runs at the host"),
            Err(error) => return Err(error.into()),
        }
    }
    connect.reach_memory(&mut site, control, lease)?;
    Ok(site)
}
