//! Tests of NAAM that take a kernel and root; run them by `cargo xtask test --tier prog` and `--tier net`.
//!
//! One file a subject in `tests/`: `prog_*.rs` sends packets through programs by BPF_PROG_TEST_RUN, `net_*.rs` over
//! the namespaces of `naam-testbed`. A test that cannot run on a machine prints `SKIPPED name: reason` and returns.
