//! Escrow accounts and bank balances.

use serde_json::json;
use tenure_client::{json::to_json, sheet::Sheet, units::show_amount, Error, Result};
use tenure_proto::{
    any,
    cosmos::{bank::v1beta1::MsgSend, base::v1beta1::Coin as CoinProto},
    tenure::{
        escrow::v1::TopUpOrder,
        market::v1::{MsgDeposit, MsgSetAutoTopUp, MsgWithdrawDeposit},
    },
    Any,
};
use tenure_types::Coin;

use super::{live_now, sent};
use crate::{
    args::{BankCommand, EscrowCommand, TopUpArgs},
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

/// Sets an account's standing order, or stops it. Error (usage): the two amounts do not fit together or to the account.
pub(super) async fn auto_top_up(context: &Context, bid_id: u64, asked: &TopUpArgs) -> Result<()> {
    let order = match (&asked.part, &asked.up_to) {
        (Some(part), Some(most)) => {
            let account = context
                .client()
                .await?
                .escrow(bid_id)
                .await?
                .account
                .unwrap_or_default();
            Some(order(part, most, &account.denom)?)
        }
        _ => None,
    };
    let message = |tenant| {
        any(&MsgSetAutoTopUp {
            tenant,
            bid_id,
            auto_top_up: order.clone(),
        })
    };
    let result = context.send(message).await?;
    let what = match (&asked.part, &asked.up_to) {
        (Some(part), Some(most)) => format!(
            "escrow account {bid_id} is topped up by itself: {} at a time, at most {} from now on",
            shown(part),
            shown(most)
        ),
        _ => format!("escrow account {bid_id} is not topped up by itself any more; what was paid in stays"),
    };
    let fields = match &order {
        Some(order) => json!({ "account_id": bid_id, "auto_top_up": to_json(order)? }),
        None => json!({ "account_id": bid_id, "auto_top_up": null }),
    };
    sent(context, &result, &what, fields);
    Ok(())
}

fn order(part: &Coin, most: &Coin, denom: &str) -> Result<TopUpOrder> {
    for (name, coin) in [("AMOUNT", part), ("--up-to", most)] {
        if coin.denom != denom {
            return Err(Error::Usage(format!("{name} is {coin}, and the account holds {denom}")));
        }
    }
    if part.amount.is_zero() || most.amount < part.amount {
        return Err(Error::Usage(format!(
            "--up-to is {most}, it must be at least AMOUNT, {part}, and that above zero"
        )));
    }
    Ok(TopUpOrder {
        maximum: most.amount.to_string(),
        amount: part.amount.to_string(),
    })
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
        EscrowCommand::AutoTopUp { id, order } => auto_top_up(context, id, &order).await?,
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
