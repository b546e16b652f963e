//! Every hostile handler is refused, by its own rule and at its own line.

mod common;

use naam_admission::{Rule, admit};

/// The corpus, and the rule that refuses each of it.
const HOSTILE: &[(&str, Rule)] = &[
    ("atomic_acquire", Rule::AtomicInstruction),
    ("atomic_add", Rule::AtomicInstruction),
    ("atomic_compare", Rule::AtomicInstruction),
    ("atomic_exchange", Rule::AtomicInstruction),
    ("bad_division", Rule::BadInstruction),
    ("bad_opcode", Rule::BadInstruction),
    ("bad_register", Rule::BadInstruction),
    ("bad_reserved", Rule::BadInstruction),
    ("bad_shift", Rule::BadInstruction),
    ("bad_wide", Rule::BadInstruction),
    ("call_depth", Rule::CallDepth),
    ("call_middle", Rule::CallTarget),
    ("call_outside", Rule::CallTarget),
    ("caller_frame", Rule::OutOfStack),
    ("caller_frame_write", Rule::OutOfStack),
    ("core_relocation", Rule::CoreRelocation),
    ("data_string", Rule::DataReference),
    ("data_table", Rule::DataReference),
    ("data_variable", Rule::DataReference),
    ("data_zero", Rule::DataReference),
    ("endless_jump", Rule::EndlessLoop),
    ("endless_loop", Rule::EndlessLoop),
    ("endless_memory", Rule::EndlessLoop),
    ("endless_step", Rule::EndlessLoop),
    ("entry_hidden", Rule::EntryMissing),
    ("entry_static", Rule::EntryMissing),
    ("entry_two", Rule::EntryAmbiguous),
    ("falls_off_end", Rule::FallsOffEnd),
    ("falls_off_end_branch", Rule::FallsOffEnd),
    ("frame_escape", Rule::FrameEscape),
    ("frame_pointer_loaded", Rule::FramePointerWritten),
    ("frame_pointer_written", Rule::FramePointerWritten),
    ("frame_returned", Rule::FrameEscape),
    ("function_address", Rule::FunctionAddress),
    ("helper_call", Rule::HelperCall),
    ("indirect_call", Rule::IndirectCall),
    ("jump_before", Rule::JumpTarget),
    ("jump_middle", Rule::JumpTarget),
    ("jump_outside", Rule::JumpTarget),
    ("kernel_function", Rule::HelperCall),
    ("map_legacy", Rule::MapReference),
    ("map_reference", Rule::MapReference),
    ("meta_magic", Rule::MetaInvalid),
    ("meta_missing", Rule::MetaMissing),
    ("meta_name", Rule::EntryMissing),
    ("meta_reply", Rule::MetaInvalid),
    ("meta_reply_slot", Rule::MetaInvalid),
    ("meta_short", Rule::MetaInvalid),
    ("newer_division", Rule::NewerInstruction),
    ("newer_jump", Rule::NewerInstruction),
    ("newer_load", Rule::NewerInstruction),
    ("newer_may_goto", Rule::NewerInstruction),
    ("newer_move", Rule::NewerInstruction),
    ("newer_remainder", Rule::NewerInstruction),
    ("newer_swap", Rule::NewerInstruction),
    ("not_a_pointer", Rule::NotAPointer),
    ("not_a_pointer_loaded", Rule::NotAPointer),
    ("null_branch_leak", Rule::PointerInMessage),
    ("null_branch_number", Rule::PointerArithmetic),
    ("null_branch_other", Rule::ViewWritten),
    ("out_of_message", Rule::OutOfMessage),
    ("out_of_message_index", Rule::OutOfMessage),
    ("out_of_message_read", Rule::OutOfMessage),
    ("out_of_stack", Rule::OutOfStack),
    ("out_of_stack_above", Rule::OutOfStack),
    ("out_of_view", Rule::OutOfView),
    ("out_of_view_before", Rule::OutOfView),
    ("out_of_view_half_checked", Rule::PointerUnbounded),
    ("out_of_view_index", Rule::OutOfView),
    ("out_of_view_mod_zero", Rule::PointerUnbounded),
    ("out_of_view_other_copy", Rule::PointerUnbounded),
    ("out_of_view_shift", Rule::PointerUnbounded),
    ("out_of_view_signed", Rule::OutOfView),
    ("out_of_view_small", Rule::OutOfView),
    ("out_of_view_straddle", Rule::OutOfView),
    ("out_of_view_underflow", Rule::OutOfView),
    ("packet_load", Rule::PacketLoad),
    ("packet_load_indirect", Rule::PacketLoad),
    ("pointer_add_32", Rule::PointerArithmetic),
    ("pointer_as_offset", Rule::PointerArithmetic),
    ("pointer_bit", Rule::PointerCompared),
    ("pointer_byte_read", Rule::PointerTruncated),
    ("pointer_compared_number", Rule::PointerCompared),
    ("pointer_compared_pointer", Rule::PointerCompared),
    ("pointer_difference", Rule::PointerArithmetic),
    ("pointer_far", Rule::PointerUnbounded),
    ("pointer_half_null", Rule::PointerCompared),
    ("pointer_half_read", Rule::PointerTruncated),
    ("pointer_into_number", Rule::PointerArithmetic),
    ("pointer_lost_somewhere", Rule::PointerTruncated),
    ("pointer_low_half", Rule::PointerArithmetic),
    ("pointer_negated", Rule::PointerArithmetic),
    ("pointer_or_number", Rule::PointerInMessage),
    ("pointer_or_zero", Rule::PointerArithmetic),
    ("pointer_overwritten", Rule::PointerTruncated),
    ("pointer_overwritten_byte", Rule::PointerTruncated),
    ("pointer_returned", Rule::PointerReturned),
    ("pointer_saved_half", Rule::PointerTruncated),
    ("pointer_saved_odd", Rule::PointerTruncated),
    ("pointer_saved_somewhere", Rule::PointerTruncated),
    ("pointer_search", Rule::PointerCompared),
    ("pointer_shifted", Rule::PointerArithmetic),
    ("pointer_sign", Rule::PointerCompared),
    ("pointer_stored", Rule::PointerInMessage),
    ("pointer_stored_half", Rule::PointerInMessage),
    ("pointer_stored_state", Rule::PointerInMessage),
    ("pointer_straddled", Rule::PointerTruncated),
    ("pointer_subtracted", Rule::PointerArithmetic),
    ("pointer_sum", Rule::PointerArithmetic),
    ("pointer_swapped", Rule::PointerArithmetic),
    ("pointer_through_function", Rule::PointerInMessage),
    ("pointer_through_stack", Rule::PointerInMessage),
    ("pointer_times_one", Rule::PointerArithmetic),
    ("pointer_unbounded", Rule::PointerUnbounded),
    ("pointer_xor", Rule::PointerArithmetic),
    ("pseudo_map_load", Rule::MapReference),
    ("pseudo_variable_load", Rule::MapReference),
    ("recursion", Rule::Recursion),
    ("recursion_mutual", Rule::Recursion),
    ("signature_arguments", Rule::WrongSignature),
    ("signature_message", Rule::WrongSignature),
    ("signature_name", Rule::WrongSignature),
    ("signature_pointer", Rule::WrongSignature),
    ("signature_return", Rule::WrongSignature),
    ("signature_view", Rule::WrongSignature),
    ("signature_void", Rule::WrongSignature),
    ("stack_depth", Rule::StackDepth),
    ("stack_depth_nested", Rule::StackDepth),
    ("stack_pointer_stored", Rule::PointerInMessage),
    ("too_large", Rule::TooLarge),
    ("too_long", Rule::TooLong),
    ("too_long_nested", Rule::TooLong),
    ("too_long_unbounded", Rule::TooLong),
    ("undefined_symbol", Rule::UndefinedSymbol),
    ("uninitialised_after_call", Rule::UninitialisedRegister),
    ("uninitialised_lent", Rule::UninitialisedStack),
    ("uninitialised_register", Rule::UninitialisedRegister),
    ("uninitialised_result", Rule::UninitialisedRegister),
    ("uninitialised_stack", Rule::UninitialisedStack),
    ("uninitialised_stack_part", Rule::UninitialisedStack),
    ("uninitialised_stack_path", Rule::UninitialisedStack),
    ("uninitialised_stack_somewhere", Rule::UninitialisedStack),
    ("unreachable", Rule::UnreachableCode),
    ("view_written", Rule::ViewWritten),
];

#[test]
fn every_hostile_handler_is_refused_by_its_rule() {
    let mut wrong = Vec::new();
    for (name, rule) in HOSTILE {
        let source = common::corpus().join("hostile").join(name).with_extension("c");
        let text = std::fs::read_to_string(&source).expect("the corpus is readable");
        let marked = text.lines().position(|line| line.contains("/* refused */")).map(|at| at as u32 + 1);
        match admit(&common::compile(&source)) {
            Ok(admitted) => wrong.push(format!("{name}: admitted, {} instructions", admitted.insns.len())),
            Err(refusal) if refusal.rule != *rule => wrong.push(format!("{name}: not by {rule}: {refusal}")),
            Err(refusal) => {
                let line = refusal.source.as_ref().map(|source| source.line);
                if marked.is_some() && line != marked {
                    wrong.push(format!("{name}: at line {line:?} instead of {marked:?}: {refusal}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_is_the_folder() {
    let found: Vec<_> = common::sources("hostile").iter().map(|path| common::stem(path).to_owned()).collect();
    let mut listed: Vec<_> = HOSTILE.iter().map(|(name, _)| (*name).to_owned()).collect();
    listed.sort();
    assert_eq!(found, listed);
}
