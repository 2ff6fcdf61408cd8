//! A new price that both parties of a running lease sign, one after the other, while the other goes on sending.

use prost::Message;
use tenure_client::{
    amendment::{Proposal, Terms},
    auth::sign_receipt,
    light::{lease_key, LightClient, TRUST_PERIOD},
    rpc::Node,
};
use tenure_proto::{
    any,
    tenure::{
        base::v1::Resources,
        market::v1::{Lease, LeaseState, MsgAmendLease, MsgClaim, MsgLeaseReady},
        provider::v1::MsgRegister,
    },
};
use tenure_types::Address;

use crate::chain::{bid, uten, Chain, CHAIN_ID};

async fn lease(chain: &Chain) -> Lease {
    chain.block();
    let height = serde_json::json!({ "height": "1" });
    let commit = chain.node().call("commit", height).await.unwrap();
    let hash = commit["signed_header"]["commit"]["block_id"]["hash"]
        .as_str()
        .unwrap()
        .to_owned();
    let anchor = tenure_client::light::Anchor::new(1, &hash).unwrap();
    let mut light = LightClient::from_anchor(chain.node(), &anchor, TRUST_PERIOD)
        .await
        .unwrap();
    let found = light.prove("market", &lease_key(1)).await.unwrap();
    Lease::decode(found.value.unwrap().as_slice()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_proposed_by_either_party_takes_effect_though_the_other_sends_meanwhile() {
    let chain = Chain::start();
    chain.block();
    let (tenant, provider) = (&chain.alice, &chain.bob);
    let owner = provider.address().to_string();
    let register = MsgRegister {
        owner: owner.clone(),
        moniker: "p".to_owned(),
        endpoint: "http://127.0.0.1:9".to_owned(),
        capacity: Some(Resources {
            cpu_milli: 10,
            memory_bytes: 10,
            storage_bytes: 10,
        }),
        bond: Some(uten(100_000_000)),
    };
    chain.send(provider, any(&register)).await;
    chain.send(tenant, any(&bid(tenant))).await;
    let claim = MsgClaim {
        provider: owner.clone(),
        bid_id: 1,
        rate: 3_600_000,
    };
    chain.send(provider, any(&claim)).await;
    let ready = MsgLeaseReady {
        provider: owner.clone(),
        lease_id: 1,
        receipt_signature: sign_receipt(tenant, CHAIN_ID, 1, &[7; 32]).to_vec(),
    };
    chain.send(provider, any(&ready)).await;
    assert_eq!(lease(&chain).await.state(), LeaseState::Active);

    for (proposer, other, rate) in [(tenant, provider, 1_800_000), (provider, tenant, 2_000_000)] {
        let terms = Terms {
            chain_id: CHAIN_ID.to_owned(),
            message: MsgAmendLease {
                tenant: tenant.address().to_string(),
                provider: owner.clone(),
                lease_id: 1,
                rate,
            },
            gas: 1_000_000,
            fee: 2_000,
            timeout_height: 0,
        };
        let proposal = Proposal::sign(terms, proposer, &chain.account(proposer).await).unwrap();
        let received = Proposal::from_json(&proposal.to_json().unwrap()).unwrap();
        // The other's sequence moves on: the proposal does not name it.
        chain.transfer(other, &Address::new([9; 20]), 1).await;
        let tx = received.countersign(other, &chain.account(other).await).unwrap();
        chain.deliver(&tx);
        assert_eq!(lease(&chain).await.rate, rate);
    }
}
