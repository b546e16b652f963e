//! Programs of this workspace, for the machine that they will run on.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use naam_vm::describe::{Architecture, Program};
use serde_json::Value;

use crate::{
    build, process,
    toolchain::{self, Rustc},
    workspace::{self, Workspace},
};

/// The agent: process 1 of every image.
const AGENT: &str = "naam-vm-agent";
/// The package of the program that users run.
const USERS: &str = "naam-cli";

/// Builds programs, each once.
pub struct Programs<'a> {
    workspace: &'a Workspace,
    built: BTreeMap<(Architecture, String), PathBuf>,
    has_objects: bool,
}

impl<'a> Programs<'a> {
    /// Nothing is built yet.
    pub fn new(workspace: &'a Workspace) -> Self {
        Self { workspace, built: BTreeMap::new(), has_objects: false }
    }

    /// The agent, which needs no file but itself.
    ///
    /// # Errors
    /// When it does not build.
    pub fn agent(&mut self, architecture: Architecture) -> Result<PathBuf> {
        let program = Program { package: AGENT.to_owned(), name: AGENT.to_owned() };
        self.cached(architecture, &program, |programs| {
            programs.build(architecture, &program, &["-C", "target-feature=+crt-static"])
        })
    }

    /// A program, which takes the libraries of the system it runs on.
    ///
    /// # Errors
    /// When it does not build.
    pub fn program(&mut self, architecture: Architecture, program: &Program) -> Result<PathBuf> {
        self.cached(architecture, program, |programs| {
            // The command line tool embeds them.
            programs.objects()?;
            if Architecture::native() == Some(architecture) {
                // The very program that users run; and others are chosen along with it, or cargo would build their libraries
                // once more, with fewer features.
                let mut command = workspace::cargo();
                command.args(["build", "--release", "-p", USERS, "-p", &program.package, "--bin", &program.name]);
                process::inherit(command.current_dir(programs.workspace.root()))?;
                Ok(programs.workspace.target().join("release").join(&program.name))
            } else {
                programs.build(architecture, program, &[])
            }
        })
    }

    /// A test program: here the one that `cargo xtask test` runs.
    ///
    /// # Errors
    /// When it does not build.
    pub fn test(&mut self, architecture: Architecture, program: &Program) -> Result<PathBuf> {
        const JSON: [&str; 2] = ["--message-format", "json-render-diagnostics"];
        self.cached(architecture, program, |programs| {
            // What it puts into the kernel is in the image, too.
            programs.objects()?;
            let mut command = if Architecture::native() == Some(architecture) {
                let mut command = workspace::cargo();
                command.args(["rustc", "-p", &program.package, "--test", &program.name]).args(JSON);
                command.current_dir(programs.workspace.root());
                command
            } else {
                programs.command(architecture, program, "--test", &JSON, &[])?
            };
            let messages = process::output(command.stderr(Stdio::inherit()))?;
            executable(&messages, &program.name).context("cargo names no such test program")
        })
    }

    fn objects(&mut self) -> Result<()> {
        if !self.has_objects {
            build::objects(self.workspace)?;
            self.has_objects = true;
        }
        Ok(())
    }

    fn cached(
        &mut self,
        architecture: Architecture,
        program: &Program,
        build: impl FnOnce(&mut Self) -> Result<PathBuf>,
    ) -> Result<PathBuf> {
        let key = (architecture, program.name.clone());
        if let Some(path) = self.built.get(&key) {
            return Ok(path.clone());
        }
        let path = build(self)
            .with_context(|| format!("the program {} does not build for {}", program.name, architecture.debian()))?;
        self.built.insert(key, path.clone());
        Ok(path)
    }

    /// `flags` are for the program itself only: libraries are built once for all.
    fn build(&self, architecture: Architecture, program: &Program, flags: &[&str]) -> Result<PathBuf> {
        process::inherit(&mut self.command(architecture, program, "--bin", &[], flags)?)?;
        Ok(self.dir().join(triple(architecture)).join("release").join(&program.name))
    }

    /// Other flags than the workspace's own builds have: in a folder of their own they do not undo each other.
    fn dir(&self) -> PathBuf {
        self.workspace.target().join("vm/build")
    }

    fn command(
        &self,
        architecture: Architecture,
        program: &Program,
        kind: &str,
        options: &[&str],
        flags: &[&str],
    ) -> Result<Command> {
        let dir = self.dir();
        let mut command = workspace::cargo();
        command.args(["rustc", "--release", "--target", &triple(architecture), "--target-dir"]).arg(&dir);
        command.args(["-p", &program.package, kind, &program.name]).args(options).current_dir(self.workspace.root());
        command.env("RUSTFLAGS", "").env("NAAM_BPF_DIR", self.workspace.target().join("bpf"));
        // Build scripts look at it: were it only where it is needed, one architecture would undo what the other has built.
        command.env("RUSTC_BOOTSTRAP", "1");
        if Architecture::native() != Some(architecture) {
            self.cross(&mut command, architecture)?;
        }
        command.arg("--").args(flags);
        if Architecture::native() != Some(architecture) {
            command.arg("-L").arg(format!("native={}", unused_libraries(&dir)?.display()));
        }
        Ok(command)
    }

    /// There need be no compiled standard library for another architecture: it is built along.
    fn cross(&self, command: &mut Command, architecture: Architecture) -> Result<()> {
        let rustc = Rustc::query(self.workspace)?;
        let source = toolchain::find_source(self.workspace, &rustc);
        let source = source.context("the standard library's source is missing\ncure: cargo xtask setup")?;
        if source != rustc.sysroot_source() {
            command.env("__CARGO_TESTS_ONLY_SRC_ROOT", &source);
        }
        let triplet = format!("{}-linux-gnu", architecture.gnu());
        let compiler = format!("{triplet}-gcc");
        if process::find_program(&compiler).is_none() {
            bail!("`{compiler}` is missing\ncure: apt-get install gcc-{triplet}");
        }
        let target = format!("{}_unknown_linux_gnu", architecture.gnu());
        // All programs share what is built: cargo adds `test` for test programs, which would make everything another crate.
        command.args(["-Z", "build-std=std,panic_unwind,test"]);
        command.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase()), &compiler);
        command.env(format!("CC_{target}"), &compiler);
        // It is emulated: what takes long there is not this program, and the compiler is not emulated.
        command.env("CARGO_PROFILE_RELEASE_DEBUG", "0").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        Ok(())
    }
}

fn triple(architecture: Architecture) -> String {
    format!("{}-unknown-linux-gnu", architecture.gnu())
}

/// The file of a test program, by what cargo says of its work.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut tests = messages.filter(|message| message["target"]["name"] == name && message["profile"]["test"] == true);
    tests.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// A folder with libraries that libbpf-sys names to the linker and nothing of ours takes anything from: without content, so
/// that they need not be there for another architecture. Should something be taken, the linker would miss it.
fn unused_libraries(build: &Path) -> Result<PathBuf> {
    const EMPTY: &str = "!<arch>\n";
    let dir = build.join("unused-libraries");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for name in ["libelf.a", "libz.a"] {
        let path = dir.join(name);
        fs::write(&path, EMPTY).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(dir)
}

/// Where a description's `from` lies.
pub fn source(workspace: &Workspace, from: &str) -> PathBuf {
    match from.strip_prefix("target/") {
        Some(inside) => workspace.target().join(inside),
        None => workspace.root().join(Path::new(from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_programs_file_is_the_one_that_cargo_names() {
        let message = |name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let lines = [
            message("prog_one", false, "null"),
            message("prog_two", true, r#""/t/prog_two-1""#),
            "not of cargo".to_owned(),
            message("prog_one", true, r#""/t/prog_one-2""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let messages = lines.join("\n");
        assert_eq!(executable(&messages, "prog_one"), Some("/t/prog_one-2".into()));
        assert_eq!(executable(&messages, "prog_none"), None);
    }
}
