//! Escrow accounts and bank balances.

use serde_json::json;
use tenure_client::{json::to_json, sheet::Sheet, units::show_amount, Result};
use tenure_proto::{
    any,
    cosmos::{bank::v1beta1::MsgSend, base::v1beta1::Coin as CoinProto},
    tenure::market::v1::{MsgDeposit, MsgWithdrawDeposit},
    Any,
};
use tenure_types::Coin;

use super::{live_now, sent};
use crate::{
    args::{BankCommand, EscrowCommand},
    context::Context,
    show::{account, values},
};

pub(super) async fn deposit(context: &Context, bid_id: u64, amount: &Coin) -> Result<()> {
    let message = |depositor| {
        any(&MsgDeposit {
            depositor,
            bid_id,
            amount: coin(amount),
        })
    };
    let result = context.send(message).await?;
    let what = format!("deposited {} into escrow account {bid_id}", shown(amount));
    sent(
        context,
        &result,
        &what,
        json!({ "account_id": bid_id, "amount": amount.to_string() }),
    );
    Ok(())
}

pub(super) async fn escrow(context: &Context, command: EscrowCommand) -> Result<()> {
    match command {
        EscrowCommand::Show { id } => {
            let client = context.client().await?;
            let (found, now) = tokio::try_join!(client.escrow(id), live_now(&client))?;
            let record = to_json(&found)?;
            context.ui.record(&record, || {
                account(&found.account.unwrap_or_default(), &found.payments, now)
            });
        }
        EscrowCommand::Deposit { id, amount } => deposit(context, id, &amount).await?,
        EscrowCommand::Withdraw { id, amount } => {
            let message = |tenant| {
                any(&MsgWithdrawDeposit {
                    tenant,
                    bid_id: id,
                    amount: coin(&amount),
                })
            };
            let result = context.send(message).await?;
            let what = format!("withdrew {} from escrow account {id}", shown(&amount));
            sent(
                context,
                &result,
                &what,
                json!({ "account_id": id, "amount": amount.to_string() }),
            );
        }
    }
    Ok(())
}

pub(super) async fn bank(context: &Context, command: BankCommand) -> Result<()> {
    match command {
        BankCommand::Balance { who } => {
            let address = context.resolve(who.as_deref())?;
            let balances = context.client().await?.balances(&address).await?;
            let record = json!({ "address": address, "balances": values(&balances)? });
            context.ui.record(&record, || match balances.as_slice() {
                [] => format!("{address} holds nothing"),
                coins => coins
                    .iter()
                    .map(|c| show_amount(&c.amount, &c.denom))
                    .collect::<Vec<_>>()
                    .join("\n"),
            });
        }
        BankCommand::Sheet { labels } => sheet(context, labels).await?,
        BankCommand::Send { to, amount } => {
            let to = context.resolve(Some(&to))?;
            let message = |from: String| -> Any {
                any(&MsgSend {
                    from_address: from,
                    to_address: to.clone(),
                    amount: coin(&amount).into_iter().collect(),
                })
            };
            let result = context.send(message).await?;
            sent(
                context,
                &result,
                &format!("sent {} to {to}", shown(&amount)),
                json!({ "to": to, "amount": amount.to_string() }),
            );
        }
    }
    Ok(())
}

async fn sheet(context: &Context, labels: Vec<(String, String)>) -> Result<()> {
    let own = context.keyring().list()?;
    let mut known: Vec<_> = own
        .into_iter()
        .map(|key| (key.address, format!("my key {:?}", key.name)))
        .collect();
    known.extend(labels);
    let sheet = Sheet::of(&context.client().await?, &known).await?;
    context.ui.record(&json!(sheet), || {
        let width = sheet.supply.to_string().len();
        let mut lines: Vec<_> = sheet
            .rows
            .iter()
            .map(|row| format!("{:>width$} uten  {}  {}", row.units, row.address, row.name))
            .collect();
        lines.push(format!(
            "{:>width$} uten  = the supply at height {}",
            sheet.supply, sheet.height
        ));
        lines.join("\n")
    });
    Ok(())
}

fn coin(amount: &Coin) -> Option<CoinProto> {
    Some(CoinProto {
        denom: amount.denom.clone(),
        amount: amount.amount.to_string(),
    })
}

fn shown(amount: &Coin) -> String {
    show_amount(&amount.amount.to_string(), &amount.denom)
}
