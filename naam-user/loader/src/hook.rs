//! Where in the kernel a frame meets NAAM.

use std::fmt;
use std::str::FromStr;

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// In the driver (native) or just behind it (generic), before the kernel makes a socket buffer.
    Xdp,
    /// At traffic control's ingress, with a socket buffer. Works on every interface.
    Tc,
}

impl Hook {
    /// Both, in the order of preference.
    pub const ALL: [Self; 2] = [Self::Xdp, Self::Tc];
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        })
    }
}

/// The text names no hook.
#[derive(Debug, thiserror::Error)]
#[error("no hook is named {0:?}: use xdp or tc")]
pub struct NoSuchHook(String);

impl FromStr for Hook {
    type Err = NoSuchHook;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|hook| hook.to_string() == text).ok_or_else(|| NoSuchHook(text.into()))
    }
}
