//! One message, one word at a time: what a test needs that interleaves messages as finely as
//! processors do.

use std::sync::atomic::Ordering;

use naam_abi::handler::{NaamMsg, Step};
use naam_abi::limits::STEPS_MAX;
use naam_abi::wire::Status;

use super::Memory;
use crate::{Msg, View};

/// A visit that can be left between any two accesses to memory.
///
/// READ and WRITE take their words one at a time in an order that the test chooses: processors
/// promise nothing but whole words.
#[derive(Clone, Debug)]
pub struct WordVisit<V> {
    message: Msg,
    view: V,
    op: Option<Step>,
    /// Words of the running op that are still to be copied.
    left: Vec<usize>,
    /// What a running WRITE copies.
    source: Vec<u64>,
    steps: u32,
}

impl<V: View> WordVisit<V> {
    /// A message before its first step.
    pub fn new(message: Msg) -> Self {
        Self { message, view: V::zero(), op: None, left: Vec::new(), source: Vec::new(), steps: 0 }
    }

    /// The message.
    pub fn message(&self) -> &Msg {
        &self.message
    }

    /// The op at hand.
    pub fn op(&self) -> Option<Step> {
        self.op
    }

    /// Accesses one word, or runs one step; the status once the message is finished. `choose` gives a
    /// number below its argument: which of the words is next.
    pub fn tick(
        &mut self,
        mut step: impl FnMut(&mut Msg, &V) -> Step,
        memory: &Memory,
        mut choose: impl FnMut(usize) -> usize,
    ) -> Option<Status> {
        if !self.left.is_empty() {
            let word = self.left.swap_remove(choose(self.left.len()));
            self.copy(word, memory);
            if !self.left.is_empty() {
                return None;
            }
            self.op = None;
        }
        match self.op {
            Some(Step::Read | Step::Write) => {
                if let Err(status) = self.begin_copy(memory) {
                    return Some(status);
                }
                return None;
            }
            Some(op) => {
                if let Err(status) = memory.perform(op, &mut self.message, &mut self.view) {
                    return Some(status);
                }
            }
            None => {}
        }
        if self.steps == STEPS_MAX {
            return Some(Status::Budget);
        }
        self.steps += 1;
        let answer = step(&mut self.message, &self.view);
        self.message.step += 1;
        match answer {
            Step::Done if self.message.reply_len > self.message.reply_max => Some(Status::Room),
            Step::Done => Some(Status::Ok),
            Step::Fail => Some(Status::Failed),
            op => {
                self.op = Some(op);
                None
            }
        }
    }

    /// Checks a READ or WRITE; its words are still to be copied.
    fn begin_copy(&mut self, memory: &Memory) -> Result<(), Status> {
        let NaamMsg { op_region, op_offset, op_len, op_source, .. } = *self.message;
        let is_read = self.op == Some(Step::Read);
        Memory::check_copy::<V>(is_read, op_len, op_source)?;
        memory.resolve(op_region, op_offset, u64::from(op_len))?;
        let words = op_len as usize / 8;
        self.left = (0..words).collect();
        self.view.words_mut().fill(super::UNSPECIFIED);
        if !is_read {
            let bytes = self.message.args.iter().chain(&self.message.reply).skip(op_source as usize / 8);
            self.source = bytes.take(words).copied().collect();
        }
        self.message.op_done = 1;
        Ok(())
    }

    fn copy(&mut self, word: usize, memory: &Memory) {
        let cell = &memory.words(self.message.op_region as usize)[self.message.op_offset as usize / 8 + word];
        if self.op == Some(Step::Read) {
            self.view.words_mut()[word] = cell.load(Ordering::SeqCst);
        } else {
            cell.store(self.source[word], Ordering::SeqCst);
        }
    }
}
