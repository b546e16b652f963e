//! One line at a time with bounded memory, whatever the bytes are.

use std::io::{self, BufRead};

/// Bytes of a line, its end included, that are looked at. The longest pair there may be is shorter, even if every
/// byte of it is a doubled quote.
pub(super) const LINE_BYTES_MAX: usize = 4_096;

/// How [`Lines::next`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A line is there.
    Whole,
    /// The beginning of a longer line is there; the rest was passed over.
    Cut,
    /// The input has ended.
    End,
}

/// Lines of some input, ended by LF, and by the input's end.
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// Lines read.
    pub(super) count: u64,
    /// Bytes read.
    pub(super) bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: Vec::with_capacity(LINE_BYTES_MAX), count: 0, bytes: 0 }
    }

    /// The bytes of the line read last; a whole line ends with LF, even if the input's last one did not.
    pub(super) fn line(&self) -> &[u8] {
        &self.buffer
    }

    /// What the input holds next, as far as it is buffered.
    pub(super) fn head(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    /// Passes over a byte order mark.
    pub(super) fn skip_mark(&mut self, mark: &[u8]) -> io::Result<()> {
        if self.head()?.starts_with(mark) {
            self.input.consume(mark.len());
            self.bytes += mark.len() as u64;
        }
        Ok(())
    }

    /// Reads the next line.
    pub(super) fn next(&mut self) -> io::Result<Line> {
        self.buffer.clear();
        let mut whole = true;
        let mut any = false;
        loop {
            let piece = match self.input.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                break;
            }
            any = true;
            let end = piece.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(piece.len());
            let kept = taken.min(LINE_BYTES_MAX - self.buffer.len());
            self.buffer.extend_from_slice(&piece[..kept]);
            whole &= kept == taken;
            self.input.consume(taken);
            self.bytes += taken as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(Line::End);
        }
        self.count += 1;
        if whole && !self.buffer.ends_with(b"\n") {
            self.buffer.push(b'\n');
        }
        Ok(if whole { Line::Whole } else { Line::Cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn long_lines_are_cut_and_passed_over() {
        let mut text = vec![b'x'; LINE_BYTES_MAX * 3];
        text.extend_from_slice(b"\nshort\n\nlast");
        let mut lines = Lines::new(BufReader::with_capacity(100, &text[..]));
        let mut seen = Vec::new();
        loop {
            let kind = lines.next().expect("reading memory does not fail");
            if kind == Line::End {
                break;
            }
            seen.push((kind, lines.line().len()));
        }
        assert_eq!(seen, [(Line::Cut, LINE_BYTES_MAX), (Line::Whole, 6), (Line::Whole, 1), (Line::Whole, 5)]);
        assert_eq!((lines.count, lines.bytes), (4, text.len() as u64));
    }
}
