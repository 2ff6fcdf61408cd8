//! What CometBFT would choke on is caught in the application's answers, and overlapping calls in the engine.

use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    thread,
};

use tendermint_abci::Application;
use tendermint_proto::v0_38::{
    abci::{
        ExecTxResult, RequestFinalizeBlock, RequestInitChain, RequestPrepareProposal, RequestProcessProposal,
        ResponseCommit, ResponseFinalizeBlock, ResponsePrepareProposal, ResponseProcessProposal, ValidatorUpdate,
    },
    crypto::{public_key::Sum, PublicKey},
};
use tenure_abci::{Checked, OnViolation};

use crate::{app::Kv, eventually};

/// Answers what it was given.
#[derive(Clone, Default)]
struct Canned {
    proposal: ResponsePrepareProposal,
    verdict: ResponseProcessProposal,
    block: ResponseFinalizeBlock,
    commit: ResponseCommit,
}

impl Application for Canned {
    fn prepare_proposal(&self, _: RequestPrepareProposal) -> ResponsePrepareProposal {
        self.proposal.clone()
    }

    fn process_proposal(&self, _: RequestProcessProposal) -> ResponseProcessProposal {
        self.verdict
    }

    fn finalize_block(&self, _: RequestFinalizeBlock) -> ResponseFinalizeBlock {
        self.block.clone()
    }

    fn commit(&self) -> ResponseCommit {
        self.commit
    }
}

/// One block of one transaction; the violation, if there is one.
fn violation(app: Canned) -> Option<String> {
    let checked = Checked::new(app, OnViolation::Panic);
    let played = catch_unwind(AssertUnwindSafe(|| {
        let txs = vec!["a=b".into()];
        checked.init_chain(RequestInitChain::default());
        checked.prepare_proposal(RequestPrepareProposal {
            height: 1,
            max_tx_bytes: 10,
            ..Default::default()
        });
        checked.process_proposal(RequestProcessProposal {
            height: 1,
            txs: txs.clone(),
            ..Default::default()
        });
        checked.finalize_block(RequestFinalizeBlock {
            height: 1,
            txs,
            ..Default::default()
        });
        checked.commit();
    }));
    played
        .err()
        .map(|payload| payload.downcast_ref::<String>().unwrap().clone())
}

fn good() -> Canned {
    Canned {
        proposal: ResponsePrepareProposal {
            txs: vec!["12345678".into()],
        },
        verdict: ResponseProcessProposal { status: 2 },
        block: ResponseFinalizeBlock {
            tx_results: vec![ExecTxResult::default()],
            ..Default::default()
        },
        commit: ResponseCommit { retain_height: 1 },
    }
}

fn update(key: u8, power: i64) -> ValidatorUpdate {
    let sum = Some(Sum::Ed25519(vec![key; 32]));
    ValidatorUpdate {
        pub_key: Some(PublicKey { sum }),
        power,
    }
}

#[test]
fn answers_are_held_to_what_the_engine_needs() {
    assert_eq!(violation(good()), None);
    let with_updates = |validator_updates| Canned {
        block: ResponseFinalizeBlock {
            validator_updates,
            ..good().block
        },
        ..good()
    };
    assert_eq!(violation(with_updates(vec![update(1, 0), update(2, 5)])), None);
    let faults = [
        // Nine bytes of transaction are eleven in a block.
        (
            Canned {
                proposal: ResponsePrepareProposal {
                    txs: vec!["123456789".into()],
                },
                ..good()
            },
            "PrepareProposal of height 1 gives 11 bytes of transactions, the limit is 10",
        ),
        (
            Canned {
                verdict: ResponseProcessProposal { status: 0 },
                ..good()
            },
            "ProcessProposal of height 1 gives status 0, neither accept nor reject",
        ),
        (
            Canned {
                block: ResponseFinalizeBlock::default(),
                ..good()
            },
            "FinalizeBlock of height 1 gives 0 results for 1 transactions",
        ),
        (
            with_updates(vec![update(1, 1), update(1, 0)]),
            "FinalizeBlock updates a validator twice",
        ),
        (
            with_updates(vec![update(1, -1)]),
            "FinalizeBlock gives a validator the power -1, less than 0",
        ),
        (
            with_updates(vec![ValidatorUpdate {
                pub_key: None,
                power: 1,
            }]),
            "FinalizeBlock updates a validator without a key",
        ),
        (
            Canned {
                commit: ResponseCommit { retain_height: 2 },
                ..good()
            },
            "Commit of height 1 retains from height 2",
        ),
    ];
    for (app, expected) in faults {
        assert_eq!(violation(app), Some(format!("ABCI answer: {expected}")));
    }
}

#[test]
fn a_log_goes_on_where_a_test_panics() {
    let checked = Checked::new(
        Canned {
            block: ResponseFinalizeBlock::default(),
            ..good()
        },
        OnViolation::Log,
    );
    checked.finalize_block(RequestFinalizeBlock {
        height: 3,
        txs: vec!["a=b".into()],
        ..Default::default()
    });
    checked.commit();
}

#[test]
fn calls_that_decide_state_do_not_overlap() {
    let app = Kv::new();
    let checked = Checked::new(app.clone(), OnViolation::Panic);
    checked.init_chain(RequestInitChain::default());
    let executing = thread::spawn({
        let checked = checked.clone();
        let block = RequestFinalizeBlock {
            height: 1,
            txs: vec!["gate=1".into()],
            ..Default::default()
        };
        move || checked.finalize_block(block)
    });
    eventually("the block is being executed", || app.is_executing());
    let overlap = catch_unwind(AssertUnwindSafe(|| checked.commit())).unwrap_err();
    let text = overlap.downcast_ref::<String>().unwrap();
    assert_eq!(
        text,
        "ABCI grammar: Commit while another call that decides state is running"
    );
    app.open_gate();
    executing.join().unwrap();
    checked.commit();
}
