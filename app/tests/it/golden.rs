//! App hashes that must not change: after genesis and after one message of each kind.
//!
//! A change here means that nodes of the two versions disagree about the state: an upgrade of the chain. If it is meant, run the test with
//! `INSTA_UPDATE=always`, raise `tenure_app::APP_VERSION` once a network exists, and say in the commit what changed.

use std::fmt::Write;

use tenure_proto::{
    any,
    cosmos::bank::v1beta1::{Input, MsgMultiSend, Output},
    tenure::{
        base::v1::Window,
        escrow::v1::TopUpOrder,
        market::v1::{
            LeaseState, MsgAmendLease, MsgCancelBid, MsgCloseLease, MsgDeposit, MsgPauseLease, MsgResumeLease,
            MsgSetAutoTopUp, MsgWithdrawClaim, MsgWithdrawDeposit, MsgWithdrawEarnings,
        },
        provider::v1::{MsgDrain, MsgLeave},
    },
    Any,
};

use crate::{
    chain::Chain,
    genesis::fixture,
    market::{attest, claim, finish, lease, lease_ready, post_bid, register, report_down, update},
    world::{coin, send, Draft, Person},
};

/// Who is the provider.
const HOST: usize = 1;

struct Script {
    /// Whether the provider attests each epoch when it has ended.
    attesting: bool,
    chain: Chain,
    people: Vec<Person>,
    lines: String,
    seen: std::collections::BTreeSet<String>,
}

impl Script {
    /// One message in a block of its own, signed by these people.
    fn step(&mut self, signers: &[usize], message: Any) {
        let name = message.type_url.rsplit('.').next().unwrap().to_owned();
        let people: Vec<&Person> = signers.iter().map(|i| &self.people[*i]).collect();
        let infos: Vec<_> = people
            .iter()
            .map(|person| {
                let (number, sequence) = person.account(&self.chain).unwrap();
                (*person, number, sequence)
            })
            .collect();
        self.seen.insert(message.type_url.clone());
        let tx = Draft::new(vec![message], &infos).bytes(&people);
        let mut response = self.chain.block(500, &[tx]);
        let result = response.tx_results.remove(0);
        assert_eq!(result.code, 0, "{name}: {}", result.log);
        writeln!(
            self.lines,
            "{name} gas {} {}",
            result.gas_used,
            hex::encode(&response.app_hash)
        )
        .unwrap();
        if self.attesting && name != "MsgAttest" {
            self.attest(HOST);
        }
    }

    /// The provider's attestation, when an epoch has ended.
    fn attest(&mut self, provider: usize) {
        if let Some(message) = attest(&self.chain, &self.people[provider]) {
            self.step(&[provider], message);
        }
    }
}

#[test]
fn app_hashes_do_not_change() {
    let mut chain = Chain::new(&fixture());
    let mut lines = String::new();
    writeln!(lines, "genesis {}", hex::encode(&chain.genesis_hash)).unwrap();
    let people: Vec<Person> = (0..6).map(Person::new).collect();
    let response = chain.block(1_000, &[]);
    writeln!(lines, "empty block {}", hex::encode(&response.app_hash)).unwrap();
    let address: Vec<String> = people.iter().map(|person| person.address.to_string()).collect();
    let mut script = Script {
        chain,
        people: people.clone(),
        lines,
        seen: Default::default(),
        attesting: false,
    };

    let multi = MsgMultiSend {
        inputs: vec![Input {
            address: address[1].clone(),
            coins: vec![coin("uten", 30)],
        }],
        outputs: vec![
            Output {
                address: address[2].clone(),
                coins: vec![coin("uten", 10)],
            },
            Output {
                address: address[3].clone(),
                coins: vec![coin("uten", 20)],
            },
        ],
    };
    script.step(&[0], send(&people[0], &people[1].address, 7));
    script.step(&[1], any(&multi));

    let (tenant, host) = (0, HOST);
    let (t, h) = (address[tenant].clone(), address[host].clone());
    script.step(&[host], register(&people[host]));
    script.step(&[host], update(&people[host], 32_000));
    for drain in [true, false] {
        script.step(
            &[host],
            any(&MsgDrain {
                owner: h.clone(),
                drain,
            }),
        );
    }
    script.step(
        &[tenant],
        post_bid(
            &people[tenant],
            20_000_000,
            60_000,
            100_000,
            Some(Window { blocks: 20, ms: 20_000 }),
        ),
    );
    script.step(&[host], claim(&people[host], 1, 15_000_000));
    script.step(
        &[host],
        any(&MsgWithdrawClaim {
            provider: h.clone(),
            bid_id: 1,
        }),
    );
    script.step(
        &[tenant],
        any(&MsgCancelBid {
            tenant: t.clone(),
            bid_id: 1,
        }),
    );
    for bid in [2, 3] {
        script.step(&[tenant], post_bid(&people[tenant], 20_000_000, 60_000, 400_000, None));
        script.step(&[host], claim(&people[host], bid, 18_000_000));
        let found = lease(&script.chain, bid - 1).lease.unwrap();
        assert_eq!(found.state(), LeaseState::Starting);
        script.step(&[host], lease_ready(&people[host], &people[tenant], &found));
        script.attest(host);
        script.attesting = true;
    }
    script.attesting = false;
    while attest(&script.chain, &people[host]).is_none() {
        script.chain.block(500, &[]);
    }
    let down = report_down(&script.chain, &people[host], vec![1]).unwrap();
    script.step(&[host], down);
    script.attest(host);
    script.attesting = true;
    script.step(
        &[tenant],
        any(&MsgPauseLease {
            tenant: t.clone(),
            lease_id: 1,
        }),
    );
    script.step(
        &[tenant],
        any(&MsgResumeLease {
            tenant: t.clone(),
            lease_id: 1,
        }),
    );
    let order = TopUpOrder {
        maximum: "40000".to_owned(),
        amount: "10000".to_owned(),
    };
    script.step(
        &[tenant],
        any(&MsgSetAutoTopUp {
            tenant: t.clone(),
            bid_id: 2,
            auto_top_up: Some(order),
        }),
    );
    let amend = MsgAmendLease {
        tenant: t.clone(),
        provider: h.clone(),
        lease_id: 1,
        rate: 17_000_000,
    };
    script.step(&[tenant, host], any(&amend));
    script.step(
        &[2],
        any(&MsgDeposit {
            depositor: address[2].clone(),
            bid_id: 2,
            amount: Some(coin("uten", 5_000)),
        }),
    );
    let amount = Some(coin("uten", 3_000));
    script.step(
        &[tenant],
        any(&MsgWithdrawDeposit {
            tenant: t.clone(),
            bid_id: 2,
            amount,
        }),
    );
    script.step(
        &[host],
        any(&MsgWithdrawEarnings {
            provider: h.clone(),
            lease_ids: vec![1, 2],
        }),
    );
    script.step(&[tenant], any(&MsgCloseLease { tenant: t, lease_id: 1 }));
    script.step(&[host], finish(&people[host], 2));
    script.step(&[host], any(&MsgLeave { owner: h }));
    for _ in 0..12 {
        let response = script.chain.block(3_000, &[]);
        writeln!(script.lines, "afterwards {}", hex::encode(&response.app_hash)).unwrap();
    }
    assert_eq!(lease(&script.chain, 1).lease.unwrap().state(), LeaseState::Closed);

    // A message type without a golden hash is a gap in this test.
    let all: Vec<String> = tenure_app::modules()
        .iter()
        .flat_map(|m| m.messages())
        .map(|route| route.type_url)
        .collect();
    for type_url in &all {
        assert!(script.seen.contains(type_url), "{type_url} has no step here");
    }
    insta::assert_snapshot!("app_hashes", script.lines);
}
