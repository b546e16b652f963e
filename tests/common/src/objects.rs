//! BPF objects that were built for the tests.

use std::{fs, path::PathBuf};

use crate::command::Error;

/// The bytes of BPF object `name`, as `cargo xtask build` made it.
///
/// # Errors
/// When it is not there.
pub fn object(name: &str) -> Result<Vec<u8>, Error> {
    // `cargo xtask test` sets the variable; without it, the target folder is where it is by default.
    let dir = match std::env::var_os("NAAM_BPF_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf"),
    };
    let path = dir.join(name).with_extension("o");
    fs::read(&path).map_err(|source| Error::Object { path, source })
}
