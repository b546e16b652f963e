//! What a kernel does for a host, on the same two machines: how its verifier judges handlers, and calls of a client.
//! `cargo xtask vm matrix` runs this for every kernel.

mod calls;
mod pair;
mod tree;
mod verifier;
