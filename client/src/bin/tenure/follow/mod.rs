//! Follows a lease from its match to its settlement: hand-over, log, outputs, money.

mod attested;
mod ending;
mod patience;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Duration,
};

use serde_json::{json, Value};
use tenure_client::{
    auth::manifest_hash,
    chain::Client,
    gateway,
    job::Job,
    json::to_json,
    keys::Key,
    outputs::{check_outputs, Money},
    score::{score, HELD_OUT},
    units::{show_duration, show_rate, show_size},
    Error, Result,
};
use tenure_proto::tenure::{
    gateway::v1::WorkloadState,
    market::v1::{CloseReason, Lease, LeaseState, QueryLeaseResponse},
};
use tokio::time::{sleep, timeout};

pub(crate) use attested::Attested;
pub(crate) use ending::{fetch_all, outputs, settled};
pub(crate) use patience::Patience;

use ending::shown_paths;

use crate::{
    show::{close_reason, excepted, lease_state, money, money_json, reason_meaning},
    ui::{pairs, Ui},
};

/// How often the chain is asked.
pub(crate) const POLL: Duration = Duration::from_millis(500);
/// How long the gateway is waited for once the lease has ended: the log's end, the list of outputs.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(20);
/// The file that is scored.
const PREDICTIONS: &str = "predictions.csv";

/// What is followed and where things go.
pub(crate) struct Follow<'a> {
    pub(crate) ui: &'a Ui,
    pub(crate) client: &'a Client,
    pub(crate) key: &'a Key,
    pub(crate) chain_id: &'a str,
    pub(crate) lease_id: u64,
    /// The workload, if it may have to be handed over.
    pub(crate) job: Option<&'a Job>,
    pub(crate) out: &'a Path,
    pub(crate) score: Option<&'a Path>,
    /// Set when the provider has the workload, for whoever reports a Ctrl-C.
    pub(crate) handed_over: Arc<AtomicBool>,
}

impl Follow<'_> {
    /// Follows to the end and reports. Error: the first thing that went wrong, after the money was reported.
    pub(crate) async fn run(&self) -> Result<()> {
        let mut patience = Patience::default();
        let lease = patience.ask(self.ui, || self.lease()).await?;
        let key = self.key.address().to_string();
        if lease.tenant != key {
            let detail = format!(
                "lease {} is of tenant {}, and the signing key is {key}",
                lease.id, lease.tenant
            );
            return Err(Error::Usage(format!("{detail}; name the tenant's key with --from")));
        }
        let provider = patience.ask(self.ui, || self.client.provider(&lease.provider)).await?;
        let gateway = gateway::Client::new(
            &provider.endpoint,
            self.chain_id,
            self.lease_id,
            &lease.provider,
            self.key.clone(),
        )?;
        let started = self.start(&gateway, lease).await?;
        let mut attested = Attested::default();
        let ended = if is_over(&started) {
            // A program that failed at once is over before it was seen to run; its words are all the more wanted.
            if started.ready_ms != 0 {
                self.show_log(&gateway).await;
            }
            started
        } else {
            self.watch(&gateway, &mut attested).await?
        };
        self.report_end(&ended);

        let mut failure = None;
        let mut files = Vec::new();
        if ended.ready_ms != 0 {
            match self.fetch(&gateway, &ended).await {
                Ok(fetched) => files = fetched,
                Err(e) => failure = Some(e),
            }
        }
        let hits = match (&failure, self.score) {
            (None, Some(labels)) if ended.reason() == CloseReason::Completed => match self.scored(labels) {
                Ok(hits) => Some(hits),
                Err(e) => {
                    failure = Some(e);
                    None
                }
            },
            _ => None,
        };
        if failure.is_none() {
            failure = self.verdict(&ended, &files);
        }
        if let Some(e) = &failure {
            // It is told again at the end; a person should not wait for settlement to learn of it.
            self.ui.note(format!("problem: {e}"));
        }
        let closed = settled(self.ui, self.client, self.lease_id, &mut attested).await?;
        let sums = closed.balance.as_ref().map(Money::of);
        let sums = sums.ok_or_else(|| Error::Malformed {
            what: "the node",
            detail: "field balance is missing".to_owned(),
        })??;
        self.report(&closed, &sums, &files, hits.as_ref())?;
        failure.map_or(Ok(()), Err)
    }

    async fn lease(&self) -> Result<Lease> {
        Ok(self.client.lease(self.lease_id).await?.lease.unwrap_or_default())
    }

    /// Hands the workload over if the provider does not have it, and waits until it runs or the lease is over.
    async fn start(&self, gateway: &gateway::Client, mut lease: Lease) -> Result<Lease> {
        let (mut complained, mut patience) = (String::new(), Patience::default());
        while lease.state() == LeaseState::Starting {
            if !self.handed_over.load(Ordering::Relaxed) {
                match self.hand_over(gateway, &lease).await {
                    Ok(()) => {}
                    Err(e) if gateway::is_temporary(&e) => {
                        let text = e.to_string();
                        if text != complained {
                            self.ui
                                .note(format!("{text}; trying again until the lease's start window ends"));
                            complained = text;
                        }
                        sleep(POLL).await;
                    }
                    Err(e @ Error::Server { .. }) => {
                        let id = self.lease_id;
                        return Err(Error::Workload(format!(
                            "the provider does not take the workload: {e}. Lease {id} ends unpaid when its start window is over; end it now with \
                             `tenure lease close {id}`"
                        )));
                    }
                    Err(e) => return Err(e),
                }
            } else {
                self.ui.waiting("handed over; waiting for the provider to start it");
                sleep(POLL).await;
            }
            lease = patience.ask(self.ui, || self.lease()).await?;
        }
        self.handed_over.store(lease.ready_ms != 0, Ordering::Relaxed);
        if lease.ready_ms != 0 && !is_over(&lease) {
            let price = show_rate(lease.rate, &lease.denom);
            let most = show_duration(lease.expires_ms.saturating_sub(lease.ready_ms));
            let fields = json!({ "lease_id": self.lease_id, "ready_ms": lease.ready_ms.to_string() });
            self.ui
                .step("running", fields, format!("running: {price}, for at most {most}"));
        }
        Ok(lease)
    }

    async fn hand_over(&self, gateway: &gateway::Client, lease: &Lease) -> Result<()> {
        gateway.info().await?;
        let status = gateway.status().await?;
        if status.state() != WorkloadState::Waiting && status.state() != WorkloadState::Unspecified {
            self.handed_over.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let id = self.lease_id;
        let Some(job) = self.job else {
            return Err(Error::Usage(format!(
                "lease {id} waits for its workload and no job is given: `tenure lease attach {id} --job job.toml`"
            )));
        };
        let hash = manifest_hash(&job.manifest);
        if lease.manifest_hash != hash {
            return Err(Error::Usage(format!(
                "the job's manifest has the hash {}, and lease {id} is for {}: the job or one of its files was changed since the bid. Restore \
                 it, or end the lease with `tenure lease close {id}`",
                hex::encode(hash),
                hex::encode(&lease.manifest_hash)
            )));
        }
        let total: u64 = job.files.iter().map(|f| f.size).sum();
        self.ui
            .waiting(&format!("handing {} over to {}", show_size(total), gateway.address()));
        gateway
            .submit(&job.manifest, &job.files, |done, total| {
                self.ui.moved("handing over", done, total)
            })
            .await?;
        self.handed_over.store(true, Ordering::Relaxed);
        let fields = json!({ "lease_id": id, "bytes": total, "files": job.files.len(), "gateway": gateway.address() });
        self.ui.step(
            "handed_over",
            fields,
            format!("handed over: {} files, {}", job.files.len(), show_size(total)),
        );
        Ok(())
    }

    /// Shows what a workload that has ended wrote.
    async fn show_log(&self, gateway: &gateway::Client) {
        let sink = |bytes: &[u8]| {
            self.ui.log(bytes);
            Ok(())
        };
        let problem = match timeout(GATEWAY_PATIENCE, gateway.logs(0, false, sink)).await {
            Ok(Ok(_)) => return,
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("the gateway was silent for {} s", GATEWAY_PATIENCE.as_secs()),
        };
        self.ui.note(format!("the log cannot be read: {problem}"));
    }

    /// Shows the log as it grows until the workload has ended. A gateway that cannot be reached is asked again, from the byte that comes next,
    /// for as long as the lease is not `ending`.
    async fn follow_log(&self, gateway: &gateway::Client, ending: &Cell<bool>) {
        let (shown, complained) = (Cell::new(0_u64), Cell::new(false));
        loop {
            let sink = |bytes: &[u8]| {
                shown.set(shown.get() + bytes.len() as u64);
                complained.set(false);
                self.ui.log(bytes);
                Ok(())
            };
            let Err(e) = gateway.logs(shown.get(), true, sink).await else {
                return;
            };
            let again = gateway::is_temporary(&e) && !ending.get();
            if !complained.replace(true) {
                let next = if again {
                    "; trying again while the lease goes on"
                } else {
                    ""
                };
                self.ui.note(format!("the log cannot be followed ({e}){next}"));
            }
            if !again {
                return;
            }
            sleep(POLL).await;
            if ending.get() {
                return;
            }
        }
    }

    /// Shows the log while it waits for the lease to end.
    async fn watch(&self, gateway: &gateway::Client, attested: &mut Attested) -> Result<Lease> {
        self.ui.waiting("running");
        let ending = Cell::new(false);
        let log = self.follow_log(gateway, &ending);
        let over = async {
            let mut known = LeaseState::Active;
            let mut patience = Patience::default();
            loop {
                let seen = async {
                    let lease = self.lease().await?;
                    attested.look(self.ui, self.client, &lease).await?;
                    Ok(lease)
                };
                let lease = match patience.take(self.ui, seen.await).await? {
                    Some(lease) => lease,
                    None => continue,
                };
                if is_over(&lease) {
                    return Ok(lease);
                }
                if lease.state() != known {
                    known = lease.state();
                    self.report_pause(known, &lease);
                }
                sleep(POLL).await;
            }
        };
        let mut log = pin!(log);
        let mut over = pin!(over);
        tokio::select! {
            () = &mut log => over.await,
            lease = &mut over => {
                // The log's last lines may still be on their way.
                ending.set(true);
                let _ = timeout(GATEWAY_PATIENCE, log).await;
                lease
            }
        }
    }

    fn report_pause(&self, state: LeaseState, lease: &Lease) {
        let fields = json!({ "lease_id": lease.id, "state": lease_state(state) });
        if state == LeaseState::Paused {
            let id = lease.id;
            self.ui.step(
                "paused",
                fields,
                format!(
                    "paused: nothing accrues. If you did not pause it, its money ran out: `tenure lease deposit {id} 1ten`; otherwise `tenure \
                     lease resume {id}`"
                ),
            );
        } else {
            self.ui.step("resumed", fields, "running again");
        }
    }

    fn report_end(&self, lease: &Lease) {
        let (meaning, _) = reason_meaning(lease.reason());
        let fields = json!({
            "lease_id": lease.id,
            "reason": lease.reason().as_str_name(),
            "exit_code": lease.exit_code,
            "detail": lease.detail,
            "output_root": hex::encode(&lease.output_root),
        });
        let detail = if lease.detail.is_empty() {
            String::new()
        } else {
            format!(" ({})", lease.detail)
        };
        self.ui.step("ended", fields, format!("ended: {meaning}{detail}"));
    }

    /// Fetches every output that the chain vouches for.
    async fn fetch(&self, gateway: &gateway::Client, lease: &Lease) -> Result<Vec<PathBuf>> {
        if lease.output_root.is_empty() {
            return Ok(Vec::new());
        }
        let list = outputs(gateway).await?;
        check_outputs(&list, &lease.output_root)?;
        let files = fetch_all(self.ui, gateway, &list, self.out).await?;
        if !files.is_empty() {
            let fields = json!({ "files": files, "output_root": hex::encode(&lease.output_root) });
            let human = format!("fetched and verified against the chain: {}", shown_paths(&files));
            self.ui.step("outputs", fields, human);
        }
        Ok(files)
    }

    fn scored(&self, labels: &Path) -> Result<Value> {
        let path = self.out.join(PREDICTIONS);
        let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::file(path));
        let splits = score(&read(labels)?, &read(&path)?).map_err(Error::Verification)?;
        let hits = splits.get(HELD_OUT).copied().unwrap_or_default();
        let fields = json!({ "splits": splits });
        self.ui.step("score", fields, format!("held-out accuracy: {hits}"));
        Ok(json!({ "held_out": { "right": hits.right, "labels": hits.labels, "basis_points": hits.basis_points() } }))
    }

    /// Whether the workload did what it was for.
    fn verdict(&self, lease: &Lease, files: &[PathBuf]) -> Option<Error> {
        if lease.reason() != CloseReason::Completed {
            let (meaning, hint) = reason_meaning(lease.reason());
            let mut text = format!("lease {} ended without completing: {meaning}", lease.id);
            if lease.exit_code != 0 {
                text += &format!(", exit code {}", lease.exit_code);
            }
            if !lease.detail.is_empty() {
                text += &format!(" ({})", lease.detail);
            }
            if let Some(hint) = hint {
                text += &format!(". Next: {}", hint.replace("<id>", &lease.id.to_string()));
            }
            return Some(Error::Workload(text));
        }
        let expected = self.job.map(|j| j.manifest.outputs.as_slice()).unwrap_or_default();
        let missing: Vec<_> = expected
            .iter()
            .filter(|name| !files.iter().any(|f| f.ends_with(name)))
            .cloned()
            .collect();
        if missing.is_empty() {
            return None;
        }
        let text = format!(
            "the workload completed but did not write {} under /out",
            missing.join(", ")
        );
        Some(Error::Workload(text))
    }

    fn report(&self, closed: &QueryLeaseResponse, sums: &Money, files: &[PathBuf], hits: Option<&Value>) -> Result<()> {
        let lease = closed.lease.clone().unwrap_or_default();
        let record = json!({
            "lease": to_json(&lease)?,
            "money": money_json(sums),
            "files": files,
            "score": hits,
            "excepted_ms": closed.payment.as_ref().map_or(0, |p| p.excepted_ms_total).to_string(),
        });
        self.ui.result(&record, || {
            let ran = if lease.ready_ms == 0 {
                0
            } else {
                lease.ended_ms.saturating_sub(lease.ready_ms)
            };
            let mut rows = vec![
                ("lease", lease.id.to_string()),
                ("ended", close_reason(lease.reason())),
                ("exit code", lease.exit_code.to_string()),
                (
                    "ran",
                    format!("{} at {}", show_duration(ran), show_rate(lease.rate, &lease.denom)),
                ),
                ("provider", lease.provider.clone()),
                (
                    "outputs",
                    if files.is_empty() {
                        "-".to_owned()
                    } else {
                        shown_paths(files)
                    },
                ),
            ];
            if let Some(excepted) = excepted(closed.payment.as_ref()) {
                rows.push(("not paid", excepted));
            }
            if let Some(hits) = hits {
                let right = &hits["held_out"];
                let share = right["basis_points"].as_u64().unwrap_or_default();
                let text = format!(
                    "{}.{:02} % ({} of {})",
                    share / 100,
                    share % 100,
                    right["right"],
                    right["labels"]
                );
                rows.push(("held-out accuracy", text));
            }
            format!("{}\n\n{}", pairs(&rows), money(sums))
        });
        Ok(())
    }
}

/// Whether a lease accrues no more and cannot go on.
pub(crate) fn is_over(lease: &Lease) -> bool {
    matches!(lease.state(), LeaseState::Closing | LeaseState::Closed)
}
