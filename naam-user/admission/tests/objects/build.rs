//! Builds the corpus with clang.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The corpus folder.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// A file's name without its extension.
pub fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).expect("corpus files have plain names")
}

/// The clang to use: `$CLANG`, or the first of the usual names that runs.
fn clang() -> &'static str {
    static CLANG: OnceLock<String> = OnceLock::new();
    CLANG.get_or_init(|| {
        let named = std::env::var("CLANG").into_iter();
        let usual =
            std::iter::once("clang".to_owned()).chain((14..=24).rev().map(|version| format!("clang-{version}")));
        named
            .chain(usual)
            .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
            .expect("these tests need clang with the BPF target: `cargo xtask setup` installs it")
    })
}

/// Compiles a source with extra flags and returns the object.
pub fn compile_with(source: &Path, flags: &[&str]) -> Vec<u8> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let object =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}-{number}.o", stem(source), std::process::id()));
    let output = Command::new(clang())
        .args(["-c", "-O2", "-Wall", "-fno-builtin", "-I"])
        .arg(corpus())
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(&object)
        .output()
        .expect("clang runs");
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(&object).expect("clang wrote the object");
    std::fs::remove_file(&object).expect("the object is ours");
    bytes
}

/// Compiles a handler as its author would.
pub fn compile(source: &Path) -> Vec<u8> {
    compile_with(source, &["-target", "bpf", "-mcpu=v3", "-g"])
}

/// Every C source of a folder of the corpus, sorted, with its object.
pub fn compile_folder(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut sources: Vec<PathBuf> = std::fs::read_dir(corpus().join(folder))
        .expect("the corpus is part of the source tree")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    sources.sort();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = sources.len().div_ceil(workers).max(1);
    std::thread::scope(|scope| {
        let compile_share = |share: &[PathBuf]| share.iter().map(|source| (source.clone(), compile(source))).collect();
        let workers: Vec<_> = sources.chunks(share).map(|share| scope.spawn(move || compile_share(share))).collect();
        workers.into_iter().flat_map(|worker| -> Vec<_> { worker.join().expect("clang compiled its share") }).collect()
    })
}
