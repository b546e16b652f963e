//! Good handlers are admitted.

mod common;

use naam_admission::{Report, explain};

#[test]
fn every_honest_handler_is_admitted() {
    let mut refused = Vec::new();
    let mut admitted = 0;
    for source in common::sources("honest") {
        let start = std::time::Instant::now();
        match explain(&common::compile(&source)) {
            Report::Admitted(handler) => {
                assert_eq!(handler.name, common::stem(&source));
                eprintln!(
                    "{:14} {:4} insns cost {:5} stack {:3} {:?}",
                    handler.name,
                    handler.insns,
                    handler.cost,
                    handler.stack,
                    start.elapsed()
                );
                admitted += 1;
            }
            Report::Refused(refusal) => refused.push(format!("{}: {refusal}", source.display())),
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    assert!(admitted > 0);
}
