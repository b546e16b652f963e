//! What a test machine's agent and its host say to each other: JSON objects, one a line.
//!
//! The host sends [`Request`]s, each with a number of its own, and may send more before the first is done. The agent
//! answers with [`Event`]s that carry the request's number; the last of them is the positive end: [`Event::Exited`],
//! [`Event::Done`] or [`Event::Failed`]. A machine that says nothing has not succeeded.

use std::io::{self, BufRead};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Name of the virtio port that they talk over.
pub const PORT: &str = "naam.agent";

/// File in the image with the modules to load, a path a line, each after those it needs.
pub const MODULES: &str = "/modules/load";

/// Bytes of a file or of output in one line.
pub const CHUNK_BYTES: usize = 48 << 10;

/// A line longer than this is no message: chunks in base64, and some room for the rest.
pub const LINE_BYTES_MAX: usize = 2 * CHUNK_BYTES;

/// Asks the agent for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the host; comes back in every event of this request.
    pub id: u64,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
}

/// What a host may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Run a program: [`Event::Output`] as it comes, then [`Event::Exited`].
    Run {
        /// A path, or a name on the agent's PATH.
        program: String,
        /// Without the program's name.
        arguments: Vec<String>,
        /// The program and its children are killed after this.
        time_limit_ms: u64,
    },
    /// Kill a running program and its children; its own request then ends as usual.
    Kill {
        /// The program's request.
        target: u64,
    },
    /// Write to a file, making its folders.
    Put {
        /// Where.
        path: String,
        /// Permissions of a new file.
        mode: u32,
        /// Adds to the file instead of replacing it.
        append: bool,
        /// The bytes, at most [`CHUNK_BYTES`].
        data: Bytes,
    },
    /// Read a file: [`Event::Output`] of its bytes, then [`Event::Done`].
    Get {
        /// Where.
        path: String,
    },
    /// Read the kernel's log: [`Event::Output`], then [`Event::Done`].
    KernelLog,
    /// Switch the machine off. There is no answer but that.
    PowerOff,
}

/// Tells the host something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event: the machine is up.
    Ready {
        /// `uname -r`.
        kernel: String,
        /// `uname -m`.
        machine: String,
        /// What did not go well on the way, e.g. a module that the kernel refused.
        warnings: Vec<String>,
    },
    /// Bytes of a program's output, a file, or the kernel's log.
    Output {
        /// The request.
        id: u64,
        /// Where they come from.
        stream: Stream,
        /// At most [`CHUNK_BYTES`].
        data: Bytes,
    },
    /// A program has ended, and all of its output was sent.
    Exited {
        /// The request.
        id: u64,
        /// How.
        end: End,
    },
    /// It is done.
    Done {
        /// The request.
        id: u64,
    },
    /// It cannot be done.
    Failed {
        /// The request.
        id: u64,
        /// Why.
        message: String,
    },
}

/// Where output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output, a file, or the kernel's log.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed by the agent, because its time was over.
    TimeLimit,
}

/// Bytes, in base64 on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A message as a line, with its end.
///
/// # Panics
/// Never: these types have no map with keys other than strings, and no failing serialization.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages are plain data");
    line.push(b'\n');
    line
}

/// The next message, or nothing at the end.
///
/// # Errors
/// When reading fails, when a line is longer than [`LINE_BYTES_MAX`], or is no message.
pub fn read<T: DeserializeOwned>(source: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let limit = LINE_BYTES_MAX as u64 + 1;
    let read = io::Read::take(&mut *source, limit).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_none() {
        let problem = if read as u64 == limit { "a line is too long" } else { "a line is cut off" };
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let run = Action::Run { program: "naam".into(), arguments: vec!["status".into()], time_limit_ms: 5 };
        let put = Action::Put { path: "/tmp/x".into(), mode: 0o644, append: true, data: Bytes(vec![0, 255, 10]) };
        let requests = [run, put, Action::KernelLog, Action::PowerOff];
        let requests: Vec<_> = (1..).zip(requests).map(|(id, action)| Request { id, action }).collect();
        let lines: Vec<u8> = requests.iter().flat_map(encode).collect();
        let mut source = lines.as_slice();
        for request in &requests {
            assert_eq!(read(&mut source).unwrap().as_ref(), Some(request));
        }
        assert_eq!(read::<Request>(&mut source).unwrap(), None);

        let events = [
            Event::Output { id: 1, stream: Stream::Stderr, data: Bytes(b"\n\xff".to_vec()) },
            Event::Exited { id: 1, end: End::Code(3) },
            Event::Exited { id: 2, end: End::TimeLimit },
        ];
        let lines: Vec<u8> = events.iter().flat_map(encode).collect();
        let mut source = lines.as_slice();
        for event in &events {
            assert_eq!(read(&mut source).unwrap().as_ref(), Some(event));
        }
    }

    #[test]
    fn the_largest_chunk_fits_a_line() {
        let event = Event::Output { id: u64::MAX, stream: Stream::Stdout, data: Bytes(vec![0xff; CHUNK_BYTES]) };
        assert!(encode(&event).len() < LINE_BYTES_MAX);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for line in [&b"hello\n"[..], b"{\"event\":\"ready\"", b"{\"event\":\"strange\"}\n"] {
            assert!(read::<Event>(&mut &*line).is_err(), "{}", String::from_utf8_lossy(line));
        }
        assert!(read::<Event>(&mut vec![b' '; 2 * LINE_BYTES_MAX].as_slice()).is_err());
    }
}
