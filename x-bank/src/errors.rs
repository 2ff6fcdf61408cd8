//! What may go wrong. Numbers are the Cosmos bank's own, and never change.

use tenure_types::{Coin, Error};

use crate::NAME;

/// An error of the codespace `bank`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BankError {
    /// 2: a MsgMultiSend without an input.
    #[error("inputs is empty, must hold exactly 1: no inputs to send transaction")]
    NoInputs,
    /// 3: a MsgMultiSend without an output.
    #[error("outputs is empty, must hold at least 1: no outputs to send transaction")]
    NoOutputs,
    /// 4: a MsgMultiSend that gives other coins than it takes.
    #[error("inputs give {inputs}, outputs take {outputs}: sum inputs != sum outputs")]
    SumsDiffer {
        /// What the input gives of the first denom that differs.
        inputs: Coin,
        /// What the outputs take of it.
        outputs: Coin,
    },
    /// 5: transfers are switched off.
    #[error("params.default_send_enabled is false: send transactions are disabled")]
    SendDisabled,
    /// 9: a MsgMultiSend with several inputs.
    #[error("inputs holds {0} senders, must hold exactly 1: multiple senders not allowed")]
    MultipleSenders(usize),
}

impl BankError {
    /// Its stable number.
    pub fn code(&self) -> u32 {
        match self {
            Self::NoInputs => 2,
            Self::NoOutputs => 3,
            Self::SumsDiffer { .. } => 4,
            Self::SendDisabled => 5,
            Self::MultipleSenders(_) => 9,
        }
    }
}

impl From<BankError> for Error {
    fn from(error: BankError) -> Self {
        Self::new(NAME, error.code(), error.to_string())
    }
}
