//! Good handlers are admitted.

use naam_admission::{Report, explain};

use crate::build;

#[test]
fn every_honest_handler_is_admitted() {
    let handlers = build::compile_folder("honest");
    assert!(handlers.len() >= 15, "{} handlers", handlers.len());
    let mut refused = Vec::new();
    for (source, object) in handlers {
        match explain(&object) {
            Report::Admitted(handler) => {
                assert_eq!(handler.name, build::stem(&source));
                println!("{:14} {:4} instructions, cost {:5}", handler.name, handler.insns, handler.cost);
            }
            Report::Refused(refusal) => refused.push(format!("{}: {refusal}", source.display())),
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
