//! Typed reads and writes of accounts.

use std::sync::LazyLock;

use prost::Message;
use tenure_proto::cosmos::{
    auth::v1beta1::{BaseAccount, ModuleAccount},
    crypto::secp256k1::PubKey,
};
use tenure_sdk::{Ctx, Error, Result};
use tenure_types::{sdk, Address};

use crate::{
    keys::{self, NAME, NEXT_NUMBER},
    FEE_COLLECTOR,
};

/// The only kind of public key that signs transactions.
pub const PUB_KEY_TYPE_URL: &str = "/cosmos.crypto.secp256k1.PubKey";

/// An account, if it exists.
pub fn account(ctx: &mut Ctx, address: &Address) -> Result<Option<BaseAccount>> {
    ctx.load(NAME, &keys::account(address))
}

/// Whether an account exists.
pub fn exists(ctx: &mut Ctx, address: &Address) -> Result<bool> {
    Ok(ctx.peek(NAME, &keys::account(address))?.is_some())
}

/// An account, created with the next number if it does not exist.
pub(crate) fn ensure_account(ctx: &mut Ctx, address: &Address) -> Result<BaseAccount> {
    match account(ctx, address)? {
        Some(account) => Ok(account),
        None => create(ctx, address),
    }
}

/// Makes sure that an account exists.
pub fn ensure_exists(ctx: &mut Ctx, address: &Address) -> Result<()> {
    if !exists(ctx, address)? {
        create(ctx, address)?;
    }
    Ok(())
}

fn create(ctx: &mut Ctx, address: &Address) -> Result<BaseAccount> {
    let account_number = next_number(ctx)?;
    let next = account_number
        .checked_add(1)
        .ok_or_else(|| Error::internal("account numbers are exhausted"))?;
    set_next_number(ctx, next)?;
    let account = BaseAccount {
        address: address.to_string(),
        pub_key: None,
        account_number,
        sequence: 0,
    };
    save(ctx, address, &account)?;
    Ok(account)
}

/// The address of a module's account. A pure function of the name: the account need not exist.
pub fn module_address(name: &str) -> Address {
    Address::of_module(name)
}

/// The address of the account that collects fees.
pub fn fee_collector() -> Address {
    static COLLECTOR: LazyLock<Address> = LazyLock::new(|| module_address(FEE_COLLECTOR));
    *COLLECTOR
}

/// A module's account, created if it does not exist. From then on users may not send to it.
pub fn ensure_module_account(ctx: &mut Ctx, name: &str) -> Result<Address> {
    let address = module_address(name);
    ensure_account(ctx, &address)?;
    let module = ModuleAccount {
        base_account: None,
        name: name.to_owned(),
        permissions: Vec::new(),
    };
    ctx.save(NAME, &keys::module(&address), &module)?;
    Ok(address)
}

/// Whether an address is a module's account.
pub fn is_module_account(ctx: &mut Ctx, address: &Address) -> Result<bool> {
    Ok(ctx.peek(NAME, &keys::module(address))?.is_some())
}

/// The public key an account has shown, compressed SEC1 (33 bytes).
pub fn pub_key_of(account: &BaseAccount) -> Result<Option<[u8; 33]>> {
    let Some(any) = &account.pub_key else { return Ok(None) };
    let key: Option<[u8; 33]> = match any.type_url.as_str() {
        PUB_KEY_TYPE_URL => PubKey::decode(any.value.as_slice())
            .ok()
            .and_then(|key| key.key.try_into().ok()),
        _ => None,
    };
    match key {
        Some(key) => Ok(Some(key)),
        None => Err(Error::internal(format!(
            "account {} stores a malformed public key",
            account.address
        ))),
    }
}

/// Stores the public key of an account that has shown none yet. Error (invalid public key): it is not the account's.
pub fn set_pub_key(ctx: &mut Ctx, address: &Address, compressed: &[u8; 33]) -> Result<()> {
    let mut account = existing(ctx, address)?;
    show_key(&mut account, address, compressed)?;
    save(ctx, address, &account)
}

/// Notes the public key of an account that has shown none yet; [`save`] keeps it. Error (invalid public key): it is not the account's.
pub fn show_key(account: &mut BaseAccount, address: &Address, compressed: &[u8; 33]) -> Result<()> {
    let found = Address::of_secp256k1(compressed);
    if found != *address {
        let message = format!("pubKey does not match signer address {address}: its address is {found}: invalid pubkey");
        return Err(Error::sdk(sdk::INVALID_PUBKEY, message));
    }
    account.pub_key = Some(tenure_proto::any(&PubKey {
        key: compressed.to_vec(),
    }));
    Ok(())
}

/// Takes the next sequence of an account for a transaction; [`save`] keeps that. Error (wrong sequence): it is not the account's.
pub fn take_sequence(account: &mut BaseAccount, sequence: u64) -> Result<()> {
    if account.sequence != sequence {
        // Wallets and relayers parse this text.
        let message = format!(
            "account sequence mismatch, expected {}, got {sequence}: incorrect account sequence",
            account.sequence
        );
        return Err(Error::sdk(sdk::WRONG_SEQUENCE, message));
    }
    account.sequence = sequence
        .checked_add(1)
        .ok_or_else(|| Error::internal("a sequence is exhausted"))?;
    Ok(())
}

/// Writes the record of an account that was read with [`account`].
pub fn save(ctx: &mut Ctx, address: &Address, account: &BaseAccount) -> Result<()> {
    ctx.save(NAME, &keys::account(address), account)
}

/// The next account number.
pub(crate) fn next_number(ctx: &mut Ctx) -> Result<u64> {
    match ctx.get(NAME, NEXT_NUMBER)? {
        None => Ok(0),
        Some(bytes) => bytes
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| Error::internal("the next account number is not 8 bytes")),
    }
}

/// Sets the next account number.
pub(crate) fn set_next_number(ctx: &mut Ctx, next: u64) -> Result<()> {
    ctx.set(NAME, NEXT_NUMBER, next.to_be_bytes().to_vec())
}

fn existing(ctx: &mut Ctx, address: &Address) -> Result<BaseAccount> {
    account(ctx, address)?.ok_or_else(|| {
        Error::sdk(
            sdk::UNKNOWN_ADDRESS,
            format!("account {address} does not exist: unknown address"),
        )
    })
}
