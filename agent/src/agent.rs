//! The loop: looks at the chain, compares with the machine, acts on the difference.
//!
//! It looks every [`POLL`] and acts on every new height and at least every [`LOOK`]. Transactions are sent in the background, one per purpose at
//! a time, so that a slow chain delays no kill; their results are taken in before the next look, which is therefore never older than they.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use tenure_client::{auth::output_root, Error};
use tenure_proto::{
    any,
    tenure::{
        chain::v1::StatusResponse,
        market::v1::{Bid, Lease, LeaseState, MsgClaim, MsgFinishLease, MsgLeaseReady, MsgWithdrawEarnings},
        provider::v1::{Provider, ProviderStatus},
    },
    Any,
};
use tenure_types::{Resources, BASE_DENOM};
use tokio::sync::{mpsc, watch};

use crate::{
    admission::{decide, OpenBid, Situation},
    attest::{attestation, due, refusal, Chain as Facts, EpochRecord, Grid, LeaseTerms, Refusal},
    backoff::Backoff,
    capacity,
    chain::Chain,
    pricing::Prices,
    reconcile::{end_of_lease, step, Report, Step},
    workloads::{View, Workloads},
};

/// How often the chain's height is asked for.
pub const POLL: Duration = Duration::from_millis(300);
/// Longest time between two full looks.
pub const LOOK: Duration = Duration::from_secs(2);
/// How long signed leaves are kept, milliseconds of live time.
const LEAVES_KEPT_MS: u64 = 7 * 24 * 3_600_000;
/// Most leases in one withdrawal (market.v1).
const WITHDRAW_LEASES: usize = 100;
/// How often earnings are looked at.
const WITHDRAW_LOOK: Duration = Duration::from_secs(60);
/// Longest wait before an attestation that failed is tried again: its epoch has a deadline, and trying costs nothing.
const ATTEST_AGAIN: Duration = Duration::from_secs(2);

/// What the agent is told by its owner.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The provider's owner address.
    pub provider: String,
    /// The chain that was agreed on at start; another one is not served.
    pub chain_id: String,
    /// Prices.
    pub prices: Prices,
    /// What the machine had free when the agent started.
    pub measured: Resources,
    /// Below this balance, base units, nothing is claimed: fees for the leases that there are come first. Attestations need none.
    pub reserve: u128,
    /// Earnings from which on they are withdrawn while leases run, base units; 0: never, closing pays out by itself.
    pub withdraw_from: u128,
    /// How long the files of a closed lease are kept, milliseconds.
    pub retention_ms: u64,
}

/// What a transaction is for. One of each is under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    Ready(u64),
    Finish(u64),
    Attest,
    Claim(u64, u64),
    Withdraw,
}

/// What became of a transaction.
type Done = (Purpose, Result<(), Error>);

/// The loop's state.
pub struct Agent<C> {
    chain: Arc<C>,
    workloads: Workloads,
    settings: Settings,
    serving: Arc<AtomicBool>,
    under_way: BTreeSet<Purpose>,
    done: (mpsc::UnboundedSender<Done>, mpsc::UnboundedReceiver<Done>),
    backoff: Backoff<Purpose>,
    claimed: BTreeMap<u64, u64>,
    app_hashes: BTreeMap<u64, Vec<u8>>,
    /// Up to where outcomes were final at the last look.
    final_until_ms: u64,
    withdraw_at: Instant,
}

impl<C: Chain> Agent<C> {
    /// An agent. `serving` says whether the gateway can be reached: without it nothing is claimed.
    pub fn new(chain: Arc<C>, workloads: Workloads, settings: Settings, serving: Arc<AtomicBool>) -> Self {
        Self {
            chain,
            workloads,
            settings,
            serving,
            under_way: BTreeSet::new(),
            done: mpsc::unbounded_channel(),
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            claimed: BTreeMap::new(),
            app_hashes: BTreeMap::new(),
            final_until_ms: 0,
            withdraw_at: Instant::now(),
        }
    }

    /// Runs until `stop` turns true, then waits for the transactions under way. Error: the node serves another chain.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<()> {
        let (mut height, mut looked, mut silent) = (0, None::<Instant>, false);
        let mut told: Option<String> = None;
        while !*stop.borrow() {
            self.take_in_results();
            match self.chain.status().await {
                Ok(status) => {
                    if std::mem::take(&mut silent) {
                        tracing::info!(height = status.height, "the node answers again");
                    }
                    if status.chain_id != self.settings.chain_id {
                        bail!(
                            "the node now serves {:?}, this provider is on {:?}",
                            status.chain_id,
                            self.settings.chain_id
                        );
                    }
                    if status.height != height || looked.is_none_or(|at| at.elapsed() >= LOOK) {
                        (height, looked) = (status.height, Some(Instant::now()));
                        // The same trouble is told once, not at every height.
                        let trouble = self.look(&status).await.err().map(|error| format!("{error:#}"));
                        if let Some(text) = trouble.as_ref().filter(|text| told.as_ref() != Some(*text)) {
                            tracing::warn!(height, "this look was cut short: {text}");
                        }
                        told = trouble;
                    }
                }
                Err(error) if !silent => {
                    silent = true;
                    tracing::warn!("{error}; workloads run on, nothing is attested until it answers");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.workloads.changed() => looked = None,
                Some((purpose, result)) = self.done.1.recv() => {
                    self.take_in(purpose, result);
                    looked = None;
                }
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        let settle = async {
            while !self.under_way.is_empty() {
                if let Some((purpose, result)) = self.done.1.recv().await {
                    self.take_in(purpose, result);
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), settle).await.is_err() {
            tracing::warn!("stopped before all transactions were in a block; the next start sees what became of them");
        }
        Ok(())
    }

    fn take_in_results(&mut self) {
        while let Ok((purpose, result)) = self.done.1.try_recv() {
            self.take_in(purpose, result);
        }
    }

    fn take_in(&mut self, purpose: Purpose, result: Result<(), Error>) {
        self.under_way.remove(&purpose);
        match result {
            Ok(()) => {
                self.backoff.worked(&purpose);
                if let Purpose::Claim(bid, rate) = purpose {
                    self.claimed.insert(bid, rate);
                }
            }
            Err(error) if purpose == Purpose::Attest => self.not_attested(&error),
            Err(error) => {
                let wait = self.backoff.failed(purpose, Instant::now());
                tracing::warn!(?purpose, retry_ms = wait.as_millis(), "{error}");
            }
        }
    }

    /// What is left to do is what the next look finds due, whatever the reason; it decides only what to say.
    fn not_attested(&mut self, error: &Error) {
        let wait = self
            .backoff
            .failed_in_haste(Purpose::Attest, Instant::now(), ATTEST_AGAIN);
        match refusal(error) {
            // This process before it was killed, or another with the same key.
            Some(Refusal::Known) => tracing::debug!("attested already, or by what waits in the mempool: {error}"),
            Some(Refusal::Late) => {
                tracing::warn!(
                    "an epoch was over before the chain had its attestation; it is missed and not paid: {error}"
                )
            }
            None => tracing::warn!(purpose = ?Purpose::Attest, retry_ms = wait.as_millis(), "{error}"),
        }
    }

    fn send(&mut self, purpose: Purpose, messages: Vec<Any>) {
        let chain = self.chain.clone();
        self.begin(purpose, async move { chain.send(messages).await });
    }

    /// Lets a transaction go its way, unless one of the kind is under way or waits after a failure.
    fn begin(&mut self, purpose: Purpose, sending: impl Future<Output = Result<(), Error>> + Send + 'static) {
        if !self.free(purpose) {
            return;
        }
        self.under_way.insert(purpose);
        let done = self.done.0.clone();
        tokio::spawn(async move {
            let result = sending.await;
            // The loop is gone only when the process ends.
            let _ = done.send((purpose, result));
        });
    }

    /// Whether nothing of the kind is under way or waits after a failure.
    fn free(&self, purpose: Purpose) -> bool {
        !self.under_way.contains(&purpose) && self.backoff.ready(&purpose, Instant::now())
    }

    async fn look(&mut self, status: &StatusResponse) -> Result<()> {
        self.workloads.observe(status.live_ms);
        // Before the leases: a bid that becomes a lease in between is counted twice rather than not at all.
        let bids = self.chain.open_bids().await?;
        // After the status: whatever was ready or had ended by then is so in this list.
        let leases = self.chain.open_leases().await?;
        // After the leases: the first lease moves what is final to the present, and that must be seen with it.
        let Some(provider) = self.chain.provider().await? else {
            bail!(
                "{} is not a registered provider: tenure-agent join",
                self.settings.provider
            );
        };
        let grid = Grid {
            offset_ms: provider.grid_offset_ms,
            epoch_ms: provider.epoch_ms.max(1),
        };
        self.app_hashes
            .insert(grid.epoch_at(status.live_ms), status.app_hash.clone());

        self.tend(&leases).await?;
        self.retire(&leases).await?;
        self.attest(status, &provider, grid, &leases).await?;
        self.claim(&provider, bids, &leases).await?;
        self.withdraw(&leases).await
    }

    /// Does for each lease what its state asks for.
    async fn tend(&mut self, leases: &[Lease]) -> Result<()> {
        for lease in leases {
            let id = lease.id;
            let view = self.workloads.view(id);
            match step(lease, view.as_ref()) {
                Step::Wait => {}
                Step::Restart => {
                    let workloads = self.workloads.clone();
                    let restarted = tokio::task::spawn_blocking(move || workloads.restart(id)).await?;
                    if let Err(error) = restarted {
                        // Its files are damaged or gone: the lease is given up rather than left to wait for nothing.
                        let why = format!("the provider cannot begin it anew: {error:#}");
                        let workloads = self.workloads.clone();
                        tokio::task::spawn_blocking(move || workloads.give_up(id, why)).await??;
                    }
                }
                Step::Ready => {
                    let ready = self.ready(id, view.as_ref())?;
                    self.send(Purpose::Ready(id), vec![ready]);
                }
                Step::Over(report) => {
                    let ready = self.ready(id, view.as_ref())?;
                    let finish = self.finish(id, &report);
                    self.send(Purpose::Ready(id), vec![ready, finish]);
                }
                Step::Finish(report) => {
                    let finish = self.finish(id, &report);
                    self.send(Purpose::Finish(id), vec![finish]);
                }
                Step::Suspend(suspend) => self.workloads.suspend(id, suspend),
                Step::End(why) => self.workloads.retire(id, &why)?,
            }
        }
        let open: BTreeSet<u64> = leases.iter().map(|lease| lease.id).collect();
        self.backoff.retain(|purpose| match purpose {
            Purpose::Ready(id) | Purpose::Finish(id) => open.contains(id),
            _ => true,
        });
        Ok(())
    }

    fn ready(&self, id: u64, view: Option<&View>) -> Result<Any> {
        let receipt = view
            .map(|view| view.record.receipt_signature.as_str())
            .unwrap_or_default();
        Ok(any(&MsgLeaseReady {
            provider: self.settings.provider.clone(),
            lease_id: id,
            receipt_signature: hex::decode(receipt).context("receipt_signature")?,
        }))
    }

    fn finish(&self, id: u64, report: &Report) -> Any {
        let output_root = report
            .ended
            .as_ref()
            .map(|ended| output_root(&ended.output_list()).to_vec())
            .unwrap_or_default();
        any(&MsgFinishLease {
            provider: self.settings.provider.clone(),
            lease_id: id,
            reason: report.reason.into(),
            exit_code: report.exit_code,
            output_root,
            detail: report.detail.clone(),
        })
    }

    /// Lets go of workloads whose leases the chain has closed; the list of open leases alone is no proof of that.
    async fn retire(&mut self, open: &[Lease]) -> Result<()> {
        let open: BTreeSet<u64> = open.iter().map(|lease| lease.id).collect();
        for view in self.workloads.views() {
            let id = view.record.lease_id;
            if open.contains(&id) || view.record.retired_ms.is_some() {
                continue;
            }
            match self.chain.lease(id).await? {
                Some(lease) if lease.state() == LeaseState::Closed => {
                    self.workloads.retire(id, &end_of_lease(&lease))?
                }
                Some(_) => {}
                None => self.workloads.retire(id, "the chain does not know the lease")?,
            }
        }
        self.workloads.forget_retired(self.settings.retention_ms)
    }

    async fn attest(
        &mut self,
        status: &StatusResponse,
        provider: &Provider,
        grid: Grid,
        leases: &[Lease],
    ) -> Result<()> {
        if std::mem::replace(&mut self.final_until_ms, provider.final_until_ms) != provider.final_until_ms {
            // Something else is due now: what failed before says nothing about it.
            self.backoff.worked(&Purpose::Attest);
        }
        if !self.free(Purpose::Attest) {
            return Ok(());
        }
        let facts = Facts {
            grid,
            final_until_ms: provider.final_until_ms,
            live_ms: status.live_ms,
        };
        let terms: Vec<LeaseTerms> = leases.iter().map(terms).collect();
        let mut records = Vec::new();
        for epoch in due(&facts, &terms) {
            let mut record = match self.workloads.home().load_epoch(epoch)? {
                Some(record) => record,
                None => self.sign(status, grid, epoch, &terms).await?,
            };
            // The chain excepts only leases that it has.
            record.down.retain(|id| terms.iter().any(|lease| lease.id == *id));
            records.push(record);
        }
        let Some(attestation) = attestation(&self.settings.provider, &records) else {
            return Ok(());
        };
        let chain = self.chain.clone();
        self.begin(Purpose::Attest, async move { chain.attest(attestation).await });
        self.workloads
            .home()
            .prune_epochs(grid.epoch_at(status.live_ms.saturating_sub(LEAVES_KEPT_MS)))?;
        let oldest = records.first().map_or(0, |record| record.epoch);
        self.app_hashes = self.app_hashes.split_off(&oldest);
        Ok(())
    }

    /// Judges an epoch and keeps the judgement, before anything of it is sent.
    async fn sign(&self, status: &StatusResponse, grid: Grid, epoch: u64, terms: &[LeaseTerms]) -> Result<EpochRecord> {
        // A block of the epoch itself; if none was seen, the latest known.
        let app_hash = self.app_hashes.get(&epoch).unwrap_or(&status.app_hash).clone();
        let judged: Vec<_> = terms
            .iter()
            .map(|lease| {
                (
                    lease.clone(),
                    self.workloads.view(lease.id).and_then(|view| view.service),
                )
            })
            .collect();
        let (workloads, chain_id) = (self.workloads.clone(), self.settings.chain_id.clone());
        tokio::task::spawn_blocking(move || {
            let head = |id| {
                workloads.output_head(id).unwrap_or_else(|error| {
                    tracing::error!(lease = id, "its output could not be hashed: {error:#}");
                    Vec::new()
                })
            };
            let record = EpochRecord::new(&chain_id, grid, epoch, &judged, &app_hash, head);
            workloads.home().save_epoch(&record)?;
            if !record.down.is_empty() {
                tracing::warn!(epoch, leases = ?record.down, "did not run all of their part; the epoch is attested without them");
            }
            Ok(record)
        })
        .await?
    }

    async fn claim(&mut self, provider: &Provider, bids: Vec<Bid>, leases: &[Lease]) -> Result<()> {
        let open: BTreeSet<u64> = bids.iter().map(|bid| bid.id).collect();
        self.claimed.retain(|bid, _| open.contains(bid));
        self.backoff
            .retain(|purpose| !matches!(purpose, Purpose::Claim(bid, _) if !open.contains(bid)));
        let news: Vec<u64> = open
            .iter()
            .copied()
            .filter(|bid| !self.claimed.contains_key(bid))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let closed = match provider.status() {
            ProviderStatus::Active if !self.serving.load(Ordering::Relaxed) => Some("the gateway does not serve"),
            ProviderStatus::Active if self.chain.balance().await? < self.settings.reserve => {
                Some("the balance is below the reserve for fees")
            }
            ProviderStatus::Active => None,
            _ => Some("the provider takes no new leases"),
        };
        if closed.is_none() {
            for bid in news {
                // A former process may have claimed it.
                if let Some(rate) = self.chain.own_claim(bid).await? {
                    self.claimed.insert(bid, rate);
                }
            }
        }
        let mut claimed = self.claimed.clone();
        claimed.extend(self.under_way.iter().filter_map(|p| match p {
            Purpose::Claim(bid, rate) => Some((*bid, *rate)),
            _ => None,
        }));
        let declared = provider.capacity.map(resources).unwrap_or_default();
        let committed = leases.iter().filter_map(|lease| lease.resources).map(resources);
        let situation = Situation {
            closed,
            capacity: capacity::least(declared, self.settings.measured),
            committed: committed.fold(Resources::default(), |a, b| a.plus(b).unwrap_or(a)),
            free_now: capacity::measure(self.workloads.home().path())?,
            claimed,
            prices: self.settings.prices,
            denom: BASE_DENOM.to_owned(),
        };
        let bids: Vec<OpenBid> = bids
            .into_iter()
            .map(|bid| OpenBid {
                id: bid.id,
                resources: bid.resources.map(resources).unwrap_or_default(),
                denom: bid.denom,
                max_rate: bid.max_rate,
            })
            .collect();
        for (bid_id, decision) in decide(&situation, &bids) {
            match decision {
                Ok(rate) => {
                    let provider = self.settings.provider.clone();
                    self.send(
                        Purpose::Claim(bid_id, rate),
                        vec![any(&MsgClaim { provider, bid_id, rate })],
                    );
                }
                Err(why) => tracing::debug!(bid = bid_id, "not claimed: {why}"),
            }
        }
        Ok(())
    }

    async fn withdraw(&mut self, leases: &[Lease]) -> Result<()> {
        let now = Instant::now();
        if self.settings.withdraw_from == 0 || now < self.withdraw_at || !self.free(Purpose::Withdraw) {
            return Ok(());
        }
        self.withdraw_at = now + WITHDRAW_LOOK;
        let ids: Vec<u64> = leases
            .iter()
            .filter(|lease| lease.ready_ms > 0)
            .map(|lease| lease.id)
            .collect();
        let earned = self.chain.earned(&ids).await?;
        let lease_ids: Vec<u64> = earned
            .iter()
            .filter(|(_, e)| **e > 0)
            .map(|(id, _)| *id)
            .take(WITHDRAW_LEASES)
            .collect();
        let sum = earned.values().fold(0_u128, |a, b| a.saturating_add(*b));
        if sum >= self.settings.withdraw_from && !lease_ids.is_empty() {
            let provider = self.settings.provider.clone();
            self.send(
                Purpose::Withdraw,
                vec![any(&MsgWithdrawEarnings { provider, lease_ids })],
            );
        }
        Ok(())
    }
}

fn terms(lease: &Lease) -> LeaseTerms {
    LeaseTerms {
        id: lease.id,
        manifest_hash: lease.manifest_hash.clone(),
        ready_ms: lease.ready_ms,
        ended_ms: lease.ended_ms,
    }
}

/// A message's resource vector as the plain value.
pub fn resources(r: tenure_proto::tenure::base::v1::Resources) -> Resources {
    Resources {
        cpu_milli: r.cpu_milli,
        memory_bytes: r.memory_bytes,
        storage_bytes: r.storage_bytes,
    }
}
