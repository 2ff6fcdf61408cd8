//! A context in memory, for the tests of modules.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use tenure_types::Result;

use crate::{
    clock, json,
    state::{Base, Records},
    Block, Committed, Ctx, DeriveTable, DerivedMap, Mode, Module, State,
};

/// Records in a map.
#[derive(Clone, Default)]
struct MapBase(BTreeMap<(&'static str, Vec<u8>), Vec<u8>>);

impl Base for MapBase {
    fn get(&self, store: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(&(store, key.to_vec())).cloned())
    }

    fn range<'a>(&'a self, store: &'static str, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Records<'a> {
        let to = to.map(<[u8]>::to_vec);
        let all = self
            .0
            .range((Bound::Included((store, from.to_vec())), Bound::Unbounded))
            .take_while(move |((s, k), _)| *s == store && to.as_ref().is_none_or(|to| k < to))
            .map(|((_, k), v)| (k.clone(), v.clone()));
        if reverse {
            let mut all: Vec<_> = all.collect();
            all.reverse();
            Box::new(all.into_iter().map(Ok))
        } else {
            Box::new(all.map(Ok))
        }
    }
}

/// An empty state.
pub fn state(table: DeriveTable) -> State {
    let committed = Committed {
        base: Arc::new(MapBase::default()),
        derived: DerivedMap::new(),
    };
    State::new(committed, Arc::new(table))
}

/// Commits a state's block layer in memory and opens the next block over it.
pub fn recommit(mut state: State) -> Result<State> {
    let table = state.table_handle();
    let mut base = MapBase(BTreeMap::new());
    for store in table.stores() {
        for (key, value) in state.range(store, &[], None, false, usize::MAX)? {
            base.0.insert((store, key), value);
        }
    }
    let derived = state.into_writes()?.derived;
    Ok(State::new(
        Committed {
            base: Arc::new(base),
            derived,
        },
        table,
    ))
}

/// An empty context at height 1 of the chain `test-1`, with unlimited gas.
pub fn ctx(table: DeriveTable) -> Ctx {
    let block = Block {
        chain_id: "test-1".to_owned(),
        height: 1,
        now_ms: 1_000_000,
        header_ms: 1_000_000,
    };
    Ctx::new(state(table), block, Mode::Deliver)
}

/// A context with the genesis of the given modules (name and JSON section come from the module and `sections`); the clock module is added.
/// It stands at the first block, so rules that ask the clock work.
pub fn chain(modules: &[&dyn Module], sections: &serde_json::Value) -> Result<Ctx> {
    let mut table: Vec<(&'static str, crate::DeriveFn)> = vec![(clock::NAME, clock::ClockModule.derive())];
    table.extend(modules.iter().map(|m| (m.name(), m.derive())));
    let mut ctx = ctx(DeriveTable::new(table));
    let params = serde_json::json!({ "params": json::to_json(&clock::default_params())? });
    clock::ClockModule.init_genesis(&mut ctx, &params)?;
    let empty = serde_json::json!({});
    for module in modules {
        module.init_genesis(&mut ctx, sections.get(module.name()).unwrap_or(&empty))?;
    }
    clock::advance(&mut ctx, 1, 1_000_000)?;
    Ok(ctx)
}

/// Makes the next block `ms` later (header time): sets the clock, handles due timers of the modules, and runs `txs`, then every end of block.
pub fn next_block(
    ctx: &mut Ctx,
    modules: &[&dyn Module],
    ms: u64,
    txs: impl FnOnce(&mut Ctx) -> Result<()>,
) -> Result<()> {
    let height = ctx.block.height.saturating_add(1);
    let header_ms = ctx.block.header_ms.saturating_add(ms);
    ctx.block.height = height;
    ctx.block.header_ms = header_ms;
    ctx.block.now_ms = clock::advance(ctx, height, header_ms)?;
    crate::module::handle_due(ctx, modules)?;
    txs(ctx)?;
    for module in modules {
        module.end_block(ctx)?;
    }
    for module in modules {
        module.invariants(ctx)?;
    }
    Ok(())
}
