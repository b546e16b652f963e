//! Bytes as people write and read them.

use std::fmt::Write as _;

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads what [`hex`] writes; blanks between bytes and `0x` before all are allowed.
pub fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let digits: Vec<u8> =
        text.strip_prefix("0x").unwrap_or(text).bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let digit =
        |byte: u8| (byte as char).to_digit(16).ok_or_else(|| format!("{:?} is no hexadecimal digit", byte as char));
    if !digits.len().is_multiple_of(2) {
        return Err(format!("{} hexadecimal digits are no whole bytes", digits.len()));
    }
    digits.chunks_exact(2).map(|pair| Ok((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

/// The text, if the bytes are printable text.
pub fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t').then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_both_ways() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Ok(bytes));
        assert_eq!(unhex("0x00 ff\n0A"), Ok(vec![0, 255, 10]));
        assert_eq!(unhex(""), Ok(vec![]));
        assert!(unhex("123").unwrap_err().contains("3 hexadecimal digits"));
        assert!(unhex("zz").unwrap_err().contains("'z'"));
    }

    #[test]
    fn only_printable_bytes_are_text() {
        assert_eq!(text(b"plain\n"), Some("plain\n"));
        assert_eq!((text(&[0xff]), text(&[0])), (None, None));
    }
}
