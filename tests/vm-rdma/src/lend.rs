//! A program that knows RDMA and nothing of NAAM gets a session's regions.
//!
//! It prints its end of the connection, `QPN PSN GID`, and is told home's end and the region: `QPN PSN GID ADDRESS RKEY`.

use std::{
    io::{BufRead as _, BufReader, Write as _, copy, stdout},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use naam_client::connect::{Control, Lease};
use naam_control::protocol::{rdma::RdmaEndpoint, session::RegionRights};

use crate::session::own_address;

/// What packets of any device carry.
const MTU: u32 = 1024;

/// Runs the program, with the address here as its first argument.
pub fn lend(control: &str, app: &str, region: RegionRights, program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().context("no program")?;
    let own = naam_verbs::Gid::from(own_address(control)?).to_string();
    let mut child = Command::new(name)
        .arg(own)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let mut words = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    words.read_line(&mut line)?;
    let [qpn, psn, gid] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        child.wait()?;
        anyhow::bail!("{name} tells no QPN PSN GID: {line}");
    };
    let ours =
        RdmaEndpoint { qpn: qpn.parse()?, psn: psn.parse()?, gid: gid.to_owned(), lid: 0, mtu: MTU, reads_max: None };
    let control = Control::Tcp(control.to_owned());
    let lease = Lease::open(&control, app.parse()?, vec![region])?;
    let grant = control.connect()?.connect_rdma(lease.grant().key, ours)?;
    let open = grant.regions.first().context("nothing is open to the session")?;
    let RdmaEndpoint { qpn, psn, gid, .. } = grant.endpoint;
    writeln!(child.stdin.take().context("no input")?, "{qpn} {psn} {gid} {} {}", open.address, open.rkey)?;
    copy(&mut words, &mut stdout())?;
    let status = child.wait()?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}
