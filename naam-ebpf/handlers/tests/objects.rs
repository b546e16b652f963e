//! What `cargo xtask build` made of the handlers: admitted, and not larger than it was.

use std::path::Path;

use naam_abi::handler::META_WRITES;
use naam_admission::View;

/// Name, view, whether it writes, most instructions, highest cost of a step.
const OBJECTS: [(&str, View, bool, usize, u64); 16] = [
    ("echo", View::Small, false, 50, 1_000),
    ("echo_c", View::Small, false, 50, 1_200),
    ("counter", View::Small, true, 50, 50),
    ("chain", View::Small, false, 100, 100),
    ("naam_read", View::Large, false, 100, 512),
    ("naam_write", View::Small, true, 60, 60),
    ("naam_cas", View::Small, true, 60, 60),
    ("naam_faa", View::Small, true, 60, 60),
    ("naam_chain", View::Large, true, 450, 700),
    ("cell_get", View::Large, false, 3_000, 6_000),
    ("cell_scan", View::Large, false, 3_000, 16_384),
    ("mica_get", View::Large, false, 700, 2_000),
    ("mica_get_c", View::Large, false, 800, 2_000),
    ("mica_set", View::Large, true, 2_500, 2_000),
    ("mica_cas", View::Large, true, 2_500, 2_000),
    ("mica_delete", View::Large, true, 2_350, 2_000),
];

#[test]
fn every_object_is_admitted() {
    let objects = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../bpf");
    if !objects.join("mica_get.o").exists() {
        println!("SKIPPED every_object_is_admitted: no objects, run `cargo xtask build`");
        return;
    }
    for (name, view, writes, insns_max, cost_max) in OBJECTS {
        let object = std::fs::read(objects.join(format!("{name}.o"))).unwrap();
        let admitted = naam_admission::admit(&object).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!((admitted.name(), admitted.view), (name, view));
        assert_eq!(admitted.meta.flags & META_WRITES != 0, writes, "{name}");
        let (insns, cost) = (admitted.insns().len(), admitted.cost);
        println!("{name:12} {insns:5} instructions, a step costs up to {cost:5}, stack {:3} B", admitted.stack);
        assert!(insns <= insns_max && cost <= cost_max, "{name} has grown: {insns} instructions, cost {cost}");
    }
}
