//! Tests of NAAM that take a kernel and root; run them by `cargo xtask test --tier prog` and `--tier net`.
//!
//! One file a subject in `tests/`: `prog_*.rs` sends packets through programs by BPF_PROG_TEST_RUN, `net_*.rs` over
//! the namespaces of `naam-testbed`, `vm_*.rs` between virtual machines (`cargo xtask vm test`). A test that cannot run on a machine prints `SKIPPED name: reason` and returns.
//! What the tests share:
//!
//! | module | what |
//! |---|---|
//! | [`effort`] | how long tests go on |
//! | [`litmus`] | two sides at two words, and the outcomes that they see |
//! | [`objects`] | the BPF objects of this build |
//! | [`mod@bench`] | one instance of the datapath, its own pins, torn down at the end |
//! | [`frame`] | frames crafted byte by byte, independent of the product's own encoder |
//! | [`handlers`] | handlers in C that do what their arguments say, however wrong |
//! | [`cpus`] | threads on CPUs of their own |
//! | [`stage`] | a bench with such a handler and two regions |
//! | [`vectors`] | handlers of instructions that a test writes one by one |
//! | [`pieces`] | messages that are cut and go on elsewhere, over a network that loses and repeats |
//! | [`verdict`] | what became of a frame, and which counters it moved |

pub mod bench;
pub mod cpus;
pub mod effort;
pub mod frame;
pub mod handlers;
pub mod litmus;
pub mod objects;
pub mod pieces;
pub mod stage;
pub mod vectors;
pub mod verdict;
