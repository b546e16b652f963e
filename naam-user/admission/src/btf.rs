//! BTF types: just enough of the format to read a prototype.

use crate::refusal::{Refusal, Rule};

const MAGIC: u16 = 0xeb9f;
/// Modifiers and typedefs between a reference and its type.
const CHAIN_MAX: usize = 16;
/// Longer strings are cut: a file must not make much memory out of little.
const STRING_BYTES_MAX: usize = 512;

/// A reader of 32-bit words over an untrusted slice.
pub(crate) struct Words<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Words<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    pub fn word(&mut self) -> Option<u32> {
        self.bytes(4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let bytes = self.data.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Void,
    Int {
        bytes: u32,
    },
    Enum {
        bytes: u32,
    },
    Pointer {
        to: u32,
    },
    Struct {
        bytes: u32,
    },
    /// typedef, const, volatile, restrict, type tag
    Alias {
        of: u32,
    },
    Func {
        prototype: u32,
        linkage: u32,
    },
    Prototype {
        returns: u32,
        params: Vec<u32>,
    },
    Other,
}

#[derive(Clone, Debug)]
pub(crate) struct Type {
    pub name: u32,
    pub kind: Kind,
}

/// BTF linkage of a global function.
pub(crate) const LINKAGE_GLOBAL: u32 = 1;

pub(crate) struct Btf<'a> {
    types: Vec<Type>,
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    pub fn read(data: &'a [u8]) -> Result<Self, Refusal> {
        Self::parse(data).ok_or_else(|| Refusal::object(Rule::BtfInvalid, "section .BTF is malformed"))
    }

    fn parse(data: &'a [u8]) -> Option<Self> {
        let mut words = Words::new(data);
        let lead = words.word()?;
        if lead as u16 != MAGIC || (lead >> 16) as u8 != 1 {
            return None;
        }
        let header = words.word()? as usize;
        let mut span = || -> Option<&'a [u8]> {
            let (start, len) = (words.word()? as usize, words.word()? as usize);
            let start = header.checked_add(start)?;
            data.get(start..start.checked_add(len)?)
        };
        let (type_data, strings) = (span()?, span()?);
        let mut words = Words::new(type_data);
        let mut types = vec![Type { name: 0, kind: Kind::Void }];
        while !words.is_empty() {
            types.push(read_type(&mut words)?);
        }
        Some(Self { types, strings })
    }

    pub fn string(&self, at: u32) -> String {
        let tail = self.strings.get(at as usize..).unwrap_or_default();
        let tail = &tail[..tail.len().min(STRING_BYTES_MAX)];
        let len = tail.iter().position(|byte| *byte == 0).unwrap_or(tail.len());
        String::from_utf8_lossy(&tail[..len]).into_owned()
    }

    pub fn types(&self) -> impl Iterator<Item = (u32, &Type)> {
        self.types.iter().enumerate().map(|(id, found)| (id as u32, found))
    }

    /// The type behind typedefs and qualifiers.
    pub fn resolve(&self, mut id: u32) -> Option<&Type> {
        for _ in 0..CHAIN_MAX {
            let found = self.types.get(id as usize)?;
            match found.kind {
                Kind::Alias { of } => id = of,
                _ => return Some(found),
            }
        }
        None
    }

    /// The struct a pointer leads to: its name and size.
    pub fn pointee(&self, id: u32) -> Option<(String, u32)> {
        let Kind::Pointer { to } = self.resolve(id)?.kind else { return None };
        let target = self.resolve(to)?;
        match target.kind {
            Kind::Struct { bytes } => Some((self.string(target.name), bytes)),
            _ => None,
        }
    }
}

fn read_type(words: &mut Words<'_>) -> Option<Type> {
    let (name, info, third) = (words.word()?, words.word()?, words.word()?);
    let count = (info & 0xffff) as usize;
    let mut skip = |bytes: usize| words.bytes(bytes).map(|_| ());
    let kind = match (info >> 24) & 0x1f {
        1 => {
            skip(4)?;
            Kind::Int { bytes: third }
        }
        2 => Kind::Pointer { to: third },
        3 => {
            skip(12)?;
            Kind::Other
        }
        4 => {
            skip(count * 12)?;
            Kind::Struct { bytes: third }
        }
        5 | 19 => {
            skip(count * 12)?;
            Kind::Other
        }
        6 => {
            skip(count * 8)?;
            Kind::Enum { bytes: third }
        }
        7 | 16 => Kind::Other,
        8..=11 | 18 => Kind::Alias { of: third },
        12 => Kind::Func { prototype: third, linkage: info & 0xffff },
        13 => {
            let params = (0..count).map(|_| words.word().and(words.word())).collect::<Option<_>>()?;
            Kind::Prototype { returns: third, params }
        }
        14 | 17 => {
            skip(4)?;
            Kind::Other
        }
        15 => {
            skip(count * 12)?;
            Kind::Other
        }
        _ => return None,
    };
    Some(Type { name, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let header = [0x0001_eb9f_u32, 24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32];
        let mut data: Vec<u8> = header.iter().chain(types).flat_map(|word| word.to_le_bytes()).collect();
        data.extend_from_slice(strings);
        data
    }

    #[test]
    fn follows_pointers_through_qualifiers() {
        // 1: struct s (8 bytes), 2: const 1, 3: pointer to 2
        let data = blob(&[1, 4 << 24, 8, 0, 10 << 24, 1, 0, 2 << 24, 2], b"\0s\0");
        let btf = Btf::read(&data).unwrap();
        assert_eq!(btf.pointee(3), Some(("s".into(), 8)));
        assert_eq!(btf.pointee(1), None);
    }

    #[test]
    fn typedef_cycles_end() {
        let data = blob(&[0, 8 << 24, 2, 0, 8 << 24, 1], b"\0");
        assert!(Btf::read(&data).unwrap().resolve(1).is_none());
    }

    #[test]
    fn every_truncation_is_refused() {
        let data = blob(&[1, 4 << 24, 8, 0, 2 << 24, 1], b"\0s\0");
        for len in 0..data.len() {
            assert!(Btf::read(&data[..len]).is_err(), "{len}");
        }
    }
}
