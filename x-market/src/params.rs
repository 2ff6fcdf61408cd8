//! Rules of the market.

use tenure_proto::tenure::{base::v1::Window, market::v1::Params};
use tenure_sdk::{codes, records::required, Ctx, Error, Result};
use tenure_types::coin::check_denom;

use crate::{keys, NAME};

/// Defaults for a development chain.
pub fn default_params() -> Params {
    Params {
        start: Some(Window { blocks: 5, ms: 60_000 }),
        bid_expiry: Some(Window {
            blocks: 100,
            ms: 3_600_000,
        }),
        max_duration_ms: 30 * 24 * 3_600_000,
        max_claims_per_bid: 64,
        min_improvement_bps: 100,
        matches_per_block: 100,
        denoms: vec![tenure_types::BASE_DENOM.to_owned()],
        defaults_per_block: 100,
    }
}

/// The rules in force.
pub fn params(ctx: &mut Ctx) -> Result<Params> {
    required(ctx.load(NAME, keys::PARAMS)?, "market params")
}

/// Checks rules before they come into force. Error (invalid request): names the field, its value and its limit.
pub fn check(params: &Params) -> Result<()> {
    let refuse = |field: &str, value: &dyn std::fmt::Display, limit: &str| {
        Err(Error::sdk(
            codes::INVALID_REQUEST,
            format!("market.params.{field} is {value}, must be {limit}"),
        ))
    };
    let (Some(start), Some(expiry)) = (&params.start, &params.bid_expiry) else {
        return refuse("start or bid_expiry", &"absent", "given");
    };
    if start.blocks == 0 || start.ms == 0 {
        return refuse(
            "start",
            &format_args!("{} blocks, {} ms", start.blocks, start.ms),
            "above 0 in both parts",
        );
    }
    if expiry.blocks == 0 || expiry.ms == 0 {
        return refuse(
            "bid_expiry",
            &format_args!("{} blocks, {} ms", expiry.blocks, expiry.ms),
            "above 0 in both parts",
        );
    }
    // Instants stay below 2^43 ms (escrow's bound on time); a century of lease would not.
    const LONGEST: u64 = 10 * 365 * 24 * 3_600_000;
    if !(1_000..=LONGEST).contains(&params.max_duration_ms) {
        return refuse("max_duration_ms", &params.max_duration_ms, "from 1000 to ten years");
    }
    for (field, value, most) in [
        ("max_claims_per_bid", params.max_claims_per_bid, 1_000),
        ("matches_per_block", params.matches_per_block, 10_000),
        ("defaults_per_block", params.defaults_per_block, 1_000),
    ] {
        if value == 0 || value > most {
            return refuse(field, &value, &format!("from 1 to {most}"));
        }
    }
    if params.min_improvement_bps > 10_000 {
        return refuse("min_improvement_bps", &params.min_improvement_bps, "at most 10000");
    }
    if params.denoms.is_empty() {
        return refuse("denoms", &"empty", "at least one denom");
    }
    params
        .denoms
        .iter()
        .try_for_each(|denom| check_denom(denom).map_err(|e| e.context("market.params.denoms")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_bounds() {
        assert_eq!(check(&default_params()), Ok(()));
        let broken: [fn(&mut Params); 9] = [
            |p| p.start = None,
            |p| p.start = Some(Window { blocks: 0, ms: 1 }),
            |p| p.bid_expiry = Some(Window { blocks: 1, ms: 0 }),
            |p| p.max_duration_ms = 999,
            |p| p.max_claims_per_bid = 0,
            |p| p.matches_per_block = 0,
            |p| p.defaults_per_block = 10_001,
            |p| p.min_improvement_bps = 10_001,
            |p| p.denoms = vec!["7".to_owned()],
        ];
        for (i, breaks) in broken.iter().enumerate() {
            let mut params = default_params();
            breaks(&mut params);
            assert!(check(&params).is_err(), "case {i}");
        }
    }
}
