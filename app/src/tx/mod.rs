//! The pipeline of a transaction: decode → ante → messages → result.
//!
//! Transactions are Cosmos SDK transactions byte for byte. What fails in `ante` changes nothing and costs nothing; what fails later has paid
//! its fee and used its sequence, and all that its messages wrote is taken back. Attestations may be free of charge: [`free`].

mod ahead;
mod ante;
mod cache;
mod decode;
mod free;
mod result;
mod run;
mod sign;

pub(crate) use ahead::Ahead;
pub(crate) use ante::{stateless, Rules, SIGNATURE_BYTES};
pub(crate) use cache::{Signatures, Transactions};
pub(crate) use decode::{decode, Routes, Tx};
pub(crate) use free::is_free;
pub use free::MAX_FREE_GAS;
pub(crate) use result::abci_event;
pub(crate) use run::{check, deliver, failed, simulate};
pub use sign::{sign_bytes, verify};
