//! What people build without NAAM: a process behind a UDP socket. It speaks NAAM's wire format, checks and makes the
//! tags, and runs the handler's source compiled for this machine, without any check of an op that it can do without.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use naam_abi::handler::Step;
use naam_abi::limits::{DATAGRAM_BYTES, PORT_BASE, SHARDS_MAX, STEPS_MAX};
use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::wire::{self, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, MESSAGE_SERVED, Message, Status, TAG_OFFSET};
use naam_handler::{Msg, View as _, View1k, native};

/// How often a server without work looks whether it shall end.
const PAUSE: Duration = Duration::from_millis(100);

/// A handler's source.
type Handler = fn(&mut Msg, &View1k) -> Step;

/// A server thread; it ends when this is dropped.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves shard 0 of `app` at `address` by `handler`, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the socket cannot be had.
    pub fn start(address: IpAddr, app: u16, handler: Handler, words: Arc<[AtomicU64]>) -> io::Result<Self> {
        let socket = UdpSocket::bind((address, PORT_BASE + app * SHARDS_MAX as u16))?;
        socket.set_read_timeout(Some(PAUSE))?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut bytes = [0; DATAGRAM_BYTES];
                let mut message = native::request(&[]);
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
                    if answer(&mut bytes[..len], &mut message, handler, &words).is_some() {
                        // What is lost is asked again.
                        let _ = socket.send_to(&bytes[..len], from);
                    }
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Turns a request into its reply; none if it is no request of ours.
fn answer(bytes: &mut [u8], message: &mut Msg, handler: Handler, words: &[AtomicU64]) -> Option<()> {
    let header = Header::decode(bytes).ok()?;
    if header.kind != Kind::Request || wire::tag(PUBLIC_KEY, bytes) != header.tag {
        return None;
    }
    let mut at = HEADER_BYTES;
    for _ in 0..header.count {
        let asked = Message::decode(bytes.get(at..)?).ok()?;
        let room = at + MESSAGE_BYTES..at + MESSAGE_BYTES + usize::from(asked.room);
        take(message, &bytes[room.clone()], &asked);
        let status = run(message, handler, words);
        let reply_len = if status == Status::Ok { message.reply_len as usize } else { 0 };
        for (to, from) in bytes[room.clone()][..wire::padded(reply_len)].chunks_exact_mut(8).zip(&message.reply) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        let answered = Message {
            code: message.code,
            status: status as u16,
            flags: MESSAGE_SERVED,
            steps: message.step as u8 + 1,
            hops: 1,
            reply_len: reply_len as u16,
            ..asked
        };
        answered.encode(&mut bytes[at..]);
        at = room.end;
    }
    let reply = Header { kind: Kind::Reply, handler: 1, lease: 100, tag: 0, ..header };
    reply.encode(bytes);
    let tag = wire::tag(PUBLIC_KEY, bytes);
    bytes[TAG_OFFSET..HEADER_BYTES].copy_from_slice(&tag.to_le_bytes());
    Some(())
}

/// Puts a message of the wire before the handler. What the handler does not read unwritten is not cleared.
fn take(message: &mut Msg, args: &[u8], asked: &Message) {
    for (to, from) in message.args.iter_mut().zip(args[..wire::padded(asked.arg_len.into())].chunks_exact(8)) {
        *to = u64::from_le_bytes(from.try_into().expect("eight bytes"));
    }
    message.state = [0; 16];
    (message.arg_len, message.reply_len, message.code) = (asked.arg_len.into(), 0, 0);
}

/// Steps `message` to its end.
fn run(message: &mut Msg, handler: Handler, words: &[AtomicU64]) -> Status {
    let mut view = View1k::zero();
    for step in 0..STEPS_MAX {
        message.step = step;
        match handler(message, &view) {
            Step::Done => return Status::Ok,
            Step::Read => {
                let (first, count) = (message.op_offset as usize / 8, message.op_len as usize / 8);
                let Some(source) = words.get(first..first + count) else { return Status::Bounds };
                for (to, from) in view.w.iter_mut().zip(source) {
                    *to = from.load(Ordering::Relaxed);
                }
            }
            Step::Fail => return Status::Failed,
            Step::Write | Step::Cas | Step::Faa => return Status::ReadOnly,
        }
    }
    Status::Budget
}
