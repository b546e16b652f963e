//! The handlers in C, compiled for this machine, behave as those in Rust: every step of every
//! message is compared.

mod store;

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use naam_abi::handler::{NaamMsg, Step};
use naam_handler::native::{Memory, Progress, Visit, request};
use naam_handler::{Msg, View};
use naam_handlers::{echo, mica};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::{Call, Outcome, Store};

/// A C handler in a process of its own, which takes message and view and returns step and message.
struct CHandler {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl CHandler {
    fn start(name: &str, view: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Tests run side by side, and each has a program of its own.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let (source, program) = (dir.join(format!("{name}_{number}.c")), dir.join(format!("{name}_{number}")));
        let text = format!(
            "#include <stdio.h>\n#include \"{name}.c\"\n\
             int main(void)\n{{\n\tstatic struct {{ struct naam_msg m; struct {view} v; }} in;\n\
             \twhile (fread(&in, sizeof in, 1, stdin) == 1) {{\n\
             \t\tnaam_u32 step = {name}(&in.m, &in.v);\n\
             \t\tfwrite(&step, sizeof step, 1, stdout);\n\t\tfwrite(&in.m, sizeof in.m, 1, stdout);\n\
             \t\tfflush(stdout);\n\t}}\n\treturn 0;\n}}\n"
        );
        std::fs::write(&source, text).unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let compiled = Command::new("clang")
            .args(["-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined", "-I"])
            .args([here.join("c"), Path::new("-I").into(), here.join("../handler/include"), source])
            .arg("-o")
            .arg(&program)
            .output()
            .expect("clang is installed by `cargo xtask setup`");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn step(&mut self, m: &Msg, view: &[u64]) -> (u32, Vec<u8>) {
        let mut bytes = to_bytes(m);
        bytes.extend(view.iter().flat_map(|word| word.to_le_bytes()));
        self.input.write_all(&bytes).unwrap();
        self.input.flush().unwrap();
        let mut answer = vec![0; 4 + size_of::<NaamMsg>()];
        self.output.read_exact(&mut answer).unwrap();
        let message = answer.split_off(4);
        (u32::from_le_bytes(answer.try_into().unwrap()), message)
    }

    /// Runs a message natively and compares each step with this handler's.
    fn compare<V: View>(&mut self, handler: fn(&mut Msg, &V) -> Step, m: &mut Msg, memory: &Memory) {
        let mut visit = Visit::<V>::new();
        loop {
            let progress = visit.advance(
                |m, view| {
                    let (step, message) = self.step(m, view.words());
                    let expected = handler(m, view);
                    assert_eq!(step, expected as u32, "at step {}", m.step);
                    assert_eq!(message, to_bytes(m), "after step {}, {expected:?}", m.step);
                    expected
                },
                m,
                memory,
            );
            if matches!(progress, Progress::Finished(_)) {
                return;
            }
        }
    }
}

impl Drop for CHandler {
    fn drop(&mut self) {
        // It ends when its input does; if it hangs, it must not outlive the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn to_bytes(m: &Msg) -> Vec<u8> {
    let head = [m.op_offset, m.op_value, m.op_expect].into_iter().flat_map(u64::to_le_bytes);
    let fields =
        [m.op_region, m.op_len, m.op_source, m.op_done, m.step, m.code, m.arg_len, m.reply_len, m.reply_max, m.shard];
    let arrays = m.state.iter().chain(&m.args).chain(&m.reply).flat_map(|word| word.to_le_bytes());
    head.chain(fields.into_iter().flat_map(u32::to_le_bytes)).chain(arrays).collect()
}

#[test]
fn echo_in_c() {
    let mut c = CHandler::start("echo_c", "naam_view64");
    let memory = Memory::new(&[]);
    for (len, room) in [(0, 1024), (1, 1024), (7, 8), (8, 1024), (1023, 1024), (1024, 1024), (1088, 1024), (100, 40)] {
        let mut m = request(&(0..len).map(|i| i as u8 ^ 0x5a).collect::<Vec<_>>());
        m.reply_max = room;
        c.compare(echo::step, &mut m, &memory);
    }
}

#[test]
fn mica_get_in_c() {
    let mut c = CHandler::start("mica_get_c", "naam_view1k");
    let store = Store::new(1 << 20, 2);
    let mut keys = Vec::new();
    for (i, value_len) in (0..=mica::VALUE_MAX).step_by(31).chain([992, 993, 1000]).enumerate().take(28) {
        keys.push(vec![i as u8; 1 + i * 5 % 64]);
        let value = (0..value_len).map(|j| (i + j) as u8).collect();
        assert!(matches!(store.call(&keys[i], &Call::Set(value)), Outcome::Stored(_)));
    }
    keys.push(vec![9; 64]);
    assert!(matches!(store.call(&keys[28], &Call::Set(vec![3; 1000])), Outcome::Stored(_)), "longer than the view");
    keys.push(b"absent".to_vec());
    for key in &keys {
        let mut m = Call::Get.message(store.geometry, key);
        c.compare(mica::get, &mut m, &store.memory);
    }
}

#[test]
fn mica_get_in_c_on_anything() {
    let c = RefCell::new(CHandler::start("mica_get_c", "naam_view1k"));
    let store = Store::new(64 << 10, 2);
    for i in 0..20u8 {
        store.call(&[i; 12], &Call::Set(vec![i; 50]));
    }
    let small = prop_oneof![0..6u64, any::<u64>(), Just(20 | 3 << 16)];
    let words = (prop::array::uniform16(small.clone()), prop::array::uniform16(small));
    let mut runner = TestRunner::new(Config::with_cases(500));
    let tried = runner.run(&(words, 0..=1088usize), |((state, args), arg_len)| {
        let mut m = request(&vec![0; arg_len]);
        m.state = state;
        m.args[..16].copy_from_slice(&args);
        c.borrow_mut().compare(mica::get, &mut m, &store.memory);
        Ok(())
    });
    tried.unwrap();
}
