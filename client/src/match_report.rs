//! Why a bid finds no provider: which dimension excludes how many. The chain checks the same when a provider claims.

use serde::Serialize;
use tenure_proto::tenure::{
    base::v1::Resources,
    provider::v1::{Provider, ProviderStatus},
};

use crate::units::{show_rate, show_size};

/// One dimension and how many providers it excludes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exclusion {
    /// `status`, `bond`, `cpu`, `memory` or `storage`.
    pub dimension: &'static str,
    /// How many providers; one that lacks two things counts under both.
    pub providers: usize,
    /// What is needed, and the most that any of them has.
    pub detail: String,
}

/// Who could serve a bid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MatchReport {
    /// Registered providers.
    pub providers: usize,
    /// Owners of those with enough of everything.
    pub fitting: Vec<String>,
    /// What excludes the others.
    pub excluded: Vec<Exclusion>,
    /// The price ceiling, for people.
    pub ceiling: String,
}

/// A dimension and how its amounts are shown.
type Shown = (&'static str, fn(u64) -> String);

/// Compares what a bid needs with what providers have free. `min_bond` is the chain's least bond, base units.
pub fn match_report(
    needed: &Resources,
    max_rate: u64,
    denom: &str,
    min_bond: u128,
    providers: &[Provider],
) -> MatchReport {
    let mut fitting = Vec::new();
    let mut status = Vec::new();
    let mut bond = 0;
    let mut short = [Vec::new(), Vec::new(), Vec::new()];
    let parts = |r: &Resources| [r.cpu_milli, r.memory_bytes, r.storage_bytes];
    for provider in providers {
        let mut fits = true;
        if provider.status() != ProviderStatus::Active {
            fits = false;
            status.push(status_name(provider.status()));
        }
        let bonded = provider
            .bond
            .as_ref()
            .and_then(|b| b.amount.parse::<u128>().ok())
            .unwrap_or(0);
        if bonded < min_bond {
            fits = false;
            bond += 1;
        }
        let capacity = parts(&provider.capacity.unwrap_or_default());
        let reserved = parts(&provider.reserved.unwrap_or_default());
        for (i, need) in parts(needed).into_iter().enumerate() {
            let free = capacity[i].saturating_sub(reserved[i]);
            if free < need {
                fits = false;
                short[i].push(free);
            }
        }
        if fits {
            fitting.push(provider.owner.clone());
        }
    }
    let mut excluded = Vec::new();
    if !status.is_empty() {
        let providers = status.len();
        status.sort_unstable();
        status.dedup();
        excluded.push(Exclusion {
            dimension: "status",
            providers,
            detail: format!("not active but {}", status.join(", ")),
        });
    }
    if bond > 0 {
        excluded.push(Exclusion {
            dimension: "bond",
            providers: bond,
            detail: format!("less than the least bond of {min_bond} uten"),
        });
    }
    let show: [Shown; 3] = [
        ("cpu", |milli| format!("{milli} mCPU")),
        ("memory", show_size),
        ("storage", show_size),
    ];
    for (i, (dimension, show)) in show.into_iter().enumerate() {
        if let Some(most) = short[i].iter().max() {
            let detail = format!(
                "{} needed; the most that any of them has free is {}",
                show(parts(needed)[i]),
                show(*most)
            );
            excluded.push(Exclusion {
                dimension,
                providers: short[i].len(),
                detail,
            });
        }
    }
    MatchReport {
        providers: providers.len(),
        fitting,
        excluded,
        ceiling: show_rate(max_rate, denom),
    }
}

/// A provider's status as a word.
pub fn status_name(status: ProviderStatus) -> &'static str {
    match status {
        ProviderStatus::Unspecified => "unknown",
        ProviderStatus::Active => "active",
        ProviderStatus::Draining => "draining",
        ProviderStatus::Unbonding => "unbonding",
    }
}

impl std::fmt::Display for MatchReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.providers == 0 {
            return f
                .write_str("no provider is registered on this chain: start one with `tenure-agent`, or wait for one");
        }
        if self.fitting.is_empty() {
            write!(f, "none of the {} providers can take this bid:", self.providers)?;
        } else {
            write!(
                f,
                "{} of {} providers have enough free; each decides whether {} is enough for it",
                self.fitting.len(),
                self.providers,
                self.ceiling
            )?;
        }
        for exclusion in &self.excluded {
            write!(
                f,
                "\n  {} excludes {}: {}",
                exclusion.dimension, exclusion.providers, exclusion.detail
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tenure_proto::cosmos::base::v1beta1::Coin;

    use super::*;

    fn provider(owner: &str, status: ProviderStatus, bond: &str, memory: u64, reserved: u64) -> Provider {
        Provider {
            owner: owner.to_owned(),
            status: status.into(),
            bond: Some(Coin {
                denom: "uten".to_owned(),
                amount: bond.to_owned(),
            }),
            capacity: Some(Resources {
                cpu_milli: 1_000,
                memory_bytes: memory,
                storage_bytes: 0,
            }),
            reserved: Some(Resources {
                cpu_milli: 0,
                memory_bytes: reserved,
                storage_bytes: 0,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn each_dimension_says_how_many_it_excludes_and_what_the_best_of_them_has() {
        let needed = Resources {
            cpu_milli: 500,
            memory_bytes: 64 << 20,
            storage_bytes: 0,
        };
        let providers = [
            provider("fits", ProviderStatus::Active, "10", 128 << 20, 64 << 20),
            provider("full", ProviderStatus::Active, "10", 128 << 20, 96 << 20),
            provider("small", ProviderStatus::Draining, "10", 16 << 20, 0),
            provider("poor", ProviderStatus::Active, "9", 1 << 30, 0),
        ];
        let report = match_report(&needed, 3_600_000, "uten", 10, &providers);
        assert_eq!(report.fitting, ["fits"]);
        let found: Vec<_> = report.excluded.iter().map(|e| (e.dimension, e.providers)).collect();
        assert_eq!(found, [("status", 1), ("bond", 1), ("memory", 2)]);
        assert!(report.excluded[2]
            .detail
            .contains("64 MiB needed; the most that any of them has free is 32 MiB"));
        assert!(report.to_string().contains("3.6 TEN/h"));
        let none = match_report(&needed, 1, "uten", 10, &providers[1..]);
        assert!(none.to_string().starts_with("none of the 3 providers"), "{none}");
        assert!(match_report(&needed, 1, "uten", 10, &[])
            .to_string()
            .contains("no provider is registered"));
    }
}
