//! libibverbs of rdma-core, as its header `infiniband/verbs.h` has it.
//!
//! The library is found when the program runs ([`Verbs::new`]), not when it is linked: one `naam` serves machines with
//! and without RDMA, and neither building nor running it takes rdma-core. The types and the table of calls are generated
//! by bindgen and kept in the repository; `cargo xtask verbs-sys` generates them again, from the very version of the header
//! that `vm-images/lock.toml` names, and says whether they are the same.
//!
//! Three calls of the data path are no symbols of the library but inline functions of the header, one indirect call each.
//! They are written out here ([`post_send`], [`poll_cq`], [`req_notify_cq`]) rather than wrapped in C: a wrapper would have to
//! be compiled against the header on every machine that builds NAAM, for every processor. That the header still says what
//! is written here is checked by `cargo xtask verbs-sys` as well.

#[allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    missing_docs,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    reason = "generated"
)]
mod bindings {
    include!("../bindings/verbs.rs");
}

pub use bindings::*;

/// The name under which the dynamic linker knows the library; its interface has been stable since 2005.
pub const LIBRARY: &str = "libibverbs.so.1";

/// The bodies of the header's inline functions that are written out here, without white space at their ends.
pub const INLINE_BODIES: [&str; 3] = [
    "return qp->context->ops.post_send(qp, wr, bad_wr);",
    "return cq->context->ops.poll_cq(cq, num_entries, wc);",
    "return cq->context->ops.req_notify_cq(cq, solicited_only);",
];

/// `ibv_post_send`.
///
/// # Safety
/// `qp` is a live queue pair; the list `wr` and what its scatter lists name are valid, the latter until the request
/// completes; `bad_wr` may be written.
pub unsafe fn post_send(qp: *mut ibv_qp, wr: *mut ibv_send_wr, bad_wr: *mut *mut ibv_send_wr) -> i32 {
    // SAFETY: the caller's queue pair is live, and so is the context that it belongs to.
    let call = unsafe { (*(*qp).context).ops.post_send };
    // SAFETY: as the caller promises. Every provider sets the call, or its queue pair could not have been made.
    call.map_or(libc::ENOSYS, |call| unsafe { call(qp, wr, bad_wr) })
}

/// `ibv_poll_cq`.
///
/// # Safety
/// `cq` is a live completion queue, and `wc` has room for `count` completions.
pub unsafe fn poll_cq(cq: *mut ibv_cq, count: i32, wc: *mut ibv_wc) -> i32 {
    // SAFETY: the caller's queue is live, and so is the context that it belongs to.
    let call = unsafe { (*(*cq).context).ops.poll_cq };
    // SAFETY: as the caller promises.
    call.map_or(-libc::ENOSYS, |call| unsafe { call(cq, count, wc) })
}

/// `ibv_req_notify_cq`.
///
/// # Safety
/// `cq` is a live completion queue.
pub unsafe fn req_notify_cq(cq: *mut ibv_cq, solicited_only: i32) -> i32 {
    // SAFETY: the caller's queue is live, and so is the context that it belongs to.
    let call = unsafe { (*(*cq).context).ops.req_notify_cq };
    // SAFETY: as the caller promises.
    call.map_or(libc::ENOSYS, |call| unsafe { call(cq, solicited_only) })
}
