//! Consensus parameters: defaults, rules, updates and CometBFT's JSON form (`types/params.go`).

use crate::block::MAX_BLOCK_BYTES;
use serde_json::{json, Value};
use tendermint_proto::google::protobuf::Duration;
use tendermint_proto::v0_38::types::{
    AbciParams, BlockParams, ConsensusParams, EvidenceParams, ValidatorParams, VersionParams,
};

/// CometBFT v0.38's defaults (`types.DefaultConsensusParams`): 21 MB blocks, unlimited gas, ed25519.
pub fn default_consensus_params() -> ConsensusParams {
    ConsensusParams {
        block: Some(BlockParams {
            max_bytes: 22_020_096,
            max_gas: -1,
        }),
        evidence: Some(EvidenceParams {
            max_age_num_blocks: 100_000,
            max_age_duration: Some(Duration {
                seconds: 48 * 3600,
                nanos: 0,
            }),
            max_bytes: 1_048_576,
        }),
        validator: Some(ValidatorParams {
            pub_key_types: vec!["ed25519".into()],
        }),
        version: Some(VersionParams { app: 0 }),
        abci: Some(AbciParams {
            vote_extensions_enable_height: 0,
        }),
    }
}

fn duration_ns(d: Option<Duration>) -> i128 {
    let d = d.unwrap_or_default();
    i128::from(d.seconds) * 1_000_000_000 + i128::from(d.nanos)
}

/// Checks the rules of `ConsensusParams.ValidateBasic`, and that the parameters suit a single ed25519 key without vote
/// extensions. The error names field, value and limit.
pub(crate) fn validate(params: &ConsensusParams) -> Result<(), String> {
    let block = params.block.unwrap_or_default();
    if block.max_bytes == 0 || block.max_bytes < -1 || block.max_bytes > MAX_BLOCK_BYTES {
        return Err(format!(
            "block.max_bytes is {}, must be -1 or 1 to {MAX_BLOCK_BYTES}",
            block.max_bytes
        ));
    }
    if block.max_gas < -1 {
        return Err(format!("block.max_gas is {}, must be at least -1", block.max_gas));
    }
    let evidence = params.evidence.unwrap_or_default();
    if evidence.max_age_num_blocks <= 0 {
        return Err(format!(
            "evidence.max_age_num_blocks is {}, must be greater than 0",
            evidence.max_age_num_blocks
        ));
    }
    if duration_ns(evidence.max_age_duration) <= 0 {
        return Err(format!(
            "evidence.max_age_duration is {} ns, must be greater than 0",
            duration_ns(evidence.max_age_duration)
        ));
    }
    let most = if block.max_bytes == -1 {
        MAX_BLOCK_BYTES
    } else {
        block.max_bytes
    };
    if evidence.max_bytes < 0 || evidence.max_bytes > most {
        return Err(format!(
            "evidence.max_bytes is {}, must be 0 to block.max_bytes ({most})",
            evidence.max_bytes
        ));
    }
    let extensions = params.abci.unwrap_or_default().vote_extensions_enable_height;
    if extensions != 0 {
        return Err(format!(
            "abci.vote_extensions_enable_height is {extensions}; the solo engine has no vote extensions, it must be 0"
        ));
    }
    let types = params
        .validator
        .as_ref()
        .map(|v| v.pub_key_types.as_slice())
        .unwrap_or_default();
    if let Some(other) = types.iter().find(|t| !matches!(t.as_str(), "ed25519" | "secp256k1")) {
        return Err(format!(
            "validator.pub_key_types names {other:?}, known are ed25519 and secp256k1"
        ));
    }
    if !types.iter().any(|t| t == "ed25519") {
        return Err("validator.pub_key_types must contain ed25519: it is what the solo engine signs with".into());
    }
    Ok(())
}

/// `params` with every sub-structure that `update` has put in its place (`ConsensusParams.Update`).
pub(crate) fn updated(params: &ConsensusParams, update: &ConsensusParams) -> ConsensusParams {
    ConsensusParams {
        block: update.block.or(params.block),
        evidence: update.evidence.or(params.evidence),
        validator: update.validator.clone().or_else(|| params.validator.clone()),
        version: update.version.or(params.version),
        abci: update.abci.or(params.abci),
    }
}

/// The JSON that `consensus_params` and the genesis document use: 64-bit integers as strings, durations in nanoseconds.
pub(crate) fn to_json(params: &ConsensusParams) -> Value {
    let block = params.block.unwrap_or_default();
    let evidence = params.evidence.unwrap_or_default();
    json!({
        "block": {"max_bytes": block.max_bytes.to_string(), "max_gas": block.max_gas.to_string()},
        "evidence": {
            "max_age_num_blocks": evidence.max_age_num_blocks.to_string(),
            "max_age_duration": duration_ns(evidence.max_age_duration).to_string(),
            "max_bytes": evidence.max_bytes.to_string(),
        },
        "validator": {"pub_key_types": params.validator.clone().unwrap_or_default().pub_key_types},
        "version": {"app": params.version.unwrap_or_default().app.to_string()},
        "abci": {"vote_extensions_enable_height": params.abci.unwrap_or_default().vote_extensions_enable_height.to_string()},
    })
}

/// A 64-bit integer that CometBFT writes as a string; a bare JSON number is read too, as hand-written genesis files have them.
pub(crate) fn int(value: &Value, field: &str) -> Result<Option<i64>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(s) => s
            .parse()
            .map(Some)
            .map_err(|_| format!("{field} is {s:?}, expected a 64-bit integer")),
        Value::Number(n) => n
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("{field} is {n}, expected a 64-bit integer")),
        other => Err(format!("{field} is {other}, expected a 64-bit integer in a string")),
    }
}

/// Reads the JSON of [`to_json`]. Absent members keep CometBFT's zero values, except that an absent `version` or `abci` is zero.
pub(crate) fn from_json(value: &Value) -> Result<ConsensusParams, String> {
    let get = |section: &str, field: &str| {
        int(&value[section][field], &format!("consensus_params.{section}.{field}")).map(Option::unwrap_or_default)
    };
    let age_ns = get("evidence", "max_age_duration")?;
    let types = match &value["validator"]["pub_key_types"] {
        Value::Array(items) => items
            .iter()
            .map(|t| t.as_str().map(str::to_string))
            .collect::<Option<Vec<_>>>()
            .ok_or("consensus_params.validator.pub_key_types must be a list of strings")?,
        Value::Null => Vec::new(),
        other => {
            return Err(format!(
                "consensus_params.validator.pub_key_types is {other}, expected a list of strings"
            ))
        }
    };
    let app = get("version", "app")?;
    Ok(ConsensusParams {
        block: Some(BlockParams {
            max_bytes: get("block", "max_bytes")?,
            max_gas: get("block", "max_gas")?,
        }),
        evidence: Some(EvidenceParams {
            max_age_num_blocks: get("evidence", "max_age_num_blocks")?,
            max_age_duration: Some(Duration {
                seconds: age_ns.div_euclid(1_000_000_000),
                // Below 10^9 by construction.
                nanos: age_ns.rem_euclid(1_000_000_000) as i32,
            }),
            max_bytes: get("evidence", "max_bytes")?,
        }),
        validator: Some(ValidatorParams { pub_key_types: types }),
        version: Some(VersionParams {
            app: u64::try_from(app)
                .map_err(|_| format!("consensus_params.version.app is {app}, must not be negative"))?,
        }),
        abci: Some(AbciParams {
            vote_extensions_enable_height: get("abci", "vote_extensions_enable_height")?,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_defaults_are_valid() {
        let params = default_consensus_params();
        assert_eq!(validate(&params), Ok(()));
        assert_eq!(from_json(&to_json(&params)), Ok(params));
    }

    #[test]
    fn rules_name_field_value_and_limit() {
        let mut p = default_consensus_params();
        p.block = Some(BlockParams {
            max_bytes: 0,
            max_gas: -1,
        });
        assert!(validate(&p).unwrap_err().contains("block.max_bytes is 0"));
        let mut p = default_consensus_params();
        p.abci = Some(AbciParams {
            vote_extensions_enable_height: 5,
        });
        assert!(validate(&p).unwrap_err().contains("vote_extensions_enable_height is 5"));
        let mut p = default_consensus_params();
        p.validator = Some(ValidatorParams {
            pub_key_types: vec!["secp256k1".into()],
        });
        assert!(validate(&p).unwrap_err().contains("must contain ed25519"));
    }

    #[test]
    fn an_update_replaces_whole_sections_only() {
        let base = default_consensus_params();
        let update = ConsensusParams {
            block: Some(BlockParams {
                max_bytes: 5,
                max_gas: 6,
            }),
            ..Default::default()
        };
        let after = updated(&base, &update);
        assert_eq!(after.block.unwrap().max_gas, 6);
        assert_eq!(after.evidence, base.evidence);
    }
}
