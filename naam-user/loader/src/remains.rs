//! What an earlier process has left of a datapath, and whether it is whole.
//!
//! Programs hold their maps, pinned or not. A table whose pin is missing lives on in the programs that were loaded with
//! it, and a new one of its name would be read by new programs only: half a datapath, in which a reply is
//! forgotten, or a program never found. So the tables are taken over all together, or not at all.

use std::fs;
use std::path::Path;

use naam_sys::Map;

use crate::attach::Attachment;
use crate::datapath::{ENTRY_MAPS, Objects, SHELL_MAPS, remove_tree};
use crate::error::LoaderError;
use crate::interface::interfaces;
use crate::link::pinned;
use crate::template::{self, MapShape};

/// Tables whose contents are of use to a datapath that is made anew: epochs, and numbers of sessions, go on.
const KEPT: [&str; 2] = ["STEER", "SESSIONS"];

/// What is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Nothing.
    Nothing,
    /// Every table, of this build's shape.
    Whole,
    /// A part.
    Broken {
        /// What is missing, or otherwise than it should be.
        cause: String,
    },
}

/// Looks at what is pinned.
pub fn look(pins: &Path, objects: Objects<'_>) -> Result<Remains, LoaderError> {
    let is_empty = |directory: &str| fs::read_dir(pins.join(directory)).map_or(true, |mut pins| pins.next().is_none());
    if ["maps", "links", "functions", "scratch"].into_iter().all(is_empty) {
        return Ok(Remains::Nothing);
    }
    for (name, wanted) in tables(objects)? {
        if let Some(cause) = fault(pins, name, wanted)? {
            return Ok(Remains::Broken { cause });
        }
    }
    Ok(Remains::Whole)
}

/// Detaches what is left and removes it, but for regions, epochs and numbers of sessions. Returns where it was attached.
/// Sessions have to be ended in the datapath that is made next: their slots are gone.
pub fn dismantle(pins: &Path, objects: Objects<'_>) -> Result<Vec<(String, Attachment)>, LoaderError> {
    let present = interfaces().map_err(|source| LoaderError::Interfaces { source })?;
    let mut links = Vec::new();
    for pinned in pinned(pins) {
        links.push((pinned.name(&present), pinned.attachment));
        pinned.remove()?;
    }
    naam_sys::grace::wait_for_programs();
    for directory in ["functions", "scratch"] {
        remove_tree(&pins.join(directory))?;
    }
    for (name, wanted) in tables(objects)? {
        let path = pins.join("maps").join(name);
        let is_kept = KEPT.contains(&name) && fault(pins, name, wanted)?.is_none();
        if path.exists() && !is_kept {
            naam_sys::pin::unpin(&path)?;
        }
    }
    Ok(links)
}

/// The tables that are pinned, as this build makes them.
fn tables(objects: Objects<'_>) -> Result<Vec<(&'static str, MapShape)>, LoaderError> {
    let entry = template::shapes(objects.entry)?;
    let shell = template::shapes(objects.shell)?;
    let names = ENTRY_MAPS.iter().chain(&SHELL_MAPS);
    Ok(names.filter_map(|name| Some((*name, *entry.get(*name).or_else(|| shell.get(*name))?))).collect())
}

fn fault(pins: &Path, name: &str, wanted: MapShape) -> Result<Option<String>, LoaderError> {
    let path = pins.join("maps").join(name);
    if !path.exists() {
        return Ok(Some(format!("its table {name} is missing")));
    }
    let map = Map::open_pinned(&path)?;
    let found = MapShape { value_size: map.info().value_size, max_entries: map.info().max_entries };
    Ok((found != wanted).then(|| format!("its table {name} has {found}, this build wants {wanted}")))
}
