//! One rule a test.

use prost::Message;
use serde_json::{json, Value};
use tenure_proto::tenure::provider::v1::{
    EpochRoot, ProviderStatus, QueryGapsRequest, QueryGapsResponse, QueryProviderRequest, QueryProviderResponse,
};
use tenure_sdk::{json as proto_json, testing, Ctx, Handler, Module, Result, Timer};
use tenure_types::Address;
use tenure_x_auth::AuthModule;
use tenure_x_bank::{self as bank, BankModule};

use super::{chain, chain_with, fast, messages, registered, EPOCH_MS, OTHER, PROVIDER};
use crate::{
    attested, attested_as_of, close_lease, epoch_of, epoch_range, load, may_take_leases,
    msgs::{Attest, Leave, Register},
    needed_from, open_lease,
    params::check,
    state, take_defaults, Params, ProviderModule, DEFAULT_TIMER_KIND, MAX_EPOCHS_PER_ATTEST, NAME,
};

/// Notes which providers' leases had to default, and when.
struct Market;

impl Module for Market {
    fn name(&self) -> &'static str {
        "market"
    }

    fn init_genesis(&self, _: &mut Ctx, _: &Value) -> Result<()> {
        Ok(())
    }

    fn export_genesis(&self, _: &mut Ctx) -> Result<Value> {
        Ok(Value::Null)
    }

    fn due(&self, ctx: &mut Ctx, timer: &Timer) -> Result<()> {
        assert_eq!(timer.kind, DEFAULT_TIMER_KIND);
        let owner = Address::from_slice(&timer.id).unwrap();
        let taken = take_defaults(ctx, &owner)?;
        assert_eq!(taken.first(), Some(&timer.due.ms));
        for at in taken {
            ctx.emit("defaulted", [("at", at.to_string())]);
        }
        Ok(())
    }
}

fn next(ctx: &mut Ctx, ms: u64) -> Result<()> {
    testing::next_block(ctx, &[&AuthModule, &BankModule, &ProviderModule, &Market], ms, |_| {
        Ok(())
    })
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> u32 {
    let error = result.unwrap_err();
    assert_eq!(error.codespace, NAME, "{error}");
    error.code
}

#[test]
fn after_the_agreed_misses_the_market_is_told_once_and_dated_at_the_block_after_the_deadline() -> Result<()> {
    let mut ctx = registered()?;
    open_lease(&mut ctx, &PROVIDER)?;
    let w = load(&mut ctx, &PROVIDER)?.final_until_ms;
    let mut told = Vec::new();
    for _ in 0..40 {
        next(&mut ctx, 100)?;
        told.extend(
            ctx.events
                .drain(..)
                .filter(|e| e.kind == "defaulted")
                .map(|e| e.attributes[0].1.clone()),
        );
        if told.is_empty() {
            let provider = load(&mut ctx, &PROVIDER)?;
            assert!(may_take_leases(&provider) == provider.default_at_ms.is_empty());
        }
    }
    // Blocks come every 100 ms.
    assert_eq!(told, [(w + 3 * EPOCH_MS + 400).next_multiple_of(100).to_string()]);
    let provider = load(&mut ctx, &PROVIDER)?;
    assert_eq!((provider.missed_epochs, provider.consecutive_misses), (3, 0));
    Ok(())
}

#[test]
fn an_attestation_is_taken_from_the_epochs_end_until_both_parts_of_the_deadline_have_passed() -> Result<()> {
    let mut ctx = registered()?;
    open_lease(&mut ctx, &PROVIDER)?;
    let provider = load(&mut ctx, &PROVIDER)?;
    let k = epoch_of(&provider, ctx.now());
    let (_, end) = epoch_range(&provider, k);
    let attest = |ctx: &mut Ctx, k| ctx.atomically(|ctx| Attest::execute(ctx, &messages::attest(&PROVIDER, &[k])));
    let ms = end - ctx.now() - 1;
    next(&mut ctx, ms)?;
    assert_eq!(code(attest(&mut ctx, k)), 7);
    // One block at the end and one long after: 400 ms have passed, 3 blocks have not.
    next(&mut ctx, 1)?;
    next(&mut ctx, 900)?;
    assert_eq!(
        load(&mut ctx, &PROVIDER)?.next_deadline.map(|d| d.height),
        Some(ctx.height() + 2)
    );
    assert_eq!(attest(&mut ctx, k)?.final_until_ms, end);
    assert_eq!(code(attest(&mut ctx, k)), 9);
    assert_eq!(code(attest(&mut ctx, u64::MAX)), 7);
    // Fast blocks: many blocks have passed, 400 ms have not.
    let ms = end + EPOCH_MS - ctx.now();
    next(&mut ctx, ms)?;
    for _ in 0..10 {
        next(&mut ctx, 39)?;
    }
    assert_eq!(load(&mut ctx, &PROVIDER)?.final_until_ms, end);
    next(&mut ctx, 10)?;
    assert_eq!(load(&mut ctx, &PROVIDER)?.final_until_ms, end + EPOCH_MS);
    assert_eq!(code(attest(&mut ctx, k + 1)), 8);
    Ok(())
}

#[test]
fn malformed_attestations_are_refused_before_state_is_read() {
    let attest = |epochs: &[u64]| Attest::validate(&messages::attest(&PROVIDER, epochs));
    assert_eq!(attest(&[1, 2, 9]), Ok(()));
    assert_eq!(code(attest(&[])), 11);
    let most: Vec<u64> = (0..=MAX_EPOCHS_PER_ATTEST as u64).collect();
    assert_eq!(attest(&most[1..]), Ok(()));
    assert_eq!(code(attest(&most)), 11);
    assert_eq!(code(attest(&[2, 2])), 10);
    assert_eq!(code(attest(&[2, 1])), 10);
    let mut msg = messages::attest(&PROVIDER, &[1]);
    msg.epochs.push(EpochRoot {
        epoch: 2,
        root: vec![0; 31],
    });
    assert_eq!(code(Attest::validate(&msg)), 12);
}

#[test]
fn without_leases_no_timer_runs_and_time_passes_as_missed() -> Result<()> {
    let mut ctx = registered()?;
    let w = load(&mut ctx, &PROVIDER)?.final_until_ms;
    for _ in 0..20 {
        next(&mut ctx, 700)?;
    }
    assert_eq!(load(&mut ctx, &PROVIDER)?.final_until_ms, w);
    assert!(ctx.derived_range(b"", None, false, 9)?.is_empty());
    open_lease(&mut ctx, &PROVIDER)?;
    let provider = load(&mut ctx, &PROVIDER)?;
    let boundary = epoch_range(&provider, epoch_of(&provider, ctx.now())).0;
    let time = attested(&mut ctx, &PROVIDER, &[w, boundary])?;
    assert_eq!((time.final_until_ms, time.attested_between(w, boundary)), (boundary, 0));
    assert_eq!((provider.missed_epochs, provider.consecutive_misses), (0, 0));
    Ok(())
}

#[test]
fn the_bond_returns_when_the_window_has_passed_and_the_last_lease_is_gone() -> Result<()> {
    let mut ctx = registered()?;
    open_lease(&mut ctx, &PROVIDER)?;
    let before = bank::balance(&mut ctx, &PROVIDER, "uten")?;
    Leave::execute(&mut ctx, &messages::leave(&PROVIDER))?;
    assert_eq!(code(Leave::execute(&mut ctx, &messages::leave(&PROVIDER))), 5);
    assert!(!may_take_leases(&load(&mut ctx, &PROVIDER)?));
    for _ in 0..12 {
        next(&mut ctx, 500)?;
    }
    assert_eq!(load(&mut ctx, &PROVIDER)?.status(), ProviderStatus::Unbonding);
    assert_eq!(code(Register::execute(&mut ctx, &messages::register(&PROVIDER))), 2);
    close_lease(&mut ctx, &PROVIDER)?;
    next(&mut ctx, 500)?;
    assert_eq!(code(load(&mut ctx, &PROVIDER)), 1);
    assert_eq!(
        bank::balance(&mut ctx, &PROVIDER, "uten")?.get(),
        before.get() + 100_000_000
    );
    // Who comes back goes on with its gaps.
    let missed = ctx.range(NAME, b"g", Some(b"h"), false, 9)?.len();
    assert!(missed > 0);
    Register::execute(&mut ctx, &messages::register(&PROVIDER))?;
    open_lease(&mut ctx, &PROVIDER)?;
    for _ in 0..4 {
        next(&mut ctx, 700)?;
    }
    ProviderModule.invariants(&mut ctx)
}

#[test]
fn unbonding_waits_for_blocks_as_well_as_for_time() -> Result<()> {
    let mut ctx = registered()?;
    Leave::execute(&mut ctx, &messages::leave(&PROVIDER))?;
    for _ in 0..3 {
        next(&mut ctx, 3_000)?;
    }
    assert!(load(&mut ctx, &PROVIDER).is_ok());
    next(&mut ctx, 1)?;
    assert_eq!(code(load(&mut ctx, &PROVIDER)), 1);
    Ok(())
}

#[test]
fn a_halt_of_the_chain_defaults_nobody() -> Result<()> {
    let mut ctx = registered()?;
    open_lease(&mut ctx, &PROVIDER)?;
    next(&mut ctx, 100)?;
    let k = epoch_of(&load(&mut ctx, &PROVIDER)?, ctx.now());
    next(&mut ctx, 7_200_000)?;
    let provider = load(&mut ctx, &PROVIDER)?;
    assert_eq!((provider.missed_epochs, provider.last_default_ms), (0, 0));
    // Epochs that ended during the longest gap a block may have are attested late, in one message.
    let last = epoch_of(&provider, ctx.now());
    let all: Vec<u64> = (k..last).collect();
    assert!(all.len() > 5);
    Attest::execute(&mut ctx, &messages::attest(&PROVIDER, &all))?;
    assert_eq!(load(&mut ctx, &PROVIDER)?.attested_epochs, all.len() as u64);
    ProviderModule.invariants(&mut ctx)
}

#[test]
fn genesis_round_trips_and_queries_answer() -> Result<()> {
    let mut ctx = registered()?;
    Register::execute(&mut ctx, &messages::register(&OTHER))?;
    open_lease(&mut ctx, &PROVIDER)?;
    for _ in 0..6 {
        next(&mut ctx, 900)?;
    }
    let sections = json!({
        "auth": AuthModule.export_genesis(&mut ctx)?,
        "bank": BankModule.export_genesis(&mut ctx)?,
        "provider": ProviderModule.export_genesis(&mut ctx)?,
    });
    let mut again = testing::chain(&[&AuthModule, &BankModule, &ProviderModule], &sections)?;
    let all = |ctx: &mut Ctx| {
        Ok::<_, tenure_sdk::Error>((
            ctx.range(NAME, b"\0", None, false, 99)?,
            ctx.derived_range(b"", None, false, 99)?,
        ))
    };
    assert_eq!(all(&mut ctx)?, all(&mut again)?);
    let answer = |ctx: &mut Ctx, method: &str, request: &dyn Fn() -> Vec<u8>| {
        let path = format!("/tenure.provider.v1.Query/{method}");
        (ProviderModule
            .queries()
            .into_iter()
            .find(|r| r.path == path)
            .unwrap()
            .answer)(ctx, &request())
    };
    let owner = PROVIDER.to_string();
    let one = answer(&mut ctx, "Provider", &|| {
        QueryProviderRequest { owner: owner.clone() }.encode_to_vec()
    })?;
    assert_eq!(
        QueryProviderResponse::decode(one.as_slice()).unwrap().provider,
        Some(load(&mut ctx, &PROVIDER)?)
    );
    let request = || {
        QueryGapsRequest {
            owner: owner.clone(),
            pagination: None,
        }
        .encode_to_vec()
    };
    let gaps = QueryGapsResponse::decode(answer(&mut ctx, "Gaps", &request)?.as_slice())
        .unwrap()
        .gaps;
    assert_eq!(gaps.len(), 1);
    assert_eq!(
        code(answer(&mut ctx, "Provider", &|| QueryProviderRequest {
            owner: Address::new([9; 20]).to_string()
        }
        .encode_to_vec())),
        1
    );
    Ok(())
}

#[test]
fn parameters_out_of_bounds_are_refused_by_name() -> Result<()> {
    for (field, value) in [
        ("epoch_ms", json!("0")),
        ("grace", json!({"blocks": "100", "ms": "1"})),
        ("grace", json!({"blocks": "1", "ms": "0"})),
        ("min_bond", json!(null)),
        ("min_bond", json!({"denom": "usd", "amount": "1"})),
        ("default_after_misses", json!(0)),
    ] {
        let mut params = proto_json::to_json(&fast())?;
        params[field] = value;
        let error = check(&proto_json::from_json(&params)?).unwrap_err();
        assert!(error.message.contains(&format!("provider.params.{field}")), "{error}");
    }
    check(&fast())?;
    chain().map(|_| ())
}

#[test]
fn old_gaps_go_when_nobody_asks_for_them_and_later_time_stays_what_it_was() -> Result<()> {
    let mut ctx = chain_with(&Params {
        gap_horizon_ms: 20 * EPOCH_MS,
        ..fast()
    })?;
    Register::execute(&mut ctx, &messages::register(&PROVIDER))?;
    open_lease(&mut ctx, &PROVIDER)?;
    let origin = load(&mut ctx, &PROVIDER)?.final_until_ms;
    let count = |ctx: &mut Ctx| state::all_gaps(ctx).map(|gaps| gaps.len());
    // Every other epoch is attested.
    let go_on = |ctx: &mut Ctx, epochs: u64| -> Result<()> {
        for _ in 0..epochs {
            next(ctx, EPOCH_MS)?;
            let provider = load(ctx, &PROVIDER)?;
            let ended = epoch_of(&provider, ctx.now()) - 1;
            if ended.is_multiple_of(2) {
                Attest::execute(ctx, &messages::attest(&PROVIDER, &[ended]))?;
            }
        }
        Ok(())
    };
    go_on(&mut ctx, 100)?;
    assert!(count(&mut ctx)? >= 48, "all are needed: {}", count(&mut ctx)?);
    let needed = origin + 60 * EPOCH_MS;
    let asked = [needed, needed + 7 * EPOCH_MS + 500, origin + 90 * EPOCH_MS];
    let before = attested(&mut ctx, &PROVIDER, &asked)?;
    needed_from(&mut ctx, &PROVIDER, needed)?;
    go_on(&mut ctx, 100)?;
    // The horizon's ten, and what lies between it and what is needed.
    let left = count(&mut ctx)?;
    assert!((65..=72).contains(&left), "{left}");
    let after = attested(&mut ctx, &PROVIDER, &asked)?;
    for (from, to) in [(0, 1), (0, 2), (1, 2)] {
        let between = |time: &tenure_types::AttestedTime| time.attested_between(asked[from], asked[to]);
        assert_eq!(between(&before), between(&after));
    }
    assert!(attested(&mut ctx, &PROVIDER, &[origin]).unwrap_err().is_internal());
    crate::invariants::check(&mut ctx)?;
    // Without leases nothing is needed.
    close_lease(&mut ctx, &PROVIDER)?;
    go_on(&mut ctx, 200)?;
    assert!((8..=14).contains(&count(&mut ctx)?), "{}", count(&mut ctx)?);
    crate::invariants::check(&mut ctx)
}

#[test]
fn what_was_final_at_an_instant_does_not_depend_on_when_it_is_asked() -> Result<()> {
    let mut ctx = registered()?;
    open_lease(&mut ctx, &PROVIDER)?;
    let mut known: Vec<(u64, tenure_types::AttestedTime)> = Vec::new();
    for i in 0..60 {
        next(&mut ctx, 100 + i * 37 % 3_000)?;
        let now = ctx.now();
        known.push((now, attested_as_of(&mut ctx, &PROVIDER, &[], now)?));
        let provider = load(&mut ctx, &PROVIDER)?;
        let ended = epoch_of(&provider, now) - 1;
        if i % 7 < 3 && epoch_range(&provider, ended).1 > provider.final_until_ms {
            Attest::execute(&mut ctx, &messages::attest(&PROVIDER, &[ended]))?;
        }
        for (at, then) in &known {
            assert_eq!(
                attested_as_of(&mut ctx, &PROVIDER, &[], *at)?.final_until_ms,
                then.final_until_ms
            );
        }
    }
    let (first, last) = (&known[0].1, &known[59].1);
    assert!(first.final_until_ms < last.final_until_ms);
    // Three blocks of grace of at most ten seconds each, the one that ends the epoch, and the epoch that is under way.
    assert!(last.final_until_ms + 40_000 + EPOCH_MS > ctx.now());
    Ok(())
}
