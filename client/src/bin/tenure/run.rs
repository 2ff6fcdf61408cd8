//! `tenure run`: a job from its file to its settled lease.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    time::Duration,
};

use serde_json::json;
use tenure_client::{
    auth::manifest_hash,
    chain::Client,
    job::Job,
    json::to_json,
    lint::lint,
    match_report::{match_report, MatchReport},
    sender::TxSender,
    units::{cost, show_amount, show_duration, show_rate},
    Error, Result,
};
use tenure_proto::{
    any,
    tenure::market::v1::{Bid, BidState, Claim, MsgCancelBid, MsgPostBidResponse},
};
use tokio::time::{sleep, Instant};

use crate::{
    args::RunArgs,
    context::Context,
    follow::{Follow, Patience, POLL},
    ui::Ui,
};

/// How long a bid may be without a claim before the reasons are shown.
const QUIET: Duration = Duration::from_secs(3);

/// How far a run has come, for whoever reports a Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Nothing,
    Posting,
    Bid { id: u64 },
    Lease { id: u64, rate: u64 },
}

struct Run<'a> {
    context: &'a Context,
    args: &'a RunArgs,
    reached: Mutex<Reached>,
    handed_over: Arc<AtomicBool>,
}

/// Comes with Ctrl-C, and with the SIGTERM of `timeout`, a service manager or a CI runner: a lease that nobody is told about
/// costs its whole deposit.
pub(crate) async fn asked_to_let_go() {
    use tokio::signal::unix::{signal, SignalKind};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Runs a job, or lets go of it when asked. Returns whether it was let go of.
pub(crate) async fn run(context: &Context, args: &RunArgs) -> Result<bool> {
    let job = load(context, args)?;
    let run = Run {
        context,
        args,
        reached: Mutex::new(Reached::Nothing),
        handed_over: Arc::default(),
    };
    tokio::select! {
        result = run.go(&job) => {
            // What was begun goes on without us: say how to look at it and how to end it, as at Ctrl-C.
            if matches!(result, Err(Error::Unreachable { .. })) && run.reached() != Reached::Nothing {
                run.detached(&job);
            }
            result.map(|()| false)
        }
        () = asked_to_let_go() => {
            run.detached(&job);
            Ok(true)
        }
    }
}

/// Reads the job, takes what the command line changes, and shows what a look at it finds.
pub(crate) fn load(context: &Context, args: &RunArgs) -> Result<Job> {
    let mut job = Job::load(&args.job)?;
    if let Some(deposit) = &args.deposit {
        // The amounts of the file are counted in the denom of its deposit.
        let others = args.max_price.is_none() || job.auto_top_up > 0;
        if others && deposit.denom != job.deposit.denom {
            let detail = format!(
                "--deposit is in {}, and the job in {}",
                deposit.denom, job.deposit.denom
            );
            return Err(Error::Usage(format!("{detail}; both must be the same")));
        }
        job.deposit = deposit.clone();
    }
    if let Some(price) = &args.max_price {
        let rate = u64::try_from(price.amount.get()).ok().filter(|rate| *rate > 0);
        job.max_rate =
            rate.ok_or_else(|| Error::Usage(format!("--max-price {price} must be from 1 to {}", u64::MAX)))?;
        if price.denom != job.deposit.denom {
            let detail = format!(
                "--max-price is in {}, and the deposit in {}",
                price.denom, job.deposit.denom
            );
            return Err(Error::Usage(format!("{detail}; both must be the same")));
        }
    }
    let findings = lint(&job)?;
    if !findings.errors.is_empty() {
        let lines: Vec<_> = findings
            .errors
            .iter()
            .map(|e| format!("{}: {e}", args.job.display()))
            .collect();
        return Err(Error::Usage(lines.join("\n")));
    }
    for hint in &findings.hints {
        context.ui.note(format!("hint: {hint}"));
    }
    Ok(job)
}

impl Run<'_> {
    async fn go(&self, job: &Job) -> Result<()> {
        let ui = &self.context.ui;
        let sender = self.context.sender().await?;
        let client = sender.client().clone();
        let bid_id = match self.args.bid {
            Some(id) => self.existing(&client, job, id).await?,
            None => self.post(&sender, job).await?,
        };
        self.reach(Reached::Bid { id: bid_id });
        let lease_id = self.matched(&sender, bid_id).await?;
        let lease = Patience::default().ask(ui, || client.lease(lease_id)).await?;
        let lease = lease.lease.unwrap_or_default();
        self.reach(Reached::Lease {
            id: lease_id,
            rate: lease.rate,
        });
        let price = show_rate(lease.rate, &lease.denom);
        let fields = json!({ "lease_id": lease_id, "bid_id": bid_id, "provider": lease.provider, "rate": lease.rate.to_string() });
        ui.step(
            "leased",
            fields,
            format!("lease {lease_id}: {} at {price}", lease.provider),
        );
        let follow = Follow {
            ui,
            client: &client,
            key: sender.key(),
            chain_id: sender.chain_id(),
            lease_id,
            job: Some(job),
            out: &self.args.out,
            score: self.args.score.as_deref(),
            handed_over: Arc::clone(&self.handed_over),
        };
        follow.run().await
    }

    async fn post(&self, sender: &TxSender, job: &Job) -> Result<u64> {
        let ui = &self.context.ui;
        // The reasons before any money moves: who could take it as things stand.
        let report = report(sender.client(), job).await?;
        ui.step("providers", json!({ "report": report }), &report);
        self.reach(Reached::Posting);
        ui.waiting("posting the bid");
        let (id, result) = post_bid(sender, job).await?;
        let deposit = show_amount(&job.deposit.amount.to_string(), &job.deposit.denom);
        let ceiling = show_rate(job.max_rate, &job.deposit.denom);
        let most = most(job, job.max_rate);
        let fields = json!({
            "bid_id": id, "tx": result.hash, "height": result.height, "deposit": job.deposit.to_string(),
            "auto_top_up": job.auto_top_up.to_string(), "max_rate": job.max_rate.to_string(), "max_cost": most.to_string(), "manifest_hash": hex::encode(manifest_hash(&job.manifest)),
        });
        let show = |units: u128| show_amount(&units.to_string(), &job.deposit.denom);
        let most = show(most);
        let more = match job.auto_top_up {
            0 => String::new(),
            _ => format!(
                " and up to {} more by itself",
                show(job.most_deposited() - job.deposit.amount.get())
            ),
        };
        ui.step(
            "bid_posted",
            fields,
            format!("bid {id}: at most {ceiling}, deposit {deposit}{more}, so it can cost at most {most}"),
        );
        Ok(id)
    }

    async fn existing(&self, client: &Client, job: &Job, id: u64) -> Result<u64> {
        let bid = client.bid(id).await?;
        let hash = manifest_hash(&job.manifest);
        if bid.manifest_hash != hash {
            return Err(Error::Usage(format!(
                "bid {id} is for the manifest {}, and this job's is {}: it is another job, or one of its files was changed",
                hex::encode(&bid.manifest_hash),
                hex::encode(hash)
            )));
        }
        Ok(id)
    }

    /// Waits until the bid is a lease. Errors: it was cancelled or expired, with the reasons.
    async fn matched(&self, sender: &TxSender, id: u64) -> Result<u64> {
        let (ui, client) = (&self.context.ui, sender.client());
        let begin = Instant::now();
        let mut known_claims: Vec<Claim> = Vec::new();
        let mut known_report = None;
        let mut look_at = begin + QUIET;
        let mut patience = Patience::default();
        loop {
            let bid = patience.ask(ui, || client.bid(id)).await?;
            match bid.state() {
                BidState::Leased => return Ok(bid.lease_id),
                BidState::Open | BidState::Unspecified => {}
                BidState::Cancelled => {
                    return Err(Error::Workload(format!(
                        "bid {id} was cancelled; the deposit was returned"
                    )));
                }
                BidState::Expired => return Err(unmatched(client, &bid, "expired").await),
            }
            let claims = patience.ask(ui, || client.claims(id)).await?;
            show_claims(ui, &bid, &known_claims, &claims);
            known_claims = claims;
            if known_claims.is_empty() && Instant::now() >= look_at {
                look_at = Instant::now() + QUIET * 5;
                let report = patience.ask(ui, || report_for_bid(client, &bid)).await?;
                if known_report.as_ref() != Some(&report) {
                    ui.step(
                        "no_claim",
                        json!({ "bid_id": id, "report": report }),
                        format!("no claim yet: {report}"),
                    );
                    known_report = Some(report);
                }
            }
            if self
                .args
                .match_timeout
                .is_some_and(|limit| begin.elapsed() >= Duration::from(limit))
            {
                return self.give_up(sender, &bid).await;
            }
            ui.waiting(match known_claims.len() {
                0 => "waiting for a provider to claim the bid",
                _ => "waiting for the match",
            });
            sleep(POLL).await;
        }
    }

    /// Cancels the bid; a match in the meantime wins.
    async fn give_up(&self, sender: &TxSender, bid: &Bid) -> Result<u64> {
        let message = MsgCancelBid {
            tenant: sender.address(),
            bid_id: bid.id,
        };
        match sender.send_and_confirm(vec![any(&message)]).await {
            Ok(_) => Err(unmatched(sender.client(), bid, "was cancelled after --match-timeout").await),
            Err(e) => {
                let now = sender.client().bid(bid.id).await?;
                if now.state() == BidState::Leased {
                    Ok(now.lease_id)
                } else {
                    Err(e)
                }
            }
        }
    }

    fn reach(&self, reached: Reached) {
        *self.reached.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = reached;
    }

    fn reached(&self) -> Reached {
        *self.reached.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What goes on without this process, what it may cost, and how to look, go on or end it.
    fn detached(&self, job: &Job) {
        let ui = &self.context.ui;
        ui.finish();
        let path = self.args.job.display();
        let show = |units: u128| show_amount(&units.to_string(), &job.deposit.denom);
        let (fields, text) = match self.reached() {
            Reached::Nothing => (json!({}), "stopped: nothing was sent, nothing is owed".to_owned()),
            Reached::Posting => (
                json!({}),
                format!(
                    "stopped while the bid was being sent: it may be on the chain or not\n  look      tenure bid list\n  go on     tenure run \
                     {path} --bid <id>\n  take back tenure bid cancel <id>"
                ),
            ),
            Reached::Bid { id } => {
                let most = most(job, job.max_rate);
                (
                    json!({ "bid_id": id, "max_cost": most.to_string() }),
                    format!(
                        "detached: bid {id} stays open, and {} is held in escrow. If a provider takes it and nobody hands the workload over, \
                         the lease ends unpaid; run to its end it costs at most {}\n  look      tenure bid show {id}\n  go on     tenure run \
                         {path} --bid {id}\n  take back tenure bid cancel {id}",
                        show(job.deposit.amount.get()),
                        show(most)
                    ),
                )
            }
            Reached::Lease { id, rate } => {
                let most = most(job, rate);
                let handed_over = self.handed_over.load(Ordering::Relaxed);
                let (what, attach) = if handed_over {
                    ("goes on: the provider has the workload", format!("tenure lease attach {id}"))
                } else {
                    ("goes on, and waits for the workload; without it the lease ends unpaid", format!("tenure lease attach {id} --job {path}"))
                };
                (
                    json!({ "lease_id": id, "max_cost": most.to_string(), "handed_over": handed_over }),
                    format!(
                        "detached: lease {id} {what}. It costs at most {} in all\n  look    tenure lease show {id}\n  go on   {attach}\n  \
                         log     tenure lease logs {id} -f\n  end it  tenure lease close {id}",
                        show(most)
                    ),
                )
            }
        };
        ui.step("detached", fields, text);
    }
}

/// Posts a job's bid and waits for its block.
pub(crate) async fn post_bid(sender: &TxSender, job: &Job) -> Result<(u64, tenure_client::sender::TxResult)> {
    let result = sender
        .send_and_confirm(vec![any(&job.post_bid(&sender.address()))])
        .await?;
    let response: MsgPostBidResponse = result.response(0)?;
    Ok((response.bid_id, result))
}

/// The most a job can cost at a price: its duration's cost, and never more than the deposit and what tops it up by itself.
fn most(job: &Job, rate: u64) -> u128 {
    cost(rate, job.duration_ms).min(job.most_deposited())
}

async fn report(client: &Client, job: &Job) -> Result<MatchReport> {
    report_of(client, &job.resources(), job.max_rate, &job.deposit.denom).await
}

/// Who could take a bid as things stand.
pub(crate) async fn report_for_bid(client: &Client, bid: &Bid) -> Result<MatchReport> {
    report_of(client, &bid.resources.unwrap_or_default(), bid.max_rate, &bid.denom).await
}

async fn report_of(
    client: &Client,
    needed: &tenure_proto::tenure::base::v1::Resources,
    rate: u64,
    denom: &str,
) -> Result<MatchReport> {
    let (providers, params) = tokio::try_join!(client.providers(), client.provider_params())?;
    let min_bond = params.min_bond.and_then(|c| c.amount.parse().ok()).unwrap_or(0);
    Ok(match_report(needed, rate, denom, min_bond, &providers))
}

async fn unmatched(client: &Client, bid: &Bid, what: &str) -> Error {
    let why = match report_for_bid(client, bid).await {
        Ok(report) if report.fitting.is_empty() => report.to_string(),
        Ok(report) => format!("{report}. The ceiling may be too low: raise max_price_per_hour"),
        Err(e) => format!("the reasons cannot be told: {e}"),
    };
    let after = show_duration(bid.expires.unwrap_or_default().ms.saturating_sub(bid.posted_ms));
    Error::TimedOut(format!(
        "bid {} {what} (it could wait {after}) and no provider had taken it; the deposit was returned. Now: {why}",
        bid.id
    ))
}

fn show_claims(ui: &Ui, bid: &Bid, known: &[Claim], claims: &[Claim]) {
    for claim in claims.iter().filter(|c| !known.contains(c)) {
        let fields = to_json(claim)
            .map(|claim| json!({ "claim": claim }))
            .unwrap_or_default();
        ui.step(
            "claim",
            fields,
            format!("claim: {} at {}", claim.provider, show_rate(claim.rate, &bid.denom)),
        );
    }
    for claim in known
        .iter()
        .filter(|k| !claims.iter().any(|c| c.provider == k.provider))
    {
        ui.step(
            "claim_withdrawn",
            json!({ "provider": claim.provider }),
            format!("claim withdrawn: {}", claim.provider),
        );
    }
}
