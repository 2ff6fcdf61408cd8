//! Messages of the bank.

mod multi_send;
mod send;

use tenure_proto::cosmos::base::v1beta1::Coin as ProtoCoin;
use tenure_sdk::{Ctx, Error, Result};
use tenure_types::{sdk, Address, Coins};
use tenure_x_auth as auth;

pub(crate) use multi_send::MultiSend;
pub(crate) use send::Send;

use crate::{state, BankError};

/// The coins of a message: ascending by denom, each above zero, at least one.
fn coins_of(field: &str, coins: &[ProtoCoin]) -> Result<Coins> {
    let parsed =
        Coins::from_parts(coins.iter().map(|c| (c.denom.as_str(), c.amount.as_str()))).map_err(|e| e.context(field))?;
    if parsed.is_empty() {
        return Err(Error::sdk(
            sdk::INVALID_COINS,
            format!("{field} is empty, must hold at least one coin: invalid coins"),
        ));
    }
    Ok(parsed)
}

fn address_of(field: &str, text: &str) -> Result<Address> {
    text.parse().map_err(|e| Error::from(e).context(field))
}

/// Error: transfers are switched off.
fn check_enabled(ctx: &mut Ctx) -> Result<()> {
    if state::params(ctx)?.default_send_enabled {
        return Ok(());
    }
    Err(BankError::SendDisabled.into())
}

/// Error (unauthorized): the address is a module's. Money sent there by a user could never be taken out again.
fn check_receiver(ctx: &mut Ctx, to: &Address) -> Result<()> {
    if auth::is_module_account(ctx, to)? {
        return Err(Error::sdk(
            sdk::UNAUTHORIZED,
            format!("{to} is not allowed to receive funds: unauthorized"),
        ));
    }
    Ok(())
}
