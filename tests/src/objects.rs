//! The BPF objects of this build: `cargo xtask build` makes them, `cargo xtask test` runs it first.

use std::path::{Path, PathBuf};

/// Directory of the objects: `NAAM_BPF_DIR`, or `target/bpf` of this checkout.
pub fn directory() -> PathBuf {
    std::env::var_os("NAAM_BPF_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf"), PathBuf::from)
}

/// An object's bytes.
///
/// # Panics
/// If it was not built.
pub fn read(name: &str) -> Vec<u8> {
    let path = directory().join(format!("{name}.o"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}; run `cargo xtask build`", path.display()))
}
