//! Any bytes may be given: damaged and foreign files are refused by name, and nothing panics.

use std::sync::OnceLock;

use naam_admission::{Refusal, Report, Rule, admit, explain};
use proptest::prelude::*;

use crate::build;

/// A good object with local functions, relocations and lines.
fn good() -> &'static [u8] {
    static OBJECT: OnceLock<Vec<u8>> = OnceLock::new();
    OBJECT.get_or_init(|| build::compile(&build::corpus().join("honest/sections.c")))
}

fn refused(object: &[u8]) -> Refusal {
    match explain(object) {
        Report::Refused(refusal) => refusal,
        Report::Admitted(handler) => panic!("admitted: {handler}"),
    }
}

/// Where a section's bytes lie in the file.
fn section(object: &[u8], name: &str) -> std::ops::Range<usize> {
    use object::{Object as _, ObjectSection as _};
    let file = object::File::parse(object).expect("a good object");
    let (start, len) =
        file.section_by_name(name).and_then(|section| section.file_range()).expect("the section is there");
    start as usize..(start + len) as usize
}

#[test]
fn foreign_files_are_refused_by_name() {
    let source = build::corpus().join("honest/echo.c");
    let with = |flags: &[&str]| refused(&build::compile_with(&source, flags)).rule;
    assert_eq!(with(&["-target", "x86_64-linux-gnu", "-g"]), Rule::WrongArchitecture);
    assert_eq!(with(&["-target", "i386-linux-gnu", "-g"]), Rule::WrongArchitecture);
    assert_eq!(with(&["-target", "bpfeb", "-mcpu=v3", "-g"]), Rule::BigEndian);
    assert_eq!(with(&["-target", "bpf", "-mcpu=v3"]), Rule::BtfMissing);
    assert_eq!(refused(b"").rule, Rule::NotElf);
    assert_eq!(refused(b"#!/bin/sh\n").rule, Rule::NotElf);
    assert_eq!(refused(&vec![0; 17 << 20]).rule, Rule::TooLarge);
}

#[test]
fn older_instruction_sets_are_admitted() {
    let source = build::corpus().join("honest/echo.c");
    for cpu in ["-mcpu=v1", "-mcpu=v2", "-mcpu=v3"] {
        admit(&build::compile_with(&source, &["-target", "bpf", cpu, "-g"])).unwrap();
    }
}

#[test]
fn every_truncation_is_refused() {
    let object = good();
    for len in 0..object.len() {
        let rule = refused(&object[..len]).rule;
        let expected = if len < 4 { Rule::NotElf } else { Rule::TruncatedElf };
        // Past the section table nothing but padding could be missing.
        assert_eq!(rule, expected, "{len} of {}", object.len());
    }
}

#[test]
fn executables_are_not_objects() {
    let mut object = good().to_vec();
    object[16] = 2;
    assert_eq!(refused(&object).rule, Rule::BadElf);
}

#[test]
fn damaged_btf_is_refused() {
    for name in [".BTF", ".BTF.ext"] {
        let mut object = good().to_vec();
        let range = section(&object, name);
        object[range.start] ^= 1;
        assert_eq!(refused(&object).rule, Rule::BtfInvalid, "{name}");
    }
}

#[test]
fn strange_relocations_are_refused() {
    let source = build::corpus().join("hostile/undefined_symbol.c");
    let object = build::compile(&source);
    let range = section(&object, ".rel.text");
    let with = |change: fn(&mut [u8])| {
        let mut object = object.clone();
        change(&mut object[range.clone()]);
        refused(&object).rule
    };
    assert_eq!(with(|_| {}), Rule::UndefinedSymbol);
    // A symbol that does not exist.
    assert_eq!(with(|relocation| relocation[14] = 0x7f), Rule::BadRelocation);
    // In the middle of the instruction, of another type, at another instruction.
    assert_eq!(with(|relocation| relocation[0] += 4), Rule::UndefinedSymbol);
    assert_eq!(with(|relocation| relocation[8] = 1), Rule::UndefinedSymbol);
    // Moved behind the function: the call is then the helper or function its bytes say.
    assert_eq!(with(|relocation| relocation[1] = 0x40), Rule::CallTarget);
}

#[test]
fn a_refusal_names_function_line_and_way_out() {
    let refusal = refused(&build::compile(&build::corpus().join("hostile/pointer_stored.c")));
    let text = refusal.to_string();
    for part in [
        "refused by rule pointer-in-message: pointer_stored, ",
        "hostile/pointer_stored.c:8: \"m->reply[0] = (u64)v; /* refused */\" stores a view pointer into the message.",
        "Handlers may store only numbers.",
    ] {
        assert!(text.contains(part), "{part:?} not in {text:?}");
    }
}

#[test]
fn what_runs_has_one_hash() {
    let first = admit(good()).unwrap();
    let again = admit(&build::compile(&build::corpus().join("honest/sections.c"))).unwrap();
    let other = admit(&build::compile(&build::corpus().join("honest/echo.c"))).unwrap();
    assert_eq!(first.hash, again.hash);
    assert_ne!(first.hash, other.hash);
    assert_eq!(first.functions()[0].name, "sections");
    assert_eq!(first.functions().iter().map(|func| func.count).sum::<usize>(), first.insns().len());
    assert!(first.lines.iter().all(|line| line.insn < first.insns().len()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is changed, the answer is a verdict, and what is admitted is well formed.
    #[test]
    fn damage_never_panics(
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), 0..8_u32), 1..6),
        cut in proptest::option::weighted(0.1, any::<proptest::sample::Index>()),
    ) {
        let mut object = good().to_vec();
        for (at, bit) in flips {
            let at = at.index(object.len());
            object[at] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            object.truncate(cut.index(object.len()));
        }
        match admit(&object) {
            Ok(admitted) => prop_assert!(!admitted.insns().is_empty() && admitted.cost > 0),
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        }
    }

    /// The same where it hurts: in the headers, the symbols, BTF, the code.
    #[test]
    fn damage_to_one_part_never_panics(
        part in proptest::sample::select(&[".text", ".rel.text", ".symtab", ".strtab", ".BTF", ".BTF.ext", ".naam"][..]),
        bytes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut object = good().to_vec();
        let range = section(&object, part);
        for (at, byte) in bytes {
            object[range.start + at.index(range.len())] = byte;
        }
        prop_assert!(!explain(&object).to_string().is_empty());
    }

    #[test]
    fn noise_never_panics(tail in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut object = good()[..20].to_vec();
        object.extend(tail);
        prop_assert!(admit(&object).is_err());
    }
}
