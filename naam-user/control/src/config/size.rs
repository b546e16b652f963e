//! Sizes as people write them.

use naam_abi::limits::region_value_len;
use serde::Deserialize;
use thiserror::Error;

/// Bytes of a region: `"64 MiB"`, `"2GiB"`, or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Text")]
pub struct RegionSize(u64);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size is text such as \"64 MiB\", or a number of bytes")]
enum Text {
    Number(u64),
    Text(String),
}

/// Text that is no region's size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Not a size at all.
    #[error("{0:?} is not a size: write a number and KiB, MiB or GiB")]
    Syntax(String),
    /// A size, but not a region's.
    #[error("no region has {0} bytes: a power of two from 2 MiB to 512 MiB, or a multiple of 512 MiB up to 4 GiB")]
    Region(u64),
}

impl RegionSize {
    /// The bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Checks a number of bytes.
    pub fn new(bytes: u64) -> Result<Self, SizeError> {
        region_value_len(bytes).map(|_| Self(bytes)).ok_or(SizeError::Region(bytes))
    }
}

impl TryFrom<Text> for RegionSize {
    type Error = SizeError;

    fn try_from(text: Text) -> Result<Self, SizeError> {
        match text {
            Text::Number(bytes) => Self::new(bytes),
            Text::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for RegionSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let syntax = || SizeError::Syntax(text.to_owned());
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| syntax())?;
        let shift = match text[digits..].trim() {
            "" | "B" => 0,
            "KiB" | "K" => 10,
            "MiB" | "M" => 20,
            "GiB" | "G" => 30,
            _ => return Err(syntax()),
        };
        Self::new(number.checked_mul(1 << shift).ok_or_else(syntax)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("64 MiB", 64 << 20), ("2GiB", 2 << 30), ("2097152", 2 << 20), ("4096K", 4 << 20)] {
            assert_eq!(text.parse::<RegionSize>().unwrap().bytes(), bytes, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "MiB", "64 MB", "64 MiB!", "-1", "1e6", "99999999999999999999", "18446744073709551615 GiB"] {
            assert!(matches!(text.parse::<RegionSize>(), Err(SizeError::Syntax(_))), "{text:?}");
        }
        assert_eq!("3 MiB".parse::<RegionSize>(), Err(SizeError::Region(3 << 20)));
    }
}
