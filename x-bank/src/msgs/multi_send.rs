//! MsgMultiSend: sends coins from the signer to several accounts, all or none.

use tenure_proto::cosmos::bank::v1beta1::{MsgMultiSend, MsgMultiSendResponse};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::{Coin, Coins};

use super::{address_of, check_enabled, check_receiver, coins_of};
use crate::{events, state, BankError};

/// MsgMultiSend.
pub(crate) struct MultiSend;

impl Handler for MultiSend {
    type Msg = MsgMultiSend;
    type Response = MsgMultiSendResponse;

    fn signers(msg: &MsgMultiSend) -> Vec<&str> {
        msg.inputs.iter().map(|input| input.address.as_str()).collect()
    }

    fn validate(msg: &MsgMultiSend) -> Result<()> {
        let input = match msg.inputs.as_slice() {
            [] => return Err(BankError::NoInputs.into()),
            [input] => input,
            several => return Err(BankError::MultipleSenders(several.len()).into()),
        };
        if msg.outputs.is_empty() {
            return Err(BankError::NoOutputs.into());
        }
        address_of("inputs[0].address", &input.address)?;
        let inputs = coins_of("inputs[0].coins", &input.coins)?;
        let mut taken = Vec::new();
        for (i, output) in msg.outputs.iter().enumerate() {
            address_of(&format!("outputs[{i}].address"), &output.address)?;
            taken.extend(coins_of(&format!("outputs[{i}].coins"), &output.coins)?.iter().cloned());
        }
        // Nobody has paid yet: as fast as it is read.
        let outputs = Coins::sum(taken)?;
        let differs = |coin: &&Coin| inputs.amount_of(&coin.denom) != outputs.amount_of(&coin.denom);
        if let Some(coin) = inputs.iter().chain(outputs.iter()).find(differs) {
            let of = |coins: &Coins| Coin {
                denom: coin.denom.clone(),
                amount: coins.amount_of(&coin.denom),
            };
            return Err(BankError::SumsDiffer {
                inputs: of(&inputs),
                outputs: of(&outputs),
            }
            .into());
        }
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &MsgMultiSend) -> Result<MsgMultiSendResponse> {
        check_enabled(ctx)?;
        for input in &msg.inputs {
            let from = address_of("inputs[0].address", &input.address)?;
            state::spend(ctx, &from, &coins_of("inputs[0].coins", &input.coins)?)?;
            for (i, output) in msg.outputs.iter().enumerate() {
                let to = address_of(&format!("outputs[{i}].address"), &output.address)?;
                let coins = coins_of(&format!("outputs[{i}].coins"), &output.coins)?;
                check_receiver(ctx, &to)?;
                state::receive(ctx, &to, &coins)?;
                events::transfer(ctx, &from, &to, &coins);
            }
        }
        Ok(MsgMultiSendResponse {})
    }
}

#[cfg(test)]
mod tests {
    use tenure_proto::cosmos::bank::v1beta1::{Input, Output};
    use tenure_sdk::Module;
    use tenure_types::{Address, Amount};

    use super::*;
    use crate::{balance, mint, tests, BankModule};

    type Parts<'a> = &'a [(&'a str, &'a str)];

    fn multi(input: Parts<'_>, outputs: &[(&Address, Parts<'_>)]) -> MsgMultiSend {
        let inputs = vec![Input {
            address: tests::ALICE.to_string(),
            coins: tests::proto_coins(input),
        }];
        let output = |(to, coins): &(&Address, Parts<'_>)| Output {
            address: to.to_string(),
            coins: tests::proto_coins(coins),
        };
        MsgMultiSend {
            inputs,
            outputs: outputs.iter().map(output).collect(),
        }
    }

    #[test]
    fn everybody_gets_their_part() -> Result<()> {
        let mut ctx = tests::ctx();
        mint(
            &mut ctx,
            &tests::ALICE,
            &Coins::from_parts([("abc", "5"), ("uten", "10")])?,
        )?;
        let carol = Address::new([3; 20]);
        let msg = multi(
            &[("abc", "5"), ("uten", "7")],
            &[
                (&tests::BOB, &[("abc", "5"), ("uten", "3")]),
                (&carol, &[("uten", "4")]),
            ],
        );
        MultiSend::validate(&msg)?;
        MultiSend::execute(&mut ctx, &msg)?;
        assert_eq!(balance(&mut ctx, &tests::BOB, "abc")?, Amount::new(5));
        assert_eq!(balance(&mut ctx, &carol, "uten")?, Amount::new(4));
        assert_eq!(balance(&mut ctx, &tests::ALICE, "uten")?, Amount::new(3));
        BankModule.invariants(&mut ctx)
    }

    #[test]
    fn sums_must_agree_and_there_is_one_sender() {
        let one: Parts<'_> = &[("uten", "1")];
        let refused = |msg: &MsgMultiSend| MultiSend::validate(msg).map_err(|e| (e.codespace, e.code));
        assert_eq!(refused(&multi(one, &[])), Err(("bank", 3)));
        assert_eq!(
            refused(&multi(one, &[(&tests::BOB, &[("uten", "2")])])),
            Err(("bank", 4))
        );
        // The first that differs is named, whichever side has it.
        let message = |msg: &MsgMultiSend| MultiSend::validate(msg).map_err(|e| e.message).unwrap_err();
        let outputs: Parts<'_> = &[("abc", "3"), ("uten", "1")];
        let text = message(&multi(one, &[(&tests::BOB, outputs)]));
        assert!(text.contains("inputs give 0abc, outputs take 3abc"), "{text}");
        let text = message(&multi(outputs, &[(&tests::BOB, one)]));
        assert!(text.contains("inputs give 3abc, outputs take 0abc"), "{text}");
        let mut msg = multi(one, &[(&tests::BOB, one)]);
        assert_eq!(refused(&msg), Ok(()));
        msg.inputs.push(msg.inputs[0].clone());
        assert_eq!(refused(&msg), Err(("bank", 9)));
        msg.inputs.clear();
        assert_eq!(refused(&msg), Err(("bank", 2)));
    }
}
