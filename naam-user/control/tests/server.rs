//! Server and client over real sockets.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use naam_control::protocol::admin::{AdminReply, AdminRequest};
use naam_control::protocol::session::{SessionKey, SessionRequest};
use naam_control::protocol::{Reply, Request, SessionReply};
use naam_control::server::{Limits, ServerConfig};
use naam_control::{ClientError, ControlClient, ControlError, Name, Peer, ProgressSink, Server, Service};
use proptest::prelude::*;
use tokio::sync::oneshot;

/// Answers what a test wants to see.
#[derive(Default)]
struct TestService {
    shutdown: RefCell<Option<oneshot::Sender<()>>>,
}

impl Service for TestService {
    async fn handle(&self, _: &Peer, request: Request, progress: ProgressSink) -> Result<Reply, ControlError> {
        match request {
            Request::Admin(AdminRequest::Shutdown) => {
                if let Some(shutdown) = self.shutdown.borrow_mut().take() {
                    let _ = shutdown.send(());
                }
                // The answer comes after the server has begun to stop.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(Reply::Admin(AdminReply::Done))
            }
            Request::Admin(AdminRequest::RegionSave { .. }) => {
                let worker = tokio::task::spawn_blocking(move || {
                    for done in 1..=3 {
                        progress.report(done, 3);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                });
                worker.await.unwrap();
                Ok(Reply::Admin(AdminReply::Copied { bytes: 3 }))
            }
            Request::Admin(AdminRequest::Doctor) => panic!("a service that panics, on purpose"),
            Request::Admin(AdminRequest::Inspect) => {
                Err(ControlError::new("inspect", "everything", "the test says so").way_out("none"))
            }
            Request::Admin(_) => Ok(Reply::Admin(AdminReply::Done)),
            Request::Session(_) => Ok(Reply::Session(SessionReply::Renewed { lease_ms: 1000 })),
        }
    }
}

/// A server in a thread of its own, stopped when dropped.
struct Running {
    socket: PathBuf,
    tcp: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

fn config(socket: PathBuf, limits: Limits) -> ServerConfig {
    ServerConfig {
        instance: Name::new("test").unwrap(),
        socket,
        group: None,
        tcp: Some("127.0.0.1:0".parse().unwrap()),
        limits,
    }
}

impl Running {
    fn start(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let config = config(socket.clone(), limits);
        let (bound, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(config).unwrap();
                bound.send(server.tcp_address().unwrap()).unwrap();
                let (shutdown, requested) = oneshot::channel();
                let service = TestService { shutdown: RefCell::new(Some(shutdown)) };
                let stop = async {
                    tokio::select! {
                        _ = stopped => {}
                        _ = requested => {}
                    }
                };
                server.run(Rc::new(service), stop).await;
            });
        });
        let tcp = address.recv().unwrap();
        Self { socket, tcp, stop: Some(stop), thread: Some(thread), _dir: dir }
    }

    fn client(&self) -> ControlClient {
        ControlClient::connect_unix(&self.socket).unwrap()
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// A raw connection after its greeting.
    fn greeted(&self) -> BufReader<UnixStream> {
        let mut stream = BufReader::new(self.raw());
        stream.get_mut().write_all(b"{\"naam\":1}\n").unwrap();
        assert!(line(&mut stream).starts_with("{\"welcome\""));
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
            assert!(!self.socket.exists(), "the socket file is left behind");
        }
    }
}

fn line(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

fn save() -> AdminRequest {
    let name = |name| Name::new(name).unwrap();
    AdminRequest::RegionSave { app: name("kv"), region: name("store"), path: "/x".into() }
}

const KEY: SessionKey = SessionKey { session: 1025, ticket: 1 };

#[test]
fn administrator_is_served_and_told_of_progress() {
    let server = Running::start(Limits::default());
    let mut client = server.client();
    assert_eq!(client.instance().as_str(), "test");
    let mut reports = Vec::new();
    let reply = client.admin(save(), &mut |done, total| reports.push((done, total))).unwrap();
    assert_eq!(reply, AdminReply::Copied { bytes: 3 });
    assert!(!reports.is_empty() && reports.is_sorted() && reports.iter().all(|(_, total)| *total == 3), "{reports:?}");
    assert_eq!(client.admin(AdminRequest::Status, &mut |_, _| ()).unwrap(), AdminReply::Done);
}

#[test]
fn errors_travel_whole() {
    let server = Running::start(Limits::default());
    let error = server.client().admin(AdminRequest::Inspect, &mut |_, _| ()).unwrap_err();
    let ClientError::Refused(error) = error else { panic!("{error}") };
    assert_eq!(error.to_string(), "cannot inspect everything: the test says so (none)");
}

#[test]
fn tcp_serves_sessions_and_refuses_administration() {
    let server = Running::start(Limits::default());
    let mut client = ControlClient::connect_tcp(server.tcp).unwrap();
    assert_eq!(client.renew_session(KEY).unwrap(), Duration::from_secs(1));
    for request in [AdminRequest::Status, AdminRequest::Shutdown, save()] {
        let error = client.admin(request, &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().contains("TCP serves sessions only"), "{error}");
    }
    assert!(client.renew_session(KEY).is_ok(), "the connection and the server live on");
}

#[test]
fn other_versions_and_other_protocols_are_refused() {
    let server = Running::start(Limits::default());
    let cases = [
        ("{\"naam\":2}\n", "it speaks version 2"),
        ("{\"naam\":\"1\"}\n", "no hello"),
        ("GET / HTTP/1.1\r\n", "no hello"),
        ("\n", "no hello"),
    ];
    for (hello, cause) in cases {
        let mut stream = BufReader::new(server.raw());
        stream.get_mut().write_all(hello.as_bytes()).unwrap();
        let answer = line(&mut stream);
        assert!(answer.starts_with("{\"refused\"") && answer.contains(cause), "{hello:?}: {answer}");
        assert_eq!(line(&mut stream), "", "closed");
    }
}

#[test]
fn unreadable_requests_are_answered_by_number() {
    let server = Running::start(Limits::default());
    let mut stream = server.greeted();
    let cases = [
        ("{\"id\":7,\"request\":{\"admin\":\"fly\"}}", "\"id\":7"),
        ("{\"id\":8,\"request\":{\"admin\":{\"app_remove\":{\"app\":\"../x\"}}}}", "is not a name"),
        ("{\"id\":9}", "\"id\":9"),
        (
            "{\"id\":10,\"request\":{\"session\":{\"open\":{\"app\":\"kv\",\"rights\":[{\"region\":\"r\",\"raws\":{}}]}}}}",
            "unknown field `raws`",
        ),
        ("{\"id\":11,\"request\":{\"session\":{\"open\":{\"app\":\"kv\",\"right\":[]}}}}", "unknown field `right`"),
        ("", "\"id\":0"),
        ("[[[[", "\"id\":0"),
        ("\u{1}\u{2}", "\"id\":0"),
    ];
    for (request, part) in cases {
        stream.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        let answer = line(&mut stream);
        assert!(answer.starts_with("{\"failed\"") && answer.contains(part), "{request:?}: {answer}");
    }
    // Deep nesting must not overflow the stack.
    stream.get_mut().write_all("[".repeat(100_000).as_bytes()).unwrap();
    stream.get_mut().write_all(b"\n{\"id\":3,\"request\":{\"admin\":\"status\"}}\n").unwrap();
    assert!(line(&mut stream).starts_with("{\"failed\""));
    assert_eq!(line(&mut stream), "{\"done\":{\"id\":3,\"reply\":{\"admin\":\"done\"}}}\n");
}

#[test]
fn requests_in_one_write_are_served_in_order() {
    let server = Running::start(Limits::default());
    let mut stream = server.greeted();
    let requests: String =
        (1..=20).map(|id| format!("{{\"id\":{id},\"request\":{{\"admin\":\"status\"}}}}\n")).collect();
    stream.get_mut().write_all(requests.as_bytes()).unwrap();
    for id in 1..=20 {
        assert_eq!(line(&mut stream), format!("{{\"done\":{{\"id\":{id},\"reply\":{{\"admin\":\"done\"}}}}}}\n"));
    }
}

#[test]
fn long_lines_are_refused() {
    let limits = Limits { line_bytes_unix: 1000, line_bytes_tcp: 100, ..Limits::default() };
    let server = Running::start(limits);
    let mut stream = server.greeted();
    stream.get_mut().write_all(&[b' '; 1001]).unwrap();
    assert!(line(&mut stream).contains("longer than 1000 bytes"));
    assert_eq!(line(&mut stream), "", "closed");

    let mut stream = TcpStream::connect(server.tcp).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"{\"naam\":1}\n").unwrap();
    stream.write_all(&[b' '; 101]).unwrap();
    let mut answers = String::new();
    let _ = stream.read_to_string(&mut answers);
    assert!(answers.contains("longer than 100 bytes"), "{answers}");
    assert!(server.client().admin(AdminRequest::Status, &mut |_, _| ()).is_ok());
}

#[test]
fn silent_and_slow_peers_are_dropped() {
    let limits =
        Limits { idle_time: Duration::from_millis(100), line_time: Duration::from_millis(100), ..Limits::default() };
    let server = Running::start(limits);
    for bytes in ["", "{\"naam\"", "{\"naam\":1}\n", "{\"naam\":1}\n{\"id\""] {
        let mut stream = server.raw();
        stream.write_all(bytes.as_bytes()).unwrap();
        let began = Instant::now();
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{bytes:?}");
    }
}

#[test]
fn connections_are_bounded() {
    let server = Running::start(Limits { connections_unix: 3, ..Limits::default() });
    let clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    let error = ControlClient::connect_unix(&server.socket).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    assert!(ControlClient::connect_tcp(server.tcp).is_ok(), "TCP has its own bound");
    drop(clients);
    let deadline = Instant::now() + Duration::from_secs(5);
    while ControlClient::connect_unix(&server.socket).is_err() {
        assert!(Instant::now() < deadline, "ended connections make no room");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn hello_comes_at_once() {
    let limits = Limits { line_time: Duration::from_millis(100), ..Limits::default() };
    assert!(limits.idle_time > Duration::from_secs(60));
    let server = Running::start(limits);
    let mut silent = TcpStream::connect(server.tcp).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(silent.read(&mut [0; 64]).unwrap(), 0, "dropped");
    let mut greeted = server.greeted();
    std::thread::sleep(Duration::from_millis(300));
    greeted.get_mut().write_all(b"nonsense\n").unwrap();
    assert!(line(&mut greeted).contains("\"failed\""), "whoever has said hello may be silent");
}

#[test]
fn one_address_does_not_take_all_connections() {
    let server = Running::start(Limits { connections_address: 2, ..Limits::default() });
    let clients: Vec<_> = (0..2).map(|_| ControlClient::connect_tcp(server.tcp).unwrap()).collect();
    let error = ControlClient::connect_tcp(server.tcp).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    drop(clients);
    let deadline = Instant::now() + Duration::from_secs(5);
    while ControlClient::connect_tcp(server.tcp).is_err() {
        assert!(Instant::now() < deadline, "ended connections make no room");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn panic_of_the_service_ends_one_connection() {
    let server = Running::start(Limits::default());
    let mut other = server.client();
    let error = server.client().admin(AdminRequest::Doctor, &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    assert!(other.admin(AdminRequest::Status, &mut |_, _| ()).is_ok());
}

#[test]
fn stopping_server_finishes_what_it_began() {
    let server = Running::start(Limits::default());
    let mut idle = server.client();
    let reply = server.client().admin(AdminRequest::Shutdown, &mut |_, _| ()).unwrap();
    assert_eq!(reply, AdminReply::Done);
    assert!(idle.admin(AdminRequest::Status, &mut |_, _| ()).is_err(), "the server is gone");
}

#[test]
fn socket_is_for_owner_and_group_and_for_one_daemon() {
    let server = Running::start(Limits::default());
    assert_eq!(std::fs::metadata(&server.socket).unwrap().permissions().mode() & 0o777, 0o660);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let error = Server::bind(config(server.socket.clone(), Limits::default())).unwrap_err();
    assert!(error.cause.contains("another daemon"), "{error}");
    assert!(server.client().admin(AdminRequest::Status, &mut |_, _| ()).is_ok());
}

#[test]
fn dead_daemons_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let server = Server::bind(config(socket.clone(), Limits::default())).unwrap();
    assert!(UnixStream::connect(&socket).is_ok());
    drop(server);
    assert!(!socket.exists());
    let error = Server::bind(config(dir.path().join("no/control.sock"), Limits::default())).unwrap_err();
    assert_eq!(error.way_out.as_deref(), Some("create its directory first"));
}

#[test]
fn what_is_not_ours_is_neither_replaced_nor_removed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("file"), "somebody's").unwrap();
    drop(UnixListener::bind(path("dead")).unwrap());
    std::os::unix::fs::symlink(path("dead"), path("link")).unwrap();
    let _stream = UnixListener::bind(path("stream")).unwrap();
    let _datagram = UnixDatagram::bind(path("datagram")).unwrap();
    // Also what stands at the name that the socket has before it is given its own.
    std::fs::write(path("free.new"), "somebody's").unwrap();
    for (name, cause) in [
        ("file", "no socket"),
        ("link", "no socket"),
        ("stream", "another program"),
        ("datagram", "another program"),
        ("free", "no socket"),
    ] {
        let error = Server::bind(config(path(name), Limits::default())).unwrap_err();
        assert!(error.cause.contains(cause) && error.way_out.is_some(), "{name}: {error}");
    }
    assert_eq!([path("file"), path("free.new")].map(|path| std::fs::read(path).unwrap()), [b"somebody's"; 2]);
    assert!(path("link").is_symlink() && path("dead").exists() && path("datagram").exists());
    assert!(UnixStream::connect(path("stream")).is_ok());

    // What has taken the socket's place since belongs to somebody else.
    let server = Server::bind(config(path("mine"), Limits::default())).unwrap();
    std::fs::remove_file(path("mine")).unwrap();
    std::fs::write(path("mine"), "somebody's").unwrap();
    drop(server);
    assert!(path("mine").exists());
}

/// Who was killed holds its locks until its memory is gone.
#[test]
fn a_daemon_that_is_just_ending_is_waited_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let ending = Server::bind(config(socket.clone(), Limits::default())).unwrap();
    let end = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(ending);
    });
    let next = Server::bind(config(socket.clone(), Limits::default()));
    end.join().unwrap();
    drop(next.unwrap());
}

#[test]
fn nobody_there_is_said_so() {
    let error = ControlClient::connect_unix("/nowhere/naam.sock".as_ref()).unwrap_err();
    assert!(error.to_string().contains("naam serve"), "{error}");
}

/// Bytes that look more or less like the protocol.
fn babble() -> impl Strategy<Value = Vec<u8>> {
    let call = |request: Request| {
        let call = naam_control::protocol::Call { id: 5, request };
        serde_json::to_vec(&call).unwrap()
    };
    let status = call(Request::Admin(AdminRequest::Status));
    let close = call(Request::Session(SessionRequest::Close(KEY)));
    let piece = prop_oneof![
        Just(b"{\"naam\":1}\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(status.clone()),
        (Just(close), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.push(b'\n');
            bytes
        }),
        proptest::collection::vec(any::<u8>(), 0..300),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_bytes_leave_the_server_well() {
    let limits = Limits { line_bytes_unix: 256, line_time: Duration::from_millis(300), ..Limits::default() };
    let server = Running::start(limits);
    let client = RefCell::new(server.client());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let result = runner.run(&babble(), |bytes| {
        let mut stream = server.raw();
        // The server may close before it has taken everything.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answers = Vec::new();
        match stream.read_to_end(&mut answers) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                return Err(TestCaseError::fail(format!("the server hangs: {error}")));
            }
            _ => {}
        }
        for answer in answers.split(|byte| *byte == b'\n').filter(|answer| !answer.is_empty()) {
            let answer: Result<serde_json::Value, _> = serde_json::from_slice(answer);
            prop_assert!(answer.is_ok(), "{:?}", answer);
        }
        prop_assert!(client.borrow_mut().admin(AdminRequest::Status, &mut |_, _| ()).is_ok());
        Ok(())
    });
    result.unwrap();
}
