//! `naam.h` and the Rust declarations are the same: a C program says what the compiler made of it.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use naam_abi::handler::{META_BYTES, META_MAGIC, META_WRITES, Meta, NaamMsg, NaamView1k, NaamView64, Step};
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES, SLOT_REPLY_BYTES, STATE_BYTES, STEPS_MAX};

/// Compiles and runs a C program that prints each expression as a number.
fn evaluate(expressions: &[&str]) -> Vec<u64> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (dir.join("c_header.c"), dir.join("c_header"));
    let mut text = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"naam.h\"\n\
         NAAM_HANDLER(a_handler, naam_view64, NAAM_WRITES, 16, 24) { (void)v; return naam_done(m, 0, 0); }\n\
         int main(void)\n{\n",
    );
    for expression in expressions {
        writeln!(text, "\tprintf(\"%llu\\n\", (unsigned long long)({expression}));").unwrap();
    }
    text.push_str("\treturn a_handler(0, 0) == NAAM_FAIL ? 0 : 1;\n}\n");
    fs::write(&source, text).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let compiled = Command::new("clang")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([&include, &source])
        .arg("-o")
        .arg(&program)
        .output()
        .expect("clang is installed by `cargo xtask setup`");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

macro_rules! same {
    ($($c:expr => $rust:expr),* $(,)?) => {{
        let values = evaluate(&[$($c),*]);
        let expected = [$(($c, $rust as u64)),*];
        assert_eq!(values.len(), expected.len());
        for (value, (expression, expected)) in values.into_iter().zip(expected) {
            assert_eq!(value, expected, "naam.h: {expression}");
        }
    }};
}

macro_rules! offsets {
    ($c:literal $rust:ty: $($field:ident)*) => {
        [$((concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"), std::mem::offset_of!($rust, $field) as u64)),*]
    };
}

#[test]
fn sizes_and_numbers() {
    same! {
        "sizeof(struct naam_msg)" => size_of::<NaamMsg>(),
        "sizeof(struct naam_view64)" => size_of::<NaamView64>(),
        "sizeof(struct naam_view1k)" => size_of::<NaamView1k>(),
        "sizeof(struct naam_meta)" => META_BYTES,
        "sizeof(((struct naam_msg *)0)->state)" => STATE_BYTES,
        "sizeof(((struct naam_msg *)0)->args)" => ARGS_BYTES,
        "sizeof(((struct naam_msg *)0)->reply)" => REPLY_BYTES,
        "NAAM_STATE_BYTES" => STATE_BYTES,
        "NAAM_ARGS_BYTES" => ARGS_BYTES,
        "NAAM_REPLY_BYTES" => REPLY_BYTES,
        "NAAM_SLOT_REPLY_BYTES" => SLOT_REPLY_BYTES,
        "NAAM_STEPS_MAX" => STEPS_MAX,
        "NAAM_DONE" => Step::Done,
        "NAAM_READ" => Step::Read,
        "NAAM_WRITE" => Step::Write,
        "NAAM_CAS" => Step::Cas,
        "NAAM_FAA" => Step::Faa,
        "NAAM_FAIL" => Step::Fail,
        "NAAM_WRITES" => META_WRITES,
        "NAAM_META_MAGIC" => META_MAGIC,
        "naam_meta.magic" => META_MAGIC,
        "naam_meta.flags" => META_WRITES,
        "naam_meta.reply_max" => 16,
        "naam_meta.state_len" => 24,
        "naam_meta.reserved" => 0,
        "naam_meta.name[8]" => b'r',
    }
    let message = offsets!("naam_msg" NaamMsg: op_offset op_value op_expect op_region op_len op_source op_done step code
        arg_len reply_len reply_max shard state args reply);
    let meta = offsets!("naam_meta" Meta: magic flags reply_max state_len reserved name);
    for fields in [&message[..], &meta[..]] {
        let expressions: Vec<_> = fields.iter().map(|(expression, _)| *expression).collect();
        let expected: Vec<_> = fields.iter().map(|(_, offset)| *offset).collect();
        assert_eq!(evaluate(&expressions), expected, "{expressions:?}");
    }
}
