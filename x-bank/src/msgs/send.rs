//! MsgSend: sends coins from the signer to another account, which is created if need be.

use tenure_proto::cosmos::bank::v1beta1::{MsgSend, MsgSendResponse};
use tenure_sdk::{Ctx, Handler, Result};

use super::{address_of, check_enabled, check_receiver, coins_of};
use crate::transfer_coins;

/// MsgSend.
pub(crate) struct Send;

impl Handler for Send {
    type Msg = MsgSend;
    type Response = MsgSendResponse;

    fn signers(msg: &MsgSend) -> Vec<&str> {
        vec![&msg.from_address]
    }

    fn validate(msg: &MsgSend) -> Result<()> {
        address_of("from_address", &msg.from_address)?;
        address_of("to_address", &msg.to_address)?;
        coins_of("amount", &msg.amount).map(|_| ())
    }

    fn execute(ctx: &mut Ctx, msg: &MsgSend) -> Result<MsgSendResponse> {
        let from = address_of("from_address", &msg.from_address)?;
        let to = address_of("to_address", &msg.to_address)?;
        check_enabled(ctx)?;
        check_receiver(ctx, &to)?;
        transfer_coins(ctx, &from, &to, &coins_of("amount", &msg.amount)?)?;
        Ok(MsgSendResponse {})
    }
}

#[cfg(test)]
mod tests {
    use tenure_types::{sdk, Address, Amount, Coin, Coins};

    use super::*;
    use crate::{balance, mint, tests};

    fn send(amount: &[(&str, &str)], to: &Address) -> MsgSend {
        let amount = tests::proto_coins(amount);
        MsgSend {
            from_address: tests::ALICE.to_string(),
            to_address: to.to_string(),
            amount,
        }
    }

    #[test]
    fn coins_move_whole_with_the_events_explorers_read() -> Result<()> {
        let mut ctx = tests::ctx();
        mint(&mut ctx, &tests::ALICE, &Coins::from(Coin::base(10)))?;
        ctx.events.clear();
        Send::execute(&mut ctx, &send(&[("uten", "4")], &tests::BOB))?;
        assert_eq!(balance(&mut ctx, &tests::ALICE, "uten")?, Amount::new(6));
        assert_eq!(balance(&mut ctx, &tests::BOB, "uten")?, Amount::new(4));
        assert!(
            tenure_x_auth::account(&mut ctx, &tests::BOB)?.is_some(),
            "the recipient's account exists now"
        );
        let kinds: Vec<_> = ctx.events.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, ["coin_spent", "coin_received", "transfer", "message"]);
        Ok(())
    }

    #[test]
    fn what_is_malformed_is_refused_for_ever() {
        for (msg, code) in [
            (send(&[], &tests::BOB), sdk::INVALID_COINS),
            (send(&[("uten", "0")], &tests::BOB), sdk::INVALID_COINS),
            (send(&[("uten", "1"), ("abc", "1")], &tests::BOB), sdk::INVALID_COINS),
            (
                MsgSend {
                    to_address: "cosmos1x".into(),
                    ..send(&[("uten", "1")], &tests::BOB)
                },
                sdk::INVALID_ADDRESS,
            ),
            (
                MsgSend {
                    from_address: String::new(),
                    ..send(&[("uten", "1")], &tests::BOB)
                },
                sdk::INVALID_ADDRESS,
            ),
        ] {
            assert_eq!(Send::validate(&msg).map_err(|e| e.code), Err(code), "{msg:?}");
        }
    }

    #[test]
    fn nobody_sends_more_than_they_have_or_to_a_module() -> Result<()> {
        let mut ctx = tests::ctx();
        mint(&mut ctx, &tests::ALICE, &Coins::from(Coin::base(10)))?;
        let error = Send::execute(&mut ctx, &send(&[("uten", "11")], &tests::BOB)).unwrap_err();
        assert_eq!(error.code, sdk::INSUFFICIENT_FUNDS);
        assert_eq!(
            error.message,
            "spendable balance 10uten is smaller than 11uten: insufficient funds"
        );
        let module = tenure_x_auth::ensure_module_account(&mut ctx, "escrow")?;
        let error = Send::execute(&mut ctx, &send(&[("uten", "1")], &module)).unwrap_err();
        assert_eq!(error.code, sdk::UNAUTHORIZED);
        Ok(())
    }
}
