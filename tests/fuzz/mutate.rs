//! Frames that are nearly right: requests that would be served, then bent where bending them hurts.

use naam_tests::bench::{SESSION, port};
use naam_tests::frame::{Carried, Message, Network, Request, sign};
use naam_tests::handlers::{ORDERS_MAX, Order, strings, strings_for_ever};
use naam_tests::stage::{APP, FUNCTION, SINGLE, VALUE, VALUES};

/// SplitMix64: one seed, one stream.
pub struct Random(u64);

impl Random {
    /// A stream.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number next to a limit, or any.
    fn number(&mut self) -> u64 {
        const LIMITS: [u64; 22] = [
            0,
            1,
            7,
            8,
            16,
            31,
            32,
            33,
            48,
            63,
            64,
            240,
            255,
            1024,
            1088,
            3424,
            4096,
            32_768,
            65_528,
            65_535,
            u32::MAX as u64,
            u64::MAX,
        ];
        match self.below(4) {
            0 => self.next(),
            1 => self.pick(&LIMITS).wrapping_add(self.next() % 3).wrapping_sub(1),
            _ => self.pick(&LIMITS),
        }
    }

    fn offset(&mut self) -> u64 {
        let edge = self.pick(&[0, 4096, SINGLE, VALUE, VALUE * VALUES, 1 << 32, 1 << 63, 0]);
        let step = self.pick(&[0, 8, 16, 64, 512, 1024, 1088, 4]);
        if self.once_in(2) { edge.wrapping_add(step) } else { edge.wrapping_sub(step) }
    }

    fn order(&mut self) -> Order {
        Order {
            step: if self.once_in(12) { self.number() as u32 } else { self.pick(&[1, 1, 1, 2, 2, 3, 4]) },
            region: if self.once_in(8) { self.number() as u32 } else { self.below(2) as u32 },
            offset: if self.once_in(12) { self.number() } else { self.offset() },
            len: if self.once_in(6) { self.number() as u32 } else { self.pick(&[8, 16, 64, 72, 1024, 1088]) },
            source: if self.once_in(6) { self.number() as u32 } else { self.pick(&[0, 8, 64, 1088, 2104]) },
            expect: self.next() % 4,
            value: self.next(),
        }
    }

    fn message(&mut self, most: usize) -> Message {
        let count = self.below(4).min(ORDERS_MAX);
        let orders: Vec<_> = (0..count).map(|_| self.order()).collect();
        let args = match self.below(16) {
            0 => strings_for_ever(self.order()),
            1 => (0..self.below(96)).map(|_| self.next() as u8).collect(),
            _ => {
                let claim = self.pick(&[0, 8, 13, 64, 65, 240, 241, u64::MAX]);
                strings(&orders, claim)
            }
        };
        let args = if args.len() > most { Vec::new() } else { args };
        let reply = self.pick(&[0, 8, 64, 72, 240, 1024]).min(most);
        Message {
            slot: if self.once_in(16) { self.number() as u16 } else { self.below(64) as u16 },
            sequence: if self.once_in(16) { self.number() as u32 } else { self.next() as u32 % 64 },
            ..Message::new(self.next() as u32, &args, reply)
        }
    }

    /// A message that was cut at a client, if one believes it.
    fn carried(&mut self, most: usize) -> Message {
        let message = self.message(most);
        let orders = [self.order()];
        let [Order { offset, value, expect, .. }] = orders;
        let op = [offset, value, expect, self.number(), self.number()];
        let carried = Carried {
            step: if self.once_in(8) { self.number() as u8 } else { self.pick(&[1, 1, 2, 3, 4]) },
            steps: if self.once_in(8) { self.number() as u8 } else { self.below(40) as u8 },
            code: self.number() as u32,
            // Half of them could be performed.
            op: if self.once_in(2) { op } else { [offset, value, expect, self.below(2) as u64 | 8 << 32, 16] },
            // A puppet has two words.
            state: if self.once_in(8) { vec![self.number(); self.below(18)] } else { vec![self.below(4) as u64, 1] },
            reply: vec![0x5a; self.pick(&[0, 0, 8, 13, 240])],
            reply_max: if self.once_in(8) { self.number() as u8 } else { 30 },
        };
        let parts = message.args.len().next_multiple_of(8) + 40 + carried.state.len() * 8 + carried.reply.len();
        let room = parts.next_multiple_of(8).max(message.room).max(240);
        if room <= most { Message { room, carried: Some(carried), ..message } } else { message }
    }

    /// Messages, for a Request or a Continue.
    fn request(&mut self, continued: bool) -> Request {
        let count = self.pick(&[1, 1, 2, 3, 8, 31, 32]);
        let most = (3424 - 48) / count - 32;
        let most = most / 8 * 8;
        let message = |random: &mut Self| match continued && !random.once_in(3) {
            true => random.carried(most),
            false => random.message(most),
        };
        let messages = (0..count).map(|_| message(self)).collect();
        Request {
            app: if self.once_in(24) { self.number() as u16 % 64 } else { APP },
            function: if self.once_in(24) { self.number() as u16 } else { FUNCTION + self.below(2) as u16 },
            // Continues name a version.
            handler: if self.once_in(16) { self.number() as u16 } else { self.below(2) as u16 | u16::from(continued) },
            shard: self.below(64) as u16,
            session: if self.once_in(24) { self.number() as u32 } else { SESSION },
            messages,
        }
    }

    /// Puts a number over a little-endian field.
    fn bend(&mut self, bytes: &mut [u8], at: usize, width: usize) {
        if at + width <= bytes.len() {
            let number = self.number().to_le_bytes();
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
    }

    /// One change to a datagram.
    fn bend_datagram(&mut self, bytes: &mut Vec<u8>) {
        const HEADER: [(usize, usize); 16] = [
            (0, 4),
            (4, 1),
            (5, 1),
            (6, 1),
            (7, 1),
            (8, 2),
            (10, 2),
            (12, 2),
            (14, 2),
            (16, 4),
            (20, 2),
            (22, 2),
            (24, 4),
            (28, 1),
            (32, 8),
            (7, 1),
        ];
        const MESSAGE: [(usize, usize); 13] = [
            (8, 4),
            (12, 2),
            (14, 2),
            (16, 1),
            (17, 1),
            (18, 1),
            (19, 1),
            (20, 2),
            (22, 2),
            (24, 2),
            (26, 1),
            (27, 1),
            (24, 1),
        ];
        match self.below(9) {
            0..=1 => {
                let (at, width) = self.pick(&HEADER);
                self.bend(bytes, at, width);
            }
            2..=4 => {
                // The first message, or wherever one might start.
                let start = if self.once_in(2) { 48 } else { 48 + self.below(bytes.len() / 8) * 8 };
                let (at, width) = self.pick(&MESSAGE);
                self.bend(bytes, start + at, width);
            }
            5 => {
                let at = self.below(bytes.len());
                bytes[at] ^= 1 << self.below(8);
            }
            6 => {
                let len = self.below(bytes.len() + 1);
                bytes.truncate(if self.once_in(2) { len / 8 * 8 } else { len });
                self.say_length(bytes);
            }
            7 => {
                bytes.extend((0..self.pick(&[1, 8, 32, 64])).map(|at| at as u8));
                self.say_length(bytes);
            }
            // A word of arguments, op, state or reply.
            _ => {
                let at = self.below(bytes.len() / 8) * 8;
                self.bend(bytes, at, 8);
            }
        }
    }

    /// Mostly the header says the new length.
    fn say_length(&mut self, bytes: &mut [u8]) {
        if bytes.len() >= 22 && !self.once_in(4) {
            let length = bytes.len() as u16;
            bytes[20..22].copy_from_slice(&length.to_le_bytes());
        }
    }

    /// One change to a frame's network headers, or its end.
    fn bend_frame(&mut self, frame: &mut Vec<u8>, header_len: usize) {
        match self.below(6) {
            0 => {
                let at = self.below(header_len.min(frame.len()));
                frame[at] ^= 1 << self.below(8);
            }
            1 => {
                // Ethertype, IP length, fragments, protocol, ports, UDP length.
                let places = [12, 16, 18, 20, 22, 23, 34, 36, 38, 54, 56, 58];
                let at = self.pick(&places);
                let number = (self.number() as u16).to_be_bytes();
                if at + 2 <= frame.len() {
                    frame[at..at + 2].copy_from_slice(&number);
                }
            }
            2 => frame.truncate(14.max(self.below(frame.len() + 1))),
            3 => frame.extend((0..self.below(64)).map(|at| at as u8)),
            4 => {
                let tag = self.next() as u8;
                frame.splice(12..12, [0x81, 0, 0, tag]);
            }
            _ => {
                let at = self.below(frame.len());
                frame[at] = self.next() as u8;
            }
        }
    }

    /// A frame. Most keep enough truth to come far.
    pub fn frame(&mut self) -> Vec<u8> {
        let continued = self.once_in(2);
        let request = self.request(continued);
        let mut datagram = if continued { request.continued() } else { request.datagram() };
        for _ in 0..self.pick(&[0, 0, 1, 1, 2, 4]) {
            if !datagram.is_empty() {
                self.bend_datagram(&mut datagram);
            }
        }
        if datagram.len() >= 48 && datagram.len().is_multiple_of(8) && !self.once_in(8) {
            sign(&mut datagram);
        }
        let network = Network {
            v6: self.once_in(3),
            vlan: self.once_in(6).then(|| self.next() as u16),
            source_port: self.next() as u16,
            port: port(request.app, request.shard),
        };
        let mut frame = network.frame(&datagram);
        if self.once_in(4) {
            self.bend_frame(&mut frame, network.header_len());
        }
        frame
    }
}
