//! What the tree's owner does: one process, for as long as the command runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use naam_cell::Report;
use naam_loadgen::data::{Counts, DataReader, Policy};
use serde_json::json;

use super::{Owner, key, value};
use crate::cell::Owned;
use crate::control::progress_bar;
use crate::failure::Verdict;
use crate::options::Global;
use crate::output::{Output, size};

#[derive(Debug, Args)]
pub struct Format {
    /// Make a new tree even where there is one, or something else; that is lost
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    owner: Owner,
}

impl Format {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let place = self.owner.place(global)?;
        place.format(true, self.force)?;
        let done = json!({ "app": place.app, "region": place.name, "bytes": place.bytes() });
        output.show(&done, |_| format!("{} is an empty tree of {}", place.object(), size(place.bytes())))
    }
}

#[derive(Debug, Args)]
pub struct Load {
    /// The pairs: TSV or CSV, a key and a value a line, in any order; of several values of a key the last counts
    file: PathBuf,
    /// Pass over faulty lines and count them
    #[arg(long)]
    skip_faulty: bool,
    #[command(flatten)]
    owner: Owner,
}

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

impl Load {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let place = self.owner.place(global)?;
        // What can be wrong with the tree is told before a long file is read.
        let mut owned = place.open()?;
        let (pairs, counts) = self.read()?;
        let begin = Instant::now();
        let (keys, bulk) = (owned.tree.keys(), owned.tree.keys() == 0);
        let stored = if bulk { owned.tree.load(&pairs) } else { insert(&mut owned, &pairs) };
        stored.map_err(|error| place.failure("load keys into", error))?;
        let done = json!({
            "app": place.app, "region": place.name, "pairs": counts.pairs, "keys": pairs.len(),
            "repeated": counts.pairs - pairs.len() as u64, "faulty": counts.faulty(), "new": owned.tree.keys() - keys,
            "bulk": bulk, "seconds": begin.elapsed().as_secs_f64(), "height": owned.tree.height(),
            "nodes": owned.tree.nodes(),
        });
        output.show(&done, |_| {
            let (new, faulty) = (owned.tree.keys() - keys, counts.faulty());
            let Owned { tree, .. } = &owned;
            format!(
                "{}: {} keys loaded, {new} of them new, {faulty} faulty lines; {} keys in {} nodes, {} levels",
                place.object(),
                pairs.len(),
                tree.keys(),
                tree.nodes(),
                tree.height()
            )
        })
    }

    fn read(&self) -> anyhow::Result<(Pairs, Counts)> {
        let policy = if self.skip_faulty { Policy::Skip } else { Policy::Strict };
        let bar = progress_bar("reading");
        let moved = bar.clone();
        let mut reader = DataReader::open(&self.file, policy)?.with_progress(Box::new(move |read, total| {
            moved.set_length(total);
            moved.set_position(read);
        }));
        let mut pairs = Pairs::new();
        while let Some(pair) = reader.next_pair()? {
            pairs.insert(pair.key.to_vec(), pair.value.to_vec());
        }
        bar.finish_and_clear();
        Ok((pairs, reader.counts().clone()))
    }
}

/// Stores all pairs by one publication, or none.
fn insert(owned: &mut Owned, pairs: &Pairs) -> Result<(), naam_cell::CellError> {
    let mut batch = owned.tree.batch();
    for (key, value) in pairs {
        batch.insert(key, value)?;
    }
    batch.commit()
}

#[derive(Debug, Args)]
pub struct Put {
    /// The key, 1 to 64 bytes
    key: String,
    /// The value, up to 1,000 bytes
    value: String,
    /// Key and value are hexadecimal digits
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    owner: Owner,
}

impl Put {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let (key, value) = (key(&self.key, self.hex)?, value(&self.value, self.hex)?);
        let place = self.owner.place(global)?;
        let is_new = place.open()?.tree.insert(&key, &value).map_err(|error| place.failure("put a key into", error))?;
        let result = if is_new { "inserted" } else { "replaced" };
        output.show(&json!({ "key": self.key, "result": result }), |_| result.to_owned())
    }
}

#[derive(Debug, Args)]
pub struct Delete {
    /// The key, 1 to 64 bytes
    key: String,
    /// The key is hexadecimal digits
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    owner: Owner,
}

impl Delete {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let key = key(&self.key, self.hex)?;
        let place = self.owner.place(global)?;
        let was_there = place.open()?.tree.delete(&key).map_err(|error| place.failure("delete a key of", error))?;
        let result = if was_there { "deleted" } else { "not_found" };
        output.show(&json!({ "key": self.key, "result": result }), |_| result.to_owned())?;
        if was_there { Ok(()) } else { Err(Verdict::Bad.into()) }
    }
}

#[derive(Debug, Args)]
pub struct Stats {
    #[command(flatten)]
    owner: Owner,
}

impl Stats {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let place = self.owner.place(global)?;
        let Owned { tree, .. } = &place.open()?;
        let report = tree.verify().map_err(|error| place.failure("check", error))?;
        let Report { keys, levels, words, blocks, quarters, key_bytes, value_bytes } = &report;
        // Of each level, leaves first.
        let fill: Vec<f64> =
            levels.iter().zip(words).map(|(&nodes, &words)| words as f64 / (nodes.max(1) * 128) as f64).collect();
        let (used, frames) = tree.frames();
        let stats = json!({
            "app": place.app, "region": place.name, "bytes": place.bytes(), "keys": keys, "key_bytes": key_bytes,
            "value_bytes": value_bytes, "height": tree.height(), "nodes": tree.nodes(), "levels": levels, "fill": fill,
            "blocks": blocks, "block_bytes": quarters * 256, "frames": frames, "frames_used": used,
            "publication": tree.generation(),
        });
        output.show(&stats, |_| {
            let levels: Vec<_> = levels.iter().map(u64::to_string).collect();
            format!(
                "{} of {}: {keys} keys of {key_bytes} bytes, values of {value_bytes} bytes, {blocks} of them in blocks\n\
                 {} nodes of 1 KiB, {} levels, from the leaves up {}; leaves {:.0} % full\n\
                 {used} of {frames} frames in use; publication {}",
                place.object(),
                size(place.bytes()),
                tree.nodes(),
                tree.height(),
                levels.join(", "),
                fill.first().unwrap_or(&0.0) * 100.0,
                tree.generation()
            )
        })
    }
}
