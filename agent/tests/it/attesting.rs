//! Attestations where the chain does not simply take them: nothing else may hold them up, and none is sent twice or in vain.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use tenure_client::{gateway::Client, keys::Key};
use tenure_proto::tenure::market::v1::{Bid, LeaseState};

use crate::{
    memory_chain::{room, MemoryChain, CHAIN_ID},
    provider::{digits_files, digits_manifest, lease, state_of, until, Provider, PROVIDER},
};

/// A provider that runs lease 1.
async fn serving(home: &Path) -> (MemoryChain, Provider) {
    let tenant = Key::random();
    let chain = MemoryChain::new(PROVIDER);
    let manifest = digits_manifest(&["--rounds", "1000", "--pace-ms", "100"]);
    let provider = Provider::start(home, &chain).await;
    lease(&chain, 1, &tenant, &manifest);
    let client = Client::new(&provider.endpoint(), CHAIN_ID, 1, PROVIDER, tenant).expect("client");
    client
        .submit(&manifest, &digits_files(), |_, _| {})
        .await
        .expect("submit");
    until("active", || state_of(&chain, 1) == LeaseState::Active).await;
    (chain, provider)
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_pass_by_what_is_stuck_a_full_mempool_and_their_own_copies() {
    let home = TempDir::new().expect("tempdir");
    let (chain, provider) = serving(home.path()).await;

    // No money, and a claim that nobody ever answers: neither is an attestation's business.
    {
        let mut state = chain.0.lock();
        let bid = Bid {
            id: 7,
            resources: Some(room(100)),
            denom: "uten".into(),
            max_rate: 1_000_000,
            ..Default::default()
        };
        state.stuck = true;
        state.bids.insert(7, bid);
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    chain.0.lock().balance = 0;
    chain.0.lock().full = 2;
    chain.block(10_000);
    until("epoch 10", || chain.0.lock().attested.contains_key(&10)).await;
    assert_eq!(chain.0.lock().sent, 3, "twice into a full mempool, then once");

    // One that waits in a mempool is not sent anew in another form; the next epochs follow it.
    chain.0.lock().slow = true;
    chain.block(10_000);
    until("it waits", || chain.0.lock().waiting.is_some()).await;
    chain.0.lock().slow = false;
    until("its copy is refused", || chain.0.lock().sent >= 6).await;
    assert_eq!(chain.0.lock().attested.len(), 1);
    chain.block(10_000);
    until("epochs 11 and 12", || chain.0.lock().attested.len() == 3).await;
    assert_eq!(chain.0.lock().down, []);
    assert_eq!(chain.0.lock().refusals, Vec::<String>::new());
    // The claim is never answered: there is nothing to wait for.
    provider.cut_off().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_lost_holds_up_none_of_the_next() {
    let home = TempDir::new().expect("tempdir");
    let (chain, provider) = serving(home.path()).await;
    // A chain whose record lags: the deadline has passed and what is final does not say so yet.
    {
        let mut state = chain.0.lock();
        state.height += 1;
        state.live_ms += 25_000;
    }
    until("too late", || {
        chain
            .0
            .lock()
            .refusals
            .iter()
            .any(|words| words.starts_with("epoch 10 "))
    })
    .await;
    assert!(chain.0.lock().attested.is_empty());
    chain.block(100);
    until("epoch 11", || chain.0.lock().attested.contains_key(&11)).await;
    assert!(!chain.0.lock().attested.contains_key(&10));
    provider.stop().await;
}
