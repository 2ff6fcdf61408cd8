//! Export and import.

use tenure_proto::any;
use tenure_sdk::{testing, Module};
use tenure_x_market::MarketModule;

use crate::world::{World, MODULES, UNIT};

#[test]
fn an_exported_market_is_the_same_market() {
    let mut world = World::new();
    world.start_lease(200_000);
    world.bid_and_match(100_000);
    let mut waiting = world.post(100_000);
    waiting.claim_window = Some(tenure_proto::tenure::base::v1::Window { blocks: 9, ms: 9_000 });
    let claim = world.claim(1, 3, UNIT);
    for result in world.block(500, &[any(&waiting), any(&claim)]) {
        result.expect("succeeds");
    }
    let close = world.close(2);
    world.must(500, &close);
    let records = |ctx: &mut tenure_sdk::Ctx| ctx.range("market", &[], None, false, usize::MAX).expect("range");
    let derived = |ctx: &mut tenure_sdk::Ctx| {
        ctx.derived_range(b"market.", Some(b"market/"), false, usize::MAX)
            .expect("range")
    };
    let exported = MarketModule.export_genesis(&mut world.ctx).expect("exports");
    let want = (records(&mut world.ctx), derived(&mut world.ctx));
    assert!(!want.1.is_empty());

    let mut section: serde_json::Map<String, serde_json::Value> = MODULES[..4]
        .iter()
        .map(|m| (m.name().to_owned(), m.export_genesis(&mut world.ctx).expect("exports")))
        .collect();
    section.insert("market".to_owned(), exported);
    let mut again = testing::chain(&MODULES, &section.into()).expect("imports");
    assert_eq!((records(&mut again), derived(&mut again)), want);
}

#[test]
fn ids_beyond_the_counter_are_refused() {
    let mut world = World::new();
    world.must(500, &world.post(100_000));
    let mut section = MarketModule.export_genesis(&mut world.ctx).expect("exports");
    section["counters"]["last_bid_id"] = "0".into();
    let mut other = World::new();
    let error = MarketModule
        .init_genesis(&mut other.ctx, &section)
        .expect_err("refused");
    assert!(error.message.contains("bids[0].id is 1"), "{error}");
}
