//! The first state: its JSON form, its check, its export, and the defaults of a development chain.
//!
//! `app_state` is an object with one section for each module, named after it. A section that is absent stands for `{}`.

use std::sync::Arc;

use serde_json::{json, Map, Value};
use tenure_proto::{
    cosmos::{
        bank::v1beta1::{DenomUnit, Metadata},
        base::v1beta1::Coin as ProtoCoin,
    },
    tenure::{base::v1::Window, chain::v1::Clock},
};
use tenure_sdk::{clock, json as proto_json, Block, Ctx, Error, Mode, Module, Result};
use tenure_types::{sdk, Address, Coin, BASE_DENOM, DISPLAY_DENOM, DISPLAY_EXPONENT};
use tenure_x_auth as auth;
use tenure_x_escrow as escrow;
use tenure_x_market as market;
use tenure_x_provider as provider;

use crate::{
    app::App,
    identity,
    modules::{self, modules},
};

/// How fast a development chain lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Epochs of 60 s with 30 s of grace: the modules' own defaults.
    #[default]
    Normal,
    /// For demonstrations and tests: epochs of 3 s with 2 s and 2 blocks of grace.
    Fast,
}

/// The `app_state` of a development chain: default rules, these balances, and what wallets show of the chain's token.
pub fn default_app_state(profile: Profile, balances: &[(Address, Coin)]) -> Result<Value> {
    let mut merged: std::collections::BTreeMap<Address, tenure_types::Coins> = std::collections::BTreeMap::new();
    for (address, coin) in balances {
        merged.entry(*address).or_default().add(coin)?;
    }
    let mut entries = Vec::with_capacity(merged.len());
    for (address, coins) in &merged {
        let coins = coins.iter().map(coin_json).collect::<Result<Vec<_>>>()?;
        entries.push(json!({ "address": address.to_string(), "coins": coins }));
    }
    let mut state = Map::new();
    let mut chain = clock::default_params();
    if profile == Profile::Fast {
        // Less than the grace: a pause of the process cannot make a provider miss an epoch before it can attest.
        chain.max_block_gap_ms = 1_500;
    }
    state.insert(
        clock::NAME.to_owned(),
        json!({ "params": proto_json::to_json(&chain)? }),
    );
    state.insert(
        auth::NAME.to_owned(),
        json!({ "params": proto_json::to_json(&auth::default_params())? }),
    );
    state.insert(
        tenure_x_bank::NAME.to_owned(),
        json!({
            "params": { "default_send_enabled": true },
            "balances": entries,
            "denom_metadata": [proto_json::to_json(&token())?],
        }),
    );
    market_sections(profile, &mut state)?;
    Ok(Value::Object(state))
}

/// The rules of providers, escrow and market.
fn market_sections(profile: Profile, state: &mut Map<String, Value>) -> Result<()> {
    let mut providers = provider::default_params();
    let mut escrows = escrow::default_params();
    let mut rules = market::default_params();
    if profile == Profile::Fast {
        providers.epoch_ms = 3_000;
        providers.grace = Some(Window { blocks: 2, ms: 2_000 });
        providers.unbonding = Some(Window { blocks: 10, ms: 30_000 });
        providers.gap_horizon_ms = 3_600_000;
        escrows.exhaustion_grace_ms = 10_000;
        escrows.settle_every_ms = 3_600_000;
        rules.start = Some(Window { blocks: 5, ms: 30_000 });
    }
    let mut add = |name: &str, params: Value| state.insert(name.to_owned(), json!({ "params": params }));
    add(provider::NAME, proto_json::to_json(&providers)?);
    add(escrow::NAME, proto_json::to_json(&escrows)?);
    add(market::NAME, proto_json::to_json(&rules)?);
    Ok(())
}

fn token() -> Metadata {
    let unit = |denom: &str, exponent| DenomUnit {
        denom: denom.to_owned(),
        exponent,
        aliases: Vec::new(),
    };
    Metadata {
        description: "The token of the Tenure chain".to_owned(),
        denom_units: vec![unit(BASE_DENOM, 0), unit(DISPLAY_DENOM, DISPLAY_EXPONENT)],
        base: BASE_DENOM.to_owned(),
        display: DISPLAY_DENOM.to_owned(),
        name: "Tenure".to_owned(),
        symbol: "TEN".to_owned(),
        ..Default::default()
    }
}

fn coin_json(coin: &Coin) -> Result<Value> {
    proto_json::to_json(&ProtoCoin {
        denom: coin.denom.clone(),
        amount: coin.amount.to_string(),
    })
}

/// Checks an `app_state` by building it in memory, invariants included, as that of a chain that begins at height 1 or, if it was exported, at
/// the height after the last one. Error (invalid request): names the field and its value.
pub fn validate(chain_id: &str, genesis_ms: u64, app_state: &Value) -> Result<()> {
    let bytes = app_state.to_string();
    let store = tenure_store::Store::open(
        Arc::new(tenure_store::MemoryBackend::new()),
        &modules::stores(),
        tenure_store::StoreOptions::default(),
    )
    .map_err(|e| Error::internal(e.to_string()))?;
    let table = Arc::new(modules::derive_table());
    let head = crate::app::head_of(store.latest(), &table)?;
    let last = app_state.pointer("/chain/clock").map(proto_json::from_json::<Clock>);
    let block = Block {
        chain_id: chain_id.to_owned(),
        height: last.transpose()?.unwrap_or_default().height,
        now_ms: genesis_ms,
        header_ms: genesis_ms,
    };
    let mut ctx = Ctx::new(head.state(&table), block, Mode::Deliver);
    init(&mut ctx, modules(), bytes.as_bytes())
}

/// Rules between the sections of two modules.
fn check_across_modules(ctx: &mut Ctx) -> Result<()> {
    let gap_ms = clock::params(ctx)?.max_block_gap_ms;
    let grace_ms = provider::params(ctx)?.grace.unwrap_or_default().ms;
    if grace_ms > gap_ms {
        return Ok(());
    }
    Err(Error::sdk(
        sdk::INVALID_REQUEST,
        format!(
            "app_state.provider.params.grace.ms is {grace_ms}, must exceed app_state.chain.params.max_block_gap_ms ({gap_ms}): otherwise one              late block could end an epoch's attestation window before anybody could use it"
        ),
    ))
}

/// Writes the first state. Errors name the section or the field.
pub(crate) fn init(ctx: &mut Ctx, modules: &[&dyn Module], app_state: &[u8]) -> Result<()> {
    let refused = |message: String| Error::sdk(sdk::INVALID_REQUEST, message);
    let state: Value = serde_json::from_slice(app_state).map_err(|e| refused(format!("app_state is not JSON: {e}")))?;
    let state = state
        .as_object()
        .ok_or_else(|| refused("app_state must be an object".to_owned()))?;
    if ctx.block.chain_id.is_empty() || ctx.block.chain_id.len() > 50 {
        return Err(refused(format!(
            "chain_id is {:?}, must have 1 to 50 bytes",
            ctx.block.chain_id
        )));
    }
    for name in state.keys() {
        if !modules.iter().any(|module| module.name() == name) {
            return Err(refused(format!("app_state.{name}: there is no module of this name")));
        }
    }
    identity::init(ctx)?;
    let empty = json!({});
    for module in modules {
        let section = state.get(module.name()).unwrap_or(&empty);
        module
            .init_genesis(ctx, section)
            .map_err(|e| e.context(format!("app_state.{}", module.name())))?;
    }
    check_across_modules(ctx)?;
    for module in modules {
        module
            .invariants(ctx)
            .map_err(|e| refused(format!("app_state.{}: {}", module.name(), e.message)))?;
    }
    // The genesis file is no transaction: what it moved is not an event.
    ctx.events.clear();
    Ok(())
}

impl App {
    /// The last committed state as an `app_state` that a new chain can start from.
    pub fn export_genesis(&self) -> Result<Value> {
        let head = self.0.head_at(None)?;
        let mut ctx = Ctx::new(head.state(&self.0.table), head.block.clone(), Mode::Query);
        let mut state = Map::new();
        for module in self.0.modules {
            state.insert(module.name().to_owned(), module.export_genesis(&mut ctx)?);
        }
        Ok(Value::Object(state))
    }
}
