//! Blocks, time, pace, and how the engine dies.

use super::*;
use crate::{GenesisSource, Life, SystemClock};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

#[test]
fn a_light_client_accepts_sixty_heights_with_transactions_and_updates() {
    let world = World::new();
    let node = world.start();
    for i in 0..60 {
        for t in 0..i % 4 {
            assert_eq!(send(&node, &format!("k{i}.{t}=v")), 0);
        }
        match i {
            10 => assert_eq!(send(&node, "!power=25"), 0),
            20 => assert_eq!(send(&node, "!gas=50"), 0),
            30 => assert_eq!(send(&node, &format!("big={}", "x".repeat(200_000))), 0),
            40 => assert_eq!(send(&node, "!fail=1"), 0),
            _ => {}
        }
        world.tick();
        let head = node.produce_block().unwrap();
        assert_eq!(head.height, i + 1);
        assert_eq!(Some(head), node.head());
    }
    verify_chain(&node);
    // The power changed by block 11 signs from block 13 on.
    let power = |h| node.0.store.power(h).unwrap();
    assert_eq!((power(11), power(12), power(13)), (Some(10), Some(10), Some(25)));
    let gas = |h: i64| node.0.store.params(h).unwrap().unwrap().block.unwrap().max_gas;
    assert_eq!((gas(21), gas(22)), (-1, 50));
    let parts = node.block(31).unwrap().unwrap().block_id.part_set_header.unwrap();
    assert_eq!(parts.total, 4);
    node.stop().unwrap();
}

#[test]
fn a_chain_may_begin_above_height_one() {
    let world = World::with_height(100);
    let node = world.start();
    assert_eq!((node.head(), node.latest_height()), (None, 0));
    for height in 100..104 {
        world.tick();
        assert_eq!(node.produce_block().unwrap().height, height);
    }
    verify_chain(&node);
    node.stop().unwrap();
    let node = world.start();
    assert_eq!(node.produce_block().unwrap().height, 104);
    assert_eq!(world.disk.lock().init_chains, 1);
}

#[test]
fn block_time_is_strictly_increasing_whatever_the_clock_does() {
    let world = World::new();
    let node = world.start();
    let genesis = Time::parse_from_rfc3339(GENESIS).unwrap();
    world.tick();
    assert_eq!(node.produce_block().unwrap().time, genesis);
    // Two hours pass: the vote for block 2 sees them, so block 3 has that time.
    world.clock.advance(Duration::from_secs(7200));
    node.produce_block().unwrap();
    let third = node.produce_block().unwrap();
    assert_eq!(third.time.duration_since(genesis).unwrap(), Duration::from_secs(7201));
    // The clock goes back a day: a millisecond per block, no less.
    world
        .clock
        .set(genesis.checked_sub(Duration::from_secs(86_400)).unwrap());
    let fourth = node.produce_block().unwrap();
    let fifth = node.produce_block().unwrap();
    assert_eq!(
        fourth.time.duration_since(third.time).unwrap(),
        Duration::from_millis(1)
    );
    assert_eq!(
        fifth.time.duration_since(fourth.time).unwrap(),
        Duration::from_millis(1)
    );
    verify_chain(&node);
}

#[test]
fn transactions_do_not_wait_for_the_interval() {
    let world = World::new();
    let mut config = world.config();
    config.clock = Arc::new(SystemClock);
    config.block_interval = Duration::from_secs(30);
    config.min_block_gap = Duration::from_millis(50);
    let node = start(world.app(), config).unwrap();
    assert!(
        node.wait_for_height_blocking(1, Duration::from_secs(5)).is_some(),
        "the first block comes at once"
    );
    let mut worst = Duration::ZERO;
    for i in 0..10 {
        let begun = Instant::now();
        let height = node.latest_height();
        send(&node, &format!("k{i}=v"));
        assert!(node
            .wait_for_height_blocking(height + 1, Duration::from_secs(5))
            .is_some());
        worst = worst.max(begun.elapsed());
    }
    assert!(worst < Duration::from_secs(2), "slowest block on demand took {worst:?}");
    assert_eq!(node.mempool_size().0, 0);
    let height = node.latest_height();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        node.latest_height(),
        height,
        "nothing waits, so nothing is made before the interval"
    );
    verify_chain(&node);
    node.stop().unwrap();
}

#[test]
fn no_block_comes_before_the_genesis_time() {
    let world = World::new();
    world
        .clock
        .set(Time::parse_from_rfc3339("2026-02-28T23:59:00Z").unwrap());
    let mut config = world.config();
    config.block_interval = Duration::from_millis(50);
    let node = start(world.app(), config).unwrap();
    assert_eq!(send(&node, "early=1"), 0);
    assert!(node.wait_for_height_blocking(1, Duration::from_millis(500)).is_none());
    world.clock.advance(Duration::from_secs(61));
    assert!(node.wait_for_height_blocking(1, Duration::from_secs(5)).is_some());
    node.stop().unwrap();
}

#[test]
fn idle_blocks_follow_the_interval_and_the_gap_bounds_bursts() {
    let world = World::new();
    let mut config = world.config();
    config.clock = Arc::new(SystemClock);
    config.block_interval = Duration::from_millis(100);
    config.min_block_gap = Duration::from_millis(100);
    let node = start(world.app(), config).unwrap();
    let begun = Instant::now();
    let mut i = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        send(&node, &format!("k{i}=v"));
        i += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    let made = node.latest_height();
    assert!((2..=17).contains(&made), "{made} blocks in 1.5 s at a gap of 100 ms");
    node.stop().unwrap();
}

#[test]
fn a_block_takes_what_fits_and_the_rest_follows() {
    let world = World::new();
    let mut config = world.config();
    config.max_block_gas = Some(3);
    let node = start(world.app(), config).unwrap();
    for i in 0..8 {
        send(&node, &format!("k{i}=v"));
    }
    let mut sizes = Vec::new();
    for height in 1..=4 {
        world.tick();
        node.produce_block().unwrap();
        sizes.push(node.block(height).unwrap().unwrap().block.data.unwrap().txs.len());
    }
    assert_eq!(sizes, [3, 3, 2, 0]);
}

#[test]
fn what_a_block_made_invalid_leaves_the_mempool() {
    let world = World::new();
    let mut config = world.config();
    config.max_block_gas = Some(1);
    let node = start(world.app(), config).unwrap();
    assert_eq!((send(&node, "a=1"), send(&node, "a=2"), send(&node, "b=1")), (0, 0, 0));
    node.produce_block().unwrap();
    assert_eq!(node.mempool_txs(9), [b"b=1".to_vec()], "a=2 failed its recheck");
    assert_eq!(send(&node, "a=3"), 3);
    let again = node.broadcast_tx_sync(b"a=1").unwrap_err();
    assert_eq!(again.sdk_code(), Some(19));
    node.produce_block().unwrap();
    assert_eq!(node.tx(&crate::merkle::sha256(b"b=1")).unwrap().unwrap().height, 2);
}

#[test]
fn check_tx_is_serial_and_never_overlaps_commit() {
    let world = World::new();
    let app = world.app();
    let overlaps = app.overlaps.clone();
    let node = start(app, world.config()).unwrap();
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (client, done, sent) = (node.client(), &done, &sent);
            scope.spawn(move || {
                for i in 0.. {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    if client.broadcast_tx_sync(format!("t{thread}.{i}=v").as_bytes()).is_ok() {
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
        for _ in 0..25 {
            node.produce_block().unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    while node.mempool_size().0 > 0 {
        node.produce_block().unwrap();
    }
    assert_eq!(overlaps.load(Ordering::SeqCst), 0);
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent > 100);
    assert_eq!(
        world.disk.lock().last().pairs.len() as u64,
        sent,
        "every accepted transaction was executed"
    );
    assert_eq!(world.disk.lock().last().executed, sent, "and none twice");
}

fn dies(tx: &str) -> String {
    let world = World::new();
    let node = world.start();
    node.produce_block().unwrap();
    send(&node, tx);
    let said = node.produce_block().unwrap_err().to_string();
    let Life::Failed(reason) = node.life().borrow().clone() else {
        panic!("the engine lives")
    };
    assert_eq!(reason.to_string(), said);
    assert!(node.broadcast_tx_sync(b"late=1").is_err());
    assert_eq!(node.latest_height(), 1, "readers see what was committed");
    assert!(
        node.wait_for_height_blocking(9, Duration::from_secs(60)).is_none(),
        "waiters do not wait for the dead"
    );
    let ended = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            assert!(node.wait_for_height(9).await.is_err());
            node.ended().await
        });
    assert_eq!(ended.unwrap_err().to_string(), said);
    assert_eq!(node.stop().unwrap_err().to_string(), said);
    said
}

#[test]
fn broken_promises_of_the_application_are_fatal_and_named() {
    for (tx, words) in [
        ("!foreign=1", "signs with"),
        ("!power=0", "only validator"),
        ("!gas=-7", "max_gas is -7"),
        ("!reject=1", "ProcessProposal rejected"),
        ("!short=1", "0 results for 1 transactions"),
        ("!panic=1", "asked to"),
    ] {
        let said = dies(tx);
        assert!(said.contains(words), "{tx}: {said}");
    }
}

#[test]
fn start_refuses_what_cannot_work() {
    let world = World::new();
    let mut config = world.config();
    config.chain_id = "other".into();
    assert!(start(world.app(), config)
        .err()
        .unwrap()
        .to_string()
        .contains("\"solo-test\" in the genesis"));

    let text = String::from_utf8(world.genesis.clone())
        .unwrap()
        .replace("solo-test", "tenure-1");
    let genesis = Genesis::from_json(text.as_bytes()).unwrap();
    let mut config = world.config();
    config.chain_id = "tenure-1".into();
    config.genesis = GenesisSource::Document(Box::new(genesis));
    assert!(matches!(start(world.app(), config), Err(SoloError::MainNet(_))));

    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = world.config();
    config.rpc_addr = Some(busy.local_addr().unwrap());
    let said = start(world.app(), config).err().unwrap().to_string();
    assert!(said.contains(&busy.local_addr().unwrap().to_string()), "{said}");

    let running = world.start();
    assert!(world
        .try_start()
        .err()
        .unwrap()
        .to_string()
        .contains("open in another process"));
    drop(running);
    world.start().stop().unwrap();

    // Another validator's key.
    let stranger = tempfile::tempdir().unwrap();
    create_validator_key(&key_path(stranger.path()), &state_path(stranger.path())).unwrap();
    let mut config = world.config();
    config.data_dir = stranger.path().join("data");
    config.validator_key = key_path(stranger.path());
    config.validator_state = state_path(stranger.path());
    assert!(start(world.app(), config)
        .err()
        .unwrap()
        .to_string()
        .contains("initial validators"));
}

#[test]
fn waiting_futures_can_be_spawned() {
    fn spawnable<T: Send + 'static>(_: T) {}
    let world = World::new();
    let client = world.start().client();
    let other = client.clone();
    spawnable(async move { client.wait_for_height(1).await });
    spawnable(async move { other.ended().await });
}
