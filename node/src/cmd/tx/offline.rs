//! What a node would have told, given by flags: for commands that ask none.

use anyhow::{bail, Result};

use super::{gas_limit, payment, SendArgs, AUTO};
use crate::client_config::ClientConfig;

/// For whom and where a signature is valid.
pub(super) struct Signing {
    pub(super) chain_id: String,
    pub(super) account_number: u64,
    pub(super) sequence: u64,
}

/// What a transaction may cost.
pub(super) struct Cost {
    pub(super) gas: u64,
    pub(super) fee: u128,
}

/// Error: names every one of these flags that is missing.
fn require(flags: &[(&'static str, bool)]) -> Result<()> {
    let missing: Vec<&str> = flags
        .iter()
        .filter(|(_, given)| !given)
        .map(|(flag, _)| *flag)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "--offline asks no node, so it needs {} too. `tenured query auth account-info <address>` tells number and sequence where there is a node",
        missing.join(", ")
    );
}

impl Signing {
    /// What must be given, and whether it is.
    fn flags(send: &SendArgs, config: &ClientConfig) -> [(&'static str, bool); 3] {
        [
            ("--account-number", send.account_number.is_some()),
            ("--sequence", send.sequence.is_some()),
            ("--chain-id", !chain_id(send, config).is_empty()),
        ]
    }

    /// Error: names every flag that is missing.
    pub(super) fn of(send: &SendArgs, config: &ClientConfig) -> Result<Self> {
        require(&Self::flags(send, config))?;
        Ok(Self {
            chain_id: chain_id(send, config).to_owned(),
            account_number: send.account_number.unwrap_or_default(),
            sequence: send.sequence.unwrap_or_default(),
        })
    }
}

impl Cost {
    fn flags(send: &SendArgs) -> [(&'static str, bool); 2] {
        [
            ("--gas <number>", send.gas != AUTO),
            (
                "--fees or --gas-prices",
                send.fees.is_some() || send.gas_prices.is_some(),
            ),
        ]
    }

    /// Error: names every flag that is missing.
    pub(super) fn of(send: &SendArgs) -> Result<Self> {
        require(&Self::flags(send))?;
        let gas = gas_limit(&send.gas)?;
        let fee = payment(send, gas, || bail!("--offline needs --fees or --gas-prices"))?;
        Ok(Self { gas, fee })
    }
}

/// Both. Error: names every flag that is missing.
pub(super) fn given(send: &SendArgs, config: &ClientConfig) -> Result<(Signing, Cost)> {
    require(&[&Signing::flags(send, config)[..], &Cost::flags(send)].concat())?;
    Ok((Signing::of(send, config)?, Cost::of(send)?))
}

fn chain_id<'a>(send: &'a SendArgs, config: &'a ClientConfig) -> &'a str {
    send.chain_id.as_deref().unwrap_or(&config.chain_id)
}
