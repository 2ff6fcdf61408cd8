//! The genesis document in CometBFT's JSON (`types/genesis.go`).

use crate::error::SoloError;
use crate::keys;
use crate::merkle::{sha256, Hash32};
use crate::params;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use tendermint::Time;
use tendermint_proto::v0_38::types::ConsensusParams;

/// The longest chain id CometBFT accepts, bytes.
const MAX_CHAIN_ID: usize = 50;
/// Most voting power of all validators (`types.MaxTotalVotingPower`): CometBFT panics on more.
pub const MAX_TOTAL_POWER: i64 = i64::MAX / 8;

/// One entry of `validators`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisValidator {
    /// ed25519 public key.
    pub pub_key: Hash32,
    /// Voting power, greater than 0.
    pub power: i64,
    /// A name for people.
    pub name: String,
}

/// A validated genesis document.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The time of the first block.
    pub genesis_time: Time,
    /// 1 to 50 bytes.
    pub chain_id: String,
    /// The height of the first block, at least 1.
    pub initial_height: i64,
    /// Parameters for the first block, complete and valid.
    pub consensus_params: ConsensusParams,
    /// The initial validators; may be empty when `InitChain` names them.
    pub validators: Vec<GenesisValidator>,
    /// The application hash before the first block, unless `InitChain` returns another.
    pub app_hash: Vec<u8>,
    /// The bytes of `app_state` exactly as in the file: what `InitChain` receives.
    pub app_state: Vec<u8>,
    /// SHA-256 of the file, to notice that it was changed under a running chain.
    pub(crate) digest: Hash32,
}

#[derive(Deserialize)]
struct Document {
    genesis_time: Option<String>,
    #[serde(default)]
    chain_id: String,
    #[serde(default)]
    initial_height: Value,
    consensus_params: Option<Value>,
    validators: Option<Vec<Value>>,
    app_hash: Option<String>,
    app_state: Option<Box<RawValue>>,
}

fn fail<T>(reason: impl Into<String>) -> Result<T, SoloError> {
    Err(SoloError::Genesis(reason.into()))
}

impl Genesis {
    /// Reads and checks a document. Unlike CometBFT, a missing `genesis_time` is an error: a default of "now" would give another
    /// chain at every restart.
    pub fn from_json(bytes: &[u8]) -> Result<Self, SoloError> {
        let doc: Document = serde_json::from_slice(bytes).or_else(|e| fail(format!("not a genesis document: {e}")))?;
        if doc.chain_id.is_empty() || doc.chain_id.len() > MAX_CHAIN_ID {
            return fail(format!(
                "chain_id {:?} has {} bytes, must be 1 to {MAX_CHAIN_ID}",
                doc.chain_id,
                doc.chain_id.len()
            ));
        }
        let Some(time) = doc.genesis_time else {
            return fail("genesis_time is missing");
        };
        let genesis_time = Time::parse_from_rfc3339(&time)
            .or_else(|_| fail(format!("genesis_time {time:?} is not an RFC 3339 time")))?;
        let initial_height = match params::int(&doc.initial_height, "initial_height").or_else(fail)? {
            None | Some(0) => 1,
            Some(h) if h > 0 => h,
            Some(h) => return fail(format!("initial_height is {h}, must not be negative")),
        };
        let consensus_params = match &doc.consensus_params {
            None | Some(Value::Null) => params::default_consensus_params(),
            Some(v) => params::from_json(v).or_else(fail)?,
        };
        params::validate(&consensus_params).or_else(|e| fail(format!("consensus_params.{e}")))?;
        let validators = doc
            .validators
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(validator)
            .collect::<Result<Vec<_>, _>>()?;
        let total = validators.iter().fold(0i64, |sum, v| sum.saturating_add(v.power));
        if total > MAX_TOTAL_POWER {
            return fail(format!(
                "the voting power of all validators is {total}, must be at most {MAX_TOTAL_POWER}"
            ));
        }
        let app_hash = hex::decode(doc.app_hash.unwrap_or_default()).or_else(|e| fail(format!("app_hash: {e}")))?;
        Ok(Self {
            genesis_time,
            chain_id: doc.chain_id,
            initial_height,
            consensus_params,
            validators,
            app_hash,
            app_state: doc
                .app_state
                .map(|raw| raw.get().as_bytes().to_vec())
                .unwrap_or_default(),
            digest: sha256(bytes),
        })
    }

    /// The document as the `genesis` RPC shows it.
    pub(crate) fn to_json(&self) -> Value {
        let mut doc = json!({
            "genesis_time": self.genesis_time.to_rfc3339(),
            "chain_id": self.chain_id,
            "initial_height": self.initial_height.to_string(),
            "consensus_params": params::to_json(&self.consensus_params),
        });
        if !self.validators.is_empty() {
            doc["validators"] = self
                .validators
                .iter()
                .map(|v| {
                    json!({
                        "address": hex::encode_upper(keys::address(&v.pub_key)),
                        "pub_key": keys::pub_key_json(&v.pub_key),
                        "power": v.power.to_string(),
                        "name": v.name,
                    })
                })
                .collect();
        }
        doc["app_hash"] = Value::String(hex::encode_upper(&self.app_hash));
        if !self.app_state.is_empty() {
            // It was valid JSON when the document was read.
            doc["app_state"] = serde_json::from_slice(&self.app_state).unwrap_or(Value::Null);
        }
        doc
    }
}

fn validator((i, v): (usize, &Value)) -> Result<GenesisValidator, SoloError> {
    let pub_key = keys::pub_key_from_json(&v["pub_key"]).or_else(|e| {
        fail(format!(
            "validators[{i}].pub_key: {e}; the solo engine knows ed25519 only"
        ))
    })?;
    let power = params::int(&v["power"], &format!("validators[{i}].power"))
        .or_else(fail)?
        .unwrap_or_default();
    if power <= 0 {
        return fail(format!("validators[{i}].power is {power}, must be greater than 0"));
    }
    let expected = hex::encode_upper(keys::address(&pub_key));
    match v["address"].as_str() {
        None | Some("") => {}
        Some(given) if given.eq_ignore_ascii_case(&expected) => {}
        Some(given) => return fail(format!("validators[{i}].address is {given}, its key has {expected}")),
    }
    Ok(GenesisValidator {
        pub_key,
        power,
        name: v["name"].as_str().unwrap_or_default().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_state_keeps_its_bytes() {
        let g = Genesis::from_json(
            br#"{"genesis_time":"2026-01-01T00:00:00Z","chain_id":"c","app_state":{ "b": 1.50,  "a":"x" }}"#,
        )
        .unwrap();
        assert_eq!(g.app_state, br#"{ "b": 1.50,  "a":"x" }"#);
        assert_eq!(g.initial_height, 1);
    }

    #[test]
    fn mistakes_are_named() {
        for (doc, word) in [
            (r#"{"chain_id":"c"}"#, "genesis_time is missing"),
            (r#"{"genesis_time":"2026-01-01T00:00:00Z","chain_id":""}"#, "chain_id"),
            (
                r#"{"genesis_time":"2026-01-01T00:00:00Z","chain_id":"c","validators":[
                    {"pub_key":{"type":"tendermint/PubKeyEd25519","value":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},"power":"1152921504606846975"},
                    {"pub_key":{"type":"tendermint/PubKeyEd25519","value":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},"power":"1"}]}"#,
                "1152921504606846976, must be at most 1152921504606846975",
            ),
            (
                r#"{"genesis_time":"2026-01-01T00:00:00Z","chain_id":"c","initial_height":"-4"}"#,
                "initial_height is -4",
            ),
            (
                r#"{"genesis_time":"2026-01-01T00:00:00Z","chain_id":"c","app_hash":"xy"}"#,
                "app_hash",
            ),
            (
                r#"{"genesis_time":"2026-01-01T00:00:00Z","chain_id":"c","validators":[{"power":"1"}]}"#,
                "validators[0].pub_key",
            ),
            (r#"[1"#, "not a genesis document"),
        ] {
            let e = Genesis::from_json(doc.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(word), "{doc}: {e}");
        }
    }
}
