//! Names that have been checked.

use std::fmt;

use naam_abi::limits::{NAME_BYTES_MAX, is_name};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Name of an app, a region or an instance: 1 to 15 lower-case letters, digits and `_`, beginning
/// with a letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Name of a function, as in the handler object: a C identifier of 1 to 31 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(String);

/// Text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not a [`Name`].
    #[error("{0:?} is not a name: 1 to {NAME_BYTES_MAX} lower-case letters, digits and _, beginning with a letter")]
    Name(String),
    /// Not a [`FunctionName`].
    #[error("{0:?} is not a function's name: 1 to 31 letters, digits and _, not beginning with a digit")]
    Function(String),
}

impl Name {
    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if is_name(&name) { Ok(Self(name)) } else { Err(NameError::Name(name)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FunctionName {
    /// Longest name: what a handler's description holds besides its final zero.
    const BYTES_MAX: usize = 31;

    /// Checks a name.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if plain && first && name.len() <= Self::BYTES_MAX { Ok(Self(name)) } else { Err(NameError::Function(name)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for FunctionName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl std::str::FromStr for FunctionName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_too() {
        assert_eq!(serde_json::from_str::<Name>("\"kv\"").unwrap().as_str(), "kv");
        assert!(serde_json::from_str::<Name>("\"../kv\"").unwrap_err().to_string().contains("is not a name"));
        assert!(serde_json::from_str::<FunctionName>("\"mica_compare_set\"").is_ok());
        for bad in ["", "6to4", "a-b", "abcdefghijklmnopqrstuvwxyz_01234"] {
            assert!(FunctionName::new(bad).is_err(), "{bad:?}");
        }
    }
}
