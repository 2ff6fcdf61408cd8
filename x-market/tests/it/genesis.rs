//! Export and import.

use tenure_proto::any;
use tenure_sdk::{testing, Module};
use tenure_x_market::MarketModule;

use crate::world::{World, MODULES, UNIT};
use serde_json::{json, Value};

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

    let mut section: serde_json::Map<String, Value> = MODULES[..4]
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

#[test]
fn records_that_would_stop_the_chain_later_are_refused() {
    type Spoil<'a> = &'a dyn Fn(&mut Value);
    let mut world = World::new();
    world.start_lease(200_000);
    let sections: serde_json::Map<String, Value> = MODULES
        .iter()
        .map(|m| (m.name().to_owned(), m.export_genesis(&mut world.ctx).expect("exports")))
        .collect();
    let sections = Value::from(sections);
    let refusal = |spoil: Spoil<'_>| -> Option<String> {
        let mut sections = sections.clone();
        spoil(&mut sections);
        let check = |mut ctx| MODULES.iter().try_for_each(|m| m.invariants(&mut ctx));
        testing::chain(&MODULES, &sections)
            .and_then(check)
            .err()
            .map(|e| e.message)
    };
    assert_eq!(refusal(&|_| {}), None);
    let cases: [(&str, Spoil<'_>); 7] = [
        ("provider: ", &|s| s["escrow"]["payments"][0]["provider"] = "x".into()),
        ("owner: ", &|s| s["escrow"]["accounts"][0]["owner"] = "x".into()),
        ("depositor: ", &|s| {
            s["escrow"]["accounts"][0]["lots"][0]["depositor"] = "x".into()
        }),
        ("account 1 pays", &|s| {
            s["market"]["bids"] = json!([]);
            s["market"]["leases"] = json!([]);
        }),
        ("lease 1 is Unspecified", &|s| {
            s["market"]["leases"][0]["state"] = json!(0)
        }),
        ("lease 1 is Closing with", &|s| {
            s["market"]["leases"][0]["state"] = "LEASE_STATE_CLOSING".into()
        }),
        ("defaulting: default_at_ms", &|s| {
            let provider = s["market"]["leases"][0]["provider"].clone();
            s["market"]["defaulting"] = json!([{ "provider": provider, "default_at_ms": ["9000000000000"] }]);
        }),
    ];
    for (text, spoil) in cases {
        let message = refusal(spoil).unwrap_or_default();
        assert!(message.contains(text), "{message:?} does not say {text:?}");
    }
}
