//! Properties of the planner: random agents that crash, late and halting chains, and the truth about what ran kept beside.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const GRID: Grid = Grid {
    offset_ms: 700,
    epoch_ms: 60_000,
};

fn lease(ready_ms: u64, ended_ms: u64) -> LeaseTerms {
    LeaseTerms {
        id: 1,
        manifest_hash: vec![1; 32],
        ready_ms,
        ended_ms,
    }
}

fn service(from_ms: u64, to_ms: u64, ended_ms: Option<u64>) -> Service {
    Service {
        from_ms,
        to_ms,
        ended_ms,
    }
}

fn judged(lease: &LeaseTerms, service: Service, epoch: u64) -> Verdict {
    verdict(lease, Some(&service), GRID, epoch)
}

#[test]
fn a_lease_counts_for_its_part_of_an_epoch_only() {
    let l = lease(10_000, 0);
    assert_eq!(judged(&l, service(9_000, 60_700, None), 0), Verdict::Running);
    assert_eq!(
        judged(&l, service(9_000, 60_699, None), 0),
        Verdict::Down,
        "the end was not seen"
    );
    assert_eq!(
        judged(&l, service(10_001, 60_700, None), 0),
        Verdict::Down,
        "begun anew after it was ready"
    );
    assert_eq!(verdict(&l, None, GRID, 0), Verdict::Down);
    assert_eq!(verdict(&lease(0, 0), None, GRID, 0), Verdict::Absent, "starting");
    assert_eq!(verdict(&lease(60_700, 0), None, GRID, 0), Verdict::Absent, "not yet");
    assert_eq!(
        verdict(&lease(1_000, 60_700), None, GRID, 1),
        Verdict::Absent,
        "no more"
    );
}

#[test]
fn a_program_that_ended_is_attested_up_to_its_report() {
    let slack = GRID.finish_slack_ms();
    let ended = service(9_000, 30_000, Some(30_000));
    assert_eq!(judged(&lease(10_000, 31_000), ended, 0), Verdict::Exited);
    assert_eq!(judged(&lease(10_000, 30_000 + slack), ended, 0), Verdict::Exited);
    assert_eq!(
        judged(&lease(10_000, 30_001 + slack), ended, 0),
        Verdict::Down,
        "reported too late"
    );
    assert_eq!(
        judged(&lease(10_000, 0), ended, 0),
        Verdict::Down,
        "not reported at all"
    );
    assert_eq!(
        judged(&lease(30_001, 31_000), ended, 0),
        Verdict::Down,
        "over before it was ready"
    );
    let late = service(9_000, 60_000, Some(60_000));
    assert_eq!(judged(&lease(10_000, 62_000), late, 0), Verdict::Exited);
    assert_eq!(
        judged(&lease(10_000, 62_000), late, 1),
        Verdict::Down,
        "an epoch that began after the end"
    );
    assert_eq!(
        judged(&lease(10_000, 25_000), ended, 0),
        Verdict::Running,
        "the tenant closed before"
    );
}

#[test]
fn late_epochs_come_in_order_and_in_batches() {
    let leases = [lease(1_000, 0)];
    let chain = |final_until_ms, live_ms| Chain {
        grid: GRID,
        final_until_ms,
        live_ms,
    };
    assert_eq!(due(&chain(0, 60_699), &leases), Vec::<u64>::new());
    assert_eq!(due(&chain(0, 60_700), &leases), [0]);
    assert_eq!(due(&chain(60_700, 250_000), &leases), [1, 2, 3]);
    assert_eq!(due(&chain(0, u64::MAX / 2), &leases).len(), EPOCHS_PER_TX);
    assert_eq!(
        due(&chain(0, 250_000), &[]),
        Vec::<u64>::new(),
        "no lease, nothing to attest"
    );
    // A lease that was just opened waits in an epoch of its own like any other: none is left out.
    assert_eq!(due(&chain(60_700, 250_000), &[lease(200_000, 0)]), [1, 2, 3]);
}

/// The messages of the first transaction, and its nonce.
fn first(records: &[EpochRecord]) -> (Vec<String>, u64) {
    let Attestation { messages, nonce } = attestation("p", records).expect("an epoch");
    let kinds = messages.iter().map(|m| match m.type_url.as_str() {
        "/tenure.provider.v1.MsgAttest" => {
            let m = MsgAttest::decode(m.value.as_slice()).expect("attest");
            let epochs: Vec<_> = m.epochs.iter().map(|e| e.epoch).collect();
            format!("attest {epochs:?}")
        }
        _ => {
            let m = MsgReportDown::decode(m.value.as_slice()).expect("down");
            format!("down {} × {}", m.epoch, m.lease_ids.len())
        }
    });
    (kinds.collect(), nonce)
}

#[test]
fn a_transaction_excepts_from_its_first_epoch_only() {
    let record = |epoch, down: Vec<u64>| EpochRecord {
        epoch,
        leaves: BTreeMap::new(),
        down,
    };
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let records = [
        record(3, vec![]),
        record(4, (0..300).collect()),
        record(5, vec![]),
        record(6, vec![]),
        record(7, vec![1]),
    ];
    assert_eq!(first(&records), (words(&["attest [3]"]), 3));
    let second = words(&["down 4 × 256", "down 4 × 44", "attest [4, 5, 6]"]);
    assert_eq!(first(&records[1..]), (second, 6));
    assert_eq!(first(&records[4..]), (words(&["down 7 × 1", "attest [7]"]), 7));
    assert_eq!(attestation("p", &[]), None);
}

#[test]
fn two_refusals_have_a_meaning_of_their_own() {
    let refused = |codespace: &str, code| {
        Error::Refused(Box::new(tenure_client::error::Refusal {
            stage: tenure_client::error::Stage::Check,
            codespace: codespace.to_owned(),
            code,
            log: String::new(),
            hash: String::new(),
            height: 0,
        }))
    };
    assert_eq!(refusal(&refused("provider", 9)), Some(Refusal::Known));
    assert_eq!(refusal(&refused("provider", 8)), Some(Refusal::Late));
    assert_eq!(refusal(&refused("provider", 7)), None);
    assert_eq!(refusal(&refused("sdk", 9)), None);
    assert_eq!(refusal(&Error::NotFound(String::new())), None);
}

#[test]
fn a_record_survives_the_disk_and_its_leaf_binds_all_it_must() {
    let record = EpochRecord::new(
        "tenure-1",
        GRID,
        0,
        &[
            (lease(10_000, 0), Some(service(0, 60_700, None))),
            (
                LeaseTerms {
                    id: 2,
                    ..lease(1_000, 0)
                },
                None,
            ),
        ],
        &[9; 32],
        |_| vec![8; 32],
    );
    assert_eq!(record.down, [2]);
    let leaf = AttestationLeaf::decode(record.leaves[&1].as_slice()).expect("leaf");
    assert_eq!(
        (leaf.chain_id.as_str(), leaf.lease_id, leaf.epoch, leaf.status.as_str()),
        ("tenure-1", 1, 0, "running")
    );
    assert_eq!(
        (leaf.manifest_hash, leaf.output_head, leaf.recent_app_hash),
        (vec![1; 32], vec![8; 32], vec![9; 32])
    );
    let json = serde_json::to_vec(&record).expect("json");
    let back: EpochRecord = serde_json::from_slice(&json).expect("json");
    assert_eq!(back, record);
    assert_eq!(back.root(), merkle::root(&[&record.leaves[&1]]));
}

/// What happens in one step of the model.
#[derive(Debug, Clone)]
enum Step {
    /// A block this much later, seen by the agent if it is up.
    Block(u64),
    /// The agent stops for this many blocks of 5 s, and starts the program anew when it is back.
    Crash(u64),
    /// The program ends by itself.
    Exit,
    /// The chain stands still (no live time passes) while the agent is down and comes back.
    Halt,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (500_u64..10_000).prop_map(Step::Block),
        1 => (1_u64..40).prop_map(Step::Crash),
        1 => Just(Step::Exit),
        1 => Just(Step::Halt),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // The model's truth is a list of instants at which the program was seen not to run; the agent only knows its own service record.
    #[test]
    fn no_epoch_is_attested_in_which_the_program_did_not_run(steps in prop::collection::vec(step(), 1..200), grace in 5_000_u64..90_000) {
        let mut live = 100_000;
        let ready = live + 3;
        let terms = LeaseTerms { id: 7, manifest_hash: vec![], ready_ms: ready, ended_ms: 0 };
        let mut seen = Service { from_ms: live, to_ms: live, ended_ms: None };
        let mut final_until = live;
        let mut down: Vec<(u64, u64)> = Vec::new();
        let mut attested = BTreeSet::new();
        for step in steps {
            match step {
                Step::Block(ms) => {
                    live += ms;
                    if seen.ended_ms.is_none() {
                        seen.to_ms = live;
                    }
                }
                Step::Crash(blocks) => {
                    let from = live;
                    live += blocks * 5_000;
                    if seen.ended_ms.is_none() {
                        down.push((from, live + 5_000));
                        live += 5_000;
                        seen = Service { from_ms: live, to_ms: live, ended_ms: None };
                    }
                }
                Step::Exit => {
                    if seen.ended_ms.is_none() && live > ready {
                        seen.ended_ms = Some(live);
                        down.push((live, u64::MAX));
                    }
                }
                Step::Halt => {
                    if seen.ended_ms.is_none() {
                        down.push((live, live + 1));
                        live += 1;
                        seen = Service { from_ms: live, to_ms: live, ended_ms: None };
                    }
                }
            }
            // What nobody attested in time is final as missed.
            while GRID.end(GRID.epoch_at(final_until)) + grace <= live {
                final_until = GRID.end(GRID.epoch_at(final_until));
            }
            let chain = Chain { grid: GRID, final_until_ms: final_until, live_ms: live };
            for epoch in due(&chain, std::slice::from_ref(&terms)) {
                prop_assert!(attested.insert(epoch), "epoch {epoch} attested twice");
                prop_assert!(GRID.end(epoch) <= live);
                let record = EpochRecord::new("c", GRID, epoch, &[(terms.clone(), Some(seen))], &[], |_| vec![]);
                let (from, to) = (GRID.start(epoch).max(ready), GRID.end(epoch));
                let idle: u64 = down.iter().map(|(a, b)| (*b).min(to).saturating_sub((*a).max(from))).sum();
                let leaf = record.leaves.contains_key(&7);
                prop_assert!(from >= to || leaf != record.down.contains(&7));
                if leaf {
                    let tail = seen.ended_ms.map_or(0, |ended| to.saturating_sub(ended.max(from)));
                    prop_assert!(idle <= tail && tail <= GRID.finish_slack_ms(), "epoch {epoch}: idle {idle} ms, tail {tail} ms");
                }
                final_until = GRID.end(epoch);
            }
        }
    }
}
