//! How bytes and wide numbers stand in JSON: bytes as base64, keys and tickets as hexadecimal text
//! (JSON numbers above 2^53 do not survive every reader).

/// Bytes as base64.
pub(crate) mod base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// A 64-bit number as 16 hexadecimal digits.
pub(crate) mod hex64 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        super::parse(&String::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("not 16 hexadecimal digits"))
    }
}

/// A SipHash key as 32 hexadecimal digits, first word first.
pub(crate) mod key {
    use naam_abi::siphash::Key;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}{:016x}", key.k0, key.k1))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = String::deserialize(deserializer)?;
        let words = text.split_at_checked(16).and_then(|(k0, k1)| Some((super::parse(k0)?, super::parse(k1)?)));
        let (k0, k1) = words.ok_or_else(|| serde::de::Error::custom("not 32 hexadecimal digits"))?;
        Ok(Key { k0, k1 })
    }
}

fn parse(text: &str) -> Option<u64> {
    if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}
