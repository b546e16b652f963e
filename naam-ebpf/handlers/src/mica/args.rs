//! Arguments and replies, for clients.
//!
//! | | word 0 | word 1 | word 2 | then |
//! |---|---|---|---|---|
//! | [`get`] | hash | key length, log2 of the buckets << 8 | key | |
//! | [`set`] | key length, value length << 16 | 0 | 0 | value, key |
//! | [`cas`] | key length, value length << 16 | expected version | 0 | value, key |
//! | [`delete`] | key length | 0 | 0 | key |
//!
//! Value and key are padded with zeros to whole words. A GET trusts the client's hash and number of
//! buckets (bits 32 to 37 of the region's first word), which can but make it miss; the others find out for themselves. The three leading words
//! of those that write become the item's own.

use super::{KEY_MAX, VALUE_MAX, hash::hash, layout::Geometry};

/// Longest arguments of [`get`].
pub const GET_ARGS_MAX: usize = 16 + KEY_MAX;
/// Longest arguments of [`set`] and [`cas`].
pub const WRITE_ARGS_MAX: usize = 24 + VALUE_MAX + KEY_MAX;

/// Bytes of the arguments of a [`get`].
pub const fn get_len(key_len: usize) -> usize {
    16 + key_len.next_multiple_of(8)
}

/// Bytes of the arguments of a [`set`], [`cas`] or [`delete`] (which has a value of 0 bytes).
pub const fn write_len(key_len: usize, value_len: usize) -> usize {
    24 + value_len.next_multiple_of(8) + key_len.next_multiple_of(8)
}

/// Puts the arguments of a GET into `buffer`; the bytes used.
///
/// # Panics
/// If the buffer is shorter than [`get_len`], or the key is empty or too long.
pub fn get<'a>(buffer: &'a mut [u8], geometry: Geometry, key: &[u8]) -> &'a [u8] {
    check(key, &[]);
    let lengths = key.len() as u64 | geometry.log2_buckets() << 8;
    let args = &mut buffer[..get_len(key.len())];
    args[..8].copy_from_slice(&hash(key).to_le_bytes());
    args[8..16].copy_from_slice(&lengths.to_le_bytes());
    pad(&mut args[16..], key);
    args
}

/// Puts the arguments of a SET into `buffer`; the bytes used.
///
/// # Panics
/// If the buffer is shorter than [`write_len`], the key is empty, or either is too long.
pub fn set<'a>(buffer: &'a mut [u8], key: &[u8], value: &[u8]) -> &'a [u8] {
    cas(buffer, key, 0, value)
}

/// Puts the arguments of a CAS into `buffer`; the bytes used.
///
/// # Panics
/// As [`set`].
pub fn cas<'a>(buffer: &'a mut [u8], key: &[u8], version: u64, value: &[u8]) -> &'a [u8] {
    check(key, value);
    let args = &mut buffer[..write_len(key.len(), value.len())];
    args[..8].copy_from_slice(&(key.len() as u64 | (value.len() as u64) << 16).to_le_bytes());
    args[8..16].copy_from_slice(&version.to_le_bytes());
    args[16..24].fill(0);
    let (to_value, to_key) = args[24..].split_at_mut(value.len().next_multiple_of(8));
    pad(to_value, value);
    pad(to_key, key);
    args
}

/// Puts the arguments of a DELETE into `buffer`; the bytes used.
///
/// # Panics
/// As [`set`].
pub fn delete<'a>(buffer: &'a mut [u8], key: &[u8]) -> &'a [u8] {
    cas(buffer, key, 0, &[])
}

/// Version and value in the reply of a GET with [`Code::Ok`](super::Code::Ok); `None` if it is too short.
pub fn found(reply: &[u8]) -> Option<(u64, &[u8])> {
    Some((version(reply)?, &reply[8..]))
}

/// The version in the reply of a SET, or of a CAS with [`Code::Ok`](super::Code::Ok) or
/// [`Code::VersionDiffers`](super::Code::VersionDiffers); `None` if it is too short.
pub fn version(reply: &[u8]) -> Option<u64> {
    reply.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn check(key: &[u8], value: &[u8]) {
    assert!((1..=KEY_MAX).contains(&key.len()), "a key of {} bytes, 1 to {KEY_MAX} are allowed", key.len());
    assert!(value.len() <= VALUE_MAX, "a value of {} bytes, {VALUE_MAX} is the most", value.len());
}

fn pad(to: &mut [u8], bytes: &[u8]) {
    to[..bytes.len()].copy_from_slice(bytes);
    to[bytes.len()..].fill(0);
}
