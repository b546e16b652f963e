//! The handler's description of itself, in section `.naam`.

use naam_abi::handler::{META_BYTES, META_MAGIC, META_SECTION, META_WRITES, Meta};
use naam_abi::limits::{REPLY_BYTES, SLOT_REPLY_BYTES, STATE_BYTES};

use crate::elf::Object;
use crate::refusal::{Refusal, Rule};

pub(crate) fn read(object: &Object<'_>) -> Result<Meta, Refusal> {
    let section = object.section(META_SECTION).map_err(|count| match count {
        0 => Refusal::object(Rule::MetaMissing, "the object has no section .naam"),
        count => Refusal::object(Rule::MetaInvalid, format!("the object has {count} sections .naam")),
    })?;
    parse(section.data).map_err(|detail| Refusal::object(Rule::MetaInvalid, detail))
}

/// The name, without its padding.
pub(crate) fn name(meta: &Meta) -> &str {
    let len = meta.name.iter().position(|byte| *byte == 0).unwrap_or(meta.name.len());
    std::str::from_utf8(&meta.name[..len]).unwrap_or_default()
}

/// The bytes of section `.naam`.
pub(crate) fn to_bytes(meta: &Meta) -> [u8; META_BYTES] {
    let mut bytes = [0; META_BYTES];
    bytes[..8].copy_from_slice(&meta.magic.to_le_bytes());
    for (at, word) in [meta.flags, meta.reply_max, meta.state_len, meta.reserved].into_iter().enumerate() {
        bytes[8 + at * 4..12 + at * 4].copy_from_slice(&word.to_le_bytes());
    }
    bytes[24..].copy_from_slice(&meta.name);
    bytes
}

fn parse(data: &[u8]) -> Result<Meta, String> {
    let data: &[u8; META_BYTES] = data
        .try_into()
        .map_err(|_| format!("section .naam has {} bytes, a description has {META_BYTES}", data.len()))?;
    let word = |at: usize| u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    let mut padded = [0; 32];
    padded.copy_from_slice(&data[24..]);
    let meta = Meta {
        magic: u64::from(word(0)) | u64::from(word(4)) << 32,
        flags: word(8),
        reply_max: word(12),
        state_len: word(16),
        reserved: word(20),
        name: padded,
    };
    if meta.magic != META_MAGIC {
        return Err(format!(
            "section .naam starts with {:#018x}, this release's magic is {META_MAGIC:#018x}",
            meta.magic
        ));
    }
    if meta.flags & !META_WRITES != 0 || meta.reserved != 0 {
        return Err(format!("section .naam has unknown flags: {:#x}, reserved {:#x}", meta.flags, meta.reserved));
    }
    let length = |what: &str, bytes: u32, max: usize| {
        if bytes as usize > max || !bytes.is_multiple_of(8) {
            return Err(format!("{what} is {bytes}, it must be a multiple of 8 up to {max}"));
        }
        Ok(())
    };
    length("reply_max", meta.reply_max, REPLY_BYTES)?;
    if meta.flags & META_WRITES != 0 {
        length("reply_max of a handler that writes", meta.reply_max, SLOT_REPLY_BYTES)?;
    }
    length("state_len", meta.state_len, STATE_BYTES)?;
    let len = padded.iter().position(|byte| *byte == 0).unwrap_or(32);
    let ident = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let starts_well = len > 0 && !padded[0].is_ascii_digit();
    if !starts_well || len > 31 || !padded[..len].iter().all(ident) || padded[len..].iter().any(|byte| *byte != 0) {
        return Err("the name is not an identifier of 1 to 31 bytes, padded with zeros".into());
    }
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Meta = Meta::new("get", META_WRITES, 240, 8);

    #[test]
    fn survives_a_round_trip() {
        assert_eq!(parse(&to_bytes(&GOOD)).unwrap(), GOOD);
        assert_eq!(name(&GOOD), "get");
    }

    #[test]
    fn every_broken_field_is_refused() {
        let broken = [
            Meta { magic: META_MAGIC + 1, ..GOOD },
            Meta { flags: 2, ..GOOD },
            Meta { reserved: 1, ..GOOD },
            Meta { reply_max: 241, ..GOOD },
            Meta { reply_max: 248, ..GOOD },
            Meta { flags: 0, reply_max: 1032, ..GOOD },
            Meta { state_len: 136, ..GOOD },
            Meta { state_len: 4, ..GOOD },
            Meta { name: [0; 32], ..GOOD },
            Meta { name: [b'a'; 32], ..GOOD },
            Meta {
                name: {
                    let mut n = GOOD.name;
                    n[9] = 1;
                    n
                },
                ..GOOD
            },
            Meta {
                name: {
                    let mut n = GOOD.name;
                    n[1] = b'\n';
                    n
                },
                ..GOOD
            },
        ];
        for meta in broken {
            assert!(parse(&to_bytes(&meta)).is_err(), "{meta:?}");
        }
        assert!(parse(&[0; META_BYTES - 1]).is_err());
    }
}
