//! NAAM's own handlers. Each module holds a step function, which `src/bin` makes a handler object
//! of, and the native side for those who call it: encoding of arguments, meaning of results.
//!
//! | handler | arguments | effect, reply |
//! |---|---|---|
//! | [`echo`] | any bytes | the same bytes |
//! | [`counter`] | offset, addend | adds to a word; the word before |
//! | [`chain`] | offset, hops | follows a linked list; where it came to |
//! | [`onesided`] | one memory op, or a chain of them | the built-in functions of [`naam_abi::onesided`] |
//! | [`mica`] | a key, perhaps a value | a key-value store: get, set, cas, delete |
//! | [`cell`] | a key | a B-tree that its owner changes: get, scan |
#![cfg_attr(target_arch = "bpf", no_std)]

pub mod cell;
pub mod chain;
pub mod counter;
pub mod echo;
pub mod mica;
pub mod onesided;
