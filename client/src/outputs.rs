//! Outputs against the chain, and a closed lease's money against its deposit.

use tenure_proto::{
    cosmos::base::v1beta1::Coin,
    tenure::market::v1::{LeaseBalance, OutputList},
};

use crate::{auth::output_root, gateway::check_file_name, Error, Result};

/// Checks a gateway's output list against the root on chain: then every hash in it is what the provider reported. Error (verification).
pub fn check_outputs(outputs: &OutputList, root_on_chain: &[u8]) -> Result<()> {
    let computed = output_root(outputs);
    if root_on_chain != computed {
        let on_chain = if root_on_chain.is_empty() {
            "none".to_owned()
        } else {
            hex::encode(root_on_chain)
        };
        return Err(Error::Verification(format!(
            "the gateway's list of outputs has the root {}, and the lease's root on chain is {on_chain}: the provider shows other outputs than \
             it reported. Nothing was fetched",
            hex::encode(computed)
        )));
    }
    for pair in outputs.files.windows(2) {
        if pair[0].name >= pair[1].name {
            let detail = format!(
                "the list of outputs must ascend by name: {:?} is followed by {:?}",
                pair[0].name, pair[1].name
            );
            return Err(Error::Verification(detail));
        }
    }
    outputs
        .files
        .iter()
        .try_for_each(|file| check_file_name(&file.name).map_err(Error::Verification))
}

/// A lease account's money in base units.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Money {
    /// Denom of all.
    pub denom: String,
    /// Paid in.
    pub deposited: u128,
    /// Paid to the provider, without the protocol's share.
    pub provider: u128,
    /// The protocol's share.
    pub take: u128,
    /// Returned.
    pub refunded: u128,
    /// Still held.
    pub held: u128,
}

impl Money {
    /// Reads a balance. Error (verification): its parts do not add up to what was deposited.
    pub fn of(balance: &LeaseBalance) -> Result<Self> {
        let malformed = |field: &str| Error::Malformed {
            what: "the node",
            detail: format!("field balance.{field}"),
        };
        let amount = |field: &str, coin: &Option<Coin>| match coin {
            Some(coin) => coin.amount.parse::<u128>().map_err(|_| malformed(field)),
            None => Err(malformed(field)),
        };
        let denom = balance.deposited.as_ref().map(|c| c.denom.clone()).unwrap_or_default();
        let deposited = amount("deposited", &balance.deposited)?;
        let paid = amount("paid", &balance.paid)?;
        let take = amount("take", &balance.take)?;
        let refunded = amount("refunded", &balance.refunded)?;
        let held = amount("held", &balance.held)?;
        let sum = paid.checked_add(refunded).and_then(|s| s.checked_add(held));
        let (Some(provider), true) = (paid.checked_sub(take), sum == Some(deposited)) else {
            return Err(Error::Verification(format!(
                "the account does not add up: deposited {deposited}, and paid {paid} (of it {take} to the protocol) + refunded {refunded} + held {held}"
            )));
        };
        Ok(Self {
            denom,
            deposited,
            provider,
            take,
            refunded,
            held,
        })
    }
}

#[cfg(test)]
mod tests {
    use tenure_proto::tenure::market::v1::OutputFile;

    use super::*;

    fn list(names: &[&str]) -> OutputList {
        let files = names
            .iter()
            .map(|n| OutputFile {
                name: (*n).to_owned(),
                size: 1,
                sha256: vec![1; 32],
            })
            .collect();
        OutputList { exit_code: 0, files }
    }

    #[test]
    fn a_list_counts_only_if_its_root_is_on_chain() {
        let good = list(&["a", "b"]);
        let root = output_root(&good);
        assert!(check_outputs(&good, &root).is_ok());
        let changed = OutputList {
            exit_code: 1,
            ..good.clone()
        };
        assert!(matches!(check_outputs(&changed, &root), Err(Error::Verification(_))));
        assert!(matches!(check_outputs(&good, &[]), Err(Error::Verification(_))));
        for bad in [list(&["b", "a"]), list(&["a", "a"]), list(&["../a"])] {
            assert!(
                matches!(check_outputs(&bad, &output_root(&bad)), Err(Error::Verification(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn money_must_add_up_to_the_deposit() {
        let coin = |n: u32| {
            Some(Coin {
                denom: "uten".to_owned(),
                amount: n.to_string(),
            })
        };
        let balance = LeaseBalance {
            deposited: coin(100),
            paid: coin(40),
            take: coin(2),
            refunded: coin(60),
            held: coin(0),
        };
        let money = Money::of(&balance).expect("adds up");
        assert_eq!((money.provider, money.take, money.refunded), (38, 2, 60));
        for bad in [
            LeaseBalance {
                refunded: coin(59),
                ..balance.clone()
            },
            LeaseBalance {
                take: coin(41),
                ..balance.clone()
            },
        ] {
            assert!(matches!(Money::of(&bad), Err(Error::Verification(_))));
        }
        assert!(matches!(
            Money::of(&LeaseBalance { held: None, ..balance }),
            Err(Error::Malformed { .. })
        ));
    }
}
