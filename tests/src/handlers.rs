//! Handlers in C that only tests use: small, admissible, and as badly behaved as they are told.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use naam_admission::{Admitted, admit};

/// Folder of the tests' handlers.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("handlers")
}

/// The clang to use: `$CLANG`, or the first of the usual names that runs.
fn clang() -> String {
    let named = std::env::var("CLANG").into_iter();
    let usual = std::iter::once("clang".to_owned()).chain((14..=24).rev().map(|version| format!("clang-{version}")));
    named
        .chain(usual)
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
        .expect("these tests need clang with the BPF target: `cargo xtask setup` installs it")
}

/// Folder of objects that were compiled elsewhere, on machines without a compiler.
const FOLDER: &str = "NAAM_HANDLERS_DIR";

/// The name of a handler's object in the folder that NAAM_HANDLERS_DIR names.
pub fn object_name(name: &str, flags: &[&str]) -> String {
    format!("{}.o", [&[name], flags].concat().join(""))
}

/// Compiles a C file as its author would, with extra flags; the object. Where NAAM_HANDLERS_DIR is set, takes it from there.
///
/// # Panics
/// If clang refuses it, or it is not there.
pub fn compile(source: &Path, flags: &[&str]) -> Vec<u8> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        let path = Path::new(&folder).join(object_name(&name, flags));
        return std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let object = std::env::temp_dir().join(format!("naam-handler-{}-{number}.o", std::process::id()));
    let output = Command::new(clang())
        .args(["-c", "-O2", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", "-g", "-fno-builtin", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../naam-user/admission/corpus"))
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

/// Compiles `tests/handlers/NAME.c` with extra flags; the object.
///
/// # Panics
/// As [`compile`].
pub fn object(name: &str, flags: &[&str]) -> Vec<u8> {
    compile(&folder().join(format!("{name}.c")), flags)
}

/// Compiles and admits `tests/handlers/NAME.c`.
///
/// # Panics
/// If clang or admission refuses it.
pub fn handler(name: &str) -> Admitted {
    handler_with(name, &[])
}

/// The same with extra flags for clang.
///
/// # Panics
/// As [`handler`].
pub fn handler_with(name: &str, flags: &[&str]) -> Admitted {
    admit(&object(name, flags)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"))
}

/// Steps by their numbers, as a handler returns them.
pub mod step {
    /// READ.
    pub const READ: u32 = 1;
    /// WRITE.
    pub const WRITE: u32 = 2;
    /// CAS.
    pub const CAS: u32 = 3;
    /// FAA.
    pub const FAA: u32 = 4;
    /// FAIL.
    pub const FAIL: u32 = 5;
}

/// One order of a puppet: the op it shall ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The step code to return.
    pub step: u32,
    /// `op_region`.
    pub region: u32,
    /// `op_offset`.
    pub offset: u64,
    /// `op_len`.
    pub len: u32,
    /// `op_source`.
    pub source: u32,
    /// `op_expect`.
    pub expect: u64,
    /// `op_value`.
    pub value: u64,
}

/// Orders that a puppet takes.
pub const ORDERS_MAX: usize = 27;

impl Order {
    /// READ `len` bytes.
    pub fn read(region: u32, offset: u64, len: u32) -> Self {
        Self { step: step::READ, region, offset, len, ..Self::default() }
    }

    /// WRITE `len` bytes that stand at `source` in the arguments.
    pub fn write(region: u32, offset: u64, len: u32, source: u32) -> Self {
        Self { step: step::WRITE, region, offset, len, source, ..Self::default() }
    }

    /// CAS.
    pub fn cas(region: u32, offset: u64, expect: u64, value: u64) -> Self {
        Self { step: step::CAS, region, offset, expect, value, ..Self::default() }
    }

    /// FAA.
    pub fn faa(region: u32, offset: u64, value: u64) -> Self {
        Self { step: step::FAA, region, offset, value, ..Self::default() }
    }

    /// As handlers in C find it in their arguments.
    pub fn words(&self) -> [u64; 5] {
        [
            u64::from(self.step) | u64::from(self.region) << 32,
            self.offset,
            u64::from(self.len) | u64::from(self.source) << 32,
            self.expect,
            self.value,
        ]
    }
}

/// A puppet's arguments: `orders`, then a claim of `reply_len` bytes.
pub fn strings(orders: &[Order], reply_len: u64) -> Vec<u8> {
    strings_of(orders.len() as u64, orders, reply_len)
}

/// The first of `orders` again and again.
pub fn strings_for_ever(order: Order) -> Vec<u8> {
    strings_of(u64::MAX, &[order], 8)
}

fn strings_of(count: u64, orders: &[Order], reply_len: u64) -> Vec<u8> {
    assert!(orders.len() <= ORDERS_MAX);
    let mut words = vec![count, reply_len];
    words.extend(orders.iter().flat_map(Order::words));
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
