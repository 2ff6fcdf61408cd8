//! Refusals of the market, with stable numbers. Codespace `market`.

use tenure_types::{Error, Resources};

/// Why the market refuses. The number of each is [`MarketError::code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarketError {
    /// 1: a field is out of its bounds.
    #[error("{field} is {value}, {limit}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// 2: the bid does not exist.
    #[error("bid {0} does not exist")]
    NoBid(u64),
    /// 3: the lease does not exist.
    #[error("lease {0} does not exist")]
    NoLease(u64),
    /// 4: the bid's state does not allow it.
    #[error("bid {id} is {state}, must be OPEN")]
    BidNotOpen {
        /// The bid.
        id: u64,
        /// Its state.
        state: &'static str,
    },
    /// 5: the lease's state does not allow it.
    #[error("lease {id} is {state}, must be {wanted}")]
    LeaseState {
        /// The lease.
        id: u64,
        /// Its state.
        state: &'static str,
        /// States that allow it.
        wanted: &'static str,
    },
    /// 6: the signer is not the object's tenant or provider.
    #[error("{signer} is not the {role} of {object} {id}, {owner} is")]
    NotYours {
        /// Who signed.
        signer: String,
        /// `tenant` or `provider`.
        role: &'static str,
        /// `bid` or `lease`.
        object: &'static str,
        /// Its id.
        id: u64,
        /// Who may.
        owner: String,
    },
    /// 7: the denom is not priced in here.
    #[error("denom {denom:?} is not among those bids may be priced in: {allowed}")]
    Denom {
        /// The denom.
        denom: String,
        /// Those allowed.
        allowed: String,
    },
    /// 8: the account would not be funded for the least runway.
    #[error("{have} in the account pay for less than the {min_runway_ms} ms that rate {rate} per hour must stay funded: needs {need}")]
    Runway {
        /// What the account would hold, base units.
        have: u128,
        /// What it must hold, base units.
        need: u128,
        /// Rate, base units per hour.
        rate: u64,
        /// Least runway, milliseconds.
        min_runway_ms: u64,
    },
    /// 9: the rate is above the bid's ceiling.
    #[error("rate {rate} is above the ceiling of bid {bid}, {ceiling}")]
    AboveCeiling {
        /// The bid.
        bid: u64,
        /// The rate claimed.
        rate: u64,
        /// The bid's ceiling.
        ceiling: u64,
    },
    /// 10: an improvement must be at least the rule's.
    #[error("rate {rate} must be at most {most} to improve on your claim at {old}")]
    NoImprovement {
        /// The rate claimed.
        rate: u64,
        /// The highest rate that would be an improvement.
        most: u64,
        /// The standing claim's rate.
        old: u64,
    },
    /// 11: the bid has its most claims and none of them is worse.
    #[error("bid {bid} has {limit} claims, its most, and none is worse than rate {rate}")]
    BidFull {
        /// The bid.
        bid: u64,
        /// Most claims.
        limit: u32,
        /// The rate claimed.
        rate: u64,
    },
    /// 12: the provider may not take leases.
    #[error("provider {provider} may not take leases: {why}")]
    ProviderNotActive {
        /// Owner of the provider.
        provider: String,
        /// What it is.
        why: String,
    },
    /// 13: the provider's free capacity does not suffice.
    #[error("bid {bid} needs {need}, provider {provider} has {free} free")]
    Capacity {
        /// The bid.
        bid: u64,
        /// Owner of the provider.
        provider: String,
        /// What the bid needs.
        need: Resources,
        /// What is free.
        free: Resources,
    },
    /// 14: there is no such claim.
    #[error("provider {provider} has no claim on bid {bid}")]
    NoClaim {
        /// The bid.
        bid: u64,
        /// Owner of the provider.
        provider: String,
    },
    /// 15: the hand-over receipt's signature does not verify.
    #[error("receipt_signature does not verify as the tenant's over the receipt of lease {lease}: {why}")]
    Receipt {
        /// The lease.
        lease: u64,
        /// What is wrong.
        why: String,
    },
    /// 16: nobody may claim the bid any more.
    #[error("bid {bid} took claims until height {height} and {ms} ms")]
    ClaimsEnded {
        /// The bid.
        bid: u64,
        /// Height part of the deadline.
        height: u64,
        /// Instant of the deadline, live milliseconds.
        ms: u64,
    },
    /// 17: the epoch is not the one that is attested next, or has not ended.
    #[error("epoch {epoch} cannot be excepted: {why}")]
    Epoch {
        /// The epoch.
        epoch: u64,
        /// What is wrong.
        why: String,
    },
}

impl MarketError {
    /// Its stable number.
    pub const fn code(&self) -> u32 {
        match self {
            Self::Field { .. } => 1,
            Self::NoBid(_) => 2,
            Self::NoLease(_) => 3,
            Self::BidNotOpen { .. } => 4,
            Self::LeaseState { .. } => 5,
            Self::NotYours { .. } => 6,
            Self::Denom { .. } => 7,
            Self::Runway { .. } => 8,
            Self::AboveCeiling { .. } => 9,
            Self::NoImprovement { .. } => 10,
            Self::BidFull { .. } => 11,
            Self::ProviderNotActive { .. } => 12,
            Self::Capacity { .. } => 13,
            Self::NoClaim { .. } => 14,
            Self::Receipt { .. } => 15,
            Self::ClaimsEnded { .. } => 16,
            Self::Epoch { .. } => 17,
        }
    }

    /// A field out of its bounds.
    pub(crate) fn field(field: &'static str, value: impl ToString, limit: impl Into<String>) -> Error {
        Self::Field {
            field,
            value: value.to_string(),
            limit: limit.into(),
        }
        .into()
    }
}

impl From<MarketError> for Error {
    fn from(error: MarketError) -> Self {
        Self::new(crate::NAME, error.code(), error.to_string())
    }
}
