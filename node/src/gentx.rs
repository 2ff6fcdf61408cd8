//! Genesis transactions: how a validator that begins with the chain says who it is.
//!
//! A gentx is byte for byte what Cosmos chains use: a transaction with one `MsgCreateValidator`, signed by the operator's account with
//! SIGN_MODE_DIRECT, account number 0 and sequence 0, and written as JSON. The memo says where its node listens for peers. This chain has no
//! staking module yet, so nothing is bonded: [`collect`] turns gentxs into `validators` of the genesis, each with a power of one for every
//! million base units of its self-delegation, which the account must have.

use std::collections::BTreeSet;

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use cosmrs::proto::cosmos::base::v1beta1::Coin as CoinProto;
use cosmrs::proto::cosmos::staking::v1beta1::{CommissionRates, Description as DescriptionProto, MsgCreateValidator};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tenure_client::keys::{verify, Key};
use tenure_proto::cosmos::crypto::secp256k1::PubKey;
use tenure_proto::cosmos::tx::signing::v1beta1::SignMode;
use tenure_proto::cosmos::tx::v1beta1::mode_info::{Single, Sum};
use tenure_proto::cosmos::tx::v1beta1::{AuthInfo, Fee, ModeInfo, SignDoc, SignerInfo, TxBody};
use tenure_proto::Any;
use tenure_types::address::VALOPER_PREFIX;
use tenure_types::{Address, Amount, Coin, BASE_DENOM};

/// Base units of self-delegation for one unit of voting power, as the Cosmos SDK has it.
pub const POWER_REDUCTION: u128 = 1_000_000;
/// CometBFT allows this much voting power in all.
pub const MAX_TOTAL_POWER: u64 = tenure_solo::MAX_TOTAL_POWER as u64;
const MESSAGE: &str = "/cosmos.staking.v1beta1.MsgCreateValidator";
const ED25519: &str = "/cosmos.crypto.ed25519.PubKey";
const SECP256K1: &str = "/cosmos.crypto.secp256k1.PubKey";
/// What simd writes; nothing is charged at genesis.
const GAS_LIMIT: u64 = 200_000;
/// Longest memo: a node id, an address and a port fit many times.
const MAX_MEMO: usize = 256;

/// What a validator says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Its name.
    pub moniker: String,
    /// A fingerprint on a directory of identities.
    pub identity: String,
    /// Where to read more.
    pub website: String,
    /// Whom to tell about a hole.
    pub security_contact: String,
    /// A sentence.
    pub details: String,
}

/// Shares of rewards that a validator keeps, as decimal numbers. They matter once there is staking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commission {
    /// At the beginning.
    pub rate: String,
    /// Never more than this.
    pub max_rate: String,
    /// At most this much more a day.
    pub max_change_rate: String,
}

impl Default for Commission {
    fn default() -> Self {
        Self {
            rate: "0.1".to_owned(),
            max_rate: "0.2".to_owned(),
            max_change_rate: "0.01".to_owned(),
        }
    }
}

/// A validator to be.
pub struct NewValidator {
    /// What it says of itself.
    pub description: Description,
    /// What it keeps.
    pub commission: Commission,
    /// The least it delegates to itself for ever, base units.
    pub min_self_delegation: Amount,
    /// Its consensus key, ed25519.
    pub consensus_key: [u8; 32],
    /// Its self-delegation.
    pub stake: Coin,
    /// Where its node listens for peers: `<node id>@<host>:<port>`.
    pub peer: String,
}

/// A genesis transaction, as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenTx {
    body: Body,
    auth_info: Auth,
    signatures: Vec<String>,
}

/// What a checked genesis transaction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The validator's name.
    pub moniker: String,
    /// Its consensus key, ed25519.
    pub consensus_key: [u8; 32],
    /// The account that signed.
    pub delegator: Address,
    /// Its self-delegation.
    pub stake: Coin,
    /// Its voting power.
    pub power: u64,
    /// Where its node listens for peers; empty if it does not say.
    pub peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    messages: Vec<CreateValidator>,
    memo: String,
    #[serde(default)]
    timeout_height: String,
    #[serde(default)]
    extension_options: [(); 0],
    #[serde(default)]
    non_critical_extension_options: [(); 0],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateValidator {
    #[serde(rename = "@type")]
    type_url: String,
    description: Description,
    commission: Commission,
    min_self_delegation: String,
    #[serde(default)]
    delegator_address: String,
    validator_address: String,
    pubkey: PublicKey,
    value: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKey {
    #[serde(rename = "@type")]
    type_url: String,
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Money {
    denom: String,
    amount: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    signer_infos: Vec<Signer>,
    fee: GenesisFee,
    #[serde(default)]
    tip: Option<()>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signer {
    public_key: PublicKey,
    mode_info: Value,
    sequence: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisFee {
    amount: [(); 0],
    gas_limit: String,
    payer: String,
    granter: String,
}

fn mode_info() -> Value {
    json!({ "single": { "mode": "SIGN_MODE_DIRECT" } })
}

/// A share as protobuf has it: its decimal number times 10^18. Error: it is not a number from 0 to 1.
fn share(name: &str, text: &str) -> Result<String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let plain = !whole.is_empty() && whole.len() <= 2 && fraction.len() <= 18;
    let digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    let scaled: Option<u128> = (plain && digits)
        .then(|| format!("{whole}{fraction:0<18}").parse().ok())
        .flatten();
    match scaled {
        Some(n) if n <= 1_000_000_000_000_000_000 => Ok(n.to_string()),
        _ => bail!("{name} is {text:?}, must be a decimal number from 0 to 1 with at most 18 digits after the point"),
    }
}

impl CreateValidator {
    #[allow(deprecated, reason = "the field is part of the signed bytes that every tool writes")]
    fn encode(&self) -> Result<Any> {
        let key = PubKeyEd25519 {
            key: self.consensus_key()?.to_vec(),
        };
        let message = MsgCreateValidator {
            description: Some(DescriptionProto {
                moniker: self.description.moniker.clone(),
                identity: self.description.identity.clone(),
                website: self.description.website.clone(),
                security_contact: self.description.security_contact.clone(),
                details: self.description.details.clone(),
            }),
            commission: Some(CommissionRates {
                rate: share("commission.rate", &self.commission.rate)?,
                max_rate: share("commission.max_rate", &self.commission.max_rate)?,
                max_change_rate: share("commission.max_change_rate", &self.commission.max_change_rate)?,
            }),
            min_self_delegation: self.min_self_delegation.clone(),
            delegator_address: self.delegator_address.clone(),
            validator_address: self.validator_address.clone(),
            pubkey: Some(cosmrs::Any {
                type_url: ED25519.to_owned(),
                value: key.encode_to_vec(),
            }),
            value: Some(CoinProto {
                denom: self.value.denom.clone(),
                amount: self.value.amount.clone(),
            }),
        };
        Ok(Any {
            type_url: MESSAGE.to_owned(),
            value: message.encode_to_vec(),
        })
    }

    fn consensus_key(&self) -> Result<[u8; 32]> {
        self.pubkey.bytes("pubkey", ED25519)
    }
}

impl PublicKey {
    fn bytes<const N: usize>(&self, name: &str, type_url: &str) -> Result<[u8; N]> {
        ensure!(
            self.type_url == type_url,
            "{name}.@type is {:?}, must be {type_url:?}",
            self.type_url
        );
        let bytes = BASE64.decode(&self.key).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.with_context(|| format!("{name}.key is {:?}, must be {N} bytes in base64", self.key))
    }
}

/// `cosmos.crypto.ed25519.PubKey`.
#[derive(Clone, PartialEq, Message)]
struct PubKeyEd25519 {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

impl GenTx {
    /// Makes and signs one for a chain. Errors: as [`GenTx::check`].
    pub fn sign(new: NewValidator, chain_id: &str, key: &Key) -> Result<Self> {
        let mut gentx = Self {
            body: Body {
                messages: vec![CreateValidator {
                    type_url: MESSAGE.to_owned(),
                    description: new.description,
                    commission: new.commission,
                    min_self_delegation: new.min_self_delegation.to_string(),
                    delegator_address: key.address().to_string(),
                    validator_address: key.address().to_bech32(VALOPER_PREFIX),
                    pubkey: PublicKey {
                        type_url: ED25519.to_owned(),
                        key: BASE64.encode(new.consensus_key),
                    },
                    value: Money {
                        denom: new.stake.denom.to_string(),
                        amount: new.stake.amount.to_string(),
                    },
                }],
                memo: new.peer,
                timeout_height: "0".to_owned(),
                extension_options: [],
                non_critical_extension_options: [],
            },
            auth_info: Auth {
                signer_infos: vec![Signer {
                    public_key: PublicKey {
                        type_url: SECP256K1.to_owned(),
                        key: BASE64.encode(key.public_key()),
                    },
                    mode_info: mode_info(),
                    sequence: "0".to_owned(),
                }],
                fee: GenesisFee {
                    amount: [],
                    gas_limit: GAS_LIMIT.to_string(),
                    payer: String::new(),
                    granter: String::new(),
                },
                tip: None,
            },
            signatures: Vec::new(),
        };
        let bytes = gentx.sign_bytes(chain_id)?;
        gentx.signatures.push(BASE64.encode(key.sign(&bytes)));
        gentx.check(chain_id)?;
        Ok(gentx)
    }

    /// Reads a file's bytes. Error: it is not a genesis transaction with one `MsgCreateValidator`; names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).context("not a genesis transaction of this chain")
    }

    /// The bytes of a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The name that `tenured genesis gentx` gives the file: of the consensus key, so that two never collide.
    pub fn file_name(&self) -> Result<String> {
        let key = self.message()?.consensus_key()?;
        Ok(format!("gentx-{}.json", hex::encode(&Sha256::digest(key)[..20])))
    }

    fn message(&self) -> Result<&CreateValidator> {
        match self.body.messages.as_slice() {
            [message] if message.type_url == MESSAGE => Ok(message),
            [other] => bail!("body.messages[0].@type is {:?}, must be {MESSAGE:?}", other.type_url),
            all => bail!("body.messages has {} messages, must have one", all.len()),
        }
    }

    fn sign_bytes(&self, chain_id: &str) -> Result<Vec<u8>> {
        let [signer] = self.auth_info.signer_infos.as_slice() else {
            bail!(
                "auth_info.signer_infos has {} signers, must have one",
                self.auth_info.signer_infos.len()
            );
        };
        ensure!(
            signer.mode_info == mode_info()
                && signer.sequence == "0"
                && matches!(self.body.timeout_height.as_str(), "" | "0"),
            "a genesis transaction is signed with SIGN_MODE_DIRECT and sequence 0, and has no timeout height"
        );
        let fee = &self.auth_info.fee;
        ensure!(
            fee.payer.is_empty() && fee.granter.is_empty(),
            "auth_info.fee: nobody else pays at genesis"
        );
        let account_key: [u8; 33] = signer
            .public_key
            .bytes("auth_info.signer_infos[0].public_key", SECP256K1)?;
        let body = TxBody {
            messages: vec![self.message()?.encode()?],
            memo: self.body.memo.clone(),
            ..Default::default()
        };
        let info = SignerInfo {
            public_key: Some(tenure_proto::any(&PubKey {
                key: account_key.to_vec(),
            })),
            mode_info: Some(ModeInfo {
                sum: Some(Sum::Single(Single {
                    mode: SignMode::Direct as i32,
                })),
            }),
            sequence: 0,
        };
        let auth_info = AuthInfo {
            signer_infos: vec![info],
            fee: Some(Fee {
                gas_limit: fee
                    .gas_limit
                    .parse()
                    .with_context(|| format!("fee.gas_limit is {:?}", fee.gas_limit))?,
                ..Default::default()
            }),
            ..Default::default()
        };
        let document = SignDoc {
            body_bytes: body.encode_to_vec(),
            auth_info_bytes: auth_info.encode_to_vec(),
            chain_id: chain_id.to_owned(),
            account_number: 0,
        };
        Ok(document.encode_to_vec())
    }

    /// Checks every field and the signature. Errors name the field, its value and what it must be.
    pub fn check(&self, chain_id: &str) -> Result<Candidate> {
        let message = self.message()?;
        let bytes = self.sign_bytes(chain_id)?;
        let key: [u8; 33] = self.auth_info.signer_infos[0]
            .public_key
            .bytes("public_key", SECP256K1)?;
        let delegator = Address::of_secp256k1(&key);
        for (name, found, expected) in [
            ("delegator_address", &message.delegator_address, delegator.to_string()),
            (
                "validator_address",
                &message.validator_address,
                delegator.to_bech32(VALOPER_PREFIX),
            ),
        ] {
            // Newer tools leave the delegator out.
            let absent = name == "delegator_address" && found.is_empty();
            ensure!(
                absent || *found == expected,
                "{name} is {found:?}, but the signer has {expected:?}"
            );
        }
        let signature = match self.signatures.as_slice() {
            [one] => BASE64.decode(one).context("signatures[0] is not base64")?,
            all => bail!("signatures has {} entries, must have one", all.len()),
        };
        ensure!(
            verify(&key, &bytes, &signature),
            "the signature of {delegator} is wrong: the file was changed, or it was made for another chain than {chain_id:?}"
        );
        let length = message.description.moniker.len();
        ensure!(
            (1..=70).contains(&length),
            "description.moniker has {length} bytes, must have 1 to 70"
        );
        ensure!(
            self.body.memo.len() <= MAX_MEMO,
            "body.memo has {} bytes, must have at most {MAX_MEMO}",
            self.body.memo.len()
        );
        let (rate, max, change) = (
            &message.commission.rate,
            &message.commission.max_rate,
            &message.commission.max_change_rate,
        );
        let number = |name, text: &str| -> Result<u128> { Ok(share(name, text)?.parse()?) };
        let most = number("commission.max_rate", max)?;
        ensure!(
            number("commission.rate", rate)? <= most,
            "commission.rate is {rate}, must be at most max_rate, {max}"
        );
        ensure!(
            number("commission.max_change_rate", change)? <= most,
            "commission.max_change_rate is {change}, must be at most max_rate, {max}"
        );
        let stake = Coin::from_parts(&message.value.denom, &message.value.amount).context("value")?;
        ensure!(
            message.value.denom == BASE_DENOM,
            "value is {stake}, must be in {BASE_DENOM}"
        );
        let least: Amount = message.min_self_delegation.parse().context("min_self_delegation")?;
        ensure!(
            !least.is_zero() && least <= stake.amount,
            "min_self_delegation is {least}, must be 1 to the self-delegation, {}",
            stake.amount
        );
        let power = u64::try_from(stake.amount.get() / POWER_REDUCTION).unwrap_or(u64::MAX);
        ensure!(
            (1..=MAX_TOTAL_POWER).contains(&power),
            "value is {stake}, which gives a voting power of {power}; it must be 1 to {MAX_TOTAL_POWER}, one for every {POWER_REDUCTION}{BASE_DENOM}"
        );
        Ok(Candidate {
            moniker: message.description.moniker.clone(),
            consensus_key: message.consensus_key()?,
            delegator,
            stake,
            power,
            peer: self.body.memo.clone(),
        })
    }
}

/// Makes the candidates the validators of a genesis document, in the place of those it has. Errors: there are none; two share a consensus key or an
/// account; an account does not have its stake; they have too much power in all.
pub fn collect(document: &mut Value, candidates: &[Candidate]) -> Result<()> {
    ensure!(!candidates.is_empty(), "there is no genesis transaction");
    let (mut keys, mut accounts, mut total) = (BTreeSet::new(), BTreeSet::new(), 0_u64);
    let mut validators = Vec::new();
    for candidate in candidates {
        let Candidate {
            moniker,
            delegator,
            stake,
            ..
        } = candidate;
        ensure!(
            keys.insert(candidate.consensus_key),
            "{moniker}: another genesis transaction has the same consensus key"
        );
        ensure!(
            accounts.insert(*delegator),
            "{moniker}: another genesis transaction is of {delegator} too"
        );
        let balance = crate::genesis::balance(document, delegator, BASE_DENOM)?;
        ensure!(
            balance >= stake.amount,
            "{moniker}: {delegator} delegates {stake} and begins with {balance}{BASE_DENOM}. `tenured genesis add-genesis-account \
             {delegator} <coins>` gives it money"
        );
        total = total.saturating_add(candidate.power);
        validators.push(crate::genesis::validator(
            &candidate.consensus_key,
            moniker,
            candidate.power,
        ));
    }
    ensure!(
        total <= MAX_TOTAL_POWER,
        "the voting power of all is {total}, must be at most {MAX_TOTAL_POWER}"
    );
    document["validators"] = Value::Array(validators);
    Ok(())
}

#[cfg(test)]
mod tests;
