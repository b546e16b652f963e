//! Retries and deadlines.

use super::calls::Phase;
use super::{Completion, Core};
use crate::error::CallError;

impl Core {
    /// Puts unanswered calls in line again and ends those whose time is over.
    pub fn tick(&mut self, now: u64, done: &mut impl FnMut(Completion<'_>)) {
        while let Some(index) = self.timers.pop(now) {
            let call = &self.calls[index];
            if now >= call.deadline {
                let (attempts, may_have_run) = (call.attempts, call.attempts > 0);
                self.end(index, false, Err(CallError::Timeout { attempts, may_have_run }), done);
            } else {
                debug_assert_eq!(call.phase, Phase::Sent, "calls in line have only their deadline");
                self.send_again(index, now);
            }
        }
    }
}
