//! One-sided operations: single memory ops and short chains, by the built-in functions of [`naam_abi::onesided`].
//!
//! The app must serve them (`onesided = true`, or `naam handler onesided`), and the session needs the raw right: by
//! default it has none, and every op here ends with [`Status::Denied`]. Reads may run more than once, which nobody
//! can tell; what writes runs exactly once, like every writing call.
//!
//! ```no_run
//! # fn example(mut client: naam_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use naam_client::onesided::Chain;
//! let store = client.region("store").ok_or("no region store")?;
//! let bytes = client.read(store, 4096, 64)?;
//! let before = client.fetch_add(store, 8, 1)?;
//! // Take a lock, and only then change what it guards.
//! let chain = Chain::new().compare_exchange(store, 0, 0, 7).write(store, 64, &bytes).read(store, 64, 16);
//! let done = client.chain(&chain)?;
//! assert!(done.done == 3 || done.results == [naam_client::onesided::ChainResult::Word(7)], "locked by 7");
//! # let _ = before;
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use naam_abi::limits::ARGS_BYTES;
use naam_abi::onesided::{self, CHAIN_OPS_MAX, CHAIN_REPLY_BYTES, OTHER_WORD, Op};
use naam_abi::wire::Status;

use crate::client::{Client, ClientError, OwnedReply};
use crate::core::{Call, Function};
use crate::error::CallError;

/// A region of the session's app, looked up by name once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its index in ops.
    pub index: u32,
}

/// How long a one-sided operation is tried.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Why a one-sided operation failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OneSidedError {
    /// The call behind it failed; [`Status::Denied`]: the session has no raw right for it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// More bytes than one operation takes; nothing was sent.
    #[error("{len} bytes in one operation; {max} are the most, so take several")]
    TooLong {
        /// Bytes asked for.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// No op, too many, or more results than a reply has room for; nothing was sent.
    #[error(
        "a chain has 1 to {CHAIN_OPS_MAX} ops whose results fit {CHAIN_REPLY_BYTES} bytes and whose bytes to write fit its arguments"
    )]
    Chain,
    /// The answer does not have the form that the built-in function gives it.
    #[error(
        "the host's answer has {len} bytes, which is no answer of this operation: another function serves its number"
    )]
    Answer {
        /// Bytes of the answer.
        len: usize,
    },
}

impl From<CallError> for OneSidedError {
    fn from(error: CallError) -> Self {
        Self::Client(error.into())
    }
}

/// Ops that are performed in order, up to the first that fails: at most four.
#[derive(Clone, Debug, Default)]
pub struct Chain<'a> {
    ops: Vec<Op<'a>>,
}

impl<'a> Chain<'a> {
    /// A chain without ops.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `len` bytes.
    #[must_use]
    pub fn read(self, region: Region, offset: u64, len: u32) -> Self {
        self.op(Op::Read { region: region.index, offset, len })
    }

    /// Writes `bytes`.
    #[must_use]
    pub fn write(self, region: Region, offset: u64, bytes: &'a [u8]) -> Self {
        self.op(Op::Write { region: region.index, offset, bytes })
    }

    /// Exchanges a word; another one found ends the chain.
    #[must_use]
    pub fn compare_exchange(self, region: Region, offset: u64, expect: u64, new: u64) -> Self {
        self.op(Op::Cas { region: region.index, offset, expect, new })
    }

    /// Adds to a word.
    #[must_use]
    pub fn fetch_add(self, region: Region, offset: u64, addend: u64) -> Self {
        self.op(Op::Faa { region: region.index, offset, addend })
    }

    fn op(mut self, op: Op<'a>) -> Self {
        self.ops.push(op);
        self
    }

    /// The ops.
    pub fn ops(&self) -> &[Op<'a>] {
        &self.ops
    }

    /// The arguments of the call.
    ///
    /// # Errors
    /// [`OneSidedError::Chain`].
    pub fn args(&self) -> Result<Vec<u8>, OneSidedError> {
        let mut args = vec![0; ARGS_BYTES];
        let len = onesided::chain_args(&self.ops, &mut args).ok_or(OneSidedError::Chain)?;
        args.truncate(len);
        Ok(args)
    }

    /// What a reply to this chain says.
    ///
    /// # Errors
    /// [`OneSidedError::Answer`].
    pub fn outcome(&self, reply: &OwnedReply) -> Result<Chained, OneSidedError> {
        let wrong = || OneSidedError::Answer { len: reply.bytes.len() };
        let (done, mut rest) = reply.bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        let done = usize::try_from(u64::from_le_bytes(*done)).map_err(|_| wrong())?;
        let stopped = reply.code == OTHER_WORD;
        if done > self.ops.len() || done + usize::from(stopped) > self.ops.len() || (!stopped && done != self.ops.len())
        {
            return Err(wrong());
        }
        let mut results = Vec::with_capacity(done + 1);
        for op in &self.ops[..done + usize::from(stopped)] {
            results.push(match op {
                Op::Read { len, .. } => {
                    let (bytes, behind) = rest.split_at_checked(*len as usize).ok_or_else(wrong)?;
                    rest = behind;
                    ChainResult::Bytes(bytes.to_vec())
                }
                Op::Write { .. } => ChainResult::Written,
                Op::Cas { .. } | Op::Faa { .. } => {
                    let (word, behind) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
                    rest = behind;
                    ChainResult::Word(u64::from_le_bytes(*word))
                }
            });
        }
        if rest.is_empty() { Ok(Chained { done, results }) } else { Err(wrong()) }
    }
}

/// What a chain did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chained {
    /// Ops done. Fewer than the chain has: the op behind them is a compare-and-exchange that found another word.
    pub done: usize,
    /// Results of the ops done, and the word that the failed one found, if one failed.
    pub results: Vec<ChainResult>,
}

/// What an op of a chain gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainResult {
    /// The bytes read.
    Bytes(Vec<u8>),
    /// Nothing: the bytes are written.
    Written,
    /// The word found.
    Word(u64),
}

/// One-sided operations; each blocks like [`Client::call`].
impl Client {
    /// The region of that name.
    pub fn region(&self, name: &str) -> Option<Region> {
        self.core().session().regions.get(name).map(|info| Region { index: info.index })
    }

    /// Reads `len` bytes, a multiple of 8 of at most 1,024, at `offset`. Whole words are never torn; all may be.
    pub fn read(&mut self, region: Region, offset: u64, len: u32) -> Result<Vec<u8>, OneSidedError> {
        if len as usize > onesided::READ_BYTES_MAX {
            return Err(OneSidedError::TooLong { len: len as usize, max: onesided::READ_BYTES_MAX });
        }
        let args = onesided::read_args(region.index, offset, len);
        let reply = self.onesided(onesided::READ, &args, len as u16)?;
        if reply.bytes.len() == len as usize {
            Ok(reply.bytes)
        } else {
            Err(OneSidedError::Answer { len: reply.bytes.len() })
        }
    }

    /// Writes `bytes`, a multiple of 8 of at most 1,000, at `offset`.
    pub fn write(&mut self, region: Region, offset: u64, bytes: &[u8]) -> Result<(), OneSidedError> {
        let mut args = [0; onesided::HEAD_BYTES + onesided::WRITE_BYTES_MAX];
        let too_long = OneSidedError::TooLong { len: bytes.len(), max: onesided::WRITE_BYTES_MAX };
        let len = onesided::write_args(region.index, offset, bytes, &mut args).ok_or(too_long)?;
        self.onesided(onesided::WRITE, &args[..len], 0).map(drop)
    }

    /// Exchanges the word at `offset` for `new` if it is `expect`; `Err(word)` with the word found otherwise.
    pub fn compare_exchange(
        &mut self,
        region: Region,
        offset: u64,
        expect: u64,
        new: u64,
    ) -> Result<Result<u64, u64>, OneSidedError> {
        let reply = self.onesided(onesided::CAS, &onesided::cas_args(region.index, offset, expect, new), 8)?;
        let found = word(&reply)?;
        Ok(if reply.code == OTHER_WORD { Err(found) } else { Ok(found) })
    }

    /// Adds to the word at `offset`; the word before.
    pub fn fetch_add(&mut self, region: Region, offset: u64, addend: u64) -> Result<u64, OneSidedError> {
        word(&self.onesided(onesided::FAA, &onesided::faa_args(region.index, offset, addend), 8)?)
    }

    /// Performs a chain. One whose ops were refused midway (no right, out of bounds) fails with
    /// [`CallError::Refused`], whose code is the number of ops done before.
    pub fn chain(&mut self, chain: &Chain<'_>) -> Result<Chained, OneSidedError> {
        let reply_len = onesided::chain_reply_len(chain.ops());
        let args = chain.args()?;
        chain.outcome(&self.onesided(onesided::CHAIN, &args, reply_len as u16)?)
    }

    fn onesided(&mut self, number: u16, args: &[u8], reply: u16) -> Result<OwnedReply, OneSidedError> {
        let call = Call::new(Function { number }, args).reply_room(reply).timeout(TIMEOUT);
        Ok(self.call(&call)?)
    }
}

fn word(reply: &OwnedReply) -> Result<u64, OneSidedError> {
    let bytes = reply.bytes.as_slice().try_into();
    bytes.map(u64::from_le_bytes).map_err(|_| OneSidedError::Answer { len: reply.bytes.len() })
}

impl OneSidedError {
    /// Whether the session lacks the raw right, or the app's session rights do not reach the region.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Client(ClientError::Call(CallError::Refused { status: Status::Denied, .. })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: Region = Region { index: 1 };

    fn reply(code: u32, words: &[u64]) -> OwnedReply {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        OwnedReply { code, bytes, from_slot: false, steps: 5, hops: 1 }
    }

    #[test]
    fn chains_read_their_results_op_by_op() {
        let chain = Chain::new().compare_exchange(R, 0, 0, 7).write(R, 8, &[1; 8]).read(R, 8, 16).fetch_add(R, 0, 1);
        let done = chain.outcome(&reply(0, &[4, 0, 2, 3, 7])).unwrap();
        let bytes = ChainResult::Bytes([2u64, 3].iter().flat_map(|word| word.to_le_bytes()).collect());
        let results = vec![ChainResult::Word(0), ChainResult::Written, bytes, ChainResult::Word(7)];
        assert_eq!(done, Chained { done: 4, results });
        let stopped = chain.outcome(&reply(OTHER_WORD, &[0, 9])).unwrap();
        assert_eq!(stopped, Chained { done: 0, results: vec![ChainResult::Word(9)] });
    }

    #[test]
    fn answers_of_another_form_are_errors() {
        let chain = Chain::new().compare_exchange(R, 0, 0, 7).read(R, 8, 16);
        let lies: [(u32, &[u64]); 8] = [
            (0, &[]),
            (0, &[3, 0, 1, 2]),
            (0, &[1, 0]),
            (0, &[2, 0, 1]),
            (0, &[2, 0, 1, 2, 3]),
            (OTHER_WORD, &[2, 0, 1, 2]),
            (OTHER_WORD, &[0]),
            (0, &[u64::MAX, 0, 1, 2]),
        ];
        for (code, words) in lies {
            let outcome = chain.outcome(&reply(code, words));
            assert!(matches!(outcome, Err(OneSidedError::Answer { .. })), "{code} {words:?}: {outcome:?}");
        }
        assert!(matches!(word(&reply(0, &[])), Err(OneSidedError::Answer { len: 0 })));
    }

    #[test]
    fn chains_that_cannot_be_are_not_sent() {
        assert!(matches!(Chain::new().args(), Err(OneSidedError::Chain)));
        assert!(matches!(Chain::new().read(R, 0, 240).args(), Err(OneSidedError::Chain)));
        let five = (0..5).fold(Chain::new(), |chain, _| chain.fetch_add(R, 0, 1));
        assert!(matches!(five.args(), Err(OneSidedError::Chain)));
        assert_eq!(Chain::new().read(R, 0, 232).args().unwrap().len(), 40);
    }
}
