//! What a transaction must satisfy before its messages run, in order: form, messages, gas, fee, signers, keys, sequences, signatures.
//!
//! An error here means that the transaction changes nothing. The texts of errors that wallets and relayers parse are the Cosmos SDK's.

use base64::{engine::general_purpose::STANDARD, Engine};
use prost::Message;
use tenure_proto::{
    cosmos::{
        auth::v1beta1::Params as AuthParams,
        crypto::secp256k1::PubKey,
        tx::{
            signing::v1beta1::SignMode,
            v1beta1::{mode_info::Sum, SignerInfo},
        },
    },
    tenure::chain::v1::Params as ChainParams,
};
use tenure_sdk::{clock, gas, Ctx, Error, GasMeter, Mode, Result};
use tenure_types::{sdk, Address, Coin, Coins, BASE_DENOM};
use tenure_x_auth as auth;
use tenure_x_bank as bank;

use super::{cache::Signer, free, sign, Signatures, Tx};

/// Length of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;
/// What a signed transaction has and an estimate may leave out, with field headers: a signature, a key, a sign mode, a fee with its gas limit.
const SIGNATURE_FIELD_BYTES: usize = 66;
const KEY_FIELD_BYTES: usize = 75;
const MODE_FIELD_BYTES: usize = 6;
const FEE_FIELD_BYTES: usize = 32;

/// The parameters that decide about transactions. Read once per transaction, free of gas: they are the chain's cost, not the sender's.
pub(crate) struct Rules {
    pub(crate) chain: ChainParams,
    pub(crate) auth: AuthParams,
}

impl Rules {
    /// The rules in force.
    pub(crate) fn load(ctx: &mut Ctx) -> Result<Self> {
        let gas = std::mem::replace(&mut ctx.gas, GasMeter::unlimited());
        let rules = clock::params(ctx).and_then(|chain| {
            Ok(Self {
                chain,
                auth: auth::params(ctx)?,
            })
        });
        ctx.gas = gas;
        rules
    }
}

/// What entitles a transaction to a place in a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payment {
    /// Its fee, which was taken.
    Fee,
    /// Nothing: see [`super::free`]. It must succeed.
    None,
}

/// How a transaction asks for its place.
pub(crate) enum Asks {
    /// For this fee.
    Fee(Coins),
    /// As a free attestation, with this nonce.
    Free(u64),
}

/// The checks that need no state but the rules in force. What fails here fails in every block of this height: no honest proposer takes it up, and
/// nobody need look at its signatures, of which a hostile one could name thousands.
pub(crate) fn stateless(mode: Mode, height: u64, tx: &Tx, rules: &Rules) -> Result<Asks> {
    check_form(height, tx, rules)?;
    for (i, (_, message)) in tx.messages.iter().enumerate() {
        message.validate().map_err(|e| e.context(format!("messages[{i}]")))?;
    }
    let asks = match free::nonce(mode, tx) {
        Some(nonce) => {
            free::check_form(tx, nonce)?;
            Asks::Free(nonce)
        }
        None => Asks::Fee(check_fee(mode, tx, rules)?),
    };
    check_counts(mode, tx, rules)?;
    Ok(asks)
}

/// Checks a transaction and takes its fee and sequences. The caller has set the gas meter and takes everything back on an error.
/// `trusted` skips the signatures: for a transaction of the mempool that is checked again after a block.
pub(crate) fn ante(ctx: &mut Ctx, tx: &Tx, rules: &Rules, signatures: &Signatures, trusted: bool) -> Result<Payment> {
    let asks = stateless(ctx.mode, ctx.height(), tx, rules)?;
    charge_bytes(ctx, tx, rules)?;
    let signers = tx.signers()?;
    let (payment, nonce) = match &asks {
        Asks::Free(nonce) => {
            free::check(ctx, tx, *nonce)?;
            (Payment::None, Some(*nonce))
        }
        Asks::Fee(fee) => {
            pay_fee(ctx, tx, signers, fee)?;
            (Payment::Fee, None)
        }
    };
    for (i, (signer, info)) in signers.iter().zip(&tx.auth_info.signer_infos).enumerate() {
        let check = check_signer(ctx, tx, (i, signer, info), nonce, rules, signatures, trusted);
        check.map_err(|e| match e.code {
            // Hermes and wallets match this text from its beginning.
            sdk::WRONG_SEQUENCE => e,
            _ => e.context(format!("signer_infos[{i}]")),
        })?;
    }
    Ok(payment)
}

fn check_form(height: u64, tx: &Tx, rules: &Rules) -> Result<()> {
    if tx.messages.is_empty() {
        let message = "messages is empty, must hold at least 1: invalid request";
        return Err(Error::sdk(sdk::INVALID_REQUEST, message));
    }
    let (memo, limit) = (tx.body.memo.len(), rules.auth.max_memo_characters);
    if u64::try_from(memo).map_or(true, |memo| memo > limit) {
        let message = format!("maximum number of characters is {limit} but received {memo} characters: memo too large");
        return Err(Error::sdk(sdk::MEMO_TOO_LARGE, message));
    }
    let timeout = tx.body.timeout_height;
    if timeout != 0 && height > timeout {
        let message = format!("block height: {height}, timeout height: {timeout}: tx timeout height");
        return Err(Error::sdk(sdk::TX_TIMEOUT_HEIGHT, message));
    }
    #[allow(deprecated, reason = "it must be known to be refused")]
    if tx.auth_info.tip.is_some() {
        return Err(Error::sdk(
            sdk::NOT_SUPPORTED,
            "tip is set, tips are not supported: feature not supported",
        ));
    }
    if !tx.fee().granter.is_empty() {
        let message = format!(
            "fee.granter is {:?}, fee grants are not supported: feature not supported",
            tx.fee().granter
        );
        return Err(Error::sdk(sdk::NOT_SUPPORTED, message));
    }
    Ok(())
}

/// The fee, if it is well formed and enough for the gas asked for.
fn check_fee(mode: Mode, tx: &Tx, rules: &Rules) -> Result<Coins> {
    let parts = tx.fee().amount.iter().map(|c| (c.denom.as_str(), c.amount.as_str()));
    let fee = Coins::from_parts(parts).map_err(|e| e.context("fee.amount"))?;
    if let Some(other) = fee.iter().find(|coin| coin.denom != BASE_DENOM) {
        let message = format!("fee.amount holds {other}, fees are paid in {BASE_DENOM}: insufficient fee");
        return Err(Error::sdk(sdk::INSUFFICIENT_FEE, message));
    }
    let (gas, most) = (tx.gas_wanted(), rules.chain.max_block_gas);
    if gas > most {
        let message = format!("fee.gas_limit is {gas}, a block holds {most}: invalid gas limit");
        return Err(Error::sdk(sdk::INVALID_GAS_LIMIT, message));
    }
    let required = minimum_fee(gas, rules.chain.min_gas_price_micro);
    if mode != Mode::Simulate && fee.amount_of(BASE_DENOM).get() < required {
        let message = format!("insufficient fees; got: {fee} required: {required}{BASE_DENOM}: insufficient fee");
        return Err(Error::sdk(sdk::INSUFFICIENT_FEE, message));
    }
    Ok(fee)
}

/// The least fee for an amount of gas at a price in millionths of a base unit, rounded up.
fn minimum_fee(gas: u64, price_micro: u64) -> u128 {
    u128::from(gas).saturating_mul(price_micro.into()).div_ceil(1_000_000)
}

fn charge_bytes(ctx: &mut Ctx, tx: &Tx, rules: &Rules) -> Result<()> {
    let mut len = tx.len;
    if ctx.mode == Mode::Simulate {
        for (i, info) in tx.auth_info.signer_infos.iter().enumerate() {
            if tx
                .raw
                .signatures
                .get(i)
                .is_none_or(|signature| signature.len() < SIGNATURE_BYTES)
            {
                len = len.saturating_add(SIGNATURE_FIELD_BYTES);
            }
            if info.public_key.is_none() {
                len = len.saturating_add(KEY_FIELD_BYTES);
            }
            if info.mode_info.is_none() {
                len = len.saturating_add(MODE_FIELD_BYTES);
            }
        }
        if tx.fee().amount.is_empty() {
            len = len.saturating_add(FEE_FIELD_BYTES);
        }
    }
    ctx.gas
        .charge_bytes(0, rules.auth.tx_size_cost_per_byte, len, "transaction bytes")
}

fn pay_fee(ctx: &mut Ctx, tx: &Tx, signers: &[Address], fee: &Coins) -> Result<()> {
    let payer = match tx.fee().payer.as_str() {
        "" => signers.first().copied(),
        text => text.parse().ok(),
    };
    let payer = payer.ok_or_else(|| {
        Error::sdk(
            sdk::NO_SIGNATURES,
            "the messages name no signer: no signatures supplied",
        )
    })?;
    if !auth::exists(ctx, &payer)? {
        let message = format!("fee payer address: {payer} does not exist: unknown address");
        return Err(Error::sdk(sdk::UNKNOWN_ADDRESS, message));
    }
    let collector = auth::fee_collector();
    if ctx.mode == Mode::Simulate && fee.is_empty() {
        // The real transaction will pay: one unit stands in for the fee, so that the estimate includes the payment's gas.
        let stand_in = ctx.atomically(|ctx| bank::transfer(ctx, &payer, &collector, &Coin::base(1)));
        return stand_in.or_else(|error| {
            if error.code == sdk::INSUFFICIENT_FUNDS {
                Ok(())
            } else {
                Err(error)
            }
        });
    }
    bank::transfer_coins(ctx, &payer, &collector, fee)?;
    if !ctx.is_silent() {
        ctx.emit("tx", [("fee", fee.to_string()), ("fee_payer", payer.to_string())]);
    }
    Ok(())
}

fn check_counts(mode: Mode, tx: &Tx, rules: &Rules) -> Result<()> {
    let limit = rules.auth.tx_sig_limit;
    let (expected, infos, found) = (
        tx.signers()?.len(),
        tx.auth_info.signer_infos.len(),
        tx.raw.signatures.len(),
    );
    if u64::try_from(expected).map_or(true, |n| n > limit) {
        let message = format!("signatures: {expected}, limit: {limit}: maximum number of signatures exceeded");
        return Err(Error::sdk(sdk::TOO_MANY_SIGNATURES, message));
    }
    if found == 0 && mode != Mode::Simulate {
        return Err(Error::sdk(
            sdk::NO_SIGNATURES,
            "signatures is empty: no signatures supplied",
        ));
    }
    let wrong = |what: &str, found: usize| {
        Error::sdk(
            sdk::UNAUTHORIZED,
            format!("wrong number of {what}; expected {expected}, got {found}: unauthorized"),
        )
    };
    if infos != expected {
        return Err(wrong("signer_infos", infos));
    }
    if found != expected && mode != Mode::Simulate {
        return Err(wrong("signers", found));
    }
    Ok(())
}

fn check_signer(
    ctx: &mut Ctx,
    tx: &Tx,
    (i, signer, info): (usize, &Address, &SignerInfo),
    nonce: Option<u64>,
    rules: &Rules,
    signatures: &Signatures,
    trusted: bool,
) -> Result<()> {
    check_mode(ctx, info)?;
    let mut account = auth::account(ctx, signer)?.ok_or_else(|| {
        Error::sdk(
            sdk::UNKNOWN_ADDRESS,
            format!("account {signer} does not exist: unknown address"),
        )
    })?;
    let known = auth::pub_key_of(&account)?;
    let compressed = match (known, shown_key(info)?) {
        (Some(known), None) => known,
        (Some(known), Some(shown)) if known == shown => known,
        (None, Some(shown)) => {
            auth::show_key(&mut account, signer, &shown)?;
            shown
        }
        (Some(_), Some(_)) => {
            let message = format!("public_key is not the one {signer} has used before: invalid pubkey");
            return Err(Error::sdk(sdk::INVALID_PUBKEY, message));
        }
        // Wallets estimate before they show the key. Storing it with the account costs its bytes.
        (None, None) if ctx.mode == Mode::Simulate => {
            ctx.gas
                .charge_bytes(0, gas::WRITE_BYTE, KEY_FIELD_BYTES, "public key")?;
            [0; 33]
        }
        (None, None) => {
            let message = format!("public_key is missing and {signer} has shown none before: invalid pubkey");
            return Err(Error::sdk(sdk::INVALID_PUBKEY, message));
        }
    };
    if nonce.is_none() {
        auth::take_sequence(&mut account, info.sequence)?;
    }
    if nonce.is_none() || known.is_none() {
        auth::save(ctx, signer, &account)?;
    }
    ctx.gas.charge(rules.auth.sig_verify_cost_secp256k1, "signature")?;
    let signature = tx.raw.signatures.get(i).map_or(&[][..], Vec::as_slice);
    if ctx.mode != Mode::Simulate && !trusted {
        let chain_id = &ctx.block.chain_id;
        let by = Signer {
            chain_id,
            account_number: account.account_number,
            compressed,
        };
        if !sign::check(signatures, tx, (i, info), &by)? {
            let message = format!(
                "signature verification failed; please verify account number ({}), sequence ({}) and chain-id \
                 ({chain_id}): unauthorized",
                account.account_number, info.sequence
            );
            return Err(Error::sdk(sdk::UNAUTHORIZED, message));
        }
    }
    if !ctx.is_silent() {
        ctx.emit("tx", [("acc_seq", format!("{signer}/{}", info.sequence))]);
        ctx.emit("tx", [("signature", STANDARD.encode(signature))]);
    }
    Ok(())
}

/// The public key that a signer shows, if any. Error (invalid public key): not 33 bytes.
pub(crate) fn shown_key(info: &SignerInfo) -> Result<Option<[u8; 33]>> {
    let Some(any) = &info.public_key else { return Ok(None) };
    let key = PubKey::decode(any.value.as_slice()).map_err(|e| {
        Error::sdk(
            sdk::INVALID_PUBKEY,
            format!("public_key does not decode: {e}: invalid pubkey"),
        )
    })?;
    let found = key.key.len();
    key.key.try_into().map(Some).map_err(|_| {
        Error::sdk(
            sdk::INVALID_PUBKEY,
            format!("public_key has {found} bytes, must have 33 (compressed): invalid pubkey"),
        )
    })
}

fn check_mode(ctx: &Ctx, info: &SignerInfo) -> Result<()> {
    let refused = |what: &str| Error::sdk(sdk::NOT_SUPPORTED, format!("{what}: feature not supported"));
    let mode = match info.mode_info.as_ref().and_then(|mode| mode.sum.as_ref()) {
        Some(Sum::Single(single)) => single.mode,
        Some(Sum::Multi(_)) => return Err(refused("mode_info is multi, multi-signature keys are not supported")),
        None => 0,
    };
    match SignMode::try_from(mode) {
        Ok(SignMode::Direct | SignMode::LegacyAminoJson) => Ok(()),
        // Wallets estimate before they know how they will sign.
        Ok(SignMode::Unspecified) if ctx.mode == Mode::Simulate => Ok(()),
        Ok(other) => Err(refused(&format!(
            "mode_info.single.mode is {}, SIGN_MODE_DIRECT and SIGN_MODE_LEGACY_AMINO_JSON are \
             supported",
            other.as_str_name()
        ))),
        Err(_) => Err(refused(&format!(
            "mode_info.single.mode is {mode}, SIGN_MODE_DIRECT (1) and SIGN_MODE_LEGACY_AMINO_JSON \
             (127) are supported"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::minimum_fee;

    #[test]
    fn the_least_fee_is_rounded_up() {
        assert_eq!(minimum_fee(0, 1_000), 0);
        assert_eq!(minimum_fee(1, 1_000), 1);
        assert_eq!(minimum_fee(1_000, 1_000), 1);
        assert_eq!(minimum_fee(1_001, 1_000), 2);
        assert_eq!(minimum_fee(200_000, 0), 0);
        assert!(minimum_fee(u64::MAX, u64::MAX) > 0);
    }
}
