//! The snapshot file, version 1. All numbers are little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `NAAMREG1` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | bytes of a chunk, 1 MiB |
//! | 16 | 8 | bytes of the region |
//! | 24 | 8 | time of the save, milliseconds since 1970 |
//! | 32 | 16 | app, padded with zeros |
//! | 48 | 16 | region, padded with zeros |
//! | 64 | 4 | chunks stored |
//! | 68 | 4 | CRC-32 of the header (with this field zero) and the table |
//! | 72 | 8 × chunks | table: CRC-32 of the chunk, then 1 if it is stored, 0 if it is all zero |
//! | … | | zeros up to a multiple of 4096, then the stored chunks in order, without gaps |
//!
//! A chunk's CRC covers its number (8 bytes) and its bytes, so that exchanged chunks are noticed.
//! Chunks of nothing but zeros are not stored.

use std::time::{Duration, SystemTime};

use crate::Geometry;

/// First bytes of a snapshot.
pub const MAGIC: [u8; 8] = *b"NAAMREG1";
/// The version written, and the only one read.
pub const VERSION: u32 = 1;
/// Bytes of a chunk.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// Bytes before the table.
pub const HEADER_BYTES: u64 = 72;
/// Bytes of a table entry.
const ENTRY_BYTES: u64 = 8;
const ALIGNMENT: u64 = 4096;
const NAME_BYTES: usize = 16;
const CRC_AT: usize = 68;

/// A snapshot's description of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the region.
    pub bytes: u64,
    /// Time of the save, to the millisecond.
    pub saved: SystemTime,
    /// App that owned the region.
    pub app: String,
    /// Name of the region.
    pub region: String,
    /// One entry a chunk.
    pub chunks: Vec<Chunk>,
}

/// What the table says of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// All bytes are zero; nothing is stored.
    Zero,
    /// Stored, with this CRC.
    Stored(u32),
}

impl Chunk {
    /// Looks at a chunk's bytes.
    pub fn of(number: u64, bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) { Self::Zero } else { Self::Stored(crc(number, bytes)) }
    }
}

/// CRC-32 of a chunk.
pub fn crc(number: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Bytes of header and table for a region of `bytes` bytes.
pub fn head_bytes(bytes: u64) -> u64 {
    HEADER_BYTES + bytes / CHUNK_BYTES * ENTRY_BYTES
}

/// Where the first stored chunk begins.
pub fn data_offset(bytes: u64) -> u64 {
    head_bytes(bytes).next_multiple_of(ALIGNMENT)
}

impl Header {
    /// Header and table as they stand at the file's beginning.
    pub fn encode(&self) -> Vec<u8> {
        let saved = self.saved.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut head = Vec::with_capacity(head_bytes(self.bytes) as usize);
        head.extend(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend((CHUNK_BYTES as u32).to_le_bytes());
        head.extend(self.bytes.to_le_bytes());
        head.extend((saved.as_millis() as u64).to_le_bytes());
        for name in [&self.app, &self.region] {
            let mut padded = [0; NAME_BYTES];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            head.extend(padded);
        }
        head.extend((self.stored() as u32).to_le_bytes());
        head.extend([0; 4]);
        for chunk in &self.chunks {
            let (crc, stored) = match chunk {
                Chunk::Zero => (0u32, 0u32),
                Chunk::Stored(crc) => (*crc, 1),
            };
            head.extend(crc.to_le_bytes());
            head.extend(stored.to_le_bytes());
        }
        let crc = crc32fast::hash(&head);
        head[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// Bytes of the region, from the file's first [`HEADER_BYTES`] bytes; from it follows how much
    /// [`Self::decode`] needs. Nothing else is believed yet.
    pub fn peek(head: &[u8]) -> Result<u64, String> {
        if head.len() < HEADER_BYTES as usize {
            return Err(format!("it has {} bytes, not even a header", head.len()));
        }
        if head[..8] != MAGIC {
            return Err("it does not begin with NAAMREG1".to_owned());
        }
        let version = u32_at(head, 8);
        if version != VERSION {
            return Err(format!("it has version {version}; this program reads version {VERSION}"));
        }
        let chunk = u32_at(head, 12);
        if u64::from(chunk) != CHUNK_BYTES {
            return Err(format!("it has chunks of {chunk} bytes, not {CHUNK_BYTES}"));
        }
        let bytes = u64_at(head, 16);
        Geometry::new(bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Reads header and table: the file's first [`head_bytes`] bytes.
    pub fn decode(head: &[u8]) -> Result<Self, String> {
        let bytes = Self::peek(head)?;
        let len = head_bytes(bytes) as usize;
        let head = head.get(..len).ok_or_else(|| format!("its chunk table is cut off after {} bytes", head.len()))?;
        let mut zeroed = head.to_vec();
        zeroed[CRC_AT..CRC_AT + 4].fill(0);
        if crc32fast::hash(&zeroed) != u32_at(head, CRC_AT) {
            return Err("its header or chunk table is corrupt (checksum)".to_owned());
        }
        let chunks: Option<Vec<_>> = head[HEADER_BYTES as usize..]
            .chunks_exact(ENTRY_BYTES as usize)
            .map(|entry| match (u32_at(entry, 0), u32_at(entry, 4)) {
                (0, 0) => Some(Chunk::Zero),
                (crc, 1) => Some(Chunk::Stored(crc)),
                _ => None,
            })
            .collect();
        let saved = Duration::from_millis(u64_at(head, 24));
        let header = Self {
            bytes,
            saved: SystemTime::UNIX_EPOCH.checked_add(saved).ok_or("its time is out of range")?,
            app: name_at(head, 32)?,
            region: name_at(head, 48)?,
            chunks: chunks.ok_or("its chunk table has an unknown kind of entry")?,
        };
        if header.stored() != u64::from(u32_at(head, 64)) {
            return Err("its chunk count contradicts its table".to_owned());
        }
        Ok(header)
    }

    /// Chunks stored.
    pub fn stored(&self) -> u64 {
        self.chunks.iter().filter(|chunk| matches!(chunk, Chunk::Stored(_))).count() as u64
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        data_offset(self.bytes) + self.stored() * CHUNK_BYTES
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn name_at(bytes: &[u8], at: usize) -> Result<String, String> {
    let padded = &bytes[at..at + NAME_BYTES];
    let len = padded.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
    String::from_utf8(padded[..len].to_vec()).map_err(|_| "a name in it is not text".to_owned())
}

const _: () = assert!(naam_abi::limits::NAME_BYTES_MAX <= NAME_BYTES);
const _: () = assert!(naam_abi::limits::REGION_BYTES_MIN.is_multiple_of(CHUNK_BYTES));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Header {
        Header {
            bytes: 4 << 20,
            saved: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            app: "kv".to_owned(),
            region: "store".to_owned(),
            chunks: vec![Chunk::Zero, Chunk::Stored(7), Chunk::Stored(0), Chunk::Zero],
        }
    }

    #[test]
    fn header_round_trips() {
        let head = sample().encode();
        assert_eq!(head.len() as u64, head_bytes(4 << 20));
        assert_eq!(Header::decode(&head).unwrap(), sample());
        assert_eq!(sample().file_bytes(), 4096 + (2 << 20));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let head = sample().encode();
        for bit in 0..head.len() * 8 {
            let mut damaged = head.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn chunks_are_bound_to_their_place() {
        let bytes = [1u8; 64];
        assert_ne!(Chunk::of(0, &bytes), Chunk::of(1, &bytes));
        assert_eq!(Chunk::of(3, &[0; 64]), Chunk::Zero);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(mut head in proptest::collection::vec(any::<u8>(), 0..200), magic: bool) {
            if magic && head.len() >= 24 {
                head[..24].copy_from_slice(&sample().encode()[..24]);
            }
            prop_assert!(Header::decode(&head).is_err());
        }
    }
}
