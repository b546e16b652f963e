//! Frames crafted byte by byte.
//!
//! Deliberately not built on the product's encoder: offsets are written out as the wire's
//! documentation has them, so that a shared mistake cannot hide.

/// Ethernet, IP and UDP around a payload.
#[derive(Clone, Debug)]
pub struct Network {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// A VLAN tag.
    pub vlan: Option<u16>,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub port: u16,
}

impl Network {
    /// Plain IPv4 to `port`.
    pub fn v4(port: u16) -> Self {
        Self { v6: false, vlan: None, source_port: 40_000, port }
    }

    /// Plain IPv6 to `port`.
    pub fn v6(port: u16) -> Self {
        Self { v6: true, ..Self::v4(port) }
    }

    /// Bytes before the payload.
    pub fn header_len(&self) -> usize {
        14 + if self.vlan.is_some() { 4 } else { 0 } + if self.v6 { 40 } else { 20 } + 8
    }

    /// The frame around `payload`, with correct lengths and checksums.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        // To the loopback interface's own address: test runs come by it.
        let mut frame = vec![0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 1];
        if let Some(vlan) = self.vlan {
            frame.extend(0x8100u16.to_be_bytes());
            frame.extend(vlan.to_be_bytes());
        }
        let udp_len = (8 + payload.len()) as u16;
        let mut pseudo = Vec::new();
        if self.v6 {
            frame.extend(0x86ddu16.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(udp_len.to_be_bytes());
            frame.extend([17, 64]);
            let (source, destination) = ([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], {
                let mut address = [0; 16];
                address[..2].copy_from_slice(&[0xfd, 0x77]);
                address[15] = 2;
                address
            });
            frame.extend(source);
            frame.extend(destination);
            pseudo.extend(source);
            pseudo.extend(destination);
        } else {
            frame.extend(0x0800u16.to_be_bytes());
            let at = frame.len();
            frame.extend([0x45, 0]);
            frame.extend((20 + udp_len).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            frame.extend([10, 77, 0, 1, 10, 77, 0, 2]);
            let checksum = !sum(&frame[at..at + 20]);
            frame[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
            pseudo.extend([10, 77, 0, 1, 10, 77, 0, 2]);
        }
        pseudo.extend([0, 17]);
        pseudo.extend(udp_len.to_be_bytes());
        let at = frame.len();
        frame.extend(self.source_port.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(udp_len.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(payload);
        pseudo.extend(&frame[at..]);
        let checksum = match !sum(&pseudo) {
            0 => 0xffff,
            checksum => checksum,
        };
        frame[at + 6..at + 8].copy_from_slice(&checksum.to_be_bytes());
        frame
    }
}

/// One's complement sum of big-endian 16-bit units.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for unit in bytes.chunks(2) {
        sum += u32::from(unit[0]) << 8 | u32::from(unit.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A request datagram, field by field.
#[derive(Clone, Debug)]
pub struct Request {
    /// App.
    pub app: u16,
    /// Function.
    pub function: u16,
    /// Handler version; 0 for any.
    pub handler: u16,
    /// Shard.
    pub shard: u16,
    /// Session.
    pub session: u32,
    /// Messages.
    pub messages: Vec<Message>,
}

/// A message of a [`Request`].
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Request id.
    pub request: u32,
    /// Slot.
    pub slot: u16,
    /// Sequence.
    pub sequence: u32,
    /// Arguments.
    pub args: Vec<u8>,
    /// Room; at least the arguments, whole words.
    pub room: usize,
    /// What it carries, if it was cut.
    pub carried: Option<Carried>,
    /// Sites passed.
    pub hops: u8,
}

/// What a carried message brings besides its arguments, as its sender says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The pending step.
    pub step: u8,
    /// Steps run.
    pub steps: u8,
    /// The handler's code.
    pub code: u32,
    /// The op: offset, value, expect, region and length, source and done.
    pub op: [u64; 5],
    /// Words of state.
    pub state: Vec<u64>,
    /// Reply so far.
    pub reply: Vec<u8>,
    /// Words of the longest reply.
    pub reply_max: u8,
}

impl Carried {
    /// Reads a message of a Pushback: 32 bytes of header, and its room.
    ///
    /// # Panics
    /// If it is shorter than it says.
    pub fn read(message: &[u8]) -> (Vec<u8>, Self) {
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
        let room = &message[32..32 + u16_at(24)];
        let (args, rest) = room.split_at(u16_at(20).next_multiple_of(8));
        let words = |bytes: &[u8]| -> Vec<u64> {
            bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("whole words"))).collect()
        };
        let (op, rest) = rest.split_at(40);
        let (state, reply) = rest.split_at(usize::from(message[26]) * 8);
        let carried = Self {
            step: message[16],
            steps: message[18],
            code: u32::from_le_bytes(message[4..8].try_into().expect("four bytes")),
            op: words(op).try_into().expect("five words"),
            state: words(state),
            reply: reply[..u16_at(22)].to_vec(),
            reply_max: message[27],
        };
        (args[..u16_at(20)].to_vec(), carried)
    }

    /// The parts behind the arguments.
    fn body(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.op.iter().chain(&self.state).flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(&self.reply);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}

impl Message {
    /// A message with `args` and room for `reply` bytes.
    pub fn new(request: u32, args: &[u8], reply: usize) -> Self {
        let room = args.len().max(reply).next_multiple_of(8);
        Self { request, args: args.to_vec(), room, ..Self::default() }
    }
}

impl Request {
    /// The datagram, with its tag under the public key.
    pub fn datagram(&self) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        bytes[0..4].copy_from_slice(b"NAAM");
        bytes[4] = 1;
        bytes[5] = 1;
        bytes[7] = self.messages.len() as u8;
        bytes[8..10].copy_from_slice(&self.app.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.function.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.handler.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.shard.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.session.to_le_bytes());
        bytes[32..40].copy_from_slice(&1u64.to_le_bytes());
        for message in &self.messages {
            let mut header = [0; 32];
            header[0..4].copy_from_slice(&message.request.to_le_bytes());
            header[8..12].copy_from_slice(&message.sequence.to_le_bytes());
            header[12..14].copy_from_slice(&message.slot.to_le_bytes());
            header[20..22].copy_from_slice(&(message.args.len() as u16).to_le_bytes());
            header[24..26].copy_from_slice(&(message.room as u16).to_le_bytes());
            header[19] = message.hops;
            if let Some(carried) = &message.carried {
                header[4..8].copy_from_slice(&carried.code.to_le_bytes());
                header[16..19].copy_from_slice(&[carried.step, 2, carried.steps]);
                header[22..24].copy_from_slice(&(carried.reply.len() as u16).to_le_bytes());
                header[26..28].copy_from_slice(&[carried.state.len() as u8, carried.reply_max]);
            }
            bytes.extend(header);
            let at = bytes.len();
            bytes.extend(&message.args);
            if let Some(carried) = &message.carried {
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes.extend(carried.body());
            }
            bytes.resize(at + message.room, 0);
        }
        let length = bytes.len() as u16;
        bytes[20..22].copy_from_slice(&length.to_le_bytes());
        sign(&mut bytes);
        bytes
    }
}

impl Request {
    /// The datagram as a Continue.
    pub fn continued(&self) -> Vec<u8> {
        let mut bytes = self.datagram();
        bytes[5] = 3;
        sign(&mut bytes);
        bytes
    }
}

/// Puts the public key's tag into a datagram.
pub fn sign(bytes: &mut [u8]) {
    let tag = siphash(0x6e61_616d_2d70_7562, 0x6c69_632d_6b65_7931, &[&bytes[..40], &bytes[48..]].concat());
    bytes[40..48].copy_from_slice(&tag.to_le_bytes());
}

/// SipHash-2-4 as its paper has it.
pub fn siphash(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let round = |v: &mut [u64; 4]| {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    };
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() / 8 * 8 + 7, 0);
    padded.push(bytes.len() as u8);
    for block in padded.chunks(8) {
        let word = u64::from_le_bytes(block.try_into().expect("whole words"));
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// A message of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Request id.
    pub request: u32,
    /// Handler's code.
    pub code: u32,
    /// Status.
    pub status: u16,
    /// Flags.
    pub flags: u8,
    /// Steps.
    pub steps: u8,
    /// Reply bytes.
    pub reply: Vec<u8>,
    /// Header and room as they came.
    pub raw: Vec<u8>,
}

/// A reply datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Kind: 2 reply, 4 pushback, 5 error.
    pub kind: u8,
    /// Status of an error.
    pub status: u16,
    /// Handler version.
    pub handler: u16,
    /// Whether the tag is right under the public key.
    pub signed: bool,
    /// Messages.
    pub answers: Vec<Answer>,
}

impl Reply {
    /// Reads a datagram.
    ///
    /// # Panics
    /// If it is shorter than it says.
    pub fn read(bytes: &[u8]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(&bytes[0..4], b"NAAM");
        let length = usize::from(u16_at(20));
        let mut signed = bytes[..length].to_vec();
        sign(&mut signed);
        let mut at = 48;
        let answers = (0..bytes[7])
            .map(|_| {
                let (reply_len, room) = (usize::from(u16_at(at + 22)), usize::from(u16_at(at + 24)));
                let answer = Answer {
                    request: u32_at(at),
                    code: u32_at(at + 4),
                    status: u16_at(at + 14),
                    flags: bytes[at + 17],
                    steps: bytes[at + 18],
                    reply: bytes[at + 32..at + 32 + reply_len].to_vec(),
                    raw: bytes[at..at + 32 + room].to_vec(),
                };
                at += 32 + room;
                answer
            })
            .collect();
        Self {
            kind: bytes[5],
            status: u16_at(22),
            handler: u16_at(12),
            signed: signed[40..48] == bytes[40..48],
            answers,
        }
    }
}

impl Network {
    /// The sum of the pseudo-header that a UDP checksum in `frame` begins with.
    pub fn pseudo_sum(&self, frame: &[u8]) -> u16 {
        let udp = self.header_len() - 8;
        let mut pseudo = frame[udp - if self.v6 { 32 } else { 8 }..udp].to_vec();
        pseudo.extend([0, 17]);
        pseudo.extend(&frame[udp + 4..udp + 6]);
        sum(&pseudo)
    }

    /// Demands that `reply` is `request` on its way back: addresses and ports swapped, everything
    /// else of the network's headers as it was, the same length, and a checksum that receivers take.
    ///
    /// # Panics
    /// Otherwise.
    #[track_caller]
    pub fn assert_turned_around(&self, request: &[u8], reply: &[u8], what: &str) {
        assert_eq!(reply.len(), request.len(), "{what}: a reply is as long as its request");
        let end = self.header_len();
        let mut expected = request[..end].to_vec();
        expected[..12].rotate_left(6);
        let ip = end - 8 - if self.v6 { 40 } else { 20 };
        let addresses = if self.v6 { ip + 8..ip + 40 } else { ip + 12..ip + 20 };
        let half = addresses.len() / 2;
        expected[addresses.clone()].rotate_left(half);
        expected[end - 8..end - 4].rotate_left(2);
        // The checksum is judged by itself.
        expected[end - 2..].copy_from_slice(&reply[end - 2..end]);
        assert_eq!(&reply[..end], expected, "{what}: network headers");
        if self.v6 {
            let length = usize::from(u16::from_be_bytes([reply[end - 4], reply[end - 3]]));
            let mut summed = reply[addresses].to_vec();
            summed.extend([0, 17]);
            summed.extend(&reply[end - 4..end - 2]);
            summed.extend(&reply[end - 8..end - 8 + length]);
            assert_eq!(sum(&summed), 0xffff, "{what}: UDP checksum over IPv6");
            assert_ne!(&reply[end - 2..end], [0, 0], "{what}: IPv6 demands a checksum");
        } else {
            assert_eq!(&reply[end - 2..end], [0, 0], "{what}: replies over IPv4 carry no checksum");
        }
    }
}
