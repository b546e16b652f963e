//! Tests of the tier prog on another processor and kernel, whose verifier gets the very objects that this machine's gets.
//!
//! ```text
//!   host, arm64: processor 0: BPF_PROG_TEST_RUN ─┐
//!                processor 1: BPF_PROG_TEST_RUN ─┴─ the same regions, the same slots
//! ```
//! On x86-64 QEMU gives that machine x86-64's order of memory: what is seen here is what its JIT makes of fences and atomics,
//! and x86-64's own reordering. See `kernel-notes/memory-ordering.md`.

use std::time::Duration;

use naam_tests::handlers;
use naam_vm::Machine;

const TIME: Duration = Duration::from_secs(600);
const HANDLERS: &str = "/usr/lib/naam/handlers";
/// Handlers in C that the tests compile where there is a compiler.
const OBJECTS: [(&str, &[&str]); 6] = [
    ("litmus", &[]),
    ("puppet", &[]),
    ("slow", &[]),
    ("answer", &[]),
    ("answer", &["-DANSWER=1"]),
    ("answer", &["-DANSWER=2"]),
];
/// Test programs of the role, with how many tests each has, and by what factor they do fewer rounds than here.
const PROGRAMS: [(&str, u32, u32); 3] =
    [("prog_ordering", 4, 8), ("prog_exactly_once", 4, 16), ("prog_concurrent", 4, 16)];

/// What a test program wrote, if all of its tests passed.
fn run(host: &Machine, program: &str, slower: u32) -> String {
    let line = format!(
        "NAAM_SLOWER={slower} NAAM_BPF_DIR=/usr/lib/naam/bpf NAAM_HANDLERS_DIR={HANDLERS} RUST_BACKTRACE=1 \
         /usr/lib/naam/tests/{program} --test-threads=1 --show-output"
    );
    let output = host.sh_within(&line, TIME).map_err(|error| error.to_string());
    // Indented: whoever counts results is to count this program's.
    let indented = |text: String| text.lines().map(|line| format!("  {line}\n")).collect();
    output.map(indented).map_err(indented).unwrap_or_else(|error: String| panic!("{program}:\n{error}"))
}

#[test]
fn order_and_exactly_once_hold_on_two_processors_of_another_machine() {
    let (_, kernel) = naam_vm::host_kernel("tests");
    let lab = naam_vm::boot("tests");
    let host = lab.machine("host").unwrap();
    assert_eq!(host.sh("uname -m").unwrap().trim(), kernel.architecture.gnu());
    assert_eq!(host.sh("nproc").unwrap().trim(), "2");
    for (name, flags) in OBJECTS {
        let path = format!("{HANDLERS}/{}", handlers::object_name(name, flags));
        host.put(&path, 0o644, &handlers::object(name, flags)).unwrap();
    }
    for (program, tests, slower) in PROGRAMS {
        let begun = std::time::Instant::now();
        let output = run(host, program, slower);
        println!("{program}, {:.1} s:\n{output}", begun.elapsed().as_secs_f64());
        let passed = format!("test result: ok. {tests} passed; 0 failed; 0 ignored");
        assert!(output.contains(&passed) && !output.contains("SKIPPED"), "{program}: {output}");
    }
    lab.finish().unwrap();
}
