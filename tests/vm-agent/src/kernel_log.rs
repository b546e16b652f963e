//! The kernel's log as text.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::fs::OFlags;

/// A record of `/dev/kmsg` is never longer.
const RECORD_BYTES_MAX: usize = 8192;

/// All records that the kernel still has, as `[seconds] text` and a level before it: `4 [0.123456] text`.
///
/// # Errors
/// When `/dev/kmsg` cannot be read.
pub fn read() -> io::Result<String> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")?;
    let mut text = String::new();
    let mut record = vec![0; RECORD_BYTES_MAX];
    loop {
        match file.read(&mut record) {
            Ok(0) => return Ok(text),
            Ok(len) => text.push_str(&line(&String::from_utf8_lossy(&record[..len]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(text),
            // Records were overwritten before they were read; the next read goes on with the oldest.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error),
        }
    }
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT` and lines of properties behind it.
fn line(record: &str) -> String {
    let (head, text) = record.split_once(';').unwrap_or(("", record));
    let text = text.lines().next().unwrap_or_default();
    let mut fields = head.split(',');
    let priority: u32 = fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
    let microseconds: u64 = fields.nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    // The facility is above the level's three bits.
    let level = priority & 7;
    format!("{level} [{}.{:06}] {text}\n", microseconds / 1_000_000, microseconds % 1_000_000)
}
