//! Why a handler may not run, told to its author.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! rules {
    ($($variant:ident $name:literal $says:literal $way_out:literal;)*) => {
        /// The rules of admission. Names are stable: scripts and tests may rely on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule {
            $(#[doc = $says] $variant,)*
        }

        impl Rule {
            /// Every rule, in the order in which they are checked.
            pub const ALL: &'static [Rule] = &[$(Rule::$variant,)*];

            /// The stable kebab-case name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What the rule demands, in one line.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }

            /// What the author can do.
            pub const fn way_out(self) -> &'static str {
                match self { $(Self::$variant => $way_out,)* }
            }
        }
    };
}

rules! {
    NotElf "not-elf" "A handler is an ELF object." "Give the .o file that the compiler made.";
    WrongArchitecture "wrong-architecture" "A handler is compiled for 64-bit BPF." "Compile with `-target bpf` (C) or `--target bpfel-unknown-none` (Rust).";
    BigEndian "big-endian" "A handler is little-endian." "Compile for bpfel, not bpfeb.";
    TruncatedElf "truncated-elf" "The file holds all that its headers announce." "Copy or build the object again.";
    BadElf "bad-elf" "The ELF tables are well formed and describe one relocatable object." "Build the object again with an unmodified tool chain.";
    MetaMissing "meta-missing" "Section .naam describes the handler." "Use the export macro of naam-handler, or NAAM_HANDLER of naam.h.";
    MetaInvalid "meta-invalid" "The description in .naam is well formed and within the limits." "Use the export macro of naam-handler, or NAAM_HANDLER of naam.h, of this release.";
    BtfMissing "btf-missing" "Sections .BTF and .BTF.ext are there." "Compile with -g (C), or with `-C debuginfo=2 -C link-arg=--btf` (Rust).";
    BtfInvalid "btf-invalid" "BTF is well formed." "Build the object again with an unmodified tool chain.";
    EntryMissing "entry-missing" "The object has a global function of the handler's name." "Export the function under the name that .naam gives; make it neither static nor hidden.";
    EntryAmbiguous "entry-ambiguous" "The object has one global function, the handler." "Make helper functions static, and build one object per handler.";
    WrongSignature "wrong-signature" "A handler is `u32 name(struct naam_msg *, const struct naam_view64 *)` or takes naam_view1k." "Use that prototype, with the types of this release's naam-handler or naam.h.";
    CoreRelocation "core-relocation" "A handler needs no CO-RE relocation: it sees no kernel types." "Remove preserve_access_index from the types.";
    BadRelocation "bad-relocation" "Relocations in code are calls of the object's own functions." "Build the object again with an unmodified tool chain.";
    MapReference "map-reference" "A handler uses no maps." "Keep what must last in `state` or in a region, and ask for it with READ and WRITE.";
    DataReference "data-reference" "A handler has no globals and no constant tables." "Write constants as code (a match or switch), or keep tables in a region.";
    FunctionAddress "function-address" "A handler takes no function's address." "Call the function directly.";
    UndefinedSymbol "undefined-symbol" "Every function that is called is in the object." "Define the function in the object; a memcpy or panic that the compiler called must be avoided or defined.";
    TooLarge "too-large" "The program fits the size limit." "Split the handler, or keep its helper functions out of line.";
    BadInstruction "bad-instruction" "Instructions are well-formed BPF." "Build the object again with an unmodified tool chain.";
    NewerInstruction "newer-instruction" "Instructions are those of BPF cpu v3, which every supported kernel runs." "Compile with -mcpu=v3 (C) or `-C target-cpu=v3` (Rust).";
    AtomicInstruction "atomic-instruction" "A handler is pure and needs no atomic instruction." "Ask the runtime with the steps CAS or FAA.";
    PacketLoad "packet-load" "A handler sees no packet." "Read the arguments in the message.";
    HelperCall "helper-call" "A handler calls no kernel function." "Ask the runtime by a step; a handler has only its message and its view.";
    IndirectCall "indirect-call" "Calls name their target." "Call the function directly.";
    CallTarget "call-target" "Calls lead to the first instruction of a function of the object." "Build the object again with an unmodified tool chain.";
    JumpTarget "jump-target" "Jumps stay in their function and land on whole instructions." "Build the object again with an unmodified tool chain.";
    FallsOffEnd "falls-off-end" "A function's last instruction leaves it." "Let every path return; a function that the compiler believes endless or undefined has no end.";
    UnreachableCode "unreachable-code" "Every instruction can be reached." "Build the object again with an unmodified tool chain.";
    FramePointerWritten "frame-pointer-written" "Register r10 is read-only." "Build the object again with an unmodified tool chain.";
    Recursion "recursion" "Functions do not call themselves, directly or through others." "Use a loop with a constant bound, or continue in the next step.";
    CallDepth "call-depth" "Calls nest at most eight functions deep." "Inline some of the functions.";
    StackDepth "stack-depth" "The stacks of nested functions fit the limit together." "Work in `state` or in the reply instead of local arrays.";
    UninitialisedRegister "uninitialised-register" "Registers are written before they are read." "Give the variable a value on every path.";
    UninitialisedStack "uninitialised-stack" "Stack bytes are written before they are read." "Give the variable a value on every path.";
    NotAPointer "not-a-pointer" "Memory is accessed through the message, the view or the stack." "Do not make addresses from numbers.";
    OutOfMessage "out-of-message" "Accesses stay inside the message." "Check or mask the index right before it is used.";
    OutOfView "out-of-view" "Accesses stay inside the view." "Check or mask the index right before it is used; take the large view if 64 bytes are too few.";
    OutOfStack "out-of-stack" "Accesses stay inside the function's own stack, or what its caller lent of its own." "Check or mask the index right before it is used.";
    ViewWritten "view-written" "The view is read-only." "Write to the reply or to `state`, and ask for a WRITE step to change memory.";
    PointerInMessage "pointer-in-message" "Handlers may store only numbers." "Store what the pointer points to.";
    PointerArithmetic "pointer-arithmetic" "A pointer plus or minus a number is a pointer; nothing else is computed from pointers." "Compute with indices instead of addresses.";
    PointerUnbounded "pointer-unbounded" "What is added to a pointer is bounded." "Check or mask the index before it is added.";
    PointerCompared "pointer-compared" "Pointers are compared with null only." "Compare indices instead of addresses.";
    PointerTruncated "pointer-truncated" "Pointers are saved and restored whole." "Do not copy pointers byte by byte or keep them in packed memory.";
    PointerReturned "pointer-returned" "A handler returns a step code." "Return one of the step codes.";
    FrameEscape "frame-escape" "No pointer to a function's stack outlives the function." "Let the caller own the memory and pass it down.";
    EndlessLoop "endless-loop" "Every loop is seen to end." "Count the loop with a local variable up to a constant bound.";
    TooLong "too-long" "The longest path through one step fits the cost limit." "Bound the loops tighter, or continue in the next step.";
    TooComplex "too-complex" "The audit ends within its budget." "Reduce the branches inside loops, or split the work into steps.";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A place in the author's source, as BTF line information gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// File, as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
    /// The line's text without its indentation; empty if the compiler could not read the file.
    pub text: String,
}

/// Why an object was refused: the first broken rule and where it is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The broken rule.
    pub rule: Rule,
    /// The function that breaks it, if one does.
    pub function: Option<String>,
    /// The instruction that breaks it: counted in the linked program, or, while functions are
    /// being linked, from the first instruction of [`Refusal::function`].
    pub insn: Option<usize>,
    /// The author's source line, if BTF tells it.
    pub source: Option<Box<Source>>,
    /// What is wrong: a phrase whose subject is the source line or instruction if there is one,
    /// else a sentence without its full stop.
    pub detail: String,
}

impl Refusal {
    /// A refusal of the object as a whole.
    pub(crate) fn object(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, function: None, insn: None, source: None, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by rule {}: ", self.rule)?;
        if let Some(function) = &self.function {
            write!(f, "{}, ", printable(function))?;
        }
        if let Some(source) = &self.source {
            write!(f, "{}:{}: ", printable(&source.file), source.line)?;
        }
        match (&self.source, self.insn) {
            (Some(source), _) if !source.text.is_empty() => write!(f, "\"{}\" ", printable(&source.text))?,
            (_, Some(insn)) => write!(f, "instruction {insn} ")?,
            _ => {}
        }
        write!(f, "{}. {} {}", printable(&self.detail), self.rule.explanation(), self.rule.way_out())
    }
}

impl std::error::Error for Refusal {}

/// Names and source text come out of an untrusted file: no control character reaches a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A broken rule at an instruction, before it is put into the author's terms.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub rule: Rule,
    pub insn: usize,
    pub detail: String,
}

impl Fault {
    pub fn new(rule: Rule, insn: usize, detail: impl Into<String>) -> Self {
        Self { rule, insn, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_kebab_case_and_unique() {
        let mut seen = HashSet::new();
        for rule in Rule::ALL {
            assert!(rule.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{rule}");
            assert!(seen.insert(rule.name()), "{rule} twice");
            assert!(rule.explanation().ends_with('.') && rule.way_out().ends_with('.'), "{rule}");
        }
    }

    #[test]
    fn display_names_rule_place_and_way_out() {
        let refusal = Refusal {
            rule: Rule::PointerInMessage,
            function: Some("get".into()),
            insn: Some(3),
            source: Some(Box::new(Source {
                file: "src/get.rs".into(),
                line: 41,
                column: 5,
                text: "m.reply[0] = v as *const _ as u64;".into(),
            })),
            detail: "stores a view pointer into the message".into(),
        };
        assert_eq!(
            refusal.to_string(),
            "refused by rule pointer-in-message: get, src/get.rs:41: \"m.reply[0] = v as *const _ as u64;\" \
             stores a view pointer into the message. Handlers may store only numbers. \
             Store what the pointer points to."
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut refusal = Refusal::object(Rule::BadElf, "x");
        refusal.function = Some("a\u{1b}[2Jb".into());
        assert!(!refusal.to_string().contains('\u{1b}'));
    }
}
