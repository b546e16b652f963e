//! Why the daemon does not serve.

use std::io;
use std::path::PathBuf;

use naam_control::ControlError;
use naam_loader::LoaderError;
use thiserror::Error;

use crate::capabilities::PrivilegeError;

/// Why [`serve`](crate::serve()) ended, or did not begin. A datapath that served before goes on serving.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration asks for what cannot be done.
    #[error("configuration, key `{key}` of {object}: {cause}")]
    Config {
        /// The key to change.
        key: &'static str,
        /// The part of the configuration that has it.
        object: String,
        /// Why it cannot be done.
        cause: String,
    },
    /// A part of the host could not be set up, or the control sockets could not be bound.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The datapath could not be set up or adopted.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// Another daemon serves these pins.
    #[error("another daemon serves the instance pinned at {}: stop it, or choose another `instance`", pins.display())]
    Served {
        /// The pins.
        pins: PathBuf,
    },
    /// A file or directory that the daemon needs.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The RDMA device that the configuration names.
    #[error(transparent)]
    Rdma(#[from] naam_verbs::Error),
    /// Privileges could not be given up.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// No runtime, no signal handlers.
    #[error("cannot {operation}: {source}")]
    Runtime {
        /// What was tried.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl ServeError {
    /// Builds [`Self::File`], for `map_err`.
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// Builds [`Self::Runtime`], for `map_err`.
    pub(crate) fn runtime(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Runtime { operation, source }
    }
}
