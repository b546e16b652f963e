//! How the program ends when something did not work: message and exit code.

use std::process::ExitCode;

use naam_control::{ClientError, ControlError};
use serde::Serialize;

/// What went wrong, in the four parts that every error of the program has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("cannot {operation} {object}: {cause}{}", .way_out.as_ref().map(|way| format!(" ({way})")).unwrap_or_default())]
pub struct Failure {
    /// What was tried.
    pub operation: String,
    /// On what.
    pub object: String,
    /// Why it did not work.
    pub cause: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
}

impl Failure {
    /// A failure without a way out.
    pub fn new(operation: impl Into<String>, object: impl Into<String>, cause: impl ToString) -> Self {
        Self { operation: operation.into(), object: object.into(), cause: cause.to_string(), way_out: None }
    }

    /// Adds the way out.
    #[must_use]
    pub fn way_out(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let ControlError { operation, object, cause, way_out } = error;
        Self { operation, object, cause, way_out }
    }
}

/// The command did what it should, but what it found is bad: told in its output, so only the exit
/// code remains to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Verdict {
    /// `handler check` refuses the object, `doctor` found something bad, a bench read wrong values.
    #[error("the verdict is bad")]
    Bad,
    /// A call was not answered, or answered with an error.
    #[error("the call was not served")]
    NotServed,
}

/// It failed.
const FAILED: u8 = 1;
/// No daemon answers. (2 is clap's: the command line is wrong.)
const NO_DAEMON: u8 = 3;
/// [`Verdict::Bad`].
const BAD: u8 = 4;
/// [`Verdict::NotServed`].
const NOT_SERVED: u8 = 5;

/// What `--help` says of exit codes.
pub const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong command line; 3 no daemon answers; \
                              4 object refused, doctor found something bad, or a bench met errors; \
                              5 a call was not served";

/// Tells the user of `error` and returns the exit code.
pub fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    if let Some(verdict) = error.downcast_ref::<Verdict>() {
        return ExitCode::from(match verdict {
            Verdict::Bad => BAD,
            Verdict::NotServed => NOT_SERVED,
        });
    }
    let client = error.downcast_ref::<ClientError>();
    if json {
        eprintln!("{}", as_json(error));
    } else {
        eprintln!("error: {}", chain(error));
    }
    ExitCode::from(if matches!(client, Some(ClientError::Connect { .. })) { NO_DAEMON } else { FAILED })
}

/// The error with those of its causes that it does not tell itself.
fn chain(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.is_empty() => cause,
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

/// `{"error": …}`: the four parts where they are known, otherwise the cause alone.
fn as_json(error: &anyhow::Error) -> serde_json::Value {
    let parts = match error.downcast_ref::<ClientError>() {
        Some(ClientError::Refused(refused)) => Some(Failure::from(refused.clone())),
        _ => error.downcast_ref::<Failure>().cloned(),
    };
    match parts {
        Some(failure) => serde_json::json!({ "error": failure }),
        None => serde_json::json!({ "error": { "cause": chain(error) } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_in_their_parts() {
        let failure = Failure::new("read", "x.o", "no such file").way_out("look again");
        assert_eq!(failure.to_string(), "cannot read x.o: no such file (look again)");
        let json = as_json(&failure.into());
        let parts =
            serde_json::json!({"operation": "read", "object": "x.o", "cause": "no such file", "way_out": "look again"});
        assert_eq!(json, serde_json::json!({ "error": parts }));
        let refused = ClientError::from(ControlError::new("load", "handler `f`", "no room"));
        assert_eq!(as_json(&refused.into())["error"]["object"], "handler `f`");
        let error = anyhow::anyhow!("inner").context("outer").context("whole: outer: inner");
        assert_eq!(as_json(&error)["error"]["cause"], "whole: outer: inner");
        assert_eq!(chain(&anyhow::anyhow!("inner").context("outer")), "outer: inner");
    }
}
