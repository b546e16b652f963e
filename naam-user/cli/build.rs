//! Finds the BPF objects that `cargo xtask build` made and writes the table that embeds them.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Objects without which the program is of no use.
const NEEDED: [&str; 4] = ["entry", "shell", "xsk", "echo"];

fn main() {
    println!("cargo::rerun-if-env-changed=NAAM_BPF_DIR");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let dir = match env::var_os("NAAM_BPF_DIR") {
        Some(dir) => PathBuf::from(dir),
        // OUT_DIR is target/[TRIPLE/]PROFILE/build/NAME-HASH/out.
        None => out.ancestors().skip(4).take(2).map(|dir| dir.join("bpf")).find(|dir| dir.is_dir()).unwrap_or_default(),
    };
    println!("cargo::rerun-if-changed={}", dir.display());
    let objects = objects(&dir);
    let missing: Vec<_> = NEEDED.into_iter().filter(|needed| !objects.iter().any(|(name, _)| name == needed)).collect();
    if !missing.is_empty() {
        let place = if dir.as_os_str().is_empty() { "target/bpf".into() } else { dir.display().to_string() };
        println!(
            "cargo::error=the BPF objects {} are not in {place}: run `cargo xtask build`, which makes them first \
             (or set NAAM_BPF_DIR)",
            missing.join(", ")
        );
        return;
    }
    let mut table = String::from("[\n");
    for (name, path) in &objects {
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(table, "    ({name:?}, &Aligned(*include_bytes!({path:?}))),").expect("a String takes everything");
    }
    table.push(']');
    fs::write(out.join("objects.rs"), table).expect("OUT_DIR is writable");
}

/// Name and path of every object in `dir`, by name.
fn objects(dir: &Path) -> Vec<(String, PathBuf)> {
    let mut objects: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "o"))
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .collect();
    objects.sort();
    objects
}
