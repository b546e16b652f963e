//! Handlers come here: listed, compared, admitted.

use naam_abi::handler::META_WRITES;
use naam_abi::limits::SHARDS_MAX;
use naam_admission::admit;
use naam_engine::LoadError;
use sha2::{Digest, Sha256};

use super::{Learned, SiteClient};
use crate::client::now;

/// Why a handler object will not run here. The function goes on at the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// The session's list has no such function.
    #[error("the session has no function `{function}`")]
    NoFunction {
        /// Its name.
        function: String,
    },
    /// The bytes are not those that the daemon lists.
    #[error("the object of `{function}` has hash {found}, the daemon lists {listed}: it was changed on its way")]
    NotListed {
        /// The function.
        function: String,
        /// SHA-256 on the list.
        listed: String,
        /// SHA-256 of the bytes.
        found: String,
    },
    /// Admission on this machine refuses it.
    #[error("admission refuses the object of `{function}` here: {refusal}")]
    Refused {
        /// The function.
        function: String,
        /// The rule that it breaks, and where.
        refusal: String,
    },
    /// Its description is not that of the function.
    #[error("the object of `{function}` describes another function: {detail}")]
    Differs {
        /// The function.
        function: String,
        /// In what.
        detail: String,
    },
    /// The engine cannot run it.
    #[error("the engine cannot run `{function}`: {cause}")]
    Engine {
        /// The function.
        function: String,
        /// Why.
        cause: LoadError,
    },
}

impl SiteClient {
    /// Takes a handler object in, so that calls of `function` may run here. `sha256` is what the daemon's function list
    /// says of it, in hexadecimal digits.
    ///
    /// # Errors
    /// [`LearnError`], counted in [`SiteStats::refused_objects`](super::SiteStats::refused_objects).
    pub fn learn(&mut self, function: &str, sha256: &str, object: &[u8]) -> Result<(), LearnError> {
        let learned = self.try_learn(function, sha256, object);
        self.stats.refused_objects += u64::from(learned.is_err());
        learned
    }

    fn try_learn(&mut self, function: &str, sha256: &str, object: &[u8]) -> Result<(), LearnError> {
        let name = || function.to_owned();
        let found = self.client.function(function);
        let info = found.and_then(|function| self.client.core().info(function));
        let info = info.ok_or_else(|| LearnError::NoFunction { function: name() })?;
        let found: String = Sha256::digest(object).iter().map(|byte| format!("{byte:02x}")).collect();
        if !found.eq_ignore_ascii_case(sha256) {
            return Err(LearnError::NotListed { function: name(), listed: sha256.to_owned(), found });
        }
        let admitted =
            admit(object).map_err(|refusal| LearnError::Refused { function: name(), refusal: refusal.to_string() })?;
        let writes = admitted.meta.flags & META_WRITES != 0;
        let (its, listed) =
            ((admitted.name(), writes, admitted.meta.reply_max), (function, info.writes, u32::from(info.reply_max)));
        if its != listed {
            let detail = format!("name, writes, longest reply are {its:?}, the list says {listed:?}");
            return Err(LearnError::Differs { function: name(), detail });
        }
        let program = self.engine.load(&admitted);
        let program = program.map_err(|cause| LearnError::Engine { function: name(), cause })?;
        // The version of the list, which may be older than what replies have told since.
        let listed = self.client.core().session().functions.get(function).map_or(info.version, |info| info.version);
        let mut confirmed = [None; SHARDS_MAX];
        for (confirmed, epoch) in confirmed.iter_mut().zip(&self.client.core().session().epochs) {
            *confirmed = Some(*epoch);
        }
        let learned = Learned { program, version: listed, confirmed, since: now() };
        self.programs[usize::from(info.number)] = Some(Box::new(learned));
        Ok(())
    }
}
