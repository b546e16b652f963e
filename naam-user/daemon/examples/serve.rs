//! A daemon in a few lines: `serve CONFIG BPF_DIR`, with the objects that `cargo xtask build` made.
//!
//! The tests run it as a process of its own, because they kill it.

use std::path::PathBuf;
use std::sync::OnceLock;

use naam_control::config::Config;
use naam_daemon::{ServeOptions, serve};

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Where the objects are.
static OBJECTS: OnceLock<PathBuf> = OnceLock::new();

/// A handler's object; it stays in memory as long as the daemon lives.
fn builtins(name: &str) -> Option<&'static [u8]> {
    let path = OBJECTS.get()?.join(format!("{name}.o"));
    Some(std::fs::read(path).ok()?.leak())
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(config), Some(bpf)) = (args.next(), args.next()) else {
        return Err("usage: serve CONFIG BPF_DIR [--detach-on-exit]".into());
    };
    let detach_on_exit = args.next().is_some_and(|arg| arg.as_os_str() == "--detach-on-exit");
    OBJECTS.set(bpf.clone()).expect("set once");
    let config = Config::read(&config)?;
    let (entry, shell) = (std::fs::read(bpf.join("entry.o"))?, std::fs::read(bpf.join("shell.o"))?);
    let (entry, shell) = (entry.into(), shell.into());
    serve(ServeOptions { config, entry, shell, builtins, detach_on_exit })?;
    Ok(())
}
