//! `naam region`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use naam_control::Name;
use naam_control::config::RegionSize;
use naam_control::protocol::admin::RegionInfo;
use naam_control::protocol::session::Rights;
use naam_control::protocol::{AdminReply, AdminRequest};
use naam_region::dump::write_hex;

use super::bytes;
use crate::control::{Daemon, expect_reply};
use crate::options::Global;
use crate::output::{Output, Table, size};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a region of zeros
    Create {
        /// The app that owns it
        app: Name,
        /// Its name
        region: Name,
        /// Its size: a power of two from 2MiB to 512MiB, or a multiple of 512MiB up to 4GiB
        size: RegionSize,
        /// What sessions may do to it by RDMA, so far as they have the same right raw: `none`, `read`, `write`,
        /// `read,write` [default: read]
        #[arg(long, value_parser = verbs)]
        verbs: Option<Rights>,
    },
    /// List the regions
    Ls {
        /// Of this app only
        app: Option<Name>,
    },
    /// Copy a plain file into a region
    Load {
        /// The app
        app: Name,
        /// The region
        region: Name,
        /// The file, on the daemon's machine
        path: PathBuf,
        /// Where its first byte goes, a multiple of 8
        #[arg(long, default_value_t = 0)]
        offset: u64,
    },
    /// Save a region to a file, while it goes on being served
    Save {
        /// The app
        app: Name,
        /// The region
        region: Name,
        /// The file, on the daemon's machine
        path: PathBuf,
    },
    /// Restore a region from a saved file; ends the app's sessions
    Restore {
        /// The app
        app: Name,
        /// The region
        region: Name,
        /// The file, on the daemon's machine
        path: PathBuf,
    },
    /// Serve a region although restoring it was interrupted: it holds parts of two states
    Accept {
        /// The app
        app: Name,
        /// The region
        region: Name,
    },
    /// Show bytes of a region
    Dump {
        /// The app
        app: Name,
        /// The region
        region: Name,
        /// First byte
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Bytes
        #[arg(long, default_value_t = 256)]
        len: u64,
    },
    /// Remove a region that no function is bound to
    Rm {
        /// The app
        app: Name,
        /// The region
        region: Name,
    },
}

impl Command {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let mut daemon = Daemon::connect(global)?;
        match self {
            Self::Create { app, region, size, verbs } => {
                let request = AdminRequest::RegionCreate { app, region, bytes: size.bytes(), verbs };
                let region = expect_reply!(daemon.ask(request)?, AdminReply::Region(region) => region);
                output.show(&region, |region| table(std::slice::from_ref(region)).or(""))
            }
            Self::Ls { app } => {
                let reply = daemon.ask(AdminRequest::RegionList { app })?;
                let regions = expect_reply!(reply, AdminReply::Regions(regions) => regions);
                output.show(&regions, |regions| table(regions).or("no regions"))
            }
            Self::Load { app, region, path, offset } => {
                let (name, path) = (format!("{app}/{region}"), absolute(&path)?);
                let request = AdminRequest::RegionLoad { app, region, path, offset };
                copied(daemon, output, request, &format!("region `{name}` loaded"))
            }
            Self::Save { app, region, path } => {
                let (name, path) = (format!("{app}/{region}"), absolute(&path)?);
                copied(
                    daemon,
                    output,
                    AdminRequest::RegionSave { app, region, path },
                    &format!("region `{name}` saved"),
                )
            }
            Self::Restore { app, region, path } => {
                let (name, path) = (format!("{app}/{region}"), absolute(&path)?);
                let request = AdminRequest::RegionRestore { app, region, path };
                copied(daemon, output, request, &format!("region `{name}` restored"))
            }
            Self::Accept { app, region } => {
                let name = format!("{app}/{region}");
                daemon.ask(AdminRequest::RegionAccept { app, region })?;
                output.done(&format!("region `{name}` is taken as it is"))
            }
            Self::Dump { app, region, offset, len } => {
                let reply = daemon.ask(AdminRequest::RegionDump { app, region, offset, len })?;
                let (offset, bytes) = expect_reply!(reply, AdminReply::Bytes { offset, bytes } => (offset, bytes));
                let value = serde_json::json!({ "offset": offset, "hex": bytes::hex(&bytes) });
                output.show(&value, |_| view(offset, &bytes))
            }
            Self::Rm { app, region } => {
                let name = format!("{app}/{region}");
                daemon.ask(AdminRequest::RegionRemove { app, region })?;
                output.done(&format!("region `{name}` is gone"))
            }
        }
    }
}

fn copied(mut daemon: Daemon, output: Output, request: AdminRequest, what: &str) -> anyhow::Result<()> {
    let reply = daemon.ask_with_progress(request, what)?;
    let bytes = expect_reply!(reply, AdminReply::Copied { bytes } => bytes);
    output.show(&serde_json::json!({ "done": what, "bytes": bytes }), |_| format!("{what}: {}", size(bytes)))
}

/// The daemon has another working directory.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn view(offset: u64, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    write_hex(offset, bytes, &mut text).expect("a Vec takes everything");
    String::from_utf8(text).expect("a hex view is ASCII")
}

fn table(regions: &[RegionInfo]) -> Table {
    let mut table = Table::new(["app", "region", "size", "values", "map", "pin"]);
    for region in regions {
        table.row([
            region.app.to_string(),
            region.name.to_string(),
            size(region.bytes),
            format!("{} x {}", region.bytes / region.value_len.max(1), size(region.value_len)),
            region.map_id.to_string(),
            region.pin.display().to_string(),
        ]);
    }
    table
}

/// `none`, or rights by RDMA with commas between.
fn verbs(text: &str) -> Result<Rights, String> {
    let mut rights = Rights::NONE;
    for word in text.split(',').filter(|_| text != "none") {
        match word {
            "read" => rights.read = true,
            "write" => rights.write = true,
            other => return Err(format!("`{other}` is no right by RDMA: none, read, write, or read,write")),
        }
    }
    Ok(rights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_by_rdma_are_words() {
        let rights = |read, write| Ok(Rights { read, write, atomic: false });
        assert_eq!(verbs("none"), rights(false, false));
        assert_eq!((verbs("write"), verbs("read,write")), (rights(false, true), rights(true, true)));
        for bad in ["", "all", "read,", "none,read", "read,atomic"] {
            assert!(verbs(bad).is_err(), "{bad}");
        }
    }
}
