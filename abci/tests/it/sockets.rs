//! What comes from outside and is wrong: the connection ends with a reason, the others and the application do not notice.

use std::{
    fs,
    io::{self, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message;
use tendermint_proto::v0_38::abci::{
    request::Value as Ask, response::Value as Answer, Request, RequestEcho, RequestInfo, Response,
};
use tenure_abci::{
    frame::{append_frame, read_frame},
    Address, BindError, Client, ConnectionKind, Server, ServerHandle, ServerOptions, SERVER_PANIC,
};

use crate::{app::Kv, eventually, on_both_transports, serve, PATIENCE};

/// A socket without manners.
pub(crate) enum Raw {
    Unix(BufReader<UnixStream>),
    Tcp(BufReader<TcpStream>),
}

impl Raw {
    pub(crate) fn connect(address: &Address) -> Self {
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Self::Unix(BufReader::new(stream))
            }
            Address::Tcp(addr) => {
                let stream = TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Self::Tcp(BufReader::new(stream))
            }
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.get_mut().write_all(bytes),
            Self::Tcp(s) => s.get_mut().write_all(bytes),
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Unix(s) => s.get_mut().shutdown(Shutdown::Write).unwrap(),
            Self::Tcp(s) => s.get_mut().shutdown(Shutdown::Write).unwrap(),
        }
    }

    /// The next reply; `None` at the end of the stream.
    pub(crate) fn reply(&mut self) -> Option<Answer> {
        let frame = match self {
            Self::Unix(s) => read_frame(s, 1 << 20),
            Self::Tcp(s) => read_frame(s, 1 << 20),
        };
        frame
            .unwrap()
            .map(|frame| Response::decode(frame).unwrap().value.unwrap())
    }

    /// The exception that must come next, and the end of the stream after it.
    fn exception(&mut self) -> String {
        let Some(Answer::Exception(exception)) = self.reply() else {
            panic!("no exception")
        };
        self.assert_closed();
        exception.error
    }

    fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        let read = match self {
            Self::Unix(s) => s.read_to_end(&mut rest),
            Self::Tcp(s) => s.read_to_end(&mut rest),
        };
        assert_eq!(read.unwrap(), 0);
    }
}

/// One request as it goes over the wire.
pub(crate) fn wire(ask: Ask) -> Vec<u8> {
    let mut wire = Vec::new();
    append_frame(&mut wire, &Request { value: Some(ask) });
    wire
}

pub(crate) fn echo() -> Vec<u8> {
    wire(Ask::Echo(RequestEcho {
        message: "still here".to_owned(),
    }))
}

/// Plays `abuse` between two calls of a client that must notice nothing.
fn with_a_bystander(options: ServerOptions, abuse: impl Fn(&ServerHandle, &mut Raw)) {
    on_both_transports(|address| {
        let handle = serve(&address, options.clone(), Kv::new());
        let mut bystander = Client::connect(handle.local_addr()).unwrap();
        bystander.info(RequestInfo::default()).unwrap();
        let mut raw = Raw::connect(handle.local_addr());
        abuse(&handle, &mut raw);
        bystander.info(RequestInfo::default()).unwrap();
        drop(raw);
        eventually("the abuser's connection is gone", || handle.connections().len() == 1);
    });
}

#[test]
fn an_oversized_length_is_refused_with_the_limit() {
    let options = ServerOptions {
        max_frame_bytes: 1000,
        ..Default::default()
    };
    with_a_bystander(options, |_, raw| {
        let mut wire = Vec::new();
        prost::encoding::encode_varint(2 << 30, &mut wire);
        // More than the server's read buffer: closing a socket with unread input must not overtake the reason.
        wire.extend([0; 300_000]);
        raw.send(&wire);
        let error = raw.exception();
        assert!(
            error.contains("message of 2147483648 bytes exceeds the cap of 1000 bytes"),
            "{error}"
        );
    });
}

#[test]
fn an_endless_length_is_refused() {
    with_a_bystander(ServerOptions::default(), |_, raw| {
        raw.send(&[0xff; 64]);
        let error = raw.exception();
        assert!(error.contains("not a varint"), "{error}");
    });
}

#[test]
fn replies_before_a_fault_still_arrive() {
    with_a_bystander(ServerOptions::default(), |_, raw| {
        raw.send(&[echo(), vec![0xff; 64]].concat());
        assert!(matches!(raw.reply(), Some(Answer::Echo(_))));
        raw.exception();
    });
}

#[test]
fn unknown_and_undecodable_requests_are_refused() {
    with_a_bystander(ServerOptions::default(), |handle, raw| {
        // An empty request, and one with a field that ABCI 2.0 does not have (InsertTx of CometBFT 0.39).
        let mut future = Vec::new();
        prost::encoding::encode_key(21, prost::encoding::WireType::LengthDelimited, &mut future);
        future.push(0);
        raw.send(&[0]);
        let error = raw.exception();
        assert!(error.contains("unknown request of 0 bytes"), "{error}");
        for (body, expected) in [
            (future, "unknown request of 3 bytes"),
            (vec![0x0a, 0x7f], "undecodable request of 2 bytes"),
        ] {
            let mut wire = vec![u8::try_from(body.len()).unwrap()];
            wire.extend(body);
            let mut raw = Raw::connect(handle.local_addr());
            raw.send(&wire);
            let error = raw.exception();
            assert!(error.contains(expected), "{error}");
        }
    });
}

#[test]
fn a_truncated_frame_ends_its_connection() {
    with_a_bystander(ServerOptions::default(), |_, raw| {
        let wire = echo();
        raw.send(&wire[..wire.len() - 1]);
        raw.finish();
        raw.assert_closed();
    });
}

#[test]
fn random_bytes_harm_nobody() {
    let defects: Arc<Mutex<Vec<String>>> = Arc::default();
    let options = ServerOptions {
        max_frame_bytes: 1000,
        // Bytes may happen to be a call that the application does not expect; only the server's own panics count.
        on_panic: {
            let defects = defects.clone();
            Arc::new(move |panic| {
                if panic.method == SERVER_PANIC {
                    defects.lock().push(panic.to_string());
                }
            })
        },
        ..Default::default()
    };
    with_a_bystander(options, |handle, _| {
        // A fixed sequence (xorshift), so that a failure comes back.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut byte = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        for n in 0..200 {
            let mut bytes: Vec<u8> = (0..n).map(|_| byte()).collect();
            if n % 2 == 0 {
                // As the body of a frame, so that decoding gets it.
                bytes.splice(0..0, wire_length(n));
            }
            let mut raw = Raw::connect(handle.local_addr());
            // The server may have closed already.
            let _ = raw.try_send(&bytes);
        }
    });
    assert_eq!(*defects.lock(), [""; 0]);
}

fn wire_length(len: usize) -> Vec<u8> {
    let mut prefix = Vec::new();
    prost::encoding::encode_varint(len as u64, &mut prefix);
    prefix
}

#[test]
fn a_first_request_must_be_finished_in_time() {
    let options = ServerOptions {
        first_request_timeout: Duration::from_millis(100),
        ..Default::default()
    };
    with_a_bystander(options, |handle, raw| {
        // Silence is no fault: CometBFT's snapshot connection may never say anything.
        let mut silent = Raw::connect(handle.local_addr());
        raw.send(&echo()[..3]);
        raw.assert_closed();
        silent.send(&echo());
        assert!(silent.reply().is_some());
        // Once it has spoken, a pause is no fault either.
        silent.send(&echo()[..3]);
        std::thread::sleep(Duration::from_millis(300));
        silent.send(&echo()[3..]);
        assert!(silent.reply().is_some());
    });
}

#[test]
fn silent_connections_make_room_for_an_engine_and_not_the_other_way_round() {
    on_both_transports(|address| {
        let options = ServerOptions {
            max_connections: 4,
            ..Default::default()
        };
        let handle = serve(&address, options, Kv::new());
        let addr = handle.local_addr();
        let ids = || -> Vec<u64> { handle.connections().iter().map(|c| c.id).collect() };
        let mut idle: Vec<Raw> = (0..4).map(|_| Raw::connect(addr)).collect();
        eventually("four silent connections", || ids() == [0, 1, 2, 3]);
        // An engine's four connections push the silent ones out.
        let mut engine: Vec<Raw> = (0..4).map(|_| Raw::connect(addr)).collect();
        eventually("only the engine's are left", || ids() == [4, 5, 6, 7]);
        idle.iter_mut().for_each(Raw::assert_closed);
        engine[0].send(&echo());
        assert!(engine[0].reply().is_some());
        // Now one of them has spoken, and its silent sisters are safe.
        Raw::connect(addr).assert_closed();
        assert_eq!(ids(), [4, 5, 6, 7]);
        for connection in &mut engine {
            connection.send(&echo());
            assert!(connection.reply().is_some());
        }
    });
}

#[test]
fn the_kind_of_a_connection_shows_in_its_requests() {
    on_both_transports(|address| {
        let handle = serve(&address, ServerOptions::default(), Kv::new());
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(handle.local_addr()).unwrap()).collect();
        clients[0].info(RequestInfo::default()).unwrap();
        clients[0].query(Default::default()).unwrap();
        clients[1].list_snapshots(Default::default()).unwrap();
        clients[2].check_txs(["a=b".into()], true).unwrap();
        clients[3].init_chain(Default::default()).unwrap();
        let kinds: Vec<_> = handle.connections().iter().map(|c| c.kind).collect();
        let expected = [
            ConnectionKind::Query,
            ConnectionKind::Snapshot,
            ConnectionKind::Mempool,
            ConnectionKind::Consensus,
        ];
        assert_eq!(kinds, expected.map(Some));
    });
}

#[test]
fn the_unix_socket_is_the_owners_and_goes_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let address = Address::Unix(path.clone());
    let handle = serve(&address, ServerOptions::default(), Kv::new());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    handle.stop();
    handle.wait();
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let address = Address::Unix(path.clone());
    // What a killed process leaves.
    drop(UnixListener::bind(&path).unwrap());
    let handle = serve(&address, ServerOptions::default(), Kv::new());
    // The same program twice.
    let error = Server::bind(&address, ServerOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    Client::connect(&address).unwrap().info(RequestInfo::default()).unwrap();
    handle.stop();
    handle.wait();
    // Another program.
    let other = UnixListener::bind(&path).unwrap();
    let error = Server::bind(&address, ServerOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    drop(other);
    fs::remove_file(&path).unwrap();
    // Not a socket: left alone.
    fs::write(&path, "precious").unwrap();
    let error = Server::bind(&address, ServerOptions::default()).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_socket_that_somebody_else_made_meanwhile_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let handle = serve(&Address::Unix(path.clone()), ServerOptions::default(), Kv::new());
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    handle.stop();
    handle.wait();
    assert!(path.exists());
}

#[test]
fn an_address_that_cannot_be_had_says_why() {
    let long = Address::Unix("/tmp".into()).to_string() + "/" + &"x".repeat(200);
    let error = Server::bind(&long.parse().unwrap(), ServerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("at most 107 bytes"), "{error}");
    let missing = "unix:///no/such/directory/app.sock".parse().unwrap();
    let error = Server::bind(&missing, ServerOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("directory of the socket must exist"),
        "{error}"
    );
    let handle = serve(
        &"tcp://127.0.0.1:0".parse().unwrap(),
        ServerOptions::default(),
        Kv::new(),
    );
    let error = Server::bind(handle.local_addr(), ServerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("another process listens there"), "{error}");
}
