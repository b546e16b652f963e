//! What was built for the tests: BPF objects, and the program.

use std::{fs, path::PathBuf};

use crate::command::Error;

/// The bytes of BPF object `name`, as `cargo xtask build` made it.
///
/// # Errors
/// When it is not there.
pub fn object(name: &str) -> Result<Vec<u8>, Error> {
    let path = bpf_dir().join(name).with_extension("o");
    fs::read(&path).map_err(|source| Error::Object { path, source })
}

/// The program `naam`, as `cargo xtask build` made it; NAAM_PROGRAM names another.
///
/// # Errors
/// When it is not there.
pub fn program() -> Result<PathBuf, Error> {
    let path = match std::env::var_os("NAAM_PROGRAM") {
        Some(path) => PathBuf::from(path),
        // Objects are in target/bpf, programs in target/release.
        None => bpf_dir().with_file_name("release").join("naam"),
    };
    match fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(Error::Object { path, source }),
    }
}

fn bpf_dir() -> PathBuf {
    // `cargo xtask test` sets the variable; without it, the target folder is where it is by default.
    match std::env::var_os("NAAM_BPF_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/bpf"),
    }
}
