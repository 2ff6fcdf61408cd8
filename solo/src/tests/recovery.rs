//! Crashes at every step, restarts from disk, and the refusals of the handshake.

use super::*;
use crate::CrashPoint;

fn run_to_crash(world: &World, height: i64, point: CrashPoint) {
    let mut config = world.config();
    config.crash_at = Some((height, point));
    let node = start(world.app(), config).unwrap();
    for i in 1.. {
        send(&node, &format!("k{i}=v"));
        world.tick();
        match node.produce_block() {
            Ok(_) => assert!(i < height),
            Err(e) => {
                assert_eq!(i, height);
                assert!(matches!(&*e, SoloError::CrashPoint(_)), "{e}");
                break;
            }
        }
    }
    assert_eq!(node.latest_height(), height - 1, "what crashed was not shown to anyone");
    assert!(node.stop().is_err());
}

/// Everything about every block that anyone may have seen.
fn history(client: &SoloClient) -> Vec<(BlockRecord, Vec<u8>)> {
    (1..=client.latest_height())
        .map(|h| {
            let commit = client.commit(h).unwrap().unwrap().signatures[0].signature.clone();
            (client.block(h).unwrap().unwrap(), commit)
        })
        .collect()
}

#[test]
fn every_crash_point_recovers_without_loss_or_repetition() {
    for height in [1, 3] {
        for (at, point) in CrashPoint::ALL.into_iter().enumerate() {
            // The application may also have lost its last commits: it need not sync each of them.
            for lost in 0..=2usize {
                let world = World::new();
                run_to_crash(&world, height, point);
                let kept = world.disk.lock().history.len().saturating_sub(lost);
                world.disk.lock().history.truncate(kept);

                let node = world.start();
                // From `BlockSaved` on the block is decided; before it never existed.
                let decided = if at == 0 { height - 1 } else { height };
                let case = format!("{point:?} of {height}, {lost} lost");
                assert_eq!(node.latest_height(), decided, "{case}");
                assert_eq!(world.disk.lock().last().height, decided, "{case}");
                let signed = crate::SignState::load(&state_path(world.dir.path())).unwrap();
                assert_eq!(
                    signed.height(),
                    decided,
                    "{case}: the sign state knows every saved block"
                );
                let before = history(&node);
                for i in 0..3 {
                    send(&node, &format!("after{i}=v"));
                    world.tick();
                    node.produce_block().unwrap_or_else(|e| panic!("{case}: {e}"));
                }
                verify_chain(&node);
                let pairs = world.disk.lock().last().pairs;
                for i in 1..=decided {
                    assert!(pairs.contains_key(&format!("k{i}")), "{case}: transaction of block {i}");
                    assert_eq!(
                        node.tx(&crate::merkle::sha256(format!("k{i}=v").as_bytes()))
                            .unwrap()
                            .unwrap()
                            .height,
                        i
                    );
                }
                assert_eq!(
                    world.disk.lock().last().executed,
                    decided as u64 + 3,
                    "{case}: each executed once"
                );
                let after = history(&node);
                for (old, new) in before.iter().zip(&after) {
                    assert_eq!(
                        (&old.0.block_id, &old.1),
                        (&new.0.block_id, &new.1),
                        "{case}: history changed"
                    );
                }
                node.stop().unwrap();
            }
        }
    }
}

#[test]
fn restarts_go_on_where_they_stopped() {
    let world = World::new();
    let mut seen = Vec::new();
    for round in 0..5 {
        let node = world.start();
        assert_eq!(node.latest_height(), round * 2);
        for i in 0..2 {
            send(&node, &format!("r{round}.{i}=v"));
            world.tick();
            seen.push(node.produce_block().unwrap());
        }
        verify_chain(&node);
        node.stop().unwrap();
    }
    let node = world.start();
    for head in &seen {
        assert_eq!(node.block(head.height).unwrap().unwrap().block_id.hash, head.block_hash);
    }
    assert_eq!(node.head().as_ref(), seen.last());
    assert_eq!(world.disk.lock().init_chains, 1);
}

fn three_blocks() -> World {
    let world = World::new();
    let node = world.start();
    for i in 0..3 {
        send(&node, &format!("k{i}=v"));
        world.tick();
        node.produce_block().unwrap();
    }
    node.stop().unwrap();
    world
}

fn refusal(world: &World) -> String {
    let e = world.try_start().err().expect("start must refuse");
    e.to_string()
}

#[test]
fn an_application_that_lost_everything_is_rebuilt() {
    let world = three_blocks();
    let before = world.disk.lock().last();
    world.disk.lock().history.clear();
    let node = world.start();
    assert_eq!(world.disk.lock().last(), before);
    assert_eq!(world.disk.lock().init_chains, 2);
    world.tick();
    node.produce_block().unwrap();
    verify_chain(&node);
}

#[test]
fn an_application_ahead_is_refused() {
    let world = three_blocks();
    let mut ahead = world.disk.lock().last();
    ahead.height = 4;
    world.disk.lock().history.push(ahead);
    let said = refusal(&world);
    assert!(
        said.contains("at height 4, ahead of the engine") && said.contains("restore both"),
        "{said}"
    );
}

#[test]
fn a_differing_app_hash_is_refused() {
    let world = three_blocks();
    if let Some(last) = world.disk.lock().history.last_mut() {
        last.pairs.insert("forged".into(), "1".into());
    }
    let said = refusal(&world);
    assert!(
        said.contains("app hash at height 3") && said.contains("do not belong together"),
        "{said}"
    );
}

#[test]
fn a_replay_that_differs_is_refused() {
    let world = three_blocks();
    world.disk.lock().history.pop();
    world.disk.lock().salt = 1;
    let said = refusal(&world);
    assert!(
        said.contains("replay of block 3") && said.contains("not deterministic"),
        "{said}"
    );
    assert_eq!(world.disk.lock().last().height, 2, "nothing wrong was committed");
}

#[test]
fn a_changed_genesis_is_refused() {
    let mut world = three_blocks();
    world.genesis = String::from_utf8(world.genesis.clone())
        .unwrap()
        .replace("\"10\"", "\"11\"")
        .into_bytes();
    let said = refusal(&world);
    assert!(said.contains("genesis document differs"), "{said}");
}

#[test]
fn a_lost_engine_store_cannot_make_the_key_sign_twice() {
    let world = three_blocks();
    let store = world.dir.path().join("data/solo.redb");
    let copy = std::fs::read(&store).unwrap();
    std::fs::remove_file(&store).unwrap();
    world.disk.lock().history.clear();
    let said = refusal(&world);
    assert!(
        said.contains("refusing to sign height 1") && said.contains("height 3"),
        "{said}"
    );
    // The newest data back in place, it goes on.
    std::fs::write(&store, copy).unwrap();
    let node = world.start();
    assert_eq!(node.latest_height(), 3);
}

#[test]
fn an_old_copy_of_the_store_is_refused() {
    let world = World::new();
    let node = world.start();
    node.produce_block().unwrap();
    node.stop().unwrap();
    let store = world.dir.path().join("data/solo.redb");
    let copy = std::fs::read(&store).unwrap();
    let node = world.start();
    world.tick();
    node.produce_block().unwrap();
    node.stop().unwrap();
    std::fs::write(&store, copy).unwrap();
    world.disk.lock().history.pop();
    let said = refusal(&world);
    assert!(said.contains("refusing to sign height"), "{said}");
}

#[test]
fn the_first_start_may_crash_after_init_chain() {
    let world = World::new();
    world.start().stop().unwrap();
    let node = world.start();
    assert_eq!(world.disk.lock().init_chains, 2, "no block yet, so InitChain again");
    node.produce_block().unwrap();
    verify_chain(&node);
}

#[test]
fn another_engine_may_hand_over() {
    // An application at height 3 from elsewhere, and a genesis that begins at 4 with its hash.
    let donor = three_blocks();
    let mut world = World::with_height(4);
    world.disk = donor.disk.clone();
    let hash = hex::encode_upper(world.disk.lock().last().hash());
    let text = String::from_utf8(world.genesis.clone()).unwrap();
    let wrong = refusal(&world);
    assert!(wrong.contains("genesis begins at height 4"), "{wrong}");
    world.genesis = text
        .replace("\"app_hash\":\"\"", &format!("\"app_hash\":\"{hash}\""))
        .into_bytes();
    let inits = world.disk.lock().init_chains;
    let node = world.start();
    world.tick();
    assert_eq!(node.produce_block().unwrap().height, 4);
    verify_chain(&node);
    node.stop().unwrap();
    let node = world.start();
    assert_eq!(node.latest_height(), 4);
    assert_eq!(world.disk.lock().init_chains, inits);
}

/// A file that was cut or overwritten is named with what to do, and takes nobody down.
#[test]
fn a_damaged_store_is_an_error_that_names_it() {
    let world = World::new();
    let node = world.start();
    for i in 0..5 {
        send(&node, &format!("k{i}=v"));
        world.tick();
        node.produce_block().unwrap();
    }
    node.stop().unwrap();
    let data = world.config().data_dir;
    let whole = std::fs::read(data.join("solo.redb")).unwrap();
    assert_eq!(crate::stored_blocks(&data).unwrap(), Some((1, 5)));
    let dir = tempfile::tempdir().unwrap();
    let with = |bytes: &[u8]| {
        std::fs::write(dir.path().join("solo.redb"), bytes).unwrap();
        crate::stored_blocks(dir.path())
    };
    assert_eq!(with(&whole).unwrap(), Some((1, 5)));
    for len in [
        1,
        9,
        100,
        4_095,
        4_096,
        whole.len() / 2,
        whole.len() - 4_096,
        whole.len() - 1,
    ] {
        let error = with(&whole[..len]).expect_err("cut").to_string();
        assert!(
            error.contains("solo.redb") && error.contains("tenured export"),
            "{len}: {error}"
        );
    }
    let error = with(&vec![0; whole.len()]).expect_err("zeros").to_string();
    assert!(
        error.contains("solo.redb") && error.contains("tenured export"),
        "{error}"
    );
    // Whatever else it says, nothing but errors comes out of it.
    let mut random: u64 = 7;
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..8 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 20) as usize % bytes.len().min(64 << 10);
            bytes[at] ^= (random >> 8) as u8 | 1;
        }
        let _ = with(&bytes);
    }
}

/// redb sizes a new file before it writes its header: whoever is killed in between has made nothing.
#[test]
fn a_store_that_was_being_made_is_made_anew() {
    let world = World::new();
    let data = world.config().data_dir;
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("solo.redb.new"), vec![0; 1 << 20]).unwrap();
    let node = world.start();
    world.tick();
    send(&node, "a=b");
    node.produce_block().unwrap();
    node.stop().unwrap();
    assert!(!data.join("solo.redb.new").exists());
}
