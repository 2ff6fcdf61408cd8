//! What always holds of accounts.

use std::collections::BTreeSet;

use tenure_proto::cosmos::auth::v1beta1::{BaseAccount, ModuleAccount};
use tenure_sdk::{derived::prefix_end, records, Ctx, Error, Result};
use tenure_types::Address;

use crate::{keys, state, NAME};

/// Numbers are unique and below the next one; records are under their own address; keys match; modules' accounts exist.
pub(crate) fn check(ctx: &mut Ctx) -> Result<()> {
    let next = state::next_number(ctx)?;
    let mut numbers = BTreeSet::new();
    for (key, value) in ctx.range(
        NAME,
        keys::ACCOUNTS,
        prefix_end(keys::ACCOUNTS).as_deref(),
        false,
        usize::MAX,
    )? {
        let account: BaseAccount = records::decode(NAME, &key, &value)?;
        let address = address_of(&key)?;
        check_account(&address, &account)?;
        let number = account.account_number;
        if number >= next || !numbers.insert(number) {
            return Err(Error::internal(format!(
                "account number {number} of {address} is not unique or not below {next}"
            )));
        }
    }
    for (key, value) in ctx.range(
        NAME,
        keys::MODULES,
        prefix_end(keys::MODULES).as_deref(),
        false,
        usize::MAX,
    )? {
        let module: ModuleAccount = records::decode(NAME, &key, &value)?;
        let address = address_of(&key)?;
        if crate::module_address(&module.name) != address || state::account(ctx, &address)?.is_none() {
            return Err(Error::internal(format!(
                "module account {:?} is not under its address {address}",
                module.name
            )));
        }
    }
    Ok(())
}

/// The record is of this address, and so is the public key it stores, if any.
pub(crate) fn check_account(address: &Address, account: &BaseAccount) -> Result<()> {
    if account.address != address.to_string() {
        return Err(Error::internal(format!(
            "account {address} has the record of {:?}",
            account.address
        )));
    }
    match state::pub_key_of(account)? {
        Some(key) if Address::of_secp256k1(&key) != *address => Err(Error::internal(format!(
            "account {address} stores the public key of {}",
            Address::of_secp256k1(&key)
        ))),
        _ => Ok(()),
    }
}

fn address_of(key: &[u8]) -> Result<Address> {
    key.get(1..)
        .and_then(Address::from_slice)
        .ok_or_else(|| Error::internal(format!("key auth/{} holds no address", hex::encode(key))))
}
