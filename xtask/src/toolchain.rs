//! What builds BPF programs: the running rustc, bpf-linker, and the standard library's source of that very rustc.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{process, workspace::Workspace};

/// The newest bpf-linker that reads bitcode with rustc's own LLVM; later ones want a system LLVM of the same version.
pub const BPF_LINKER_VERSION: &str = "0.10.3";

/// The running compiler.
pub struct Rustc {
    /// For example `1.95.0`.
    pub release: String,
    /// For example `x86_64-unknown-linux-gnu`.
    pub host: String,
    /// Root of its installation.
    pub sysroot: PathBuf,
}

impl Rustc {
    /// Asks `rustc`, as cargo would run it for this checkout.
    ///
    /// # Errors
    /// When rustc cannot run or does not say its version.
    pub fn query(workspace: &Workspace) -> Result<Self> {
        let mut version = Command::new("rustc");
        version.arg("-vV").current_dir(workspace.root());
        let version = process::output(&mut version)?;
        let mut sysroot = Command::new("rustc");
        sysroot.args(["--print", "sysroot"]).current_dir(workspace.root());
        Ok(Self {
            release: field(&version, "release").context("`rustc -vV` names no release")?.to_owned(),
            host: field(&version, "host").context("`rustc -vV` names no host")?.to_owned(),
            sysroot: PathBuf::from(process::output(&mut sysroot)?.trim_end()),
        })
    }

    /// Where rustup puts the standard library's source.
    pub fn sysroot_source(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }
}

/// Where set-up puts the source when rustup cannot: outside of the sysroot, which belongs to rustup.
pub fn private_source(workspace: &Workspace, release: &str) -> PathBuf {
    workspace.private().join("rust-src").join(release).join("library")
}

/// Whether `library` is a standard library's source that `-Z build-std` takes.
pub fn is_source(library: &Path) -> bool {
    library.join("Cargo.lock").is_file() && library.join("core/src/lib.rs").is_file()
}

/// Folder of the private bpf-linker.
pub fn private_bin(workspace: &Workspace) -> PathBuf {
    workspace.private().join("tools/bin")
}

/// The version that the bpf-linker at `program` reports, if it runs at all.
pub fn bpf_linker_version(program: &Path) -> Option<String> {
    let text = process::output(Command::new(program).arg("--version")).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

/// The bpf-linker to use, private or from PATH, if one of the right version is there.
pub fn find_bpf_linker(workspace: &Workspace) -> Option<PathBuf> {
    let private = private_bin(workspace).join("bpf-linker");
    let candidates = [Some(private).filter(|file| file.is_file()), process::find_program("bpf-linker")];
    candidates.into_iter().flatten().find(|file| bpf_linker_version(file).as_deref() == Some(BPF_LINKER_VERSION))
}

/// The standard library's source to use, if it is there.
pub fn find_source(workspace: &Workspace, rustc: &Rustc) -> Option<PathBuf> {
    [rustc.sysroot_source(), private_source(workspace, &rustc.release)].into_iter().find(|path| is_source(path))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_fields() {
        let text =
            "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(field(text, "release"), Some("1.95.0"));
        assert_eq!(field(text, "host"), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(field(text, "LLVM version"), None);
    }
}
