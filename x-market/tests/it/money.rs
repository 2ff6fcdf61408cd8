//! Money while a lease runs: exhaustion, deposits and withdrawals, pauses, prices, exceptions, earnings.

use tenure_proto::tenure::market::v1::*;

use crate::world::{coin, net, World, EPOCH, RICH, UNIT};

fn balance(world: &mut World, lease: u64) -> [u128; 5] {
    let b = world.lease(lease).balance.expect("balance");
    [b.deposited, b.paid, b.take, b.refunded, b.held].map(|c| c.expect("coin").amount.parse().expect("number"))
}

fn deposit(world: &World, by: usize, bid_id: u64, amount: u128) -> MsgDeposit {
    MsgDeposit {
        depositor: world.tenants[by].text(),
        bid_id,
        amount: Some(coin(amount)),
    }
}

fn earnings(world: &World, lease_ids: &[u64]) -> MsgWithdrawEarnings {
    MsgWithdrawEarnings {
        provider: world.providers[0].text(),
        lease_ids: lease_ids.to_vec(),
    }
}

/// Closes a lease and waits until it is final.
fn finish(world: &mut World, lease: u64) {
    world.must(1_000, &world.close(lease));
    let until = world.ctx.now() + EPOCH + 1_000;
    world.run_until(until, &[0]);
    assert_eq!(world.state(lease), LeaseState::Closed);
}

#[test]
fn an_exhausted_lease_pauses_and_goes_on_when_its_tenant_tops_up() {
    let mut world = World::new();
    let id = world.start_lease(20_000);
    let ready = world.ctx.now();
    world.run_until(ready + 22_300, &[0]);
    assert_eq!(world.state(id), LeaseState::Paused);
    // A stranger's money starts nothing; neither does too little of the tenant's.
    let stranger = deposit(&world, 1, 1, 10_000);
    world.must(100, &stranger);
    assert_eq!(world.state(id), LeaseState::Paused);
    let enough = deposit(&world, 0, 1, 30_000);
    world.must(100, &enough);
    assert_eq!(world.state(id), LeaseState::Active);
    let resumed = world.ctx.now();
    assert_eq!(resumed, ready + 22_500);
    world.run_until(resumed + 7_000, &[0]);
    finish(&mut world, id);
    // 20,000 before the pause, 8,000 after it; what is left returns to whoever paid it in.
    let [deposited, paid, take, refunded, held] = balance(&mut world, id);
    assert_eq!(
        (deposited, paid, take, refunded, held),
        (60_000, 28_000, 280, 32_000, 0)
    );
    let (owner, stranger) = (world.tenant_balance(0), world.tenant_balance(1));
    assert_eq!((RICH - owner) + (RICH - stranger), 28_000);
    // First in, first out: 20,000 of the tenant's went before the pause, then 8,000 of the stranger's.
    assert_eq!(RICH - stranger, 8_000);
}

#[test]
fn too_small_a_top_up_leaves_an_exhausted_lease_paused() {
    let mut world = World::new();
    let id = world.start_lease(20_000);
    let ready = world.ctx.now();
    world.run_until(ready + 21_000, &[0]);
    let little = deposit(&world, 0, 1, 4_000);
    world.must(1_000, &little);
    assert_eq!(world.state(id), LeaseState::Paused, "the least runway is 5,000 ms");
    let rest = deposit(&world, 0, 1, 1_000);
    world.must(1_000, &rest);
    assert_eq!(world.state(id), LeaseState::Active);
}

#[test]
fn an_exhausted_lease_closes_when_its_grace_has_passed() {
    let mut world = World::new();
    let id = world.start_lease(20_000);
    let ready = world.ctx.now();
    let x = ready + 20_000;
    world.run_until(x + 14_999, &[0]);
    assert_eq!(world.state(id), LeaseState::Paused);
    world.run_until(x + 15_000, &[0]);
    let lease = world.lease(id).lease.expect("lease");
    assert_eq!((lease.reason(), lease.ended_ms), (CloseReason::Exhausted, x + 15_000));
    world.run_until(x + 15_000 + EPOCH, &[0]);
    assert_eq!(world.state(id), LeaseState::Closed);
    assert_eq!(balance(&mut world, id), [20_000, 20_000, 200, 0, 0]);
    assert_eq!(world.provider_balance(0), RICH - 1_000 + net(20_000));
}

#[test]
fn paused_time_is_not_paid() {
    let mut world = World::new();
    let id = world.start_lease(200_000);
    let ready = world.ctx.now();
    let tenant = world.tenants[0].text();
    world.run_until(ready + 4_000, &[0]);
    world.must(
        1_000,
        &MsgPauseLease {
            tenant: tenant.clone(),
            lease_id: id,
        },
    );
    assert_eq!(world.state(id), LeaseState::Paused);
    world.run_until(ready + 24_000, &[0]);
    world.must(1_000, &MsgResumeLease { tenant, lease_id: id });
    assert_eq!(world.state(id), LeaseState::Active);
    world.run_until(ready + 27_000, &[0]);
    finish(&mut world, id);
    assert_eq!(balance(&mut world, id)[1], 5_000 + 3_000);
}

#[test]
fn pausing_often_is_never_refused_while_the_provider_attests() {
    let mut world = World::new();
    let id = world.start_lease(200_000);
    let tenant = world.tenants[0].text();
    let mut ran = 0;
    for _ in 0..12 {
        let next = world.ctx.now() + 6_000;
        world.run_until(next, &[0]);
        world.must(
            1_000,
            &MsgPauseLease {
                tenant: tenant.clone(),
                lease_id: id,
            },
        );
        ran += 7_000;
        let next = world.ctx.now() + 3_000;
        world.run_until(next, &[0]);
        world.must(
            1_000,
            &MsgResumeLease {
                tenant: tenant.clone(),
                lease_id: id,
            },
        );
    }
    world.run_until(world.ctx.now() + 2_000, &[0]);
    finish(&mut world, id);
    assert_eq!(balance(&mut world, id)[1], ran + 3_000);
}

#[test]
fn an_amended_price_counts_from_then_on() {
    let mut world = World::new();
    let id = world.start_lease(200_000);
    let ready = world.ctx.now();
    world.run_until(ready + 9_000, &[0]);
    let (tenant, provider) = (world.tenants[0].text(), world.providers[0].text());
    world.must(
        1_000,
        &MsgAmendLease {
            tenant,
            provider,
            lease_id: id,
            rate: UNIT * 3,
        },
    );
    world.run_until(ready + 14_000, &[0]);
    finish(&mut world, id);
    assert_eq!(world.lease(id).lease.expect("lease").rate, UNIT * 3);
    assert_eq!(balance(&mut world, id)[1], 10_000 + 3 * 5_000);
}

#[test]
fn an_excepted_epoch_is_not_paid_and_the_other_leases_are() {
    let mut world = World::new();
    let down = world.start_lease(200_000);
    let up = world.start_lease(200_000);
    let started = [down, up].map(|id| world.lease(id).lease.expect("lease").ready_ms);
    let provider = world.provider(0);
    let epoch = tenure_x_provider::epoch_of(&provider, started[1]) + 1;
    let (start, end) = tenure_x_provider::epoch_range(&provider, epoch);
    world.run_until(end - 500, &[0]);
    let mut report = MsgReportDown {
        provider: world.providers[0].text(),
        epoch,
        lease_ids: vec![down],
    };
    assert_eq!(world.refused(100, &report), ("market", 17), "it has not ended");
    world.run_until(end, &[]);
    report.epoch = epoch + 1;
    assert_eq!(world.refused(100, &report), ("market", 17), "another is attested next");
    report.epoch = epoch;
    world.must(100, &report);
    let attest = world.attestations(100, &[0]);
    for result in world.block(100, &attest) {
        result.expect("attests");
    }
    assert_eq!(world.refused(100, &report), ("market", 17), "it is final");
    let mut lived = [0; 2];
    for (i, id) in [down, up].into_iter().enumerate() {
        world.must(1_000, &world.close(id));
        lived[i] = u128::from(world.ctx.now() - started[i]);
    }
    world.run_until(end + EPOCH, &[0]);
    assert_eq!(balance(&mut world, down)[1], lived[0] - u128::from(end - start));
    let excepted = [down, up].map(|id| world.lease(id).payment.expect("payment").excepted_ms_total);
    assert_eq!(excepted, [end - start, 0]);
    assert_eq!(balance(&mut world, up)[1], lived[1]);
}

#[test]
fn earnings_are_paid_out_on_demand_and_each_unit_once() {
    let mut world = World::new();
    let ids = [world.start_lease(200_000), world.start_lease(200_000)];
    let ready = ids.map(|id| world.lease(id).lease.expect("lease").ready_ms);
    let last = *ready.iter().max().expect("two");
    world.run_until(last + 25_000, &[0]);
    let w = world.provider(0).final_until_ms;
    world.must(100, &earnings(&world, &ids));
    let paid: u128 = ready.iter().map(|r| net(u128::from(w - r))).sum();
    assert_eq!(world.provider_balance(0), RICH - 1_000 + paid);
    world.must(100, &earnings(&world, &ids));
    assert_eq!(world.provider_balance(0), RICH - 1_000 + paid);
    for id in ids {
        finish(&mut world, id);
    }
    let total: u128 = ids.iter().map(|id| net(balance(&mut world, *id)[1])).sum();
    assert_eq!(world.provider_balance(0), RICH - 1_000 + total);
    world.must(100, &earnings(&world, &ids));
    assert_eq!(world.provider_balance(0), RICH - 1_000 + total);
}

#[test]
fn a_tenant_takes_back_what_the_runway_does_not_need() {
    let mut world = World::new();
    let withdraw = |world: &World, amount| MsgWithdrawDeposit {
        tenant: world.tenants[0].text(),
        bid_id: 1,
        amount: Some(coin(amount)),
    };
    // Open: the ceiling's runway must stay.
    world.must(1_000, &world.post(100_000));
    let too_much = withdraw(&world, 95_001);
    assert_eq!(world.refused(100, &too_much), ("market", 8));
    world.must(100, &withdraw(&world, 50_000));
    assert_eq!(world.tenant_balance(0), RICH - 50_000);
    // Starting: the agreed rate's.
    world.must(100, &world.claim(0, 1, UNIT / 2));
    let too_much = withdraw(&world, 47_501);
    assert_eq!(world.refused(100, &too_much), ("market", 8));
    world.must(100, &withdraw(&world, 10_000));
    let ready = world.ready(0, 0, 1);
    world.must(100, &ready);
    // Running: escrow's rule.
    let too_much = withdraw(&world, 40_000);
    assert_eq!(world.refused(100, &too_much).0, "escrow");
    world.must(100, &withdraw(&world, 10_000));
    let other = MsgWithdrawDeposit {
        tenant: world.tenants[1].text(),
        ..withdraw(&world, 1)
    };
    assert_eq!(world.refused(100, &other), ("market", 6));
    finish(&mut world, 1);
    let after = withdraw(&world, 1);
    assert_eq!(world.refused(100, &after), ("market", 5));
    let late = deposit(&world, 0, 1, 1_000);
    assert_eq!(world.refused(100, &late), ("market", 5));
}
