use crate::{
    chain::{options, timestamp, Chain},
    world::{send, Draft, World},
};
use std::time::Instant;
use tendermint_abci::Application;
use tendermint_proto::v0_38::abci::CheckTxType;
use tenure_app::AppOptions;
#[test]
fn measure() {
    let world = World::new(1);
    let opts = AppOptions {
        invariants_every_block: false,
        ..options()
    };
    let mut warm = Chain::with(&world.app_state(), opts.clone());
    let mut cold = Chain::with(
        &world.app_state(),
        AppOptions {
            signature_cache: 0,
            ..opts
        },
    );
    warm.block(1_000, &[]);
    cold.block(1_000, &[]);
    let n = 6_000_u64;
    let mut txs = vec![];
    for i in 0..n {
        let p = &world.people[(i % 6) as usize];
        let (number, _) = p.account(&warm).unwrap();
        let mut d = Draft::new(
            vec![send(p, &world.people[((i + 1) % 6) as usize].address, 1)],
            &[(p, number, i / 6)],
        );
        d.fee().gas_limit = 30_000;
        txs.push(d.bytes(&[p]));
    }
    let per = |t: Instant| t.elapsed().as_micros() as f64 / n as f64;
    let t = Instant::now();
    for tx in &txs {
        assert_eq!(warm.check(tx, CheckTxType::New).code, 0);
    }
    println!("CheckTx {:.1} us", per(t));
    let t = Instant::now();
    for _ in 0..n {
        std::hint::black_box(world.people[0].address.to_string());
    }
    println!("bech32 to {:.2} us", per(t));
    let text = world.people[0].address.to_string();
    let t = Instant::now();
    for _ in 0..n {
        std::hint::black_box(text.parse::<tenure_types::Address>().unwrap());
    }
    println!("bech32 from {:.2} us", per(t));
    let b: Vec<prost::bytes::Bytes> = txs.iter().map(|t| t.clone().into()).collect();
    let t = Instant::now();
    warm.app
        .process_proposal(tendermint_proto::v0_38::abci::RequestProcessProposal {
            txs: b,
            height: 2,
            time: timestamp(warm.time_ms + 1000),
            ..Default::default()
        });
    println!(
        "ProcessProposal warm (decode parallel + cache look-up) {:.1} us",
        per(t)
    );
    let t = Instant::now();
    let r = warm.finalize(1_000, &txs);
    assert!(r.tx_results.iter().all(|r| r.code == 0));
    println!("FinalizeBlock warm {:.1} us", per(t));
    let t = Instant::now();
    cold.finalize(1_000, &txs);
    println!("FinalizeBlock cold {:.1} us", per(t));
    warm.block(1_000, &[]);
    let t = Instant::now();
    for tx in &txs {
        assert_eq!(warm.check(tx, CheckTxType::Recheck).code, 0);
    }
    println!("Recheck {:.1} us", per(t));
}
