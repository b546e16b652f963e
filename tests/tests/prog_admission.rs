//! What admission lets in, the kernel takes: every honest handler, at both hooks, with both loops.
//! What the verifier had to do for it is kept in `verifier-stats.toml` and may not grow by more than
//! a quarter unseen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use naam_admission::{Admitted, admit};
use naam_loader::{Hook, LoaderError};
use naam_tests::bench::{Bench, region};
use naam_tests::{handlers, objects};

/// Growth that has to be looked at, in percent.
const TOLERANCE: u64 = 25;
const REFRESH: &str = "NAAM_REFRESH=1 cargo test -p naam-tests --test prog_admission -- --nocapture";

/// Honest handlers that the kernel, the last gate of admission, refuses, and why.
const KERNEL_REFUSES: [(&str, &str); 4] = [
    ("honest.linked", "it does not check its pointers for null, which the kernel wants of global functions"),
    ("honest.parse", "its loops over bytes take the kernel more than a million instructions"),
    ("honest.search", "its loops over words take the kernel more than a million instructions"),
    ("honest.signed_index", "the kernel does not bound a sum of a negative number and a constant"),
];

type Table = BTreeMap<String, BTreeMap<String, u64>>;

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier-stats.toml")
}

/// The honest corpus and this build's own handlers, by name.
fn corpus() -> BTreeMap<String, Admitted> {
    let mut found = BTreeMap::new();
    let admitted = |what: &str, object: &[u8]| admit(object).unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    let honest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../naam-user/admission/corpus/honest");
    for entry in std::fs::read_dir(honest).expect("the corpus is part of the source tree") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|extension| extension == "c") {
            let code = admitted(&path.display().to_string(), &handlers::compile(&path, &[]));
            found.insert(format!("honest.{}", code.name()), code);
        }
    }
    for entry in std::fs::read_dir(objects::directory()).expect("`cargo xtask build` has run") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_none_or(|extension| extension != "o") || !is_handler(&path) {
            continue;
        }
        found.insert(name.clone(), admitted(&name, &std::fs::read(&path).expect("readable")));
    }
    found
}

/// Whether an object describes itself as a handler.
fn is_handler(path: &Path) -> bool {
    let bytes = std::fs::read(path).expect("readable");
    bytes.windows(8).any(|window| window == b"NAAMHDL1")
}

/// Kernel series, as the verifier's work differs from one to the next.
fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("procfs");
    release.split(['.', '-']).take(2).collect::<Vec<_>>().join(".")
}

fn variant(hook: Hook, may_goto: bool) -> String {
    format!("{hook}.{}", if may_goto { "may_goto" } else { "bpf_loop" })
}

fn measure() -> Table {
    let corpus = corpus();
    assert!(corpus.len() > 15, "the corpus is missing");
    let (mut stats, mut refused) = (Table::new(), Vec::new());
    for (hook, may_goto) in naam_tests::verdict::VARIANTS {
        let bench = Bench::new(hook, may_goto);
        bench.app(3);
        let memory = region(2 << 20, 1);
        for (name, code) in &corpus {
            let refusal = KERNEL_REFUSES.iter().find(|(refused, _)| refused == name);
            // Such refusals take seconds; one variant shows them.
            if refusal.is_some() && (hook, may_goto) != (Hook::Xdp, true) {
                continue;
            }
            let loaded = match bench.load((3, 16, 1), code, &[&memory]) {
                Ok(loaded) => loaded,
                Err(LoaderError::Verifier { .. }) if refusal.is_some() => continue,
                Err(error) => {
                    refused.push(format!("{name}, {}: {error}", bench.name()));
                    continue;
                }
            };
            if let Some((_, reason)) = refusal {
                refused.push(format!("{name} loads now, take it off the list of refusals ({reason})"));
            }
            let (insns, time) = (loaded.verified_insns[0].1, loaded.load_time[0].1);
            println!("{:24} {:24} {insns:8} insns {:6.1} ms", name, bench.name(), time.as_secs_f64() * 1e3);
            stats.entry(name.clone()).or_default().insert(variant(hook, may_goto), insns.into());
            let continues = loaded.continue_insns[0].1;
            stats.entry(name.clone()).or_default().insert(format!("{hook}.continue"), continues.into());
            bench.datapath.unload(3, 16).expect("unload");
        }
        let entry = bench.entry.info().expect("the entry's description").verified_insns;
        println!("{:24} {:24} {entry:8} insns", "entry", bench.name());
        stats.entry("entry".into()).or_default().insert(variant(hook, may_goto), entry.into());
    }
    assert!(refused.is_empty(), "admission and kernel disagree:\n{}", refused.join("\n"));
    stats
}

#[test]
fn what_is_admitted_loads_and_costs_the_verifier_no_more_than_before() {
    let measured = measure();
    let kernel = kernel();
    let path = table();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let mut known: BTreeMap<String, Table> =
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if std::env::var_os("NAAM_REFRESH").is_some() {
        known.insert(kernel, measured);
        std::fs::write(&path, render(&known)).expect("the table can be written");
        return;
    }
    let Some(known) = known.get(&kernel) else {
        println!("no figures of kernel {kernel} in {}; take them by\n  {REFRESH}", path.display());
        return;
    };
    let mut grown = Vec::new();
    for (handler, variants) in &measured {
        for (variant, insns) in variants {
            let before = known.get(handler).and_then(|variants| variants.get(variant));
            match before {
                Some(before) if *insns * 100 <= before * (100 + TOLERANCE) => {}
                Some(before) => grown.push(format!("{handler} {variant}: {before} → {insns} instructions")),
                None => println!("{handler} {variant}: {insns} instructions, not in the table yet"),
            }
        }
    }
    assert!(
        grown.is_empty(),
        "the verifier walks through more than {TOLERANCE} % more instructions:\n  {}\nif that is meant: {REFRESH}",
        grown.join("\n  ")
    );
}

fn render(known: &BTreeMap<String, Table>) -> String {
    let mut text = format!(
        "# Instructions that the kernel's verifier walks through, by kernel series, handler and program variant.\n\
         # Refreshed by: {REFRESH}\n"
    );
    for (kernel, table) in known {
        for (handler, variants) in table {
            text += &format!("\n[\"{kernel}\".\"{handler}\"]\n");
            for (variant, insns) in variants {
                text += &format!("\"{variant}\" = {insns}\n");
            }
        }
    }
    text
}
