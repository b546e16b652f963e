//! The model host on loopback sockets.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use naam_abi::limits::DATAGRAM_BYTES;
use naam_client::SessionInfo;

use crate::model::{Host, session};

/// Serves shards 0 and 1 of the model's session until dropped.
pub struct Server {
    pub host: Arc<Mutex<Host>>,
    pub session: SessionInfo,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Drops about every `lossy`th request and reply, the same ones in every run; 0: none.
    pub fn start(lossy: u32) -> Self {
        let host = Arc::new(Mutex::new(Host::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut session = session();
        session.shards = 2;
        let first = 10_000 + (std::process::id() % 4_000) as u16;
        let sockets = (first..20_000).step_by(2).find_map(|base| {
            session.port_base = base;
            let bind = |shard| UdpSocket::bind(("127.0.0.1", session.port(shard))).ok();
            Some([bind(0)?, bind(1)?])
        });
        let count = Arc::new(AtomicU32::new(0));
        let serve = |socket| {
            let (host, stop, count) = (Arc::clone(&host), Arc::clone(&stop), Arc::clone(&count));
            std::thread::spawn(move || {
                let dice = || count.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b1) >> 16;
                let lost = || lossy > 0 && dice().is_multiple_of(lossy);
                serve(&socket, &host, &stop, &lost);
            })
        };
        let threads = sockets.expect("two free ports on loopback").into_iter().map(serve).collect();
        Self { host, session, stop, threads }
    }
}

fn serve(socket: &UdpSocket, host: &Mutex<Host>, stop: &AtomicBool, lost: &dyn Fn() -> bool) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let start = Instant::now();
    let mut bytes = [0; DATAGRAM_BYTES];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, client)) = socket.recv_from(&mut bytes) else { continue };
        let now = start.elapsed().as_nanos() as u64;
        if lost() || host.lock().unwrap().serve(&mut bytes[..len], now, 1_000, false).is_none() || lost() {
            continue;
        }
        socket.send_to(&bytes[..len], client).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of the thread shows as missing answers in the test.
            let _ = thread.join();
        }
    }
}
