//! The chain's balance sheet: who holds how much of its token at one height, and that it adds up to the supply.

use std::collections::BTreeMap;

use tenure_types::Address;

use crate::{chain::Client, Error, Result};

/// Accounts of modules, with what they hold money for.
const MODULES: [(&str, &str); 3] = [
    ("escrow", "escrow: deposits and unpaid earnings"),
    ("fee_collector", "fees and the protocol's share"),
    ("provider", "bonds of providers"),
];

/// One account.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// Who it is, for people.
    pub name: String,
    /// Bech32.
    pub address: String,
    /// What it holds, base units.
    #[serde(serialize_with = "decimal")]
    pub units: u128,
}

/// All accounts that hold something, in order of address.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Sheet {
    /// Height it is of.
    pub height: u64,
    /// The accounts.
    pub rows: Vec<Row>,
    /// How much there is, base units; the rows' sum.
    #[serde(serialize_with = "decimal")]
    pub supply: u128,
}

fn decimal<S: serde::Serializer>(units: &u128, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(units)
}

impl Sheet {
    /// The sheet of the last committed height. `known` names addresses. Error (verification): the accounts do not add up to the supply.
    pub async fn of(client: &Client, known: &[(String, String)]) -> Result<Self> {
        let height = client.status().await?.height;
        let client = client.at(height);
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (address, module) in client.accounts().await? {
            names.insert(address, module.unwrap_or_else(|| "account".to_owned()));
        }
        for provider in client.providers().await? {
            names.insert(provider.owner, format!("provider {:?}", provider.moniker));
        }
        for (module, purpose) in MODULES {
            names.insert(Address::of_module(module).to_string(), purpose.to_owned());
        }
        names.extend(known.iter().cloned());
        let mut rows = Vec::new();
        for (address, name) in names {
            let units = client.balance(&address).await?;
            if units > 0 {
                rows.push(Row { name, address, units });
            }
        }
        Self::checked(height, rows, client.supply().await?)
    }

    fn checked(height: u64, rows: Vec<Row>, supply: u128) -> Result<Self> {
        let sum = rows.iter().try_fold(0_u128, |sum, row| sum.checked_add(row.units));
        if sum != Some(supply) {
            let sum = sum.map_or_else(|| "more than fits".to_owned(), |sum| sum.to_string());
            return Err(Error::Verification(format!(
                "at height {height} the accounts hold {sum} base units together, and the supply is {supply}"
            )));
        }
        Ok(Self { height, rows, supply })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(units: u128) -> Row {
        Row {
            name: "a".to_owned(),
            address: "b".to_owned(),
            units,
        }
    }

    #[test]
    fn a_sheet_that_does_not_add_up_is_refused() {
        assert!(Sheet::checked(1, vec![row(2), row(3)], 5).is_ok());
        let error = Sheet::checked(1, vec![row(2), row(3)], 6).expect_err("one unit is missing");
        assert!(error.to_string().contains("5 base units"), "{error}");
        assert!(Sheet::checked(1, vec![row(u128::MAX), row(1)], 0).is_err());
    }
}
