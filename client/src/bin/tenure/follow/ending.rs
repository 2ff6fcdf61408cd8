//! The end of a lease: its outputs, and the settlement of its money.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tenure_client::{
    chain::Client,
    gateway,
    units::{show_duration, show_size},
    Error, Result,
};
use tenure_proto::tenure::market::v1::{LeaseState, OutputList, QueryLeaseResponse};
use tokio::time::{sleep, Instant};

use super::{Attested, Patience, GATEWAY_PATIENCE, POLL};
use crate::ui::Ui;

/// How long settlement may take: the last epoch, its grace, and some blocks.
const SETTLEMENT_PATIENCE: Duration = Duration::from_secs(900);

/// Waits until everything of a lease is paid and returned.
pub(crate) async fn settled(
    ui: &Ui,
    client: &Client,
    lease_id: u64,
    attested: &mut Attested,
) -> Result<QueryLeaseResponse> {
    let begin = Instant::now();
    let mut patience = Patience::default();
    loop {
        let seen = async {
            let response = client.lease(lease_id).await?;
            // The last attestation first, then what it settled.
            if let Some(lease) = &response.lease {
                attested.look(ui, client, lease).await?;
            }
            Ok(response)
        };
        let response = match patience.take(ui, seen.await).await? {
            Some(response) => response,
            None => continue,
        };
        if let Some(lease) = &response.lease {
            if lease.state() == LeaseState::Closed {
                let text = "closed: everything is paid and returned".to_owned();
                ui.step(
                    "closed",
                    json!({ "lease_id": lease_id, "closed_ms": lease.closed_ms.to_string() }),
                    text,
                );
                return Ok(response);
            }
        }
        if begin.elapsed() > SETTLEMENT_PATIENCE {
            return Err(Error::TimedOut(format!(
                "lease {lease_id} has ended and is not settled after {}; nothing more accrues. Look again with `tenure lease show {lease_id}`",
                show_duration(u64::try_from(SETTLEMENT_PATIENCE.as_millis()).unwrap_or_default())
            )));
        }
        ui.waiting("settling: waiting until the last epoch's attestation is final");
        sleep(POLL).await;
    }
}

/// The list of outputs once the workload has ended.
pub(crate) async fn outputs(gateway: &gateway::Client) -> Result<OutputList> {
    let begin = Instant::now();
    loop {
        let problem = match gateway.status().await {
            Ok(status) => match status.outputs {
                Some(list) => return Ok(list),
                None => Error::NotFound(format!(
                    "the provider's gateway has no outputs: the workload is {:?} ({})",
                    status.state().as_str_name(),
                    status.detail
                )),
            },
            Err(e) if gateway::is_temporary(&e) => e,
            Err(e) => return Err(e),
        };
        if begin.elapsed() > GATEWAY_PATIENCE {
            return Err(problem);
        }
        sleep(POLL).await;
    }
}

/// Fetches every file of a checked list into a directory.
pub(crate) async fn fetch_all(
    ui: &Ui,
    gateway: &gateway::Client,
    list: &OutputList,
    out: &Path,
) -> Result<Vec<PathBuf>> {
    if list.files.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(out).map_err(Error::file(out))?;
    let mut files = Vec::new();
    for file in &list.files {
        ui.waiting(&format!("fetching {} ({})", file.name, show_size(file.size)));
        files.push(
            gateway
                .fetch(file, out, |done, total| {
                    ui.moved(&format!("fetching {}", file.name), done, total)
                })
                .await?,
        );
    }
    Ok(files)
}

pub(super) fn shown_paths(files: &[PathBuf]) -> String {
    files
        .iter()
        .map(|f| f.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
