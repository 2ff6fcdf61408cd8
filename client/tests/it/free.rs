//! Attestations without a fee, sent to the real chain through a node that has no room, loses requests and loses answers.

use std::time::Duration;

use tenure_client::{
    chain::Client,
    error::Stage,
    sender::{TxOptions, TxResult, TxSender},
    Error, Result,
};
use tenure_proto::{
    any,
    tenure::{
        base::v1::Resources,
        provider::v1::{EpochRoot, MsgAttest, MsgRegister, Provider},
    },
    Any,
};
use tokio::task::JoinHandle;

use crate::{
    chain::{uten, Chain},
    face::{Face, Fault},
};

/// A provider on a chain whose blocks are made by hand.
struct World {
    chain: Chain,
    face: Face,
    client: Client,
    sender: TxSender,
}

impl World {
    async fn new() -> Self {
        let chain = Chain::start();
        chain.block();
        let register = MsgRegister {
            owner: chain.alice.address().to_string(),
            moniker: "alice".to_owned(),
            endpoint: "http://127.0.0.1:1".to_owned(),
            capacity: Some(Resources {
                cpu_milli: 1_000,
                memory_bytes: 1 << 30,
                storage_bytes: 0,
            }),
            bond: Some(uten(500_000_000)),
        };
        chain.send(&chain.alice, any(&register)).await;
        let face = Face::of(&chain).await;
        let client = Client::connect(&face.address).await.unwrap();
        let options = TxOptions {
            poll: Duration::from_millis(20),
            ..TxOptions::default()
        };
        let sender = TxSender::new(client.clone(), chain.alice.clone(), options)
            .await
            .unwrap();
        Self {
            chain,
            face,
            client,
            sender,
        }
    }

    async fn provider(&self) -> Provider {
        self.client.provider(&self.sender.address()).await.unwrap()
    }

    /// Makes blocks until an epoch has just ended that nothing is known of; its number.
    async fn next_epoch(&self) -> u64 {
        let provider = self.provider().await;
        let epoch_at = |ms: u64| ms.saturating_sub(provider.grid_offset_ms) / provider.epoch_ms;
        let begun = epoch_at(self.client.status().await.unwrap().live_ms);
        for _ in 0..40 {
            self.chain.block();
            if epoch_at(self.client.status().await.unwrap().live_ms) > begun {
                return begun;
            }
        }
        panic!("epoch {begun} does not end");
    }

    fn attest(&self, epoch: u64, root: u8) -> Vec<Any> {
        vec![any(&MsgAttest {
            provider: self.sender.address(),
            epochs: vec![EpochRoot {
                epoch,
                root: vec![root; 32],
            }],
        })]
    }

    fn sending(&self, epoch: u64, root: u8) -> JoinHandle<Result<TxResult>> {
        let (sender, messages) = (self.sender.clone(), self.attest(epoch, root));
        tokio::spawn(async move { sender.send_free(messages, epoch).await })
    }

    /// What the account has, and its next sequence.
    async fn account(&self) -> (u128, u64) {
        let address = self.sender.address();
        let sequence = self.client.account(&address).await.unwrap().sequence;
        (self.client.balance(&address).await.unwrap(), sequence)
    }
}

fn refusal(result: Result<TxResult>) -> (Stage, String, u32) {
    match result {
        Err(Error::Refused(refusal)) => (refusal.stage, refusal.codespace, refusal.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_arrives_once_and_costs_nothing_whatever_the_node_does() {
    use Fault::{AnswerLost, Full, RequestLost};
    let world = World::new().await;
    for faults in [
        vec![],
        vec![Full, Full],
        vec![RequestLost, AnswerLost],
        vec![AnswerLost, Full, RequestLost],
    ] {
        let epoch = world.next_epoch().await;
        let (before, attested) = (world.account().await, world.provider().await.attested_epochs);
        *world.face.broadcasts.lock().unwrap() = 0;
        world.face.faults.lock().unwrap().extend(faults.clone());
        let sending = world.sending(epoch, 1);
        // Until the node has had its way.
        while !world.face.faults.lock().unwrap().is_empty() || *world.face.broadcasts.lock().unwrap() == 0 {
            assert!(!sending.is_finished(), "{faults:?}: {:?}", sending.await.unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.chain.block();
        let done = sending.await.unwrap().unwrap_or_else(|e| panic!("{faults:?}: {e}"));
        assert!(done.gas > 0 && done.gas < 100_000, "{}", done.gas);
        assert_eq!(world.account().await, before, "{faults:?}");
        assert_eq!(world.provider().await.attested_epochs, attested + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_decided_and_what_is_late_is_told_apart() {
    let world = World::new().await;
    let epoch = world.next_epoch().await;
    // One that waits in the mempool, and another way to attest the same.
    let first = world.sending(epoch, 1);
    while *world.face.broadcasts.lock().unwrap() == 0 {
        assert!(!first.is_finished(), "{:?}", first.await.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = world.sender.send_free(world.attest(epoch, 2), epoch).await;
    assert_eq!(refusal(second), (Stage::Check, "provider".to_owned(), 9));
    world.chain.block();
    first.await.unwrap().unwrap();
    assert_eq!(world.provider().await.last_root, [1; 32]);
    let again = world.sender.send_free(world.attest(epoch, 2), epoch).await;
    assert_eq!(refusal(again), (Stage::Simulate, "provider".to_owned(), 9));
    let late = world.next_epoch().await;
    for _ in 0..22 {
        world.chain.block();
    }
    let late = world.sender.send_free(world.attest(late, 1), late).await;
    assert_eq!(refusal(late), (Stage::Simulate, "provider".to_owned(), 8));
    // Other transactions of the account go on in order.
    assert_eq!(world.account().await.1, 1);
}
