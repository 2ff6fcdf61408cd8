//! Which chain this is. A node that joined by state sync never saw the genesis file, so the chain id, which every signature covers, is part of
//! the state: store `app`, key `c` (63), the chain id in UTF-8.

use tenure_sdk::{Base, Ctx, Error, Result};

/// Store.
pub(crate) const NAME: &str = "app";
const CHAIN_ID: &[u8] = b"c";

/// Writes the chain id at genesis.
pub(crate) fn init(ctx: &mut Ctx) -> Result<()> {
    let chain_id = ctx.block.chain_id.clone().into_bytes();
    ctx.set(NAME, CHAIN_ID, chain_id)
}

/// The chain id of a committed state.
pub(crate) fn chain_id(base: &dyn Base) -> Result<String> {
    let bytes = base
        .get(NAME, CHAIN_ID)?
        .ok_or_else(|| Error::internal("the state holds no chain id"))?;
    String::from_utf8(bytes).map_err(|_| Error::internal("the stored chain id is not UTF-8"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_do_not_change() {
        assert_eq!((super::NAME, super::CHAIN_ID), ("app", b"c".as_slice()));
    }
}
