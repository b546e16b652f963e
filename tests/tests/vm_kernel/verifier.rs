//! Which of our handlers the kernel's verifier takes, and at what cost; and that they are the very same on every architecture.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use naam_vm::Places;
use serde_json::{Value, json};

use crate::pair::Pair;

/// As many at once as the host has processors: each verifies one.
const CHECKS: usize = 2;
const LOAD_TIME: Duration = Duration::from_secs(300);

/// All that the program `naam` carries.
const HANDLERS: [&str; 16] = [
    "cell_get",
    "cell_scan",
    "chain",
    "counter",
    "echo",
    "echo_c",
    "mica_cas",
    "mica_delete",
    "mica_get",
    "mica_get_c",
    "mica_set",
    "naam_cas",
    "naam_chain",
    "naam_faa",
    "naam_read",
    "naam_write",
];

/// The hash of what a handler consists of, by the program `naam` of this machine.
fn hash_here(handler: &str) -> Value {
    let program = naam_testbed::program().unwrap();
    let output = Command::new(program).args(["--json", "check", "--builtin", handler]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["admitted"]["hash"].clone()
}

/// What is found goes to `target/vm/matrix`, for `cargo xtask vm matrix`.
#[test]
fn every_handler_loads_unless_the_kernel_is_known_to_refuse_it() {
    let (name, kernel) = naam_vm::host_kernel("pair");
    let pair = Pair::take();
    let host = pair.host();
    assert!(host.kernel().starts_with(&kernel.release), "{}", host.kernel());
    let unknown = host.run("naam", &["--json", "check", "--builtin", "none"], LOAD_TIME).unwrap().text();
    let known = format!("there are {};", HANDLERS.join(", "));
    assert!(unknown.contains(&known), "the program carries other handlers than this test knows: {unknown}");

    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    let reports = HANDLERS.chunks(CHECKS).flat_map(|handlers| {
        let check = |handler: &&'static str| {
            let arguments = ["--json", "check", "--kernel", "--builtin", handler];
            (*handler, host.start_program("naam", &arguments, LOAD_TIME).unwrap())
        };
        let checks: Vec<_> = handlers.iter().map(check).collect();
        checks.into_iter().map(|(handler, check)| (handler, check.wait().unwrap()))
    });
    for (handler, output) in reports {
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", output.text()));
        let hash = &report["admitted"]["hash"];
        assert!(hash.as_str().is_some_and(|hash| hash.len() == 64), "{handler}: {report}");
        assert_eq!(*hash, hash_here(handler), "{handler} is another one there");
        let loaded = report["kernel"]["loaded"].as_array();
        let expected = !kernel.refuses.iter().any(|refused| refused == handler);
        if loaded.is_some() != expected {
            wrong.push(format!("{handler}: {}", report["kernel"]));
        }
        let entry = match loaded {
            Some(loaded) => {
                let insns = |hook: &Value| {
                    (hook["hook"].as_str().unwrap_or_default().to_owned(), hook["verified_insns"].clone())
                };
                json!(loaded.iter().map(insns).collect::<BTreeMap<_, _>>())
            }
            None => {
                let log = report["kernel"]["refused"]["log"].as_str().unwrap_or_default();
                let reason = log.lines().next().unwrap_or("no reason given").to_owned();
                println!("SKIPPED {handler}: the verifier of {name} refuses it ({reason}), as vm-images/kernels says");
                json!({ "refused": reason })
            }
        };
        found.insert(handler, entry);
    }
    let path = Places::locate().matrix(&name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let record = json!({ "release": host.kernel(), "handlers": found });
    fs::write(&path, serde_json::to_vec_pretty(&record).unwrap()).unwrap();
    assert!(wrong.is_empty(), "otherwise than vm-images/kernels/{name}.toml says:\n{}", wrong.join("\n"));
    pair.lab.finish().unwrap();
}
