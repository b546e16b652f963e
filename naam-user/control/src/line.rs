//! Lines of bounded length and time.

use std::io;
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

/// Why there is no line.
#[derive(Debug, Error)]
pub(crate) enum LineError {
    #[error("the line is longer than {0} bytes")]
    TooLong(usize),
    #[error("the line did not end within {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("nothing was said for {} s", .0.as_secs_f32())]
    Idle(Duration),
    #[error("the connection ended within a line")]
    Cut,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How long a line may be and take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LineLimits {
    /// Bytes without the newline.
    pub bytes: usize,
    /// From now to the first byte.
    pub idle: Duration,
    /// From the first byte to the last.
    pub time: Duration,
}

/// Reads a line, without its newline; `None` at the connection's end. Never holds more than the
/// limit and one buffer of `reader`.
pub(crate) async fn read_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    limits: LineLimits,
) -> Result<Option<Vec<u8>>, LineError> {
    let first = timeout(limits.idle, reader.fill_buf()).await.map_err(|_| LineError::Idle(limits.idle))??;
    if first.is_empty() {
        return Ok(None);
    }
    let deadline = Instant::now() + limits.time;
    let mut line = Vec::new();
    loop {
        let bytes = timeout_at(deadline, reader.fill_buf()).await.map_err(|_| LineError::Slow(limits.time))??;
        if bytes.is_empty() {
            return Err(LineError::Cut);
        }
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let piece = &bytes[..newline.unwrap_or(bytes.len())];
        if line.len() + piece.len() > limits.bytes {
            return Err(LineError::TooLong(limits.bytes));
        }
        line.extend_from_slice(piece);
        let used = piece.len() + usize::from(newline.is_some());
        reader.consume(used);
        if newline.is_some() {
            return Ok(Some(line));
        }
    }
}

/// A value as a line.
pub(crate) fn to_line<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Writes a value as a line.
pub(crate) async fn write_line<W: AsyncWrite + Unpin, T: Serialize>(
    writer: &mut W,
    value: &T,
    time: Duration,
) -> io::Result<()> {
    let line = to_line(value)?;
    timeout(time, writer.write_all(&line)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LineLimits =
        LineLimits { bytes: 8, idle: Duration::from_millis(20), time: Duration::from_millis(20) };

    fn lines(bytes: &[u8]) -> Vec<Result<Option<Vec<u8>>, LineError>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut reader = tokio::io::BufReader::with_capacity(3, bytes);
            let mut lines = Vec::new();
            loop {
                let line = read_line(&mut reader, LIMITS).await;
                let last = !matches!(line, Ok(Some(_)));
                lines.push(line);
                if last {
                    return lines;
                }
            }
        })
    }

    #[test]
    fn lines_end_at_newlines() {
        let lines = lines(b"a\n\n12345678\n");
        let texts: Vec<_> = lines[..3].iter().map(|line| line.as_ref().unwrap().as_ref().unwrap().as_slice()).collect();
        assert_eq!(texts, [&b"a"[..], b"", b"12345678"]);
        assert!(matches!(lines[3], Ok(None)));
    }

    #[test]
    fn long_and_cut_lines_are_refused() {
        assert!(matches!(lines(b"123456789\n")[..], [Err(LineError::TooLong(8))]));
        assert!(matches!(lines(b"ok\n123456789")[..], [Ok(Some(_)), Err(LineError::TooLong(8))]));
        assert!(matches!(lines(b"1234")[..], [Err(LineError::Cut)]));
    }

    #[test]
    fn silence_and_slowness_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (mut ours, theirs) = tokio::io::duplex(64);
            let mut reader = tokio::io::BufReader::new(theirs);
            assert!(matches!(read_line(&mut reader, LIMITS).await, Err(LineError::Idle(_))));
            ours.write_all(b"half").await.unwrap();
            assert!(matches!(read_line(&mut reader, LIMITS).await, Err(LineError::Slow(_))));
        });
    }
}
