//! What may go wrong. Numbers never change.

use tenure_types::Error;

use crate::NAME;

/// An error of the codespace `escrow`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EscrowError {
    /// 1: there is no such account.
    #[error("escrow account {0} does not exist")]
    AccountNotFound(u64),
    /// 2: there is no such payment.
    #[error("lease {0} has no payment")]
    PaymentNotFound(u64),
    /// 3: the id is taken.
    #[error("{what} {id} exists already")]
    Exists {
        /// An escrow account or a payment.
        what: &'static str,
        /// Its id.
        id: u64,
    },
    /// 4: the account is closed or about to close.
    #[error("escrow account {0} is closed or closing")]
    AccountClosed(u64),
    /// 5: payments are open that have not ended.
    #[error("escrow account {account}: the payment of lease {lease} has not ended")]
    PaymentOpen {
        /// Account.
        account: u64,
        /// Lease.
        lease: u64,
    },
    /// 6: the coin is of another denom than the account.
    #[error("denom is {found}, escrow account {account} holds {denom}")]
    Denom {
        /// Account.
        account: u64,
        /// Its denom.
        denom: String,
        /// The coin's denom.
        found: String,
    },
    /// 7: the deposit is too small.
    #[error("deposit is {amount}, must be at least {min}")]
    DepositTooSmall {
        /// The deposit.
        amount: u128,
        /// The least.
        min: u128,
    },
    /// 8: the account would hold too much.
    #[error("escrow account {account} would hold {balance}, must hold at most {max}")]
    BalanceTooLarge {
        /// Account.
        account: u64,
        /// Balance after.
        balance: u128,
        /// The most.
        max: u128,
    },
    /// 9: the account holds as many lots as it may.
    #[error("escrow account {account} has room for {max} deposits, one of them its owner's: no more fit")]
    TooManyLots {
        /// Account.
        account: u64,
        /// The most.
        max: usize,
    },
    /// 10: the signer is not the account's owner.
    #[error("escrow account {account} is {owner}'s, not {found}'s")]
    NotOwner {
        /// Account.
        account: u64,
        /// Its owner.
        owner: String,
        /// Who asked.
        found: String,
    },
    /// 11: the owner's unspent lots hold less.
    #[error("{wanted} asked of escrow account {account}, its owner's unspent deposits hold {found}")]
    LotsTooSmall {
        /// Account.
        account: u64,
        /// Asked for.
        wanted: u128,
        /// There.
        found: u128,
    },
    /// 12: the account would not stay funded long enough.
    #[error("escrow account {account} would be funded until {funded_until_ms} ms, must be until {needed_ms} ms at least: deposit more")]
    Underfunded {
        /// Account.
        account: u64,
        /// X after.
        funded_until_ms: u64,
        /// Now and the least runway.
        needed_ms: u64,
    },
    /// 13: a rate is out of bounds.
    #[error("rate is {rate}, must be from 1 to {max} base units per hour")]
    Rate {
        /// The rate.
        rate: u64,
        /// The most.
        max: u64,
    },
    /// 14: the account has as many open payments as it may.
    #[error("escrow account {account} has {max} open payments, no more fit")]
    TooManyPayments {
        /// Account.
        account: u64,
        /// The most.
        max: usize,
    },
    /// 15: the payment holds as many unsettled segments as it may.
    #[error("lease {lease} has {found} unsettled changes of its rate: wait for the attestation of the epoch at {since_ms} ms")]
    TooManySegments {
        /// Lease.
        lease: u64,
        /// Segments.
        found: usize,
        /// Settled up to.
        since_ms: u64,
    },
    /// 16: the payment runs, or does not, or has ended.
    #[error("the payment of lease {lease} {why}")]
    WrongState {
        /// Lease.
        lease: u64,
        /// What stands in the way.
        why: &'static str,
    },
    /// 17: an exception is not for the epoch whose outcome is next.
    #[error("epoch {start_ms} to {end_ms} ms cannot be excepted for lease {lease}: outcomes are final until {final_until_ms} ms, now is {now_ms} ms")]
    NotNextEpoch {
        /// Lease.
        lease: u64,
        /// First instant of the epoch.
        start_ms: u64,
        /// First instant after it.
        end_ms: u64,
        /// W.
        final_until_ms: u64,
        /// Live time.
        now_ms: u64,
    },
    /// 18: the outcome of the last epoch is open.
    #[error("lease {lease} ended at {end_ms} ms, outcomes are final until {final_until_ms} ms")]
    NotFinal {
        /// Lease.
        lease: u64,
        /// Its end.
        end_ms: u64,
        /// W.
        final_until_ms: u64,
    },
    /// 19: a parameter is out of bounds.
    #[error("escrow.params.{field} is {value}, must be {limit}")]
    Params {
        /// Field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        limit: String,
    },
    /// 20: a standing order is out of bounds.
    #[error("auto_top_up.{field} is {value:?}, must be {limit}")]
    TopUpOrder {
        /// Field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        limit: String,
    },
}

impl EscrowError {
    /// Its stable number.
    pub const fn code(&self) -> u32 {
        match self {
            Self::AccountNotFound(_) => 1,
            Self::PaymentNotFound(_) => 2,
            Self::Exists { .. } => 3,
            Self::AccountClosed(_) => 4,
            Self::PaymentOpen { .. } => 5,
            Self::Denom { .. } => 6,
            Self::DepositTooSmall { .. } => 7,
            Self::BalanceTooLarge { .. } => 8,
            Self::TooManyLots { .. } => 9,
            Self::NotOwner { .. } => 10,
            Self::LotsTooSmall { .. } => 11,
            Self::Underfunded { .. } => 12,
            Self::Rate { .. } => 13,
            Self::TooManyPayments { .. } => 14,
            Self::TooManySegments { .. } => 15,
            Self::WrongState { .. } => 16,
            Self::NotNextEpoch { .. } => 17,
            Self::NotFinal { .. } => 18,
            Self::Params { .. } => 19,
            Self::TopUpOrder { .. } => 20,
        }
    }
}

impl From<EscrowError> for Error {
    fn from(error: EscrowError) -> Self {
        Self::new(NAME, error.code(), error.to_string())
    }
}
