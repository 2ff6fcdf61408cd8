//! Against the real CometBFT with its built-in key-value store. Without the program the tests say so and pass.
#![allow(missing_docs, unreachable_pub, clippy::disallowed_methods, reason = "tests")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tendermint_proto::v0_38::types::Header;
use tenure_comet::binary::CometBft;
use tenure_comet::rpc::{Rpc, RpcError};
use tenure_comet::supervise::{Launch, Life, Restart, Supervisor};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LIMIT: Duration = Duration::from_secs(60);

fn program() -> Option<CometBft> {
    match CometBft::find(None) {
        Ok(found) => Some(found),
        Err(e) => {
            eprintln!("**** SKIPPED: {e}");
            None
        }
    }
}

fn free() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A new home of CometBFT's own.
fn init(cometbft: &CometBft, home: &Path) -> Outcome {
    let made = Command::new(&cometbft.path)
        .arg("init")
        .arg("--home")
        .arg(home)
        .output()?;
    assert!(made.status.success(), "{made:?}");
    Ok(())
}

fn launch(cometbft: &CometBft, home: &Path, rpc: SocketAddr, app: &str) -> std::io::Result<Launch> {
    let mut args = vec!["start".into(), "--home".into(), home.as_os_str().to_owned()];
    for (flag, value) in [
        ("--proxy_app", app.to_owned()),
        ("--rpc.laddr", format!("tcp://{rpc}")),
        ("--p2p.laddr", format!("tcp://{}", free()?)),
    ] {
        args.extend([flag.into(), value.into()]);
    }
    Ok(Launch {
        program: cometbft.path.clone(),
        args,
        dir: home.to_owned(),
        env: vec![("CMT_CONSENSUS_TIMEOUT_COMMIT".into(), "100ms".into())],
        restart: Restart::default(),
    })
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn header_hash(header: Header) -> Vec<u8> {
    let header: tendermint::block::Header = header.try_into().expect("a header");
    header.hash().as_bytes().to_vec()
}

#[test]
fn every_answer_of_a_real_node_is_read() -> Outcome {
    let Some(cometbft) = program() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    init(&cometbft, dir.path())?;
    let address = free()?;
    let supervisor = Supervisor::start(launch(&cometbft, dir.path(), address, "kvstore")?, |_| {})?;
    let rpc = Rpc::new(address);
    wait_for("block", || rpc.status().ok().filter(|s| s.latest_height >= 2));

    let status = rpc.status()?;
    assert_eq!(status.node.version, cometbft.version.to_string());
    assert_eq!((status.earliest_height, status.catching_up), (1, false));
    assert_eq!(status.validator.voting_power, 10);
    assert_eq!(rpc.peers()?, 0);

    // A transaction, from the mempool into a block.
    let sent = rpc.broadcast_tx_sync(b"a=b")?;
    assert_eq!((sent.code, sent.log.as_str()), (0, ""));
    match rpc.broadcast_tx_sync(b"a=b") {
        Err(RpcError::Refused { text, .. }) => assert_eq!(text, "tx already exists in cache"),
        other => panic!("{other:?}"),
    }
    assert_ne!(rpc.broadcast_tx_sync(b"no pair")?.code, 0);
    let hash = hex::decode("6f7dd1f4c7d0bd49d37dc5ba0a7f7f6ac6b4da9b9a1ae9a0b5b0f5a4d6bb1a2f")?;
    assert_eq!(rpc.tx(&hash)?, None);
    let found = wait_for("transaction", || {
        let (txs, total) = rpc.tx_search("tx.height > 0", 1, 10, true).ok()?;
        (total == 1).then_some(txs)?.pop()
    });
    assert_eq!(
        (found.tx.as_slice(), found.index, found.result.code),
        (b"a=b".as_slice(), 0, 0)
    );
    assert!(!found.result.events.is_empty());
    assert_eq!(rpc.tx_search("tx.height > 0", 2, 10, true)?, (vec![], 1));
    assert!(matches!(
        rpc.tx_search("tx.height >", 1, 10, true),
        Err(RpcError::Refused { .. })
    ));

    // Its block, every way; the first block has no last commit.
    let (id, block) = rpc.block(Some(found.height))?.expect("its block");
    let header = block.header.clone().expect("a header");
    assert_eq!(block.data.expect("data").txs, [b"a=b".to_vec()]);
    assert_eq!(header_hash(header), id.hash);
    assert_eq!(rpc.block_by_hash(&id.hash)?.expect("by hash").0, id);
    assert_eq!(rpc.block_by_hash(&[7; 32])?, None);
    let first = rpc.block(Some(1))?.expect("the first").1;
    assert!(first.last_commit.is_none_or(|c| c.signatures.is_empty()));
    assert!(rpc.block(None)?.is_some());
    let results = rpc.block_results(Some(found.height))?.expect("results");
    assert_eq!(results.tx_results, [found.result]);
    assert_eq!(results.app_hash.len(), 8);
    let commit = rpc.commit(Some(found.height))?.expect("commit");
    assert_eq!(
        (commit.height, commit.block_id, commit.signatures.len()),
        (found.height, Some(id), 1)
    );
    let (height, validators) = rpc.validators(Some(found.height))?.expect("validators");
    assert_eq!((height, validators.len()), (found.height, 1));
    assert_eq!(validators[0].address, status.validator.address);
    for height in [-1, 1_000_000] {
        assert_eq!(rpc.block(Some(height))?, None);
        assert_eq!(rpc.block_results(Some(height))?, None);
        assert_eq!(rpc.commit(Some(height))?, None);
        assert_eq!(rpc.validators(Some(height))?, None);
    }

    assert_eq!(supervisor.stop(Duration::from_secs(20)), Life::Stopped);
    assert!(matches!(rpc.status(), Err(RpcError::Unreachable { .. })));
    Ok(())
}

#[test]
fn a_home_that_cannot_work_is_given_up_with_cometbfts_own_words() -> Outcome {
    let Some(cometbft) = program() else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    init(&cometbft, dir.path())?;
    std::fs::write(dir.path().join("config/genesis.json"), "{}")?;
    let mut launch = launch(&cometbft, dir.path(), free()?, "kvstore")?;
    launch.restart = Restart {
        most: 2,
        pause: Duration::from_millis(10),
        ..Restart::default()
    };
    let supervisor = Supervisor::start(launch, |_| {})?;
    let life = supervisor.life();
    let reason = wait_for("end", || match &*life.borrow() {
        Life::Failed(reason) => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("2 times") && reason.contains("chain_id"), "{reason}");
    Ok(())
}
