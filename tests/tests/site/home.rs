//! Home in the kernel, by test runs, and a wire to it whose every datagram's fate is the test's to decide.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use naam_abi::limits::{DATAGRAM_BYTES, PORT_BASE, SHARDS_MAX};
use naam_abi::tables::RIGHT_ALL;
use naam_abi::wire::Header;
use naam_admission::admit;
use naam_client::site::{Placement, SiteAnswer, SiteClient};
use naam_client::{Call, Client, FunctionInfo, Options, RegionInfo, SessionInfo, Shard};
use naam_loader::Hook;
use naam_tests::bench::SESSION;
use naam_tests::frame::Network;
use naam_tests::handlers::{compile, folder};
use naam_tests::stage::{APP, FUNCTION, SHARD, SINGLE, Stage, VALUE, VALUES, pattern};
use naam_transport::{Incoming, Outgoing, Sent, Transport, TransportError, TransportStats, Waker};
use sha2::{Digest, Sha256};

/// May write.
pub const WALK: u16 = FUNCTION + 1;
/// Only reads.
pub const PERUSE: u16 = FUNCTION + 2;
pub const READ: u16 = 0;

/// What becomes of a datagram on its way home.
pub type Fate = Box<dyn FnMut(&[u8]) -> bool + Send>;
/// What a wire does to an answer.
pub type Bend = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// Home, and the wire to it.
pub struct Home {
    pub stage: Stage,
    wire: Mutex<Wire>,
}

#[derive(Default)]
pub struct Wire {
    /// Answers on their way.
    pub back: VecDeque<Vec<u8>>,
    /// All datagrams that were sent home, with their functions.
    pub sent: Vec<(u16, Vec<u8>)>,
    /// Whether one arrives there.
    pub arrives: Option<Fate>,
    /// Changes an answer.
    pub bend: Option<Bend>,
}

impl Home {
    /// Visits have `steps` steps.
    pub fn new(hook: Hook, steps: u32) -> Arc<Self> {
        let [walk, peruse] = objects().each_ref().map(|(_, bytes)| admit(bytes).expect("admitted"));
        let mut stage = Stage::new(hook, true, &walk);
        stage.bench.steps_max = steps;
        stage.load(WALK, 1, &walk);
        stage.load(PERUSE, 1, &peruse);
        stage.bench.steps_max = 32;
        stage.load(READ, 1, &admit(&naam_tests::objects::read("naam_read")).expect("admitted"));
        stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], [RIGHT_ALL; 8]);
        Arc::new(Self { stage, wire: Mutex::default() })
    }

    pub fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What home says to a datagram.
    pub fn serve(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let header = Header::decode(datagram).expect("the client's own");
        let network = Network::v4(PORT_BASE + header.app * 64 + header.shard);
        let output = self.stage.bench.send(&network.frame(datagram));
        (output.retval == self.stage.bench.transmitted()).then(|| output.data[network.header_len()..].to_vec())
    }

    pub fn session(&self) -> SessionInfo {
        let mut session = SessionInfo::new([127, 0, 0, 1].into(), APP, SESSION);
        session.epochs = vec![0; SHARDS_MAX];
        for (name, number, writes) in [("walk", WALK, true), ("peruse", PERUSE, false)] {
            session.functions.insert(name.into(), FunctionInfo { number, version: 1, writes, reply_max: 16 });
        }
        let read = FunctionInfo { number: READ, version: 1, writes: false, reply_max: 1024 };
        session.functions.insert("naam_read".into(), read);
        let info = |index, bytes| RegionInfo {
            index,
            bytes,
            value_len: bytes,
            handler_rights: RIGHT_ALL,
            raw_rights: RIGHT_ALL,
        };
        session.regions.insert("single".into(), info(0, SINGLE));
        session.regions.insert("values".into(), RegionInfo { value_len: VALUE, ..info(1, VALUE * VALUES) });
        session
    }

    pub fn client(self: &Arc<Self>, session: SessionInfo, options: &Options) -> Client {
        Client::new(session, options, self.line())
    }

    pub fn line(self: &Arc<Self>) -> Box<dyn Transport> {
        Box::new(Line { home: Arc::clone(self), waker: Waker::new().unwrap() })
    }

    /// A client that knows both handlers.
    pub fn site(self: &Arc<Self>, placement: Placement) -> SiteClient {
        let mut site = SiteClient::new(self.client(self.session(), &Options::default()), placement);
        learn(&mut site);
        site
    }

    /// The word that walks add to.
    pub fn added(&self, offset: u64) -> u64 {
        self.stage.memory[1].load(offset, Ordering::SeqCst).expect("inside").wrapping_sub(pattern(1, offset))
    }

    /// Sends everything home again; what is written there by that.
    pub fn replay(&self) -> Vec<(u32, u64, u64)> {
        let before = self.stage.changes();
        let sent = std::mem::take(&mut self.wire().sent);
        for (_, datagram) in sent {
            self.serve(&datagram);
        }
        self.stage.changes().into_iter().filter(|change| !before.contains(change)).collect()
    }
}

/// The names and objects of both handlers.
pub fn objects() -> &'static [(&'static str, Vec<u8>); 2] {
    static OBJECTS: OnceLock<[(&str, Vec<u8>); 2]> = OnceLock::new();
    OBJECTS.get_or_init(|| ["walk", "peruse"].map(|name| (name, compile(&folder().join(format!("{name}.c")), &[]))))
}

/// What was learned is forgotten after a second without a word from home: calls follow at once.
pub fn learn(site: &mut SiteClient) {
    for (name, bytes) in objects() {
        let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        site.learn(name, &sha256, bytes).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The client's end of the wire.
pub struct Line {
    home: Arc<Home>,
    waker: Waker,
}

impl Transport for Line {
    fn name(&self) -> &'static str {
        "line"
    }

    fn max_payload(&self) -> usize {
        DATAGRAM_BYTES
    }

    fn send(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<Sent, TransportError> {
        let mut buffer = [0; DATAGRAM_BYTES];
        let Some(Outgoing { len, .. }) = write(&mut buffer) else { return Ok(Sent::Idle) };
        let header = Header::decode(&buffer[..len]).expect("the client's own");
        let mut wire = self.home.wire();
        wire.sent.push((header.function, buffer[..len].to_vec()));
        if wire.arrives.as_mut().is_none_or(|arrives| arrives(&buffer[..len]))
            && let Some(mut answer) = self.home.serve(&buffer[..len])
        {
            if let Some(bend) = &mut wire.bend {
                bend(&mut answer);
            }
            wire.back.push_back(answer);
        }
        Ok(Sent::Queued)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }

    fn poll(&mut self, receive: &mut dyn FnMut(Incoming<'_>)) -> Result<usize, TransportError> {
        let back = std::mem::take(&mut self.home.wire().back);
        for bytes in &back {
            receive(Incoming { port: PORT_BASE, bytes });
        }
        Ok(back.len())
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), TransportError> {
        // Nothing comes by itself; another thread may have woken this one.
        if self.home.wire().back.is_empty() {
            std::thread::sleep(timeout.min(Duration::from_millis(5)));
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> TransportStats {
        TransportStats::default()
    }
}

/// Arguments of both handlers: `count` words from `from` on; adds one to the word at `to`.
pub fn args(from: u64, count: u64, to: u64) -> Vec<u8> {
    [from, count, to, 1].iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub fn sum(from: u64, count: u64) -> u64 {
    (0..count).fold(0, |sum: u64, at| sum.wrapping_add(pattern(0, from + at * 8)))
}

pub fn call(site: &mut SiteClient, number: u16, args: &[u8]) -> SiteAnswer {
    let function = naam_client::Function { number };
    let call = Call::new(function, args).shard(Shard::Number(SHARD)).timeout(Duration::from_secs(30));
    site.call(&call).expect("it is taken")
}

/// The first word of a reply.
pub fn first(answer: SiteAnswer) -> u64 {
    let reply = answer.outcome.unwrap_or_else(|error| panic!("{error}"));
    u64::from_le_bytes(reply.bytes[..8].try_into().expect("16 bytes"))
}
