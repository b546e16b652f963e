//! Arguments and replies, for clients.
//!
//! Arguments of both functions: a word with the key's length in bits 0–15, then the key, padded with
//! zeros to whole words. Of a scan the word also holds flags in bits 16–31 and the most keys wanted in bits
//! 32–63; its key may be empty.
//!
//! A scan's reply is one word, then that many entries:
//!
//! | | word |
//! |---|---|
//! | once | bits 0–15 entries, bit 16: there may be more behind the last, bits 32–63 generation of the tree's root |
//! | each | bits 0–15 bytes of the key, 16–31 bytes of the value, bit 32: the value is not included |
//! | | the key, then the value unless it is not included, each padded with zeros to whole words |
//!
//! Values that do not stand in their leaf are not included, nor any if [`KEYS_ONLY`] is set: GET brings
//! them. The next message's key is the last entry's, with [`EXCLUSIVE`].

use super::{KEY_MAX, SCAN_KEYS_MAX};

/// Longest arguments.
pub const ARGS_MAX: usize = 8 + KEY_MAX;
/// Scan: begin behind the key, not at it.
pub const EXCLUSIVE: u64 = 1;
/// Scan: only keys.
pub const KEYS_ONLY: u64 = 2;

/// In a scan's first reply word: there may be more.
pub const MORE: u64 = 1 << 16;
/// In an entry's word: the value is not included.
pub const WITHOUT_VALUE: u64 = 1 << 32;

/// Bytes of the arguments for a key of `key_len` bytes.
pub const fn len(key_len: usize) -> usize {
    8 + key_len.next_multiple_of(8)
}

/// Puts the arguments of a GET into `buffer`; the bytes used.
///
/// # Panics
/// If the buffer is shorter than [`len`], or the key is empty or too long.
pub fn get<'a>(buffer: &'a mut [u8], key: &[u8]) -> &'a [u8] {
    assert!(!key.is_empty(), "keys have 1 to {KEY_MAX} bytes");
    put(buffer, key, 0)
}

/// Puts the arguments of a scan into `buffer`; the bytes used. `key` may be empty: from the first key on.
/// At most [`SCAN_KEYS_MAX`] keys come.
///
/// # Panics
/// If the buffer is shorter than [`len`], or the key is too long.
pub fn scan<'a>(buffer: &'a mut [u8], key: &[u8], flags: u64, keys: u64) -> &'a [u8] {
    put(buffer, key, flags << 16 | keys.min(SCAN_KEYS_MAX) << 32)
}

fn put<'a>(buffer: &'a mut [u8], key: &[u8], word: u64) -> &'a [u8] {
    assert!(key.len() <= KEY_MAX, "a key of {} bytes, {KEY_MAX} are the most", key.len());
    let args = &mut buffer[..len(key.len())];
    args[..8].copy_from_slice(&(word | key.len() as u64).to_le_bytes());
    args[8..].fill(0);
    args[8..8 + key.len()].copy_from_slice(key);
    args
}

/// The reply of a scan.
#[derive(Clone, Debug)]
pub struct Scanned<'a> {
    /// Whether there may be keys behind the last entry.
    pub has_more: bool,
    /// Generation of the tree's root: what all entries were read from.
    pub generation: u32,
    left: u64,
    bytes: &'a [u8],
}

/// A key of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Bytes of the value.
    pub value_len: usize,
    /// The value, if it is included.
    pub value: Option<&'a [u8]>,
}

impl<'a> Scanned<'a> {
    /// Takes a reply apart; `None` if it is too short to be one.
    pub fn new(reply: &'a [u8]) -> Option<Self> {
        let word = word(reply)?;
        let (has_more, generation) = (word & MORE != 0, (word >> 32) as u32);
        Some(Self { has_more, generation, left: word & 0xffff, bytes: &reply[8..] })
    }
}

impl<'a> Iterator for Scanned<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.left = self.left.checked_sub(1)?;
        let word = word(self.bytes)?;
        let (key_len, value_len) = ((word & 0xffff) as usize, (word >> 16 & 0xffff) as usize);
        let included = if word & WITHOUT_VALUE == 0 { value_len } else { 0 };
        let rest = &self.bytes[8..];
        let key = rest.get(..key_len)?;
        let rest = rest.get(key_len.next_multiple_of(8)..)?;
        let value = rest.get(..included)?;
        self.bytes = rest.get(included.next_multiple_of(8)..)?;
        Some(Entry { key, value_len, value: (word & WITHOUT_VALUE == 0).then_some(value) })
    }
}

fn word(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|word| u64::from_le_bytes(*word))
}
