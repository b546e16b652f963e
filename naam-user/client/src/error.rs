//! Why a call is refused, or how it failed.

use naam_abi::wire::Status;

/// Why a call was not taken. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many calls as the window holds are in flight: poll, then submit again.
    #[error("{window} calls are in flight, as many as the window holds")]
    Busy {
        /// The window.
        window: usize,
    },
    /// Every slot of the session is taken by a writing call: poll, then submit again.
    #[error("all {slots} request slots of the session are in use by writing calls")]
    NoSlot {
        /// The session's slots.
        slots: usize,
    },
    /// The app has no such function, as far as this session knows.
    #[error("the session knows no function number {number}")]
    NoFunction {
        /// The number.
        number: u16,
    },
    /// The app has fewer shards.
    #[error("there is no shard {shard}: the app has {shards}")]
    NoShard {
        /// The shard asked for.
        shard: u16,
        /// Shards of the app.
        shards: u16,
    },
    /// The arguments are too long.
    #[error("{len} bytes of arguments; this client takes at most {max}")]
    ArgsTooLong {
        /// Their length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Arguments and reply need more room than a datagram has on this path.
    #[error("a message with {room} bytes of room does not fit a datagram of {max} bytes")]
    RoomTooLong {
        /// Room needed.
        room: usize,
        /// Longest datagram.
        max: usize,
    },
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The handler answered FAIL.
    #[error("the handler failed with code {code}")]
    Failed {
        /// Its reason.
        code: u32,
    },
    /// The host did not serve the message.
    #[error("the host answered {status:?}{}", may_have_run_text(*.may_have_run))]
    Refused {
        /// Its answer.
        status: Status,
        /// The result code as the handler had left it, if it ran: 0, or what it says of a message that did not end.
        code: u32,
        /// Whether an attempt may have had an effect. If not, the only attempt was answered "not
        /// run" (a copy of it could still run only if the network repeated it and the host's
        /// configuration changed in between).
        may_have_run: bool,
    },
    /// No answer came before the deadline.
    #[error("no answer in time after {attempts} attempts{}", may_have_run_text(*.may_have_run))]
    Timeout {
        /// Times the message was sent.
        attempts: u16,
        /// Whether one of them may have run: false only if none was sent. "Not run" answers do not
        /// count here, because they speak of one copy, and a network may have made others.
        may_have_run: bool,
    },
    /// The client was closed, or its transport failed, before an answer came.
    #[error("the client was closed before an answer came{}", may_have_run_text(*.may_have_run))]
    Closed {
        /// Whether the message may have run.
        may_have_run: bool,
    },
}

impl CallError {
    /// Whether the function may have had an effect, wholly or in part.
    pub fn may_have_run(&self) -> bool {
        match *self {
            Self::Failed { .. } => true,
            Self::Refused { may_have_run, .. } | Self::Timeout { may_have_run, .. } | Self::Closed { may_have_run } => {
                may_have_run
            }
        }
    }
}

fn may_have_run_text(may_have_run: bool) -> &'static str {
    if may_have_run { "; it may have run" } else { "; it has not run" }
}
