//! One rule a test.

use prost::Message;
use serde_json::json;
use tenure_proto::tenure::escrow::v1::{QueryAccountRequest, QueryAccountResponse};
use tenure_sdk::{derived::prefix_end, json as proto_json, testing, Module, Result, Timer, TimerClass};
use tenure_types::{Amount, Coin};
use tenure_x_auth::AuthModule;
use tenure_x_bank::BankModule;

use super::{all_attested, chain, small, uten, FRIEND, OWNER, PROVIDERS, STRANGER};
use crate::{
    account, amend, begin_close, catch_up, close_account, deposit, except, finish_close, open_account, params::check,
    pause, pay_out, payment, resume, settle, start_payment, withdraw_deposit, AccountState, EscrowModule, Settled,
    EXHAUSTION_GRACE_TIMER_KIND, EXHAUSTION_TIMER_KIND, MAX_LOTS,
};

/// 3,600 units an hour is one a second.
const PER_SECOND: u64 = 3_600;

/// An account with `amount` and one running lease of one unit a second.
fn running(amount: u128) -> Result<tenure_sdk::Ctx> {
    let mut ctx = chain(&small())?;
    open_account(&mut ctx, 1, &OWNER, "uten", Amount::new(amount))?;
    start_payment(&mut ctx, 1, 1, &PROVIDERS[0], PER_SECOND, 0)?;
    Ok(ctx)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> u32 {
    let error = result.unwrap_err();
    assert_eq!(error.codespace, "escrow", "{error}");
    error.code
}

fn timers(ctx: &mut tenure_sdk::Ctx) -> Vec<(u8, u64)> {
    let (from, to) = Timer::due_range(TimerClass::Safety, u64::MAX - 1);
    let entries = ctx.derived_range(&from, Some(&to), false, 99).unwrap();
    entries
        .iter()
        .map(|(k, v)| Timer::decode(k, v).unwrap())
        .map(|t| (t.kind, t.due.ms))
        .collect()
}

#[test]
fn money_runs_out_at_x_waits_for_the_grace_and_a_top_up_resumes_without_back_pay() -> Result<()> {
    let mut ctx = running(10)?;
    let start = ctx.now();
    assert_eq!(timers(&mut ctx), [(EXHAUSTION_TIMER_KIND, start + 10_000)]);
    ctx.block.now_ms = start + 25_000;
    assert_eq!(catch_up(&mut ctx, 1)?, [1]);
    assert_eq!(catch_up(&mut ctx, 1)?, [0; 0]);
    assert_eq!(timers(&mut ctx), [(EXHAUSTION_GRACE_TIMER_KIND, start + 70_000)]);
    assert_eq!(code(resume(&mut ctx, 1)), 12);
    deposit(&mut ctx, 1, &FRIEND, &Coin::base(5))?;
    assert!(account(&mut ctx, 1)?.exhausted);
    resume(&mut ctx, 1)?;
    let now = ctx.now();
    assert_eq!(timers(&mut ctx), [(EXHAUSTION_TIMER_KIND, now + 5_000)]);
    assert_eq!(settle(&mut ctx, 1, &all_attested(now + 3_000))?.gross, Amount::new(13));
    EscrowModule.invariants(&mut ctx)
}

#[test]
fn a_lease_starts_amends_and_resumes_only_with_a_runway() -> Result<()> {
    let mut ctx = chain(&crate::Params {
        min_runway_ms: 5_000,
        ..small()
    })?;
    open_account(&mut ctx, 1, &OWNER, "uten", Amount::new(4))?;
    assert_eq!(
        code(ctx.atomically(|ctx| start_payment(ctx, 1, 1, &PROVIDERS[0], PER_SECOND, 0))),
        12
    );
    deposit(&mut ctx, 1, &OWNER, &Coin::base(1))?;
    start_payment(&mut ctx, 1, 1, &PROVIDERS[0], PER_SECOND, 0)?;
    assert_eq!(code(ctx.atomically(|ctx| amend(ctx, 1, PER_SECOND + 1))), 12);
    pause(&mut ctx, 1)?;
    // What a paused lease does not run may be taken back; then it cannot go on.
    let now = ctx.now();
    withdraw_deposit(&mut ctx, 1, &OWNER, &Coin::base(1), now)?;
    assert_eq!(code(ctx.atomically(|ctx| resume(ctx, 1))), 12);
    assert_eq!(code(start_payment(&mut ctx, 1, 1, &PROVIDERS[0], 1, 0)), 3);
    assert_eq!(code(start_payment(&mut ctx, 1, 2, &PROVIDERS[0], 0, 0)), 13);
    assert_eq!(code(start_payment(&mut ctx, 1, 2, &PROVIDERS[0], 1 << 60, 0)), 13);
    Ok(())
}

#[test]
fn only_the_owner_takes_back_its_own_unspent_money_and_not_what_may_be_owed() -> Result<()> {
    let mut ctx = running(100)?;
    deposit(&mut ctx, 1, &FRIEND, &Coin::base(50))?;
    ctx.block.now_ms += 20_000;
    let now = ctx.now();
    assert_eq!(code(withdraw_deposit(&mut ctx, 1, &FRIEND, &Coin::base(1), now)), 10);
    assert_eq!(
        code(ctx.atomically(|ctx| withdraw_deposit(ctx, 1, &OWNER, &Coin::base(101), now))),
        11
    );
    pause(&mut ctx, 1)?;
    // 20 are owed at most; the owner's lot holds 100, all of it may go but that the friend's 50 then cover it.
    ctx.atomically(|ctx| withdraw_deposit(ctx, 1, &OWNER, &Coin::base(100), now))?;
    assert_eq!(account(&mut ctx, 1)?.lots.len(), 1);
    assert_eq!(
        code(ctx.atomically(|ctx| deposit(ctx, 1, &OWNER, &Coin::new("usd", Amount::new(1))?))),
        6
    );
    EscrowModule.invariants(&mut ctx)
}

#[test]
fn stopped_leases_keep_what_they_may_be_owed_from_withdrawal() -> Result<()> {
    let mut ctx = running(100)?;
    ctx.block.now_ms += 19_001;
    pause(&mut ctx, 1)?;
    let now = ctx.now();
    // 19.001 may be owed: 20 must stay.
    assert_eq!(
        code(ctx.atomically(|ctx| withdraw_deposit(ctx, 1, &OWNER, &Coin::base(81), now))),
        12
    );
    withdraw_deposit(&mut ctx, 1, &OWNER, &Coin::base(80), now)?;
    Ok(())
}

#[test]
fn closing_returns_at_once_what_cannot_be_owed_and_the_rest_with_the_last_outcome() -> Result<()> {
    let mut ctx = running(100)?;
    let start = ctx.now();
    deposit(&mut ctx, 1, &FRIEND, &Coin::base(50))?;
    let (owner, friend) = (uten(&mut ctx, &OWNER), uten(&mut ctx, &FRIEND));
    ctx.block.now_ms = start + 10_500;
    assert_eq!(begin_close(&mut ctx, 1, start + 10_500)?, start + 10_500);
    // ceil(10.5) = 11 stay, out of the oldest lot.
    assert_eq!(uten(&mut ctx, &FRIEND), friend + 50);
    assert_eq!(uten(&mut ctx, &OWNER), owner + 89);
    assert_eq!(code(begin_close(&mut ctx, 1, start + 10_500)), 16);
    assert_eq!(code(resume(&mut ctx, 1)), 16);
    assert_eq!(code(finish_close(&mut ctx, 1, &all_attested(start + 10_499))), 18);
    close_account(&mut ctx, 1)?;
    assert_eq!(account(&mut ctx, 1)?.state(), AccountState::Open);
    assert_eq!(code(deposit(&mut ctx, 1, &OWNER, &Coin::base(1))), 4);
    let closed = finish_close(&mut ctx, 1, &all_attested(start + 20_000))?;
    assert_eq!(
        closed.settled,
        Settled {
            gross: Amount::new(10),
            take: Amount::ZERO,
            net: Amount::new(10)
        }
    );
    assert_eq!(
        (closed.paid_out, closed.refunded, closed.account_closed),
        (Coin::base(10), Amount::new(1), true)
    );
    assert_eq!(code(finish_close(&mut ctx, 1, &all_attested(start + 20_000))), 16);
    assert_eq!(code(close_account(&mut ctx, 1)), 4);
    assert_eq!(settle(&mut ctx, 1, &all_attested(u64::MAX))?, Settled::default());
    EscrowModule.invariants(&mut ctx)
}

#[test]
fn an_account_with_a_running_payment_neither_closes_nor_refunds_what_that_may_need() -> Result<()> {
    let mut ctx = running(100)?;
    start_payment(&mut ctx, 1, 2, &PROVIDERS[1], PER_SECOND, 0)?;
    ctx.block.now_ms += 1_000;
    let now = ctx.now();
    begin_close(&mut ctx, 1, now)?;
    assert_eq!(account(&mut ctx, 1)?.balance, "100");
    assert_eq!(code(close_account(&mut ctx, 1)), 5);
    finish_close(&mut ctx, 1, &all_attested(now))?;
    assert_eq!(account(&mut ctx, 1)?.balance, "99");
    Ok(())
}

#[test]
fn an_end_in_the_past_frees_money_before_it_is_asked_whether_it_ran_out() -> Result<()> {
    // Two leases of one unit a second each and 20 units: both would stop after 10 s. The first ended after 4 s, which is noticed after 12 s.
    let mut ctx = running(20)?;
    let start = ctx.now();
    start_payment(&mut ctx, 1, 2, &PROVIDERS[1], PER_SECOND, 0)?;
    ctx.block.now_ms = start + 12_000;
    begin_close(&mut ctx, 1, start + 4_000)?;
    assert_eq!(account(&mut ctx, 1)?.funded_until_ms, start + 16_000);
    assert_eq!(catch_up(&mut ctx, 1)?, [0; 0]);
    // An end after the money ran out is where it ran out.
    ctx.block.now_ms = start + 30_000;
    assert_eq!(begin_close(&mut ctx, 2, start + 25_000)?, start + 16_000);
    EscrowModule.invariants(&mut ctx)
}

#[test]
fn an_exception_is_for_the_next_epoch_once_it_is_over() -> Result<()> {
    let mut ctx = running(1_000)?;
    let start = ctx.now();
    let time = all_attested(start + 10_000);
    ctx.block.now_ms = start + 19_999;
    assert_eq!(code(except(&mut ctx, 1, &time, start + 10_000, start + 20_000)), 17);
    ctx.block.now_ms = start + 20_000;
    assert_eq!(code(except(&mut ctx, 1, &time, start, start + 10_000)), 17);
    assert_eq!(
        code(except(
            &mut ctx,
            1,
            &all_attested(start),
            start + 10_000,
            start + 20_000
        )),
        17
    );
    except(&mut ctx, 1, &time, start + 10_000, start + 20_000)?;
    except(&mut ctx, 1, &time, start + 10_000, start + 20_000)?;
    settle(&mut ctx, 1, &all_attested(start + 25_000))?;
    assert_eq!(payment(&mut ctx, 1)?.paid_total, "15");
    // What was excepted is free again: 985 units are left for the time from 25 s on.
    assert_eq!(account(&mut ctx, 1)?.funded_until_ms, start + 25_000 + 985_000);
    EscrowModule.invariants(&mut ctx)
}

#[test]
fn unsettled_changes_are_bounded_and_a_pause_always_fits() -> Result<()> {
    let mut ctx = running(1_000_000)?;
    let start = ctx.now();
    for i in 0..6 {
        ctx.block.now_ms += 1_000;
        amend(&mut ctx, 1, PER_SECOND + 1 + i)?;
    }
    ctx.block.now_ms += 1_000;
    let error = ctx.atomically(|ctx| amend(ctx, 1, 1)).unwrap_err();
    assert!(
        error.code == 15 && error.message.contains("wait for the attestation"),
        "{error}"
    );
    pause(&mut ctx, 1)?;
    assert_eq!(payment(&mut ctx, 1)?.segments.len(), crate::accrual::MAX_SEGMENTS);
    ctx.block.now_ms += 1_000;
    assert_eq!(code(ctx.atomically(|ctx| resume(ctx, 1))), 15);
    settle(&mut ctx, 1, &all_attested(start + 3_000))?;
    resume(&mut ctx, 1)?;
    EscrowModule.invariants(&mut ctx)
}

#[test]
fn deposits_are_bounded_in_size_and_number() -> Result<()> {
    let mut ctx = chain(&crate::Params {
        min_deposit: "10".to_owned(),
        ..small()
    })?;
    assert_eq!(code(open_account(&mut ctx, 1, &OWNER, "uten", Amount::new(9))), 7);
    open_account(&mut ctx, 1, &OWNER, "uten", Amount::new(10))?;
    assert_eq!(code(open_account(&mut ctx, 1, &OWNER, "uten", Amount::new(10))), 3);
    assert_eq!(code(deposit(&mut ctx, 2, &OWNER, &Coin::base(10))), 1);
    assert_eq!(code(deposit(&mut ctx, 1, &OWNER, &Coin::base(1 << 90))), 8);
    for i in 1..MAX_LOTS {
        deposit(&mut ctx, 1, if i % 2 == 0 { &OWNER } else { &FRIEND }, &Coin::base(10))?;
    }
    assert_eq!(code(deposit(&mut ctx, 1, &STRANGER, &Coin::base(10))), 9);
    deposit(&mut ctx, 1, &OWNER, &Coin::base(10))?;
    assert_eq!(account(&mut ctx, 1)?.lots.len(), MAX_LOTS - 1);
    assert_eq!(code(deposit(&mut ctx, 1, &STRANGER, &Coin::base(10))), 9);
    EscrowModule.invariants(&mut ctx)
}

#[test]
fn the_protocols_share_does_not_depend_on_how_often_is_settled() -> Result<()> {
    let paid = |every: usize| -> Result<_> {
        let mut ctx = running(1_000)?;
        let start = ctx.now();
        ctx.block.now_ms += 999_000;
        for t in (0..=999_000).step_by(every) {
            settle(&mut ctx, 1, &all_attested(start + t))?;
        }
        settle(&mut ctx, 1, &all_attested(start + 999_000))?;
        let coin = pay_out(&mut ctx, 1)?;
        assert_eq!(pay_out(&mut ctx, 1)?, Coin::base(0));
        Ok((coin, payment(&mut ctx, 1)?.take_total))
    };
    assert_eq!(paid(1_000)?, (Coin::base(980), "19".to_owned()));
    assert_eq!(paid(999_000)?, (Coin::base(980), "19".to_owned()));
    Ok(())
}

#[test]
fn genesis_round_trips_and_the_account_query_shows_every_payment() -> Result<()> {
    let mut ctx = running(1_000)?;
    start_payment(&mut ctx, 1, 7, &PROVIDERS[1], 5, 0)?;
    ctx.block.now_ms += 60_000;
    let now = ctx.now();
    begin_close(&mut ctx, 1, now)?;
    finish_close(&mut ctx, 1, &all_attested(now))?;
    let sections = json!({
        "auth": AuthModule.export_genesis(&mut ctx)?,
        "bank": BankModule.export_genesis(&mut ctx)?,
        "escrow": EscrowModule.export_genesis(&mut ctx)?,
    });
    let mut again = testing::chain(&[&AuthModule, &BankModule, &EscrowModule], &sections)?;
    again.block.now_ms = now;
    EscrowModule.invariants(&mut again)?;
    let records = |ctx: &mut tenure_sdk::Ctx| ctx.range("escrow", b"\0", prefix_end(b"\xfe").as_deref(), false, 99);
    assert_eq!(records(&mut ctx)?, records(&mut again)?);
    assert_eq!(timers(&mut ctx), timers(&mut again));
    let route = EscrowModule
        .queries()
        .into_iter()
        .find(|r| r.path.ends_with("/Account"))
        .unwrap();
    let answer = (route.answer)(&mut again, &QueryAccountRequest { id: 1 }.encode_to_vec())?;
    let answer = QueryAccountResponse::decode(answer.as_slice()).unwrap();
    assert_eq!(answer.account.unwrap().open_payments, [7]);
    assert_eq!(answer.payments.iter().map(|p| p.lease_id).collect::<Vec<_>>(), [1, 7]);
    Ok(())
}

#[test]
fn parameters_out_of_bounds_are_refused_by_name() -> Result<()> {
    for (field, value) in [
        ("min_runway_ms", json!("0")),
        ("take_bps", json!(10_001)),
        ("min_deposit", json!("0")),
    ] {
        let mut params = proto_json::to_json(&small())?;
        params[field] = value;
        let error = check(&proto_json::from_json(&params)?).unwrap_err();
        assert!(error.message.contains(&format!("escrow.params.{field}")), "{error}");
    }
    check(&small())
}
