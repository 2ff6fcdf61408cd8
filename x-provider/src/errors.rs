//! What may go wrong. Numbers never change.

use tenure_types::{Error, Resources};

use crate::NAME;

/// An error of the codespace `provider`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// 1: there is no such provider.
    #[error("provider {0} does not exist")]
    NotFound(String),
    /// 2: the owner is a provider already.
    #[error("provider {0} is registered already")]
    AlreadyRegistered(String),
    /// 3: the bond is smaller than the minimum or of another denom.
    #[error("bond is {bond}, must be at least {min}")]
    Bond {
        /// The bond offered.
        bond: String,
        /// The least bond.
        min: String,
    },
    /// 4: a text or vector of a declaration is out of bounds.
    #[error("{field} {why}")]
    Declaration {
        /// Field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// 5: the status does not allow it.
    #[error("provider {owner} is {status}: {why}")]
    WrongStatus {
        /// The provider.
        owner: String,
        /// Its status.
        status: &'static str,
        /// What does not go.
        why: &'static str,
    },
    /// 6: the capacity left does not hold it, or the declared one not what is reserved.
    #[error("capacity of {owner} is {capacity}, reserved would be {reserved}")]
    Capacity {
        /// The provider.
        owner: String,
        /// Declared capacity.
        capacity: Resources,
        /// What would be reserved of it.
        reserved: Resources,
    },
    /// 7: an attested epoch has not ended.
    #[error("epoch {epoch} ends at {ends_ms} ms, now is {now_ms} ms: too early")]
    TooEarly {
        /// Epoch.
        epoch: u64,
        /// Its end.
        ends_ms: u64,
        /// Live time.
        now_ms: u64,
    },
    /// 8: an attested epoch's deadline has passed.
    #[error("epoch {epoch}: attestations were taken before height {height} or {ms} ms, now is height {now_height}, {now_ms} ms: too late")]
    TooLate {
        /// Epoch.
        epoch: u64,
        /// Height part of the deadline.
        height: u64,
        /// Instant part of the deadline.
        ms: u64,
        /// Height.
        now_height: u64,
        /// Live time.
        now_ms: u64,
    },
    /// 9: an attested epoch's outcome is final.
    #[error("epoch {epoch} ends at {ends_ms} ms, outcomes are final until {final_until_ms} ms")]
    AlreadyFinal {
        /// Epoch.
        epoch: u64,
        /// Its end.
        ends_ms: u64,
        /// W.
        final_until_ms: u64,
    },
    /// 10: the epochs of a message do not ascend.
    #[error("epochs must ascend: {next} follows {last}")]
    NotAscending {
        /// An epoch.
        last: u64,
        /// The one after it.
        next: u64,
    },
    /// 11: no epoch or too many in a message.
    #[error("epochs holds {found}, must hold 1 to {max}")]
    EpochCount {
        /// Found.
        found: usize,
        /// Most allowed.
        max: usize,
    },
    /// 12: a root is not 32 bytes.
    #[error("root of epoch {epoch} has {found} bytes, must have 32")]
    Root {
        /// Epoch.
        epoch: u64,
        /// Its root's length.
        found: usize,
    },
    /// 13: the provider's last gap lies ahead of the new grid.
    #[error("missed time is recorded until {until_ms} ms: register again after {again_ms} ms")]
    TooSoon {
        /// End of the last gap.
        until_ms: u64,
        /// When the grid has passed it.
        again_ms: u64,
    },
    /// 14: a parameter is out of bounds.
    #[error("provider.params.{field} is {value}, must be {limit}")]
    Params {
        /// Field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        limit: String,
    },
}

impl ProviderError {
    /// Its stable number.
    pub const fn code(&self) -> u32 {
        match self {
            Self::NotFound(_) => 1,
            Self::AlreadyRegistered(_) => 2,
            Self::Bond { .. } => 3,
            Self::Declaration { .. } => 4,
            Self::WrongStatus { .. } => 5,
            Self::Capacity { .. } => 6,
            Self::TooEarly { .. } => 7,
            Self::TooLate { .. } => 8,
            Self::AlreadyFinal { .. } => 9,
            Self::NotAscending { .. } => 10,
            Self::EpochCount { .. } => 11,
            Self::Root { .. } => 12,
            Self::TooSoon { .. } => 13,
            Self::Params { .. } => 14,
        }
    }
}

impl From<ProviderError> for Error {
    fn from(error: ProviderError) -> Self {
        Self::new(NAME, error.code(), error.to_string())
    }
}
