//! A chain hands its state over to another: `tenured export` with a lease running, a bid open and a bond held, and a new chain that starts from it. The lease
//! goes on to be paid to the unit, timers set on the old chain go off on the new one, the bond is returned there, and no money appears or is lost.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use prost::Message;
use serde_json::{json, Value};
use tenure_client::keys::Key;
use tenure_client::tx::{Draft, Signer};
use tenure_proto::cosmos::bank::v1beta1::query_client::QueryClient as BankClient;
use tenure_proto::cosmos::bank::v1beta1::QuerySupplyOfRequest;
use tenure_proto::cosmos::base::v1beta1::Coin;
use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient;
use tenure_proto::cosmos::tx::v1beta1::{BroadcastMode, BroadcastTxRequest, GetTxRequest};
use tenure_proto::tenure::base::v1::{Resources, Window};
use tenure_proto::tenure::chain::v1::query_client::QueryClient as ChainClient;
use tenure_proto::tenure::chain::v1::{StatusRequest, StatusResponse};
use tenure_proto::tenure::market::v1::query_client::QueryClient as MarketClient;
use tenure_proto::tenure::market::v1::{
    Bid, BidState, CloseReason, HandoverReceipt, LeaseState, MsgClaim, MsgLeaseReady, MsgPostBid, MsgWithdrawEarnings,
    QueryBidRequest, QueryLeaseRequest, QueryLeaseResponse,
};
use tenure_proto::tenure::provider::v1::query_client::QueryClient as ProviderClient;
use tenure_proto::tenure::provider::v1::{
    EpochRoot, Gap, MsgAttest, MsgLeave, MsgRegister, Provider, QueryGapsRequest, QueryProviderRequest,
};
use tenure_proto::{any, Any};
use tonic::transport::Channel;
use tonic::Code;

use crate::support::{account, balance, connect, finish, rpc, tenured, Node};

const OLD: &str = "tenure-old-1";
const NEW: &str = "tenure-new-1";
const START: u128 = 1_000_000_000;
const BOND: u128 = 100_000_000;
const FEE: u128 = 1_000;
/// Base units per hour, such that an hour's milliseconds do not divide it: every settlement leaves a remainder to carry.
const RATE: u64 = 5_000_001;
const DURATION_MS: u64 = 18_000;
const DEPOSIT: u128 = 100_000;
const OTHER_DEPOSIT: u128 = 7_777;
const HOUR_MS: u128 = 3_600_000;
/// `max_block_gap_ms` of a fast chain.
const LONGEST_GAP_MS: u64 = 1_500;
/// For one thing to happen; a loaded machine needs it.
const LIMIT: Duration = Duration::from_secs(90);

/// Somebody with a key, and how many fees they have paid.
struct Person {
    key: Key,
    fees: u128,
}

impl Person {
    fn new() -> Self {
        Self {
            key: Key::random(),
            fees: 0,
        }
    }

    fn name(&self) -> String {
        self.key.address().to_string()
    }
}

/// A chain as its clients see it.
struct Chain {
    node: Node,
    id: &'static str,
    channel: Channel,
}

impl Chain {
    async fn start(home: &Path, id: &'static str) -> Result<Self> {
        let mut command = tenured(home);
        command
            .args(["start", "--engine", "solo", "--auto-ports"])
            .env("TENURED_SOLO_BLOCK_INTERVAL", "150ms");
        let node = Node::start(home, &mut command)?;
        let channel = connect(node.run.grpc).await?;
        Ok(Self { node, id, channel })
    }

    /// Sends a transaction and waits for its block. Error: it failed.
    async fn send(&self, person: &mut Person, messages: Vec<Any>) -> Result<()> {
        let (number, sequence) = account(&self.channel, &person.key.address()).await?;
        let signer = Signer::new(&person.key, sequence);
        let draft = Draft::new(messages, "", 0, &[signer], 1_000_000, FEE);
        let signature = draft.sign(&person.key, self.id, number);
        let request = BroadcastTxRequest {
            tx_bytes: draft.assemble(vec![signature]).bytes,
            mode: BroadcastMode::Sync as i32,
        };
        let mut service = ServiceClient::new(self.channel.clone());
        let sent = service.broadcast_tx(request).await?.into_inner();
        let sent = sent.tx_response.context("tx_response")?;
        ensure!(sent.code == 0, "{}", sent.raw_log);
        person.fees += FEE;
        let begun = Instant::now();
        loop {
            let ask = GetTxRequest {
                hash: sent.txhash.clone(),
            };
            if let Ok(found) = service.get_tx(ask).await {
                let found = found.into_inner().tx_response.context("tx_response")?;
                ensure!(found.code == 0, "{}", found.raw_log);
                return Ok(());
            }
            ensure!(begun.elapsed() < LIMIT, "{} is in no block", sent.txhash);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn lease(&self) -> Result<QueryLeaseResponse> {
        let mut market = MarketClient::new(self.channel.clone());
        Ok(market.lease(QueryLeaseRequest { id: 1 }).await?.into_inner())
    }

    async fn bid(&self, id: u64) -> Result<Bid> {
        let mut market = MarketClient::new(self.channel.clone());
        let answer = market.bid(QueryBidRequest { id }).await?.into_inner();
        answer.bid.context("bid")
    }

    /// `None`: there is no such provider, any more or yet.
    async fn provider(&self, person: &Person) -> Result<Option<Provider>> {
        let request = QueryProviderRequest { owner: person.name() };
        match ProviderClient::new(self.channel.clone()).provider(request).await {
            Ok(answer) => Ok(answer.into_inner().provider),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    async fn gaps(&self, person: &Person) -> Result<Vec<Gap>> {
        let request = QueryGapsRequest {
            owner: person.name(),
            ..Default::default()
        };
        let answer = ProviderClient::new(self.channel.clone()).gaps(request).await?;
        Ok(answer.into_inner().gaps)
    }

    async fn status(&self) -> Result<StatusResponse> {
        let mut chain = ChainClient::new(self.channel.clone());
        Ok(chain.status(StatusRequest {}).await?.into_inner())
    }

    async fn live_ms(&self) -> Result<u64> {
        Ok(self.status().await?.live_ms)
    }

    /// Header times of these blocks, milliseconds.
    fn header_ms(&self, heights: std::ops::RangeInclusive<u64>) -> Result<Vec<u64>> {
        let header = |height: u64| {
            let block = rpc(self.node.run.rpc, &format!("/block?height={height}"))?;
            let text = block["block"]["header"]["time"].as_str().context("time")?.to_owned();
            let time = tendermint::Time::parse_from_rfc3339(&text)?;
            Ok(u64::try_from(time.unix_timestamp_nanos() / 1_000_000)?)
        };
        heights.map(header).collect()
    }

    async fn supply(&self) -> Result<u128> {
        let request = QuerySupplyOfRequest {
            denom: "uten".to_owned(),
        };
        let answer = BankClient::new(self.channel.clone()).supply_of(request).await?;
        Ok(answer.into_inner().amount.context("amount")?.amount.parse()?)
    }

    /// Attests every epoch that has ended, as an agent does.
    async fn attest(&self, person: &mut Person) -> Result<()> {
        let provider = self.provider(person).await?.context("provider")?;
        let epoch_of = |ms: u64| (ms - provider.grid_offset_ms) / provider.epoch_ms;
        let (next, current) = (epoch_of(provider.final_until_ms), epoch_of(self.live_ms().await?));
        let epochs: Vec<EpochRoot> = (next..current)
            .map(|epoch| EpochRoot {
                epoch,
                root: vec![9; 32],
            })
            .collect();
        if epochs.is_empty() || provider.open_leases == 0 {
            return Ok(());
        }
        let provider = person.name();
        self.send(person, vec![any(&MsgAttest { provider, epochs })]).await
    }
}

fn uten(amount: u128) -> Option<Coin> {
    Some(Coin {
        denom: "uten".to_owned(),
        amount: amount.to_string(),
    })
}

const fn resources(cpu_milli: u64) -> Option<Resources> {
    Some(Resources {
        cpu_milli,
        memory_bytes: 64 << 20,
        storage_bytes: 1 << 20,
    })
}

fn post_bid(tenant: &Person, deposit: u128, expiry: Window) -> Any {
    any(&MsgPostBid {
        tenant: tenant.name(),
        resources: resources(500),
        max_rate: RATE,
        duration_ms: DURATION_MS,
        deposit: uten(deposit),
        manifest_hash: vec![7; 32],
        expiry: Some(expiry),
        ..Default::default()
    })
}

/// A lease of the provider's that runs, and a bid that nobody wants.
async fn begin(chain: &Chain, tenant: &mut Person, provider: &mut Person) -> Result<()> {
    let register = MsgRegister {
        owner: provider.name(),
        moniker: "p".to_owned(),
        endpoint: "http://127.0.0.1:9".to_owned(),
        capacity: resources(1_000),
        bond: uten(BOND),
    };
    chain.send(provider, vec![any(&register)]).await?;
    let bids = vec![
        post_bid(tenant, DEPOSIT, Window { blocks: 50, ms: 60_000 }),
        post_bid(tenant, OTHER_DEPOSIT, Window { blocks: 5, ms: 14_000 }),
    ];
    chain.send(tenant, bids).await?;
    let claim = MsgClaim {
        provider: provider.name(),
        bid_id: 1,
        rate: RATE,
    };
    chain.send(provider, vec![any(&claim)]).await?;
    let receipt = HandoverReceipt {
        chain_id: chain.id.to_owned(),
        lease_id: 1,
        manifest_hash: vec![7; 32],
    };
    let ready = MsgLeaseReady {
        provider: provider.name(),
        lease_id: 1,
        receipt_signature: tenant.key.sign(&receipt.encode_to_vec()).to_vec(),
    };
    chain.send(provider, vec![any(&ready)]).await
}

/// The state goes into a home of its own, under another name: what an operator does to the file, and the key that signs.
fn hand_over(old: &Path, new: &Path) -> Result<Value> {
    let file = old.with_file_name("exported.json");
    let export = finish(tenured(old).args(["export", "--output-document"]).arg(&file))?;
    ensure!(export.0, "{}", export.2);
    let mut document: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    document["chain_id"] = NEW.into();
    // So that the test need not wait half a minute for a bond.
    document["app_state"]["provider"]["params"]["unbonding"] = json!({ "blocks": "2", "ms": "2000" });
    let init = finish(tenured(new).args(["init", "new", "--chain-id", NEW]))?;
    ensure!(init.0, "{}", init.2);
    std::fs::write(new.join("config/genesis.json"), serde_json::to_vec_pretty(&document)?)?;
    let key = "config/priv_validator_key.json";
    std::fs::copy(old.join(key), new.join(key))?;
    let check = finish(tenured(new).args(["genesis", "validate"]))?;
    ensure!(check.0, "{}", check.2);
    Ok(document)
}

/// How much of the time between these headers is halt: what a gap exceeds the limit by.
fn halts(headers: &[u64]) -> u64 {
    let gaps = headers.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.map(|gap| gap.saturating_sub(LONGEST_GAP_MS)).sum()
}

/// Attests until live time has come this far.
async fn attest_until(chain: &Chain, provider: &mut Person, live_ms: u64) -> Result<()> {
    let begun = Instant::now();
    while chain.live_ms().await? < live_ms {
        ensure!(begun.elapsed() < LIMIT, "the chain does not go on");
        chain.attest(provider).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// What is not paid between two instants: all missed time in it.
fn missed(gaps: &[Gap], from: u64, to: u64) -> u64 {
    let parts = gaps
        .iter()
        .map(|gap| gap.end_ms.min(to).saturating_sub(gap.start_ms.max(from)));
    parts.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_lease_is_paid_to_the_unit_on_the_chain_that_takes_over() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (old_home, new_home) = (dir.path().join("old"), dir.path().join("new"));
    let (mut tenant, mut provider) = (Person::new(), Person::new());
    let mut init = tenured(&old_home);
    init.args(["init", "old", "--chain-id", OLD, "--fast"]);
    for person in [&tenant, &provider] {
        init.arg("--account").arg(format!("{}={START}uten", person.name()));
    }
    let made = finish(&mut init)?;
    ensure!(made.0, "{}", made.2);

    // The old chain stands still once, long enough that its live time falls behind its headers.
    let old = Chain::start(&old_home, OLD).await?;
    begin(&old, &mut tenant, &mut provider).await?;
    let ready_ms = old.lease().await?.lease.context("lease")?.ready_ms;
    attest_until(&old, &mut provider, ready_ms + 3_500).await?;
    assert_eq!(old.node.terminate()?, Some(0));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let old = Chain::start(&old_home, OLD).await?;

    // Until two epochs of the lease can be settled, in the middle of the third. One settlement leaves a remainder.
    attest_until(&old, &mut provider, ready_ms + 7_500).await?;
    let withdraw = |provider: &Person| {
        any(&MsgWithdrawEarnings {
            provider: provider.name(),
            lease_ids: vec![1],
        })
    };
    let message = withdraw(&provider);
    old.send(&mut provider, vec![message]).await?;
    let payment = old.lease().await?.payment.context("payment")?;
    ensure!(payment.acc > 0 && payment.paid_total != "0", "{payment:?}");
    let before = old.lease().await?.lease.context("lease")?;
    ensure!(before.state == LeaseState::Active as i32, "{before:?}");
    let open = old.bid(2).await?;
    ensure!(open.state == BidState::Open as i32, "{open:?}");
    let supply = old.supply().await?;
    let stood = old.provider(&provider).await?.context("provider")?;
    let status = old.status().await?;
    let halted_ms = status.header_ms - status.live_ms;
    assert_eq!(halted_ms, halts(&old.header_ms(1..=status.height)?));
    ensure!(halted_ms >= 2_000, "the chain stood still for 4 s: {status:?}");
    assert_eq!(old.node.terminate()?, Some(0));

    let document = hand_over(&old_home, &new_home)?;
    let next: u64 = document["initial_height"].as_str().context("height")?.parse()?;
    ensure!(next > 10, "the new chain goes on counting: {next}");
    let clock = &document["app_state"]["chain"]["clock"];
    let last_header_ms: u64 = clock["header_ms"].as_str().context("header_ms")?.parse()?;

    // The new chain has all of it.
    let new = Chain::start(&new_home, NEW).await?;
    assert_eq!(new.supply().await?, supply);
    let after = new.lease().await?;
    assert_eq!(
        (after.lease, after.payment),
        (Some(before), Some(payment)),
        "the lease runs on as it was, with what was paid and the remainder of it"
    );
    // Live time goes on where it was: it is behind by the halts of both chains, and by the time in which there was neither.
    let found = new.status().await?;
    let headers = new.header_ms(next..=found.height)?;
    let between = [&[last_header_ms][..], &headers].concat();
    assert_eq!(found.header_ms - found.live_ms, halted_ms + halts(&between));
    assert_eq!(
        (new.bid(2).await?.expires, new.bid(1).await?.lease_id),
        (open.expires, 1)
    );
    let found = new.provider(&provider).await?.context("provider")?;
    assert_eq!((&found.bond, &found.reserved), (&uten(BOND), &stood.reserved));
    assert_eq!(
        (found.grid_offset_ms, found.attested_epochs),
        (stood.grid_offset_ms, stood.attested_epochs)
    );

    // It runs to its end, which is a timer of the old chain's; so is the end of the bid.
    let begun = Instant::now();
    let ended = loop {
        ensure!(begun.elapsed() < LIMIT, "{:?}", new.lease().await?);
        new.attest(&mut provider).await?;
        let found = new.lease().await?;
        let closed = found
            .lease
            .as_ref()
            .is_some_and(|l| l.state == LeaseState::Closed as i32);
        if closed && new.bid(2).await?.state == BidState::Expired as i32 {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let (lease, payment) = (ended.lease.context("lease")?, ended.payment.context("payment")?);
    assert_eq!((lease.reason, lease.ready_ms), (CloseReason::Expired as i32, ready_ms));
    assert_eq!(
        lease.ended_ms,
        ready_ms + DURATION_MS,
        "live time is one time on both chains"
    );

    // Paid for what was attested on both chains together, as if there were one, and no remainder was dropped in between.
    let unpaid = missed(&new.gaps(&provider).await?, lease.ready_ms, lease.ended_ms);
    let attested_ms = u128::from(DURATION_MS - unpaid);
    let paid = u128::from(RATE) * attested_ms / HOUR_MS;
    assert_eq!(payment.paid_total, paid.to_string(), "{attested_ms} ms attested");
    let take = paid * 200 / 10_000;
    assert_eq!(payment.take_total, take.to_string());
    ensure!(unpaid < DURATION_MS / 2, "most of the lease was missed: {unpaid} ms");

    // The bond comes back here, and then everybody has what they should, to the unit.
    if payment.earned != "0" {
        let message = withdraw(&provider);
        new.send(&mut provider, vec![message]).await?;
    }
    let owner = provider.name();
    new.send(&mut provider, vec![any(&MsgLeave { owner })]).await?;
    let begun = Instant::now();
    while new.provider(&provider).await?.is_some() {
        ensure!(
            begun.elapsed() < LIMIT,
            "the bond is not returned: {:?}",
            new.provider(&provider).await?
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        balance(&new.channel, &tenant.key.address()).await?,
        START - tenant.fees - paid
    );
    assert_eq!(
        balance(&new.channel, &provider.key.address()).await?,
        START - provider.fees + paid - take
    );
    assert_eq!(new.supply().await?, supply);
    assert_eq!(new.node.terminate()?, Some(0));
    Ok(())
}
