//! How far the verifier walks through the shell with a handler in it, by hook and kind of loop. The counts are the
//! shell's health: what keeps them small is in `kernel-notes/verifier-convergence.md`.

use naam_loader::Hook;
use naam_tests::bench::{Bench, region};

const APP: u16 = 3;

/// Handler and most instructions verified, at XDP and TC: with `may_goto`, with `bpf_loop`.
const MOST: [(&str, u32, u32); 5] = [
    ("echo", 25_000, 8_000),
    ("counter", 60_000, 18_000),
    ("chain", 25_000, 6_000),
    ("mica_get", 36_000, 20_000),
    ("mica_set", 95_000, 46_000),
];

#[test]
fn the_shell_is_verified_in_bounded_time() {
    let memory = region(2 << 20, 1);
    for hook in Hook::ALL {
        for may_goto in [true, false] {
            let bench = Bench::new(hook, may_goto);
            bench.app(APP);
            for (name, with_may_goto, with_bpf_loop) in MOST {
                let loaded = bench.load_built(APP, name, &[&memory]);
                let ((_, insns), (_, time)) = (loaded.verified_insns[0], loaded.load_time[0]);
                println!("{} {name:8} {insns:6} instructions, {time:?}", bench.name());
                let most = if may_goto { with_may_goto } else { with_bpf_loop };
                assert!(insns <= most, "{} {name}: {insns} instructions, {most} at most", bench.name());
                bench.datapath.unload(APP, 16).expect("unload");
            }
        }
    }
}
