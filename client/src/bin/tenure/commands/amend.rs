//! `tenure lease amend` and `tenure lease countersign`: a new price that both parties sign, handed over as a file.

use std::path::{Path, PathBuf};

use serde_json::json;
use tenure_client::{
    amendment::{public_key, send_finished, Proposal, Terms},
    files::{self, Existing},
    sender::Gas,
    tx::{adjusted_gas, fee, simulation, Signer},
    units::show_rate,
    Error, Result,
};
use tenure_proto::{any, cosmos::tx::signing::v1beta1::SignMode, tenure::market::v1::MsgAmendLease};
use tenure_types::Coin;

use super::{sent, setup::confirmed};
use crate::{
    context::Context,
    ui::{out, pairs},
};

/// Largest proposal that is read, bytes.
const MAX_PROPOSAL: u64 = 64 << 10;

/// Signs a new price as one party and writes it to a file for the other.
pub(super) async fn propose(
    context: &Context,
    id: u64,
    price: &Coin,
    file: Option<PathBuf>,
    timeout_height: u64,
) -> Result<()> {
    let file = file.unwrap_or_else(|| PathBuf::from(format!("amend-{id}.json")));
    let key = context.key()?;
    let client = context.client().await?;
    let lease = client.lease(id).await?.lease.unwrap_or_default();
    if price.denom != lease.denom {
        return Err(Error::Usage(format!(
            "the price is in {}, and lease {id} is paid in {}",
            price.denom, lease.denom
        )));
    }
    let rate = u64::try_from(price.amount.get()).ok().filter(|rate| *rate > 0);
    let rate = rate.ok_or_else(|| Error::Usage(format!("the price {price} must be from 1 to {}", u64::MAX)))?;
    let message = MsgAmendLease {
        tenant: lease.tenant.clone(),
        provider: lease.provider.clone(),
        lease_id: id,
        rate,
    };
    let (tenant, provider, params) = tokio::try_join!(
        client.account(&lease.tenant),
        client.account(&lease.provider),
        client.chain_params()
    )?;
    let gas = match context.options().gas {
        Gas::Fixed(gas) => gas,
        Gas::Simulated { adjustment_percent } => {
            let signers = [&tenant, &provider].map(|account| {
                Ok(Signer {
                    public_key: public_key(account)?,
                    sequence: account.sequence,
                    mode: SignMode::Unspecified,
                })
            });
            let signers = signers.into_iter().collect::<Result<Vec<_>>>()?;
            let answer = client.simulate(simulation(vec![any(&message)], "", &signers)).await?;
            adjusted_gas(answer.gas_info.unwrap_or_default().gas_used, adjustment_percent)?
        }
    };
    let fee = fee(
        gas,
        context.options().gas_price_micro.unwrap_or(params.min_gas_price_micro),
    );
    let own = if key.address().to_string() == lease.tenant {
        &tenant
    } else {
        &provider
    };
    let terms = Terms {
        chain_id: client.status().await?.chain_id,
        message,
        gas,
        fee: u64::try_from(fee).map_err(|_| Error::Usage(format!("the fee {fee} exceeds {}", u64::MAX)))?,
        timeout_height,
    };
    let proposal = Proposal::sign(terms, &key, own)?;
    files::write(&file, proposal.to_json()?.as_bytes(), Existing::Refuse)?;
    let record =
        json!({ "file": file, "lease_id": id, "rate": rate.to_string(), "countersigner": proposal.counterparty() });
    context.ui.record(&record, || {
        format!(
            "{}: lease {id} from {} to {}, signed by you. Nothing is sent yet",
            file.display(),
            show_rate(lease.rate, &lease.denom),
            show_rate(rate, &lease.denom)
        )
    });
    context.ui.note(format!(
        "next: give the file to {}, who runs `tenure lease countersign {}`. It is void once you send another transaction",
        proposal.counterparty(),
        file.display()
    ));
    Ok(())
}

/// Shows what a proposal changes, countersigns it and sends it.
pub(super) async fn countersign(context: &Context, file: &Path, yes: bool) -> Result<()> {
    let damaged = |detail: String| Error::Damaged {
        path: file.to_owned(),
        detail,
    };
    let length = std::fs::metadata(file).map_err(Error::file(file))?.len();
    if length > MAX_PROPOSAL {
        return Err(damaged(format!(
            "it has {length} bytes, a proposal has at most {MAX_PROPOSAL}"
        )));
    }
    let text = std::fs::read_to_string(file).map_err(Error::file(file))?;
    let proposal = Proposal::from_json(&text).map_err(damaged)?;
    let client = context.client().await?;
    let chain_id = client.status().await?.chain_id;
    if proposal.chain_id != chain_id {
        return Err(Error::Usage(format!(
            "the proposal is for chain {}, and the node is of {chain_id}",
            proposal.chain_id
        )));
    }
    let id = proposal.lease_id;
    let lease = client.lease(id).await?.lease.unwrap_or_default();
    let shown = pairs(&[
        ("lease", id.to_string()),
        ("price now", show_rate(lease.rate, &lease.denom)),
        ("price proposed", show_rate(proposal.rate, &lease.denom)),
        ("proposed by", proposal.proposer.clone()),
        ("fee, the tenant's", format!("{} uten", proposal.fee)),
    ]);
    context.ui.note(&shown);
    if !yes && !confirmed("Sign and send it? [y/N] ")? {
        out("not signed");
        return Ok(());
    }
    let key = context.key()?;
    let account = client.account(&key.address().to_string()).await?;
    let tx = proposal.countersign(&key, &account)?;
    context.ui.waiting("waiting for the transaction's block");
    let result = send_finished(&client, tx, context.options()).await;
    context.ui.finish();
    let price = show_rate(proposal.rate, &lease.denom);
    let fields = json!({ "lease_id": id, "rate": proposal.rate.to_string() });
    sent(
        context,
        &result?,
        &format!("lease {id} costs {price} from now on"),
        fields,
    );
    Ok(())
}
