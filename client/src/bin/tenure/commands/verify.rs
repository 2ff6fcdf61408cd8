//! `tenure verify`: what the chain holds, proven from a header that its validators signed, without believing the node.

use std::time::Duration;

use prost::Message;
use serde_json::{json, Value};
use tenure_client::{
    auth::wall_ms,
    json::to_json,
    light::{balance_key, lease_key, payment_key, Anchor, LightClient, Proven, TrustStore},
    rpc::{HttpNode, Node, DEFAULT_RPC, RPC},
    units::{show_amount, show_duration, show_rate},
    Error, Result,
};
use tenure_proto::tenure::{escrow::v1::Payment, market::v1::Lease};
use tenure_types::Address;

use crate::{
    args::{TrustArgs, VerifyCommand},
    context::Context,
    show::{close_reason, excepted, lease_state},
    ui::pairs,
};

/// A header older than this is told of: a node may hide newer blocks, though it cannot invent any.
const STALE: Duration = Duration::from_secs(60);

pub(super) async fn verify(context: &Context, command: VerifyCommand) -> Result<()> {
    match command {
        VerifyCommand::Balance { who, denom, trust } => {
            let owner = context.resolve(who.as_deref())?;
            let address: Address = owner.parse().map_err(|e| Error::Usage(format!("{e}")))?;
            let mut light = begin(context, &trust).await?;
            let found = light.prove("bank", &balance_key(&address, &denom)).await?;
            let amount = balance(&found)?.to_string();
            let rows = vec![("account", owner.clone()), ("holds", show_amount(&amount, &denom))];
            let proven = json!({ "address": owner, "denom": denom, "amount": amount });
            report(context, &light, &[found], proven, rows)
        }
        VerifyCommand::Lease { id, trust } => {
            let mut light = begin(context, &trust).await?;
            let mut found = vec![light.prove("market", &lease_key(id)).await?];
            let lease: Lease = record(&found[0], "lease", id)?;
            found.extend(light.prove_at_trusted("escrow", &[payment_key(id)]).await?);
            // A lease that never ran has no payment.
            let payment: Payment = match &found[1].value {
                Some(_) => record(&found[1], "payment", id)?,
                None => Payment::default(),
            };
            let money = |amount: &str| show_amount(if amount.is_empty() { "0" } else { amount }, &lease.denom);
            let mut rows = vec![
                ("lease", lease.id.to_string()),
                ("state", lease_state(lease.state())),
                ("tenant", lease.tenant.clone()),
                ("provider", lease.provider.clone()),
                ("price", show_rate(lease.rate, &lease.denom)),
                ("manifest", hex::encode(&lease.manifest_hash)),
                ("paid so far", money(&payment.paid_total)),
            ];
            if let Some(excepted) = excepted(Some(&payment)) {
                rows.push(("not paid", excepted));
            }
            if lease.ended_ms != 0 {
                rows.push(("ended", close_reason(lease.reason())));
                rows.push(("exit code", lease.exit_code.to_string()));
                rows.push(("output root", hex::encode(&lease.output_root)));
            }
            let proven = json!({ "lease": to_json(&lease)?, "payment": to_json(&payment)? });
            report(context, &light, &found, proven, rows)
        }
    }
}

/// A light client at the header that the person named, or else at the one verified last.
async fn begin(context: &Context, args: &TrustArgs) -> Result<LightClient<HttpNode>> {
    let node = HttpNode::new(args.rpc.as_deref().unwrap_or(DEFAULT_RPC))?;
    let period = Duration::from(args.trust_period);
    context.ui.waiting("verifying headers");
    let light = match (args.trust_height, &args.trust_hash) {
        (Some(height), Some(hash)) => LightClient::from_anchor(node, &Anchor::new(height, hash)?, period).await?,
        _ => {
            let chain_id = match context.config.chain_id.as_str() {
                // Only to find the file: the header in it says which chain it is of.
                "" => network(&node).await?,
                pinned => pinned.to_owned(),
            };
            let stored = TrustStore::new(&context.home).load(&chain_id)?;
            let trusted = stored.ok_or_else(|| {
                Error::Usage(format!(
                    "no header of {chain_id:?} was verified here yet: name one that you trust with --trust-height and --trust-hash. Its hash comes from \
                     somebody you trust (a validator, an explorer, your own node), where `curl <rpc>/commit?height=<height>` shows it"
                ))
            })?;
            LightClient::from_trusted(node, trusted, period)
        }
    };
    let (found, pinned) = (&light.trusted().signed_header.header.chain_id, &context.config.chain_id);
    if !pinned.is_empty() && found.as_str() != pinned {
        return Err(Error::Verification(format!(
            "the trusted header is of chain {found}, and {pinned:?} is configured"
        )));
    }
    Ok(light)
}

async fn network(node: &HttpNode) -> Result<String> {
    let status = node.call("status", json!({})).await?;
    let network = status["node_info"]["network"].as_str().map(str::to_owned);
    network.ok_or_else(|| Error::Malformed {
        what: RPC,
        detail: "status: node_info.network is missing".to_owned(),
    })
}

/// An absent record is an empty balance.
fn balance(found: &Proven) -> Result<u128> {
    let Some(value) = &found.value else { return Ok(0) };
    let bytes: [u8; 16] = value.as_slice().try_into().map_err(|_| Error::Malformed {
        what: "the chain's state",
        detail: format!(
            "a balance of {} bytes, it must have 16: is this client older than the chain?",
            value.len()
        ),
    })?;
    Ok(u128::from_be_bytes(bytes))
}

fn record<M: Message + Default>(found: &Proven, what: &str, id: u64) -> Result<M> {
    let Some(value) = &found.value else {
        return Err(Error::NotFound(format!(
            "{what} {id}: the chain has proven that it did not exist after block {}",
            found.height
        )));
    };
    M::decode(value.as_slice()).map_err(|e| Error::Malformed {
        what: "the chain's state",
        detail: format!("{what} {id}: {e}: is this client older than the chain?"),
    })
}

/// What was proven, by whom it was signed, and what has to be believed for it. Keeps the header for the next time.
fn report(
    context: &Context,
    light: &LightClient<HttpNode>,
    found: &[Proven],
    proven: Value,
    rows: Vec<(&str, String)>,
) -> Result<()> {
    TrustStore::new(&context.home).save(light.trusted())?;
    let header = &light.trusted().signed_header.header;
    let (signers, total) = light.signers()?;
    let signed: u64 = signers.iter().map(|s| s.power).sum();
    let height = header.height.value();
    let state_height = found.first().map_or(0, |f| f.height);
    let time_ms = u64::try_from(header.time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    let age = Duration::from_millis(wall_ms().saturating_sub(time_ms));
    let path = light.path();
    let first = path.first().copied().unwrap_or(height);
    let assumptions = [
        format!("header {first} is the chain's own: you named its hash, or it was verified here before"),
        "since then, and within the trust period, less than a third of the voting power that was trusted signed another history".to_owned(),
        "this machine's clock is right to the minute".to_owned(),
    ];
    let json = json!({
        "proven": proven,
        "state_height": state_height.to_string(),
        "keys": found.iter().map(|f| json!({ "store": f.store, "key": hex::encode(&f.key), "present": f.value.is_some() })).collect::<Vec<_>>(),
        "header": {
            "chain_id": header.chain_id.as_str(), "height": height.to_string(), "hash": header.hash().to_string(), "time": header.time.to_rfc3339(),
            "app_hash": hex::encode_upper(header.app_hash.as_bytes()),
        },
        "signed_by": signers.iter().map(|s| json!({ "address": s.address, "power": s.power.to_string() })).collect::<Vec<_>>(),
        "signed_power": signed.to_string(),
        "total_power": total.to_string(),
        "verified_over": path.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "assumptions": assumptions,
    });
    context.ui.record(&json, || {
        let mut rows = rows;
        let over = path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ");
        let mut by: Vec<_> = signers
            .iter()
            .take(5)
            .map(|s| format!("{} ({})", s.address, s.power))
            .collect();
        if signers.len() > by.len() {
            by.push(format!("{} more", signers.len() - by.len()));
        }
        rows.extend([
            ("proven after block", state_height.to_string()),
            (
                "by header",
                format!(
                    "{height}, {}, {} ago",
                    header.hash(),
                    show_duration(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
                ),
            ),
            (
                "signed by",
                format!("{signed} of {total} voting power: {}", by.join(", ")),
            ),
            ("verified over headers", over),
        ]);
        let believed: Vec<_> = assumptions.iter().map(|a| format!("- {a}")).collect();
        format!(
            "{}\n\nProven, not told by the node, if:\n{}",
            pairs(&rows),
            believed.join("\n")
        )
    });
    if age > STALE {
        let age = show_duration(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        context.ui.note(format!(
            "the newest header that this node showed is {age} old: it cannot invent blocks, but it may be behind or hide newer ones; ask another node too"
        ));
    }
    Ok(())
}
