//! redis: GET and SET in RESP2.

use std::io;
use std::net::SocketAddr;

use super::pipeline::{Decoded, Pipeline, Protocol, line, number, value};
use crate::target::{Failure, Op, Outcome};

/// Connects to a redis server.
pub fn connect(address: SocketAddr) -> io::Result<Pipeline<Resp>> {
    Pipeline::connect(address, Resp)
}

/// The redis serialization protocol, as far as GET and SET need it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resp;

fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    out.extend_from_slice(itoa::Buffer::new().format(bytes.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

impl Protocol for Resp {
    fn encode(&mut self, op: &Op<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        match *op {
            Op::Read { key } => {
                out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
                bulk(key, out);
            }
            Op::Update { key, value } | Op::Insert { key, value } => {
                out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
                bulk(key, out);
                bulk(value, out);
            }
            Op::Scan { .. } => return Err(Failure::Unsupported),
        }
        Ok(())
    }

    fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a> {
        let Some(line) = line(input) else { return Decoded::Incomplete };
        let header = line.len() + 2;
        match line.split_first() {
            Some((b'$', b"-1")) => Decoded::Reply(header, Outcome::Missing),
            Some((b'$', bytes)) => number(bytes).map_or(Decoded::Broken, |bytes| value(input, header, bytes)),
            Some((b'+', b"OK")) => Decoded::Reply(header, Outcome::Done),
            Some((b'-', error)) => Decoded::Reply(header, Outcome::Failed(failure(error))),
            _ => Decoded::Broken,
        }
    }
}

/// By the error's code word.
fn failure(error: &[u8]) -> Failure {
    match error.split(|&byte| byte == b' ').next() {
        Some(b"OOM") => Failure::NoSpace,
        Some(b"LOADING" | b"BUSY" | b"TRYAGAIN" | b"CLUSTERDOWN" | b"MASTERDOWN") => Failure::Overloaded,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        Resp.encode(&Op::Read { key: b"k y" }, &mut out).expect("a read can be said");
        Resp.encode(&Op::Update { key: b"k", value: b"a\r\nb" }, &mut out).expect("an update can be said");
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\nk y\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n");
        assert_eq!(Resp.encode(&Op::Scan { key: b"k", records: 1 }, &mut out), Err(Failure::Unsupported));
    }

    #[test]
    fn replies_are_understood_and_cut_ones_waited_for() {
        let cases: [(&[u8], Outcome<'_>); 6] = [
            (b"$4\r\na\r\nb\r\n", Outcome::Value(b"a\r\nb")),
            (b"$0\r\n\r\n", Outcome::Value(b"")),
            (b"$-1\r\n", Outcome::Missing),
            (b"+OK\r\n", Outcome::Done),
            (b"-OOM command not allowed\r\n", Outcome::Failed(Failure::NoSpace)),
            (b"-ERR syntax error\r\n", Outcome::Failed(Failure::Refused)),
        ];
        for (reply, outcome) in cases {
            assert_eq!(Resp.decode(reply), Decoded::Reply(reply.len(), outcome));
            for end in 0..reply.len() {
                assert_eq!(Resp.decode(&reply[..end]), Decoded::Incomplete);
            }
        }
        for broken in [&b"HTTP/1.1 200 OK\r\n"[..], b"$x\r\n", b"$1\r\nabc", b"$99999999999\r\n", b"\r\n"] {
            assert_eq!(Resp.decode(broken), Decoded::Broken);
        }
    }
}
