//! The error that travels.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why the daemon did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("cannot {operation} {object}: {cause}{}", .way_out.as_ref().map(|way| format!(" ({way})")).unwrap_or_default())]
pub struct ControlError {
    /// What was tried: `create`, `load`, `open a session of`.
    pub operation: String,
    /// On what: kind and name.
    pub object: String,
    /// Why not.
    pub cause: String,
    /// What to do about it, where something can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
}

impl ControlError {
    /// An error without a way out.
    pub fn new(operation: impl Into<String>, object: impl Into<String>, cause: impl ToString) -> Self {
        Self { operation: operation.into(), object: object.into(), cause: cause.to_string(), way_out: None }
    }

    /// Adds the way out.
    pub fn way_out(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_operation_object_cause_and_way_out() {
        let error = ControlError::new("create", "region `store`", "no memory").way_out("choose a smaller one");
        assert_eq!(error.to_string(), "cannot create region `store`: no memory (choose a smaller one)");
        assert_eq!(
            ControlError::new("stop", "app `kv`", "it is in use").to_string(),
            "cannot stop app `kv`: it is in use"
        );
    }
}
