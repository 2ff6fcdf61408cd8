//! The layout of the store `market` and of what is derived from it.
//!
//! ```text
//! p                              Params
//! n                              Counters
//! b <id: 8, big-endian>          Bid         62 0000000000000007
//! c <bid: 8> <provider: 20>      Claim       63 0000000000000007 0101…01
//! l <id: 8>                      Lease       6c 0000000000000003
//! d <provider: 20>               Defaulting  64 0101…01
//! f                              provider (20 bytes) with which the next block goes on finalising closing leases
//! ```
//!
//! Indexes, derived (`market.…` spaces; see [`crate::derive`]):
//!
//! ```text
//! market.bid.state/   <state: 1> <id: 8>                               not EXPIRED: time alone makes it so
//! market.bid.tenant/  <tenant: 20> <id: 8>
//! market.ready/       <claims_close.ms: 8> <posted_height: 8> <priority: 8> <id: 8> -> claims_close.height: 8
//! market.lease.state/ <state: 1> <id: 8>                               STARTING and ACTIVE: time alone makes the others
//! market.lease.open/  <id: 8>
//! market.lease.of/    <tenant or provider: 20> <id: 8>
//! market.lease.opof/  <tenant or provider: 20> <id: 8>                 open leases only
//! market.closing/     <provider: 20> <ended_ms: 8> <id: 8>
//! market.ends/        <provider: 20> <id: 8>                           leases that a default would end
//! market.due/         <provider: 20> <start_by.ms or expires_ms: 8> <id: 8> -> start_by.height or 0: 8
//! ```

use tenure_sdk::{Error, Result};
use tenure_types::Address;

/// The parameters.
pub const PARAMS: &[u8] = b"p";
/// The ids given out last.
pub const COUNTERS: &[u8] = b"n";
/// Where the next block goes on finalising.
pub const FINAL_CURSOR: &[u8] = b"f";
/// Prefix of bids.
pub const BID: u8 = b'b';
/// Prefix of claims.
pub const CLAIM: u8 = b'c';
/// Prefix of leases.
pub const LEASE: u8 = b'l';
/// Prefix of providers whose leases are being ended by a default.
pub const DEFAULTING: u8 = b'd';

/// Key of a bid: `b` · id.
pub fn bid(id: u64) -> Vec<u8> {
    [&[BID], id.to_be_bytes().as_slice()].concat()
}

/// Prefix of a bid's claims: `c` · bid.
pub fn claims(bid: u64) -> Vec<u8> {
    [&[CLAIM], bid.to_be_bytes().as_slice()].concat()
}

/// Key of a claim: `c` · bid · provider.
pub fn claim(bid: u64, provider: &Address) -> Vec<u8> {
    [claims(bid).as_slice(), provider.as_bytes()].concat()
}

/// Key of a lease: `l` · id.
pub fn lease(id: u64) -> Vec<u8> {
    [&[LEASE], id.to_be_bytes().as_slice()].concat()
}

/// Key of a defaulting provider: `d` · provider.
pub fn defaulting(provider: &Address) -> Vec<u8> {
    [&[DEFAULTING], provider.as_bytes().as_slice()].concat()
}

/// The id in the last 8 bytes of a key. Error (internal): the key is shorter.
pub fn id_of(key: &[u8]) -> Result<u64> {
    key.last_chunk::<8>()
        .map(|id| u64::from_be_bytes(*id))
        .ok_or_else(|| Error::internal(format!("market: key {} holds no id", hex::encode(key))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_change() {
        let provider = Address::new([1; 20]);
        let keys = [bid(7), claim(7, &provider), lease(3), defaulting(&provider)].map(hex::encode);
        assert_eq!(
            keys,
            [
                "620000000000000007",
                "6300000000000000070101010101010101010101010101010101010101",
                "6c0000000000000003",
                "640101010101010101010101010101010101010101",
            ]
        );
        assert_eq!((PARAMS, COUNTERS, FINAL_CURSOR), (&b"p"[..], &b"n"[..], &b"f"[..]));
        assert_eq!(id_of(&lease(3)), Ok(3));
        assert!(id_of(b"short").is_err_and(|e| e.is_internal()));
    }
}
