//! Bytes to a transaction. Every byte must mean something known, and mean it in one way only.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use prost::{Message, Name};
use sha2::{Digest, Sha256};
use tenure_proto::cosmos::{
    crypto::secp256k1::PubKey,
    tx::v1beta1::{AuthInfo, Fee, TxBody, TxRaw},
};
use tenure_sdk::{
    unknown::{refuse_in, refuse_unknown_fields},
    ErasedMsg, Error, MsgRoute, Result,
};
use tenure_types::{sdk, Address};
use tenure_x_auth::PUB_KEY_TYPE_URL;

use super::Transactions;

/// How messages are decoded, by type URL.
pub(crate) type Routes = BTreeMap<String, MsgRoute>;

/// A decoded transaction. The signed bytes are kept as they came.
pub(crate) struct Tx {
    /// As received.
    pub(crate) raw: TxRaw,
    /// Decoded `raw.body_bytes`.
    pub(crate) body: TxBody,
    /// Decoded `raw.auth_info_bytes`.
    pub(crate) auth_info: AuthInfo,
    /// The messages of `body`, decoded, with their type URLs.
    pub(crate) messages: Vec<(String, Box<dyn ErasedMsg>)>,
    /// Found when it is decoded, which is done in parallel.
    signers: Result<Vec<Address>>,
    /// Length in bytes.
    pub(crate) len: usize,
    /// SHA-256 of the bytes, by which engines and clients name it.
    pub(crate) hash: [u8; 32],
}

impl Tx {
    /// Who must sign: the signers of the messages in order, then the fee's payer if it is not among them. Error (invalid address).
    pub(crate) fn signers(&self) -> Result<&[Address]> {
        self.signers.as_deref().map_err(Clone::clone)
    }

    /// The fee of `auth_info`.
    pub(crate) fn fee(&self) -> &Fee {
        fee(&self.auth_info)
    }

    /// Gas it asks for.
    pub(crate) fn gas_wanted(&self) -> u64 {
        self.fee().gas_limit
    }
}

fn fee(auth_info: &AuthInfo) -> &Fee {
    static NONE: LazyLock<Fee> = LazyLock::new(Fee::default);
    auth_info.fee.as_ref().unwrap_or(&NONE)
}

fn signers(messages: &[(String, Box<dyn ErasedMsg>)], fee: &Fee) -> Result<Vec<Address>> {
    let mut all: Vec<Address> = Vec::new();
    for (_, message) in messages {
        all.extend(message.signers()?);
    }
    if !fee.payer.is_empty() {
        all.push(fee.payer.parse().map_err(|e| Error::from(e).context("fee.payer"))?);
    }
    if all.len() > 1 {
        // A hostile transaction may name thousands.
        let mut met = BTreeSet::new();
        all.retain(|signer| met.insert(*signer));
    }
    Ok(all)
}

/// Decodes a transaction of at most `max_len` bytes, unless it is among those that are `known`. Errors: too long (21); not a canonical TxRaw, or
/// unknown fields anywhere (2); a message that the chain does not know (6); an extension option (31); a public key of another kind (8).
pub(crate) fn decode(routes: &Routes, known: &Transactions, max_len: u64, bytes: &[u8]) -> Result<Arc<Tx>> {
    let len = bytes.len();
    if u64::try_from(len).map_or(true, |len| len > max_len) {
        let message = format!("transaction has {len} bytes, the limit is {max_len}: tx too large");
        return Err(Error::sdk(sdk::TX_TOO_LARGE, message));
    }
    let hash: [u8; 32] = Sha256::digest(bytes).into();
    match known.get(&hash) {
        Some(tx) => Ok(tx),
        None => parse(routes, bytes, hash).map(Arc::new),
    }
}

/// Parses a transaction with this SHA-256.
fn parse(routes: &Routes, bytes: &[u8], hash: [u8; 32]) -> Result<Tx> {
    let raw: TxRaw = part("TxRaw", bytes)?;
    // Two encodings of one transaction would have two hashes.
    if raw.encode_to_vec() != bytes {
        return Err(Error::sdk(
            sdk::TX_DECODE,
            "TxRaw is not in canonical encoding: tx parse error",
        ));
    }
    let body: TxBody = part("TxBody", &raw.body_bytes)?;
    let auth_info: AuthInfo = part("AuthInfo", &raw.auth_info_bytes)?;
    if let Some(option) = body
        .extension_options
        .first()
        .or(body.non_critical_extension_options.first())
    {
        let message = format!(
            "extension option {:?} is not known: unknown extension options",
            option.type_url
        );
        return Err(Error::sdk(sdk::UNKNOWN_EXTENSION_OPTIONS, message));
    }
    // Only types without an Any inside pass these two checks, so the search for unknown fields cannot be sent into endless depth.
    let mut messages = Vec::with_capacity(body.messages.len());
    for (i, any) in body.messages.iter().enumerate() {
        let route = routes.get(&any.type_url).ok_or_else(|| {
            let message = format!(
                "messages[{i}]: message type {:?} is not known: unknown request",
                any.type_url
            );
            Error::sdk(sdk::UNKNOWN_REQUEST, message)
        })?;
        let message = (route.decode)(&any.value).map_err(|e| e.context(format!("messages[{i}]")))?;
        messages.push((any.type_url.clone(), message));
    }
    for (i, info) in auth_info.signer_infos.iter().enumerate() {
        if let Some(key) = info.public_key.as_ref().filter(|key| key.type_url != PUB_KEY_TYPE_URL) {
            let message = format!(
                "signer_infos[{i}].public_key is {:?}, only {PUB_KEY_TYPE_URL:?} is supported: invalid pubkey",
                key.type_url
            );
            return Err(Error::sdk(sdk::INVALID_PUBKEY, message));
        }
    }
    refuse_in(&body, &raw.body_bytes)?;
    for (any, (_, message)) in body.messages.iter().zip(&messages) {
        message.refuse_unknown_fields(&any.value)?;
    }
    refuse_in(&auth_info, &raw.auth_info_bytes)?;
    for key in auth_info
        .signer_infos
        .iter()
        .filter_map(|info| info.public_key.as_ref())
    {
        match PubKey::decode(key.value.as_slice()) {
            Ok(decoded) => refuse_in(&decoded, &key.value)?,
            Err(_) => refuse_unknown_fields(&PubKey::full_name(), &key.value)?,
        }
    }
    Ok(Tx {
        signers: signers(&messages, fee(&auth_info)),
        raw,
        body,
        auth_info,
        messages,
        len: bytes.len(),
        hash,
    })
}

fn part<M: Message + Default>(name: &str, bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|e| Error::sdk(sdk::TX_DECODE, format!("{name}: {e}: tx parse error")))
}
