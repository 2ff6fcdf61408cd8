//! Bids, leases and providers.

use std::io::Write;

use serde_json::json;
use tenure_client::{
    error::exit, gateway, job::Job, json::to_json, lint::lint, outputs::check_outputs, outputs::Money,
    units::show_rate, Error, Result,
};
use tenure_proto::{
    any,
    tenure::market::v1::{BidState, Lease, LeaseState, MsgCancelBid, MsgCloseLease, MsgPauseLease, MsgResumeLease},
};

use super::{
    amend, live_now,
    money::{auto_top_up, deposit},
    sent,
};
use crate::{
    args::{BidCommand, BidStateArg, LeaseCommand, LeaseStateArg, ProviderCommand},
    context::Context,
    follow::{fetch_all, outputs, settled, Attested, Follow},
    run,
    show::{
        bid, bid_row, claim_row, lease, lease_row, lease_state, money, money_json, provider, provider_row, values,
        BID_HEADER, CLAIM_HEADER, LEASE_HEADER, PROVIDER_HEADER,
    },
};

pub(super) async fn bids(context: &Context, command: BidCommand) -> Result<()> {
    match command {
        BidCommand::Post { job: path } => {
            let job = Job::load(&path)?;
            let findings = lint(&job)?;
            if let Some(problem) = findings.errors.first() {
                return Err(Error::Usage(format!("{}: {problem}", path.display())));
            }
            let sender = context.sender().await?;
            context.ui.waiting("posting the bid");
            let (id, result) = run::post_bid(&sender, &job).await?;
            sent(context, &result, &format!("bid {id} is open"), json!({ "bid_id": id }));
            context.ui.note(format!(
                "next: tenure run {} --bid {id}   or   tenure bid cancel {id}",
                path.display()
            ));
        }
        BidCommand::List { state, all, tenant } => {
            let state = match state {
                None => BidState::Unspecified,
                Some(BidStateArg::Open) => BidState::Open,
                Some(BidStateArg::Leased) => BidState::Leased,
                Some(BidStateArg::Cancelled) => BidState::Cancelled,
                Some(BidStateArg::Expired) => BidState::Expired,
            };
            let tenant = if all {
                String::new()
            } else {
                context.resolve(tenant.as_deref())?
            };
            let bids = context.client().await?.bids(state, &tenant).await?;
            context.ui.list(
                &values(&bids)?,
                &BID_HEADER,
                bids.iter().map(bid_row).collect(),
                "no bids; --all shows everybody's",
            );
        }
        BidCommand::Show { id } => {
            let client = context.client().await?;
            let (found, claims, now) = tokio::try_join!(client.bid(id), client.claims(id), live_now(&client))?;
            let report = match found.state() {
                BidState::Open => Some(run::report_for_bid(&client, &found).await?),
                _ => None,
            };
            let record = json!({ "bid": to_json(&found)?, "claims": values(&claims)?, "report": report });
            context.ui.record(&record, || {
                let mut text = bid(&found, now);
                for claim in &claims {
                    text += &format!(
                        "\nclaim         {} by {}",
                        show_rate(claim.rate, &found.denom),
                        claim.provider
                    );
                }
                report.map_or(text.clone(), |report| format!("{text}\n\n{report}"))
            });
        }
        BidCommand::Cancel { id } => {
            let result = context.send(|tenant| any(&MsgCancelBid { tenant, bid_id: id })).await?;
            sent(
                context,
                &result,
                &format!("bid {id} is cancelled; its deposit is back"),
                json!({ "bid_id": id }),
            );
        }
        BidCommand::Claims { id } => {
            let client = context.client().await?;
            let (found, claims) = tokio::try_join!(client.bid(id), client.claims(id))?;
            let rows = claims.iter().map(|c| claim_row(c, &found.denom)).collect();
            context.ui.list(
                &values(&claims)?,
                &CLAIM_HEADER,
                rows,
                "no claims; `tenure bid show` says who could take it",
            );
        }
    }
    Ok(())
}

pub(super) async fn leases(context: &Context, command: LeaseCommand) -> Result<u8> {
    match command {
        LeaseCommand::List {
            state,
            closed,
            all,
            tenant,
            provider,
        } => {
            let state = match state {
                None => LeaseState::Unspecified,
                Some(LeaseStateArg::Starting) => LeaseState::Starting,
                Some(LeaseStateArg::Active) => LeaseState::Active,
                Some(LeaseStateArg::Paused) => LeaseState::Paused,
                Some(LeaseStateArg::Closing) => LeaseState::Closing,
                Some(LeaseStateArg::Closed) => LeaseState::Closed,
            };
            let provider = provider
                .as_deref()
                .map(|p| context.resolve(Some(p)))
                .transpose()?
                .unwrap_or_default();
            let tenant = if all || (tenant.is_none() && !provider.is_empty()) {
                String::new()
            } else {
                context.resolve(tenant.as_deref())?
            };
            let client = context.client().await?;
            let open_only = !closed && state == LeaseState::Unspecified;
            let (leases, now) =
                tokio::try_join!(client.leases(&tenant, &provider, state, open_only), live_now(&client))?;
            let rows = leases.iter().map(|l| lease_row(l, now)).collect();
            context.ui.list(
                &values(&leases)?,
                &LEASE_HEADER,
                rows,
                "no open leases; --closed shows those that ended too",
            );
        }
        LeaseCommand::Show { id } => {
            let client = context.client().await?;
            let (found, now) = tokio::try_join!(client.lease(id), live_now(&client))?;
            context.ui.record(&to_json(&found)?, || lease(&found, now));
        }
        LeaseCommand::Logs { id, follow, offset } => {
            let gateway = lease_gateway(context, id).await?.0;
            let mut stdout = std::io::stdout();
            gateway
                .logs(offset, follow, |bytes| {
                    stdout
                        .write_all(bytes)
                        .and_then(|()| stdout.flush())
                        .map_err(Error::file("standard output"))
                })
                .await?;
        }
        LeaseCommand::Fetch { id, out: directory } => fetch(context, id, &directory).await?,
        LeaseCommand::Close { id, wait } => close(context, id, wait).await?,
        LeaseCommand::Pause { id } => {
            let result = context
                .send(|tenant| any(&MsgPauseLease { tenant, lease_id: id }))
                .await?;
            let what = format!(
                "lease {id} is paused: nothing accrues; its capacity stays yours. `tenure lease resume {id}` goes on"
            );
            sent(context, &result, &what, json!({ "lease_id": id }));
        }
        LeaseCommand::Resume { id } => {
            let result = context
                .send(|tenant| any(&MsgResumeLease { tenant, lease_id: id }))
                .await?;
            sent(
                context,
                &result,
                &format!("lease {id} runs again"),
                json!({ "lease_id": id }),
            );
        }
        LeaseCommand::Attach { id, job, out, score } => {
            let job = job.map(|path| Job::load(&path)).transpose()?;
            let client = context.client().await?;
            let chain_id = client.status().await?.chain_id;
            let key = context.key()?;
            let follow = Follow {
                ui: &context.ui,
                client: &client,
                key: &key,
                chain_id: &chain_id,
                lease_id: id,
                job: job.as_ref(),
                out: &out,
                score: score.as_deref(),
                handed_over: std::sync::Arc::default(),
            };
            tokio::select! {
                result = follow.run() => result?,
                () = run::asked_to_let_go() => {
                    let text = format!("detached: lease {id} goes on\n  go on   tenure lease attach {id}\n  end it  tenure lease close {id}");
                    context.ui.step("detached", json!({ "lease_id": id }), text);
                    return Ok(exit::DETACHED);
                }
            }
        }
        LeaseCommand::Amend {
            id,
            price,
            file,
            timeout_height,
        } => amend::propose(context, id, &price, file, timeout_height).await?,
        LeaseCommand::Countersign { file, yes } => amend::countersign(context, &file, yes).await?,
        LeaseCommand::Deposit { id, amount } => {
            let lease = context.client().await?.lease(id).await?.lease.unwrap_or_default();
            deposit(context, lease.bid_id, &amount).await?;
        }
        LeaseCommand::AutoTopUp { id, order } => {
            let lease = context.client().await?.lease(id).await?.lease.unwrap_or_default();
            auto_top_up(context, lease.bid_id, &order).await?;
        }
    }
    Ok(exit::OK)
}

async fn lease_gateway(context: &Context, id: u64) -> Result<(gateway::Client, Lease)> {
    let client = context.client().await?;
    let lease = client.lease(id).await?.lease.unwrap_or_default();
    let provider = client.provider(&lease.provider).await?;
    let chain_id = client.status().await?.chain_id;
    let gateway = gateway::Client::new(&provider.endpoint, &chain_id, id, &lease.provider, context.key()?)?;
    Ok((gateway, lease))
}

async fn fetch(context: &Context, id: u64, directory: &std::path::Path) -> Result<()> {
    let (gateway, lease) = lease_gateway(context, id).await?;
    if lease.output_root.is_empty() {
        return Err(Error::NotFound(format!(
            "lease {id} has no outputs on chain (it is {}); the provider reports them when the workload ends",
            lease_state(lease.state())
        )));
    }
    let list = outputs(&gateway).await?;
    check_outputs(&list, &lease.output_root)?;
    let files = fetch_all(&context.ui, &gateway, &list, directory).await?;
    let record = json!({ "lease_id": id, "files": files, "output_root": hex::encode(&lease.output_root), "outputs": to_json(&list)? });
    context.ui.record(&record, || {
        let mut lines: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
        lines.push(format!(
            "{} files, verified against the chain's output root {}",
            files.len(),
            hex::encode(&lease.output_root)
        ));
        lines.join("\n")
    });
    Ok(())
}

async fn close(context: &Context, id: u64, wait: bool) -> Result<()> {
    let result = context
        .send(|tenant| any(&MsgCloseLease { tenant, lease_id: id }))
        .await?;
    if !wait {
        sent(
            context,
            &result,
            &format!("lease {id} has ended; nothing more accrues"),
            json!({ "lease_id": id }),
        );
        context.ui.note(format!(
            "next: `tenure lease show {id}` shows its money once the last epoch is settled"
        ));
        return Ok(());
    }
    let closed = settled(&context.ui, &context.client().await?, id, &mut Attested::default()).await?;
    let balance = closed.balance.unwrap_or_default();
    let sums = Money::of(&balance)?;
    sent(
        context,
        &result,
        &format!("lease {id} is closed and settled\n\n{}\n", money(&sums)),
        json!({ "lease_id": id, "money": money_json(&sums) }),
    );
    Ok(())
}

pub(super) async fn providers(context: &Context, command: ProviderCommand) -> Result<()> {
    let client = context.client().await?;
    match command {
        ProviderCommand::List => {
            let providers = client.providers().await?;
            let rows = providers.iter().map(provider_row).collect();
            context.ui.list(
                &values(&providers)?,
                &PROVIDER_HEADER,
                rows,
                "no provider is registered on this chain",
            );
        }
        ProviderCommand::Show { owner } => {
            let owner = context.resolve(Some(&owner))?;
            let (found, now) = tokio::try_join!(client.provider(&owner), live_now(&client))?;
            context.ui.record(&to_json(&found)?, || provider(&found, now));
        }
    }
    Ok(())
}
