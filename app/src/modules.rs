//! The one list of modules.

use std::collections::BTreeMap;

use tenure_sdk::{clock::ClockModule, DeriveFn, DeriveTable, Module, MsgRoute, QueryRoute};
use tenure_x_auth::AuthModule;
use tenure_x_bank::BankModule;
use tenure_x_escrow::EscrowModule;
use tenure_x_market::MarketModule;
use tenure_x_provider::ProviderModule;

use crate::identity;

/// All modules, in the order in which genesis, timers' dispatch and the end of a block visit them. A module comes after those it calls.
pub fn modules() -> &'static [&'static dyn Module] {
    &[
        &ClockModule,
        &AuthModule,
        &BankModule,
        &ProviderModule,
        &EscrowModule,
        &MarketModule,
    ]
}

/// The names with which `tenure_store::Store` is opened: one for each module, and that of the chain's identity.
pub fn stores() -> Vec<&'static str> {
    modules()
        .iter()
        .map(|module| module.name())
        .chain([identity::NAME])
        .collect()
}

/// What follows from the records of each store.
pub(crate) fn derive_table() -> DeriveTable {
    let derives = modules().iter().map(|module| (module.name(), module.derive()));
    DeriveTable::new(derives.chain([(identity::NAME, tenure_sdk::derived::nothing as DeriveFn)]))
}

/// How messages are decoded, by type URL.
pub(crate) fn msg_routes() -> BTreeMap<String, MsgRoute> {
    modules()
        .iter()
        .flat_map(|module| module.messages())
        .map(|route| (route.type_url.clone(), route))
        .collect()
}

/// How queries are answered, by path.
pub(crate) fn query_routes() -> BTreeMap<&'static str, QueryRoute> {
    modules()
        .iter()
        .flat_map(|module| module.queries())
        .map(|route| (route.path, route))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{Kind, MessageDescriptor};

    use super::*;

    fn all_inside(message: MessageDescriptor, found: &mut BTreeSet<String>) {
        if found.insert(message.full_name().to_owned()) {
            for field in message.fields() {
                if let Kind::Message(inner) = field.kind() {
                    all_inside(inner, found);
                }
            }
        }
    }

    /// `tx::decode` relies on it: what encodes again to the same bytes has no unknown fields, unless they are inside an `Any`.
    #[test]
    fn no_message_holds_an_any() {
        let mut found = BTreeSet::new();
        for type_url in msg_routes().keys() {
            let message = tenure_proto::pool().get_message_by_name(type_url.trim_start_matches('/'));
            all_inside(message.unwrap(), &mut found);
        }
        assert!(found.contains("cosmos.base.v1beta1.Coin"));
        assert!(!found.contains("google.protobuf.Any"));
    }
}
