//! What happens to a lease's money while nobody acts: reviews, automatic top-ups, settlements from the queue. One unit a millisecond.

use tenure_proto::{
    any,
    tenure::{escrow::v1::TopUpOrder, market::v1::*},
};
use tenure_types::{Address, Coin};

use crate::world::{World, EPOCH, RICH};

/// How long before X an account is reviewed: two epochs.
const LEAD: u64 = 2 * EPOCH;

fn order(maximum: u64, amount: u64) -> Option<TopUpOrder> {
    Some(TopUpOrder {
        maximum: maximum.to_string(),
        amount: amount.to_string(),
    })
}

/// A running lease of the first tenant at the first provider whose bid has this order; when it became ready.
fn start(world: &mut World, deposit: u128, auto_top_up: Option<TopUpOrder>) -> (u64, u64) {
    let bid_id = world.last_bid() + 1;
    let post = MsgPostBid {
        auto_top_up,
        ..world.post(deposit)
    };
    let msgs = [any(&post), any(&world.claim(0, bid_id, post.max_rate))];
    for result in world.block(100, &msgs) {
        result.expect("succeeds");
    }
    let id = world.bid(bid_id).lease_id;
    let ready = world.ready(0, 0, id);
    world.must(100, &ready);
    (id, world.ctx.now())
}

fn set(world: &World, auto_top_up: Option<TopUpOrder>) -> MsgSetAutoTopUp {
    MsgSetAutoTopUp {
        tenant: world.tenants[0].text(),
        bid_id: 1,
        auto_top_up,
    }
}

fn account(world: &mut World, lease: u64) -> tenure_proto::tenure::escrow::v1::Account {
    world.lease(lease).account.expect("account")
}

/// Events of escrow of one kind since the last call, with one of their attributes.
fn told(world: &mut World, kind: &str, name: &str) -> Vec<String> {
    let events = std::mem::take(&mut world.ctx.events);
    let ours = events.into_iter().filter(|e| e.kind.ends_with(kind));
    ours.filter_map(|e| e.attributes.into_iter().find(|(n, _)| *n == name).map(|(_, v)| v))
        .collect()
}

#[test]
fn a_lease_does_not_pause_while_missed_time_has_left_money() {
    let mut world = World::new();
    let (id, ready) = start(&mut world, 60_000, None);
    // Two epochs are missed, which is no default yet; then all are attested. Nobody sends a message about the lease.
    let (start, _) = {
        let provider = world.provider(0);
        tenure_x_provider::epoch_range(&provider, tenure_x_provider::epoch_of(&provider, ready) + 1)
    };
    world.run_until(start, &[0]);
    world.run_until(start + 2 * EPOCH + 5_000, &[]);
    let missed = 2 * EPOCH;
    world.run_until(ready + 60_000 + missed - 1, &[0]);
    assert_eq!(world.state(id), LeaseState::Active);
    world.run_until(ready + 60_000 + missed, &[0]);
    assert_eq!(world.state(id), LeaseState::Paused);
    world.run_until(ready + 60_000 + missed + 40_000, &[0]);
    // Every unit was spent on attested time, none returned.
    let balance = world.lease(id).balance.expect("balance");
    let amount = |c: Option<tenure_proto::cosmos::base::v1beta1::Coin>| c.expect("coin").amount;
    assert_eq!(
        (amount(balance.paid), amount(balance.refunded)),
        ("60000".to_owned(), "0".to_owned())
    );
}

#[test]
fn a_standing_order_is_drawn_on_in_whole_parts_up_to_its_maximum() {
    let mut world = World::new();
    let (id, ready) = start(&mut world, 30_000, order(50_000, 20_000));
    assert_eq!(world.tenant_balance(0), RICH - 30_000);
    world.run_until(ready + 30_000 - LEAD - 1, &[0]);
    assert!(told(&mut world, "EventAutoToppedUp", "remaining").is_empty());
    world.run_until(ready + 30_000 - LEAD, &[0]);
    assert_eq!(told(&mut world, "EventAutoToppedUp", "remaining"), ["30000"]);
    assert_eq!(world.tenant_balance(0), RICH - 50_000);
    assert_eq!(account(&mut world, id).funded_until_ms, ready + 50_000);
    world.run_until(ready + 50_000 - LEAD, &[0]);
    // Half a part is left, and half a part is not drawn.
    assert_eq!(told(&mut world, "EventAutoToppedUp", "remaining"), ["10000"]);
    world.run_until(ready + 69_999, &[0]);
    assert_eq!(world.state(id), LeaseState::Active);
    assert!(told(&mut world, "EventTopUpFailed", "missing").is_empty());
    world.run_until(ready + 70_000, &[0]);
    assert_eq!(world.state(id), LeaseState::Paused);
    assert_eq!(world.tenant_balance(0), RICH - 70_000);
    let account = account(&mut world, id);
    assert_eq!((account.deposited_total.as_str(), account.lots.len()), ("70000", 1));
}

#[test]
fn small_parts_are_drawn_together_for_another_lead() {
    let mut world = World::new();
    let (id, ready) = start(&mut world, 30_000, order(100_000, 3_000));
    world.run_until(ready + 30_000 - LEAD, &[0]);
    // Seven parts of 3,000 are the least that fund twenty seconds more.
    assert_eq!(told(&mut world, "EventAutoToppedUp", "remaining"), ["79000"]);
    assert_eq!(account(&mut world, id).funded_until_ms, ready + 51_000);
}

#[test]
fn an_owner_without_money_is_told_and_the_block_goes_on() {
    let mut world = World::new();
    let (id, ready) = start(&mut world, 30_000, order(100_000, 20_000));
    let (owner, sink) = (world.tenants[0].address, Address::new([77; 20]));
    let all = Coin::base(world.tenant_balance(0));
    tenure_x_bank::transfer(&mut world.ctx, &owner, &sink, &all).expect("transfers");
    world.run_until(ready + 30_000 - LEAD, &[0]);
    assert_eq!(told(&mut world, "EventTopUpFailed", "missing"), ["20000"]);
    // Money that comes later is drawn when the order is given again, which makes the review up.
    tenure_x_bank::transfer(&mut world.ctx, &sink, &owner, &all).expect("transfers");
    world.run_until(ready + 20_000, &[0]);
    assert_eq!(account(&mut world, id).funded_until_ms, ready + 30_000);
    world.must(100, &set(&world, order(100_000, 25_000)));
    assert_eq!(account(&mut world, id).funded_until_ms, ready + 55_000);
    // Without one the lease runs dry.
    world.must(100, &set(&world, None));
    world.run_until(ready + 55_000, &[0]);
    assert_eq!(world.state(id), LeaseState::Paused);
}

#[test]
fn what_was_drawn_returns_to_its_owner() {
    let mut world = World::new();
    let (id, ready) = start(&mut world, 30_000, order(100_000, 50_000));
    world.run_until(ready + 12_000, &[0]);
    assert_eq!(world.tenant_balance(0), RICH - 80_000);
    world.must(1_000, &world.close(id));
    world.run_until(ready + 13_000 + EPOCH, &[0]);
    assert_eq!(world.state(id), LeaseState::Closed);
    assert_eq!(world.tenant_balance(0), RICH - 13_000);
}

#[test]
fn orders_are_bounded_and_their_owners_only() {
    let mut world = World::new();
    let bad = [
        order(0, 0),
        order(1_000, 2_000),
        order(1_000, 99),
        Some(TopUpOrder {
            maximum: "x".to_owned(),
            amount: "100".to_owned(),
        }),
        Some(TopUpOrder {
            maximum: (1_u128 << 90).to_string(),
            amount: "100".to_owned(),
        }),
    ];
    for auto_top_up in bad.clone() {
        let post = MsgPostBid {
            auto_top_up,
            ..world.post(30_000)
        };
        assert_eq!(world.refused(100, &post), ("escrow", 20));
    }
    start(&mut world, 30_000, None);
    for auto_top_up in bad {
        let msg = set(&world, auto_top_up);
        assert_eq!(world.refused(100, &msg), ("escrow", 20));
    }
    let stranger = MsgSetAutoTopUp {
        tenant: world.tenants[1].text(),
        ..set(&world, order(1_000, 100))
    };
    assert_eq!(world.refused(100, &stranger), ("market", 6));
}

#[test]
fn a_running_lease_is_settled_from_the_queue_and_old_gaps_go() {
    let mut world = World::new();
    world.set_gap_horizon(1);
    let (id, ready) = start(&mut world, 900_000, None);
    let mut most = 0;
    // Half the time nobody attests: one or two epochs in a row are missed.
    for _ in 0..19 {
        for attests in [&[][..], &[0]] {
            let until = world.ctx.now() + 15_000;
            world.run_until(until, attests);
            most = most.max(world.gaps(0));
        }
    }
    let payment = world.lease(id).payment.expect("payment");
    assert!(
        payment.settled_to_ms + 100_000 > world.ctx.now(),
        "settled to {}",
        payment.settled_to_ms
    );
    // Settled every 50 s, known 30 s and an epoch later: three gaps are made in that time, and as many wait to be dropped.
    assert!((2..=8).contains(&most), "{most} gaps");
    let missed = world.provider(0).missed_total_ms;
    assert!(missed >= 15 * EPOCH, "{missed}");
    world.must(1_000, &world.close(id));
    let lived = world.ctx.now() - ready;
    let until = world.ctx.now() + 2 * EPOCH;
    world.run_until(until, &[0]);
    assert_eq!(world.state(id), LeaseState::Closed);
    let paid: u64 = world
        .lease(id)
        .balance
        .expect("balance")
        .paid
        .expect("coin")
        .amount
        .parse()
        .expect("number");
    assert!(
        paid + missed + EPOCH > lived && paid + missed < lived + 2 * EPOCH,
        "{paid} of {lived}, {missed} missed"
    );
}
