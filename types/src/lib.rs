//! Plain values of the Tenure chain: amounts, coins, addresses, time, resources, signatures and errors. No I/O.
//!
//! Everything here is decided once and used by the chain, the client and the provider's agent alike. Arithmetic is checked: an operation that
//! would overflow is an error that names both operands, never a wrapped number.

pub mod address;
pub mod attested;
pub mod coin;
pub mod error;
pub mod merkle;
pub mod resources;
pub mod time;

pub use address::{Address, AddressError};
pub use attested::{AttestedTime, GapSpan};
pub use coin::{Amount, Coin, Coins, BASE_DENOM, DISPLAY_DENOM, DISPLAY_EXPONENT};
pub use error::{sdk, Error, Result};
pub use resources::Resources;
pub use time::{Deadline, Window, MS_PER_HOUR};
