//! Every bound of the control plane.

use std::time::Duration;

use naam_abi::limits::{FUNCTIONS_MAX, HANDLER_INSNS_MAX};

/// Bytes of a handler object sent in a request: its instructions many times over, for debug
/// information.
pub const OBJECT_BYTES_MAX: usize = 2 << 20;
/// Bytes of a region that one dump shows.
pub const DUMP_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a request line on the unix socket: a handler object in base64.
pub const LINE_BYTES_UNIX: usize = 4 << 20;
/// Bytes of a request line on TCP, where anybody may send.
pub const LINE_BYTES_TCP: usize = 16 << 10;
/// Bytes of an answer line that a client accepts.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Connections at a time on the unix socket.
pub const CONNECTIONS_UNIX: usize = 64;
/// Connections at a time on TCP: one for each session, and some.
pub const CONNECTIONS_TCP: usize = 1280;
/// Of these, from one address: a machine full of clients, not all there is.
pub const CONNECTIONS_ADDRESS: usize = 320;
/// Time from a line's first byte to its end, and from a connection's beginning to its hello.
pub const LINE_TIME: Duration = Duration::from_secs(10);
/// Time that a connection may be silent between two requests.
pub const IDLE_TIME: Duration = Duration::from_secs(300);
/// Time that a peer may take to accept an answer.
pub const WRITE_TIME: Duration = Duration::from_secs(10);
/// Time that requests under way have to finish when the server stops.
pub const STOP_TIME: Duration = Duration::from_secs(5);
/// Time for which a session lives without renewal, unless the configuration says otherwise.
pub const LEASE: Duration = Duration::from_secs(30);
/// Time within which a request for a queue pair is answered. What takes longer, such as registering many GiB for the first
/// time, goes on, and is there when it is asked again.
pub const RDMA_CONNECT_TIME: Duration = Duration::from_secs(8);
/// Time that a client waits for that answer: calls go without RDMA meanwhile.
pub const RDMA_ANSWER_TIME: Duration = Duration::from_secs(10);
/// Requests for a queue pair that are worked on at a time.
pub const RDMA_CONNECTS: usize = 64;
/// Of these, for one app: what keeps that one's waiting holds up no other's.
pub const RDMA_CONNECTS_APP: usize = 16;

const _: () = {
    assert!(RDMA_CONNECT_TIME.as_millis() < RDMA_ANSWER_TIME.as_millis());
    assert!(RDMA_CONNECTS_APP < RDMA_CONNECTS);
    assert!(OBJECT_BYTES_MAX / 3 * 4 + 4096 <= LINE_BYTES_UNIX);
    assert!(DUMP_BYTES_MAX as usize / 3 * 4 + 4096 <= ANSWER_BYTES_MAX);
    assert!(HANDLER_INSNS_MAX * 8 * 8 <= OBJECT_BYTES_MAX);
    assert!(CONNECTIONS_ADDRESS < CONNECTIONS_TCP);
    assert!(CONNECTIONS_TCP >= naam_abi::limits::SESSIONS_MAX);
    // A function table entry takes less than 320 bytes of JSON.
    assert!(FUNCTIONS_MAX * 320 <= ANSWER_BYTES_MAX);
    assert!(OBJECT_BYTES_MAX / 3 * 4 + 4096 <= ANSWER_BYTES_MAX);
};
