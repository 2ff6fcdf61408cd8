//! `tx bank multi-send`, the one message whose signer is not a field of it: in the Cosmos SDK's form.

use anyhow::{bail, ensure, Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command};
use prost_reflect::MethodDescriptor;
use tenure_proto::cosmos::bank::v1beta1::{Input, MsgMultiSend, Output};
use tenure_proto::cosmos::base::v1beta1::Coin as ProtoCoin;
use tenure_types::{Address, Coin, Coins};

use crate::cmd::reflect::VALUES;

const METHOD: &str = "cosmos.bank.v1beta1.Msg.MultiSend";
const SPLIT: &str = "split";

/// Whether this is the method.
pub(super) fn is(method: &MethodDescriptor) -> bool {
    method.full_name() == METHOD
}

/// The command as it is typed.
pub(super) fn command() -> Command {
    Command::new("multi-send")
        .about("Sends coins from one account to several, all or none")
        .arg(
            Arg::new(VALUES)
                .num_args(0..)
                .value_name("VALUE")
                .help("Values in this order: [KEY] [TO-ADDRESS]... [AMOUNT]"),
        )
        .arg(
            Arg::new(SPLIT)
                .long(SPLIT)
                .action(ArgAction::SetTrue)
                .help("Share the amount equally, rounded down, instead of sending it to each"),
        )
        .after_help(
            "\
Examples:
  tenured tx bank multi-send me tenure1... tenure1... 5ten         # 10ten leave
  tenured tx bank multi-send me tenure1... tenure1... 5ten --split # 5ten leave",
        )
}

/// The message. `values` are the recipients and, last, the amount.
pub(super) fn message(from: &Address, values: &[String], matches: &ArgMatches) -> Result<MsgMultiSend> {
    let (amount, recipients) = match values {
        [recipients @ .., amount] if !recipients.is_empty() => (amount, recipients),
        _ => bail!(
            "multi-send takes [KEY] [TO-ADDRESS]... [AMOUNT], for example `multi-send me tenure1... tenure1... 5ten`"
        ),
    };
    let coins: Coins = crate::genesis::parse_coins(amount).with_context(|| format!("amount is {amount:?}"))?;
    let count = u128::try_from(recipients.len())?;
    let split = matches.get_flag(SPLIT);
    let each = scaled(
        &coins,
        |amount| if split { amount.checked_div(count) } else { Some(amount) },
    )?;
    ensure!(
        !each.is_empty(),
        "amount is {amount:?}, must leave something for each of {count} recipients"
    );
    let outputs = recipients.iter().map(|recipient| {
        let address: Address = recipient.parse().with_context(|| format!("recipient {recipient:?}"))?;
        Ok(Output {
            address: address.to_string(),
            coins: each.clone(),
        })
    });
    let total = Coins::from_parts(each.iter().map(|coin| (coin.denom.as_str(), coin.amount.as_str())))?;
    let input = Input {
        address: from.to_string(),
        coins: scaled(&total, |amount| amount.checked_mul(count))?,
    };
    Ok(MsgMultiSend {
        inputs: vec![input],
        outputs: outputs.collect::<Result<_>>()?,
    })
}

/// Coins with their amounts changed, without those of which nothing is left. Error: an amount is too large.
fn scaled(coins: &Coins, change: impl Fn(u128) -> Option<u128>) -> Result<Vec<ProtoCoin>> {
    let scaled = coins.iter().map(|coin: &Coin| {
        let amount = change(coin.amount.get());
        let amount =
            amount.with_context(|| format!("{coin} for each of so many recipients is more than there can be"))?;
        Ok(ProtoCoin {
            denom: coin.denom.to_string(),
            amount: amount.to_string(),
        })
    });
    let mut scaled = scaled.collect::<Result<Vec<_>>>()?;
    scaled.retain(|coin| coin.amount != "0");
    Ok(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(values: &[&str], split: bool) -> Result<MsgMultiSend> {
        let flag: &[&str] = if split { &["--split"] } else { &[] };
        let matches = command().try_get_matches_from([&["multi-send"], flag].concat())?;
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        message(&Address::new([1; 20]), &values, &matches)
    }

    #[test]
    fn each_gets_the_amount_or_its_share() -> Result<()> {
        let [a, b, c] = [2, 3, 4].map(|byte| Address::new([byte; 20]).to_string());
        let shown = |message: &MsgMultiSend| {
            let coins = |coins: &[ProtoCoin]| {
                let coins: Vec<String> = coins.iter().map(|c| format!("{}{}", c.amount, c.denom)).collect();
                coins.join(",")
            };
            (
                coins(&message.inputs[0].coins),
                message.outputs.iter().map(|o| coins(&o.coins)).collect::<Vec<_>>(),
            )
        };
        let whole = sent(&[&a, &b, &c, "10uten,2abc"], false)?;
        assert_eq!(
            shown(&whole),
            ("6abc,30uten".to_owned(), vec!["2abc,10uten".to_owned(); 3])
        );
        assert_eq!(whole.outputs[1].address, b);
        // What cannot be shared equally stays, as in the SDK.
        let shared = sent(&[&a, &b, &c, "10uten,2abc"], true)?;
        assert_eq!(shown(&shared), ("9uten".to_owned(), vec!["3uten".to_owned(); 3]));
        Ok(())
    }

    #[test]
    fn mistakes_say_what_to_type() {
        let to = Address::new([2; 20]).to_string();
        let most = format!("{}uten", u128::MAX);
        for (values, split, word) in [
            (vec![], false, "[TO-ADDRESS]... [AMOUNT]"),
            (vec!["5uten"], false, "[TO-ADDRESS]... [AMOUNT]"),
            (vec![to.as_str(), "five"], false, "amount is \"five\""),
            (vec!["bob", "5uten"], false, "recipient \"bob\""),
            (vec![&to, &to, "1uten"], true, "each of 2"),
            (vec![&to, &to, &most], false, "uten"),
        ] {
            let error = format!("{:#}", sent(&values, split).expect_err(word));
            assert!(error.contains(word), "{error}");
        }
    }
}
