//! A hex view of a range, for people.

use std::io::{self, Write};

use crate::{AccessError, Memory};

/// Bytes a line shows.
const LINE: usize = 16;
/// Bytes copied out of the region at a time.
const STRIDE: u64 = 64 << 10;

/// Copies the range for [`write_hex`]: `offset` and `len` are widened to whole lines of 16 bytes
/// and cut at the region's end.
pub fn read_range(memory: &Memory, offset: u64, len: u64) -> Result<(u64, Vec<u8>), AccessError> {
    let line = LINE as u64;
    if offset >= memory.bytes() {
        return Err(AccessError::End { offset, len, bytes: memory.bytes() });
    }
    let start = offset / line * line;
    let end = offset.saturating_add(len).min(memory.bytes()).next_multiple_of(line);
    let mut bytes = vec![0; (end - start) as usize];
    let mut at = start;
    while at < end {
        // Strides end at multiples of their length, and so at the ends of map values.
        let until = (at / STRIDE + 1) * STRIDE;
        let piece = &mut bytes[(at - start) as usize..(until.min(end) - start) as usize];
        memory.copy_out(at, piece)?;
        at += piece.len() as u64;
    }
    Ok((start, bytes))
}

/// Writes `bytes` as `hexdump -C` does: offset, sixteen bytes, their characters; `*` stands for
/// repetitions of the line above; the offset after the last byte ends the view.
pub fn write_hex(start: u64, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut above: Option<&[u8]> = None;
    let mut starred = false;
    for (offset, line) in (start..).step_by(LINE).zip(bytes.chunks(LINE)) {
        if above == Some(line) {
            if !starred {
                writeln!(out, "*")?;
            }
            starred = true;
            continue;
        }
        (above, starred) = (Some(line), false);
        write!(out, "{offset:08x} ")?;
        for (i, byte) in line.iter().enumerate() {
            let gap = if i == LINE / 2 { "  " } else { " " };
            write!(out, "{gap}{byte:02x}")?;
        }
        let shown: String =
            line.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '.' }).collect();
        writeln!(out, "  |{shown}|")?;
    }
    writeln!(out, "{:08x}", start + bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_is_that_of_hexdump() {
        let mut bytes = vec![0u8; 80];
        bytes[0..5].copy_from_slice(b"naam\n");
        bytes[79] = 0xff;
        let mut text = Vec::new();
        write_hex(0x200000, &bytes, &mut text).unwrap();
        let expected = "\
00200000  6e 61 61 6d 0a 00 00 00  00 00 00 00 00 00 00 00  |naam............|
00200010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00200040  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 ff  |................|
00200050
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
