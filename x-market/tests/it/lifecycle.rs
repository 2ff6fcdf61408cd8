//! Leases from bid to close, with amounts to the unit. Rates are one base unit per millisecond, so amounts are milliseconds.

use tenure_proto::{any, tenure::market::v1::*};

use crate::world::{net, World, EPOCH, GRACE, RICH, UNIT};

fn amounts(world: &mut World, lease: u64) -> [u128; 4] {
    let balance = world.lease(lease).balance.expect("balance");
    [balance.deposited, balance.paid, balance.refunded, balance.held]
        .map(|c| c.expect("coin").amount.parse().expect("number"))
}

fn lease(world: &mut World, id: u64) -> Lease {
    world.lease(id).lease.expect("lease")
}

/// The end of the epoch of the first provider that holds an instant.
fn epoch_end(world: &mut World, t: u64) -> u64 {
    let provider = world.provider(0);
    tenure_x_provider::epoch_range(&provider, tenure_x_provider::epoch_of(&provider, t)).1
}

#[test]
fn a_bid_meets_its_claim_in_the_block_of_the_claim_and_is_paid_for_attested_time_to_the_unit() {
    let mut world = World::new();
    let bid = world.bid_and_match(200_000);
    assert_eq!(world.bid(bid).state(), BidState::Leased);
    assert_eq!(world.events(), ["BidPosted", "Claimed", "LeaseCreated"]);
    let id = world.bid(bid).lease_id;
    assert_eq!(world.state(id), LeaseState::Starting);
    assert_eq!(world.provider(0).open_leases, 1);
    assert_eq!(world.provider(0).reserved.expect("reserved").cpu_milli, 1_000);

    let ready = world.ready(0, 0, id);
    world.must(1_234, &ready);
    let ready_ms = world.ctx.now();
    assert_eq!(lease(&mut world, id).expires_ms, ready_ms + 600_000);

    world.run_until(ready_ms + 34_567, &[0]);
    let close = world.close(id);
    world.must(433, &close);
    let ended = world.ctx.now();
    assert_eq!(ended - ready_ms, 35_000);
    assert_eq!(world.state(id), LeaseState::Closing);
    // What can no longer be owed is back already; what may be owed still is held or paid.
    let [deposited, paid, refunded, held] = amounts(&mut world, id);
    assert_eq!((deposited, refunded, paid + held), (200_000, 165_000, 35_000));

    let end = epoch_end(&mut world, ended);
    world.run_until(end, &[0]);
    assert_eq!(world.state(id), LeaseState::Closed);
    assert_eq!(amounts(&mut world, id), [200_000, 35_000, 165_000, 0]);
    assert_eq!(world.tenant_balance(0), RICH - 35_000);
    assert_eq!(world.provider_balance(0), RICH - 1_000 + net(35_000));
    let closed = lease(&mut world, id);
    assert_eq!((closed.reason(), closed.ended_ms), (CloseReason::Tenant, ended));
    let provider = world.provider(0);
    assert_eq!(
        (provider.open_leases, provider.reserved.expect("reserved").cpu_milli),
        (0, 0)
    );
    let events = world.events();
    assert!(events.ends_with(&["LeaseClosing", "LeaseClosed"]), "{events:?}");
}

#[test]
fn missed_epochs_are_not_paid() {
    let mut world = World::new();
    let id = world.start_lease(200_000);
    let ready = world.ctx.now();
    // Two whole epochs go by without an attestation, then the provider attests again.
    let first = epoch_end(&mut world, ready);
    world.run_until(first, &[0]);
    world.run_until(first + 2 * EPOCH + GRACE, &[]);
    let resumed = first + 2 * EPOCH;
    world.run_until(resumed + EPOCH, &[0]);
    let close = world.close(id);
    world.must(500, &close);
    world.run_until(resumed + 2 * EPOCH, &[0]);
    assert_eq!(world.state(id), LeaseState::Closed);
    let lived = u128::from(resumed + EPOCH + 500 - ready);
    let paid = lived - u128::from(2 * EPOCH);
    assert_eq!(amounts(&mut world, id), [200_000, paid, 200_000 - paid, 0]);
}

#[test]
fn a_provider_that_goes_silent_defaults_after_three_misses_and_is_paid_up_to_its_last_attestation() {
    let mut world = World::new();
    let id = world.start_lease(500_000);
    let ready = world.ctx.now();
    let first = epoch_end(&mut world, ready);
    world.run_until(first, &[0]);
    let due = first + 3 * EPOCH + GRACE;
    world.run_until(due - 1, &[]);
    assert_eq!(world.state(id), LeaseState::Active);
    world.run_until(due + 2_000, &[]);
    let ended = lease(&mut world, id);
    assert_eq!(
        (ended.reason(), ended.ended_ms, ended.state()),
        (CloseReason::Default, due + 999, LeaseState::Closing),
        "in the first block after the deadline"
    );
    // The epoch it ended in is missed too; then everything is final.
    world.run_until(first + 4 * EPOCH + GRACE + 3_000, &[]);
    assert_eq!(world.state(id), LeaseState::Closed);
    let paid = u128::from(first - ready);
    assert_eq!(amounts(&mut world, id), [500_000, paid, 500_000 - paid, 0]);
    assert_eq!(world.tenant_balance(0), RICH - paid);
}

#[test]
fn a_default_with_more_leases_than_a_block_ends_is_dated_at_one_instant() {
    let mut world = World::new();
    let ids: Vec<u64> = (0..5).map(|_| world.start_lease(400_000)).collect();
    let starting = world.bid_and_match(400_000);
    let late = world.bid(starting).lease_id;
    let now = world.ctx.now();
    let first = epoch_end(&mut world, now);
    world.run_until(first, &[0]);
    // The one that never becomes ready times out on its own before the default.
    world.run_until(first + 3 * EPOCH + GRACE - 500, &[]);
    assert_eq!(lease(&mut world, late).reason(), CloseReason::StartTimeout);
    world.events();
    let mut ends = Vec::new();
    for _ in 0..4 {
        world.block(1_000, &[]);
        ends.push(world.events().iter().filter(|e| **e == "LeaseClosing").count());
    }
    // Two a block is the rule of this chain; readers see all of them ended at once.
    assert_eq!(ends.iter().sum::<usize>(), 5);
    assert!(ends.iter().all(|n| *n <= 2), "{ends:?}");
    let instants: Vec<_> = ids.iter().map(|id| lease(&mut world, *id).ended_ms).collect();
    assert!(instants.windows(2).all(|pair| pair[0] == pair[1]), "{instants:?}");
    for id in ids {
        assert_eq!(lease(&mut world, id).reason(), CloseReason::Default);
    }
}

#[test]
fn a_default_ends_the_leases_made_before_it_and_a_lease_matched_at_its_instant_lives() {
    let mut world = World::new();
    let old: Vec<u64> = (0..5).map(|_| world.start_lease(400_000)).collect();
    let now = world.ctx.now();
    let first = epoch_end(&mut world, now);
    world.run_until(first, &[0]);
    let ended = first + 3 * EPOCH + GRACE;
    world.run_until(ended - 500, &[]);
    let bid = world.last_bid() + 1;
    world.must(100, &world.post(100_000));
    // The claim itself ends what the default concerns, more than a block's share, and the match is made at the default's very instant.
    let claim = world.claim(0, bid, UNIT);
    world.must(400, &claim);
    assert_eq!(world.ctx.now(), ended);
    for id in old {
        let lease = lease(&mut world, id);
        assert_eq!((lease.reason(), lease.ended_ms), (CloseReason::Default, ended));
    }
    let new = world.bid(bid).lease_id;
    assert_eq!(lease(&mut world, new).created_ms, ended);
    assert_eq!(world.state(new), LeaseState::Starting);
    let ready = world.ready(0, 0, new);
    world.must(1_000, &ready);
    // It has a row of misses of its own ahead, counted from the epoch that caused the default.
    world.run_until(ended + 3 * EPOCH - 1, &[]);
    assert_eq!(world.state(new), LeaseState::Active);
    world.run_until(ended + 3 * EPOCH, &[]);
    let lease = lease(&mut world, new);
    assert_eq!(
        (lease.reason(), lease.ended_ms),
        (CloseReason::Default, ended + 3 * EPOCH)
    );
}

#[test]
fn a_default_that_has_nothing_left_to_end_does_not_hide_the_next() {
    let mut world = World::new();
    let id = world.start_lease(400_000);
    let (owner, now) = (world.providers[0].address, world.ctx.now());
    // The leases it concerned ended in other ways before its turn came.
    let old = Defaulting {
        provider: owner.to_string(),
        default_at_ms: vec![lease(&mut world, id).created_ms],
    };
    let key = tenure_x_market::keys::defaulting(&owner);
    let first = epoch_end(&mut world, now);
    let due = first + 3 * EPOCH + GRACE;
    world.run_until(first, &[0]);
    world.ctx.save("market", &key, &old).expect("saves");
    world.run_until(due, &[]);
    let ended = lease(&mut world, id);
    assert_eq!((ended.reason(), ended.ended_ms), (CloseReason::Default, due));
}

#[test]
fn late_attestation_is_not_paid() {
    let mut world = World::new();
    let id = world.start_lease(200_000);
    let ready = world.ctx.now();
    let first = epoch_end(&mut world, ready);
    let late = {
        world.run_until(first + GRACE + 2_000, &[]);
        let provider = world.provider(0);
        let epoch = tenure_x_provider::epoch_of(&provider, ready);
        let epochs = vec![tenure_proto::tenure::provider::v1::EpochRoot {
            epoch,
            root: vec![9; 32],
        }];
        tenure_proto::tenure::provider::v1::MsgAttest {
            provider: world.providers[0].text(),
            epochs,
        }
    };
    assert_eq!(world.refused(1_000, &late).0, "provider");
    world.run_until(first + EPOCH, &[0]);
    let close = world.close(id);
    world.must(1_000, &close);
    world.run_until(first + 2 * EPOCH, &[0]);
    assert_eq!(amounts(&mut world, id)[1], u128::from(EPOCH) + 1_000);
}

#[test]
fn a_halt_of_two_hours_costs_nobody_anything() {
    let mut world = World::new();
    let id = world.start_lease(500_000);
    let ready = world.ctx.now();
    let end = epoch_end(&mut world, ready);
    world.run_until(end + 1_000, &[0]);
    let starting = world.bid_and_match(100_000);
    let open = world.last_bid() + 1;
    world.must(1_000, &world.post(100_000));
    let before = world.ctx.now();
    world.block(7_200_000, &[]);
    assert_eq!(
        world.ctx.now(),
        before + 10_000,
        "live time advances by one longest gap"
    );
    assert_eq!(world.state(id), LeaseState::Active);
    assert_eq!(world.bid(open).state(), BidState::Open);
    let waiting = world.bid(starting).lease_id;
    assert_eq!(world.state(waiting), LeaseState::Starting);
    assert_eq!(world.provider(0).missed_epochs, 0);
    // The first attestation after the halt is in time, and everything lived is paid, the halt not.
    let attest = world.attestations(1_000, &[0]);
    for result in world.block(1_000, &attest) {
        result.expect("in time");
    }
    let close = world.close(id);
    world.must(1_000, &close);
    let ended = world.ctx.now();
    assert_eq!(ended, before + 12_000);
    let end = epoch_end(&mut world, ended);
    world.run_until(end, &[0]);
    assert_eq!(amounts(&mut world, id)[1], u128::from(ended - ready));
}

#[test]
fn a_lease_that_does_not_start_in_time_costs_nothing() {
    let mut world = World::new();
    let bid = world.bid_and_match(200_000);
    let id = world.bid(bid).lease_id;
    let start_by = lease(&mut world, id).start_by.expect("deadline").ms;
    world.run_until(start_by - 1, &[0]);
    assert_eq!(world.state(id), LeaseState::Starting);
    world.run_until(start_by, &[0]);
    let ended = lease(&mut world, id);
    assert_eq!(
        (ended.state(), ended.reason(), ended.ended_ms),
        (LeaseState::Closed, CloseReason::StartTimeout, start_by)
    );
    assert_eq!(world.tenant_balance(0), RICH);
    assert_eq!(world.provider(0).open_leases, 0);
    let ready = world.ready(0, 0, id);
    assert_eq!(world.refused(1_000, &ready), ("market", 5));
}

#[test]
fn a_starting_lease_is_closed_by_either_side_for_nothing() {
    for by_tenant in [true, false] {
        let mut world = World::new();
        let bid = world.bid_and_match(200_000);
        let id = world.bid(bid).lease_id;
        let reason = if by_tenant {
            world.must(1_000, &world.close(id));
            CloseReason::Tenant
        } else {
            let finish = MsgFinishLease {
                provider: world.providers[0].text(),
                lease_id: id,
                reason: CloseReason::Provider.into(),
                detail: "disk full".to_owned(),
                ..Default::default()
            };
            world.must(1_000, &finish);
            assert_eq!(lease(&mut world, id).detail, "disk full");
            CloseReason::Provider
        };
        let closed = lease(&mut world, id);
        assert_eq!((closed.state(), closed.reason()), (LeaseState::Closed, reason));
        assert_eq!(world.tenant_balance(0), RICH);
        assert_eq!(amounts(&mut world, id), [200_000, 0, 200_000, 0]);
    }
}

#[test]
fn a_lease_expires_at_its_instant_however_late_a_block_comes() {
    let mut world = World::new();
    let mut post = world.post(200_000);
    post.duration_ms = 25_500;
    let claim = world.claim(0, 1, UNIT);
    for result in world.block(1_000, &[any(&post), any(&claim)]) {
        result.expect("succeeds");
    }
    let ready = world.ready(0, 0, 1);
    world.must(1_000, &ready);
    let ready = world.ctx.now();
    world.run_until(ready + 25_000, &[0]);
    // A block four seconds after the expiry.
    let attest = world.attestations(4_500, &[0]);
    world.block(4_500, &attest);
    let ended = lease(&mut world, 1);
    assert_eq!((ended.reason(), ended.ended_ms), (CloseReason::Expired, ready + 25_500));
    world.run_until(ready + 25_500 + EPOCH, &[0]);
    assert_eq!(amounts(&mut world, 1), [200_000, 25_500, 174_500, 0]);
}

#[test]
fn the_workloads_end_is_reported_with_its_output() {
    for (reason, exit_code) in [(CloseReason::Completed, 0), (CloseReason::WorkloadFailed, 3)] {
        let mut world = World::new();
        let id = world.start_lease(200_000);
        let ready = world.ctx.now();
        world.run_until(ready + 7_000, &[0]);
        let finish = MsgFinishLease {
            provider: world.providers[0].text(),
            lease_id: id,
            reason: reason.into(),
            exit_code,
            output_root: vec![5; 32],
            detail: String::new(),
        };
        let attest = world.attestations(1_000, &[0]);
        world.block(1_000, &attest);
        world.must(1_000, &finish);
        world.run_until(ready + 9_000 + EPOCH, &[0]);
        let closed = lease(&mut world, id);
        assert_eq!(
            (closed.state(), closed.reason(), closed.exit_code),
            (LeaseState::Closed, reason, exit_code)
        );
        assert_eq!(closed.output_root, [5; 32]);
        assert_eq!(amounts(&mut world, id)[1], 9_000);
    }
}

#[test]
fn the_cheapest_claim_wins_when_the_window_closes_and_the_others_are_gone() {
    let mut world = World::new();
    let mut post = world.post(200_000);
    post.claim_window = Some(tenure_proto::tenure::base::v1::Window { blocks: 2, ms: 2_500 });
    world.must(1_000, &post);
    for (provider, rate) in [(0, UNIT), (1, UNIT / 2), (2, UNIT / 2)] {
        let claim = world.claim(provider, 1, rate);
        world.must(500, &claim);
    }
    // 1,500 ms and three blocks have passed: the instant has not.
    assert_eq!(world.bid(1).state(), BidState::Open);
    world.block(999, &[]);
    assert_eq!(world.bid(1).state(), BidState::Open);
    world.block(1, &[]);
    let bid = world.bid(1);
    assert_eq!((bid.state(), bid.open_claims), (BidState::Leased, 0));
    let won = lease(&mut world, bid.lease_id);
    assert_eq!((won.provider, won.rate), (world.providers[1].text(), UNIT / 2));
    let left: QueryClaimsResponse = world
        .query("/tenure.market.v1.Query/Claims", &QueryClaimsRequest { bid_id: 1 })
        .expect("claims");
    assert_eq!(left.claims, []);
    let events = world.events();
    assert_eq!(events.iter().filter(|e| **e == "ClaimClosed").count(), 2, "{events:?}");
}

#[test]
fn a_claim_that_its_provider_cannot_honour_is_void_and_the_bid_waits() {
    let mut world = World::new();
    // Two bids that together need more than the one provider has.
    let mut big = world.post(200_000);
    big.resources.as_mut().expect("resources").cpu_milli = 5_000;
    let (first, second) = (world.claim(0, 1, UNIT), world.claim(0, 2, UNIT));
    for result in world.block(1_000, &[any(&big), any(&big), any(&first), any(&second)]) {
        result.expect("succeeds");
    }
    let states = [world.bid(1).state(), world.bid(2).state()];
    assert!(
        states.contains(&BidState::Leased) && states.contains(&BidState::Open),
        "{states:?}"
    );
    let loser = if states[0] == BidState::Open { 1 } else { 2 };
    assert_eq!(world.bid(loser).open_claims, 0);
    // Another provider serves it.
    let claim = world.claim(1, loser, UNIT);
    world.must(1_000, &claim);
    assert_eq!(world.bid(loser).state(), BidState::Leased);
}

#[test]
fn what_a_blocks_matches_leave_is_matched_in_the_next() {
    let mut world = World::new();
    let mut msgs: Vec<_> = (0..7).map(|_| any(&world.post(100_000))).collect();
    msgs.extend((1..=7).map(|id| any(&world.claim(0, id, UNIT))));
    for result in world.block(1_000, &msgs) {
        result.expect("succeeds");
    }
    let leased = |world: &mut World| (1..=7).filter(|id| world.bid(*id).state() == BidState::Leased).count();
    assert_eq!(leased(&mut world), 4);
    world.block(1_000, &[]);
    assert_eq!(leased(&mut world), 7);
}

#[test]
fn a_bid_that_nobody_claims_expires_and_its_deposit_returns() {
    let mut world = World::new();
    world.must(1_000, &world.post(200_000));
    let expires = world.bid(1).expires.expect("deadline");
    world.run_until(expires.ms - 1, &[]);
    assert_eq!(world.bid(1).state(), BidState::Open);
    assert_eq!(world.tenant_balance(0), RICH - 200_000);
    world.run_until(expires.ms, &[]);
    assert_eq!(world.bid(1).state(), BidState::Expired);
    assert_eq!(world.tenant_balance(0), RICH);
}

#[test]
fn closing_leases_that_a_round_leaves_are_finalised_in_the_next() {
    let mut world = World::new();
    // Two leases at the provider that rounds ask first, one at each other; all end before any outcome is final.
    let silent = (0..3).min_by_key(|i| world.providers[*i].address).expect("three");
    let others: Vec<usize> = (0..3).filter(|i| *i != silent).collect();
    for provider in [silent, silent, others[0], others[1]] {
        let bid = world.last_bid() + 1;
        let claim = world.claim(provider, bid, UNIT);
        let post = world.post(100_000);
        for result in world.block(50, &[any(&post), any(&claim)]) {
            result.expect("succeeds");
        }
        let ready = world.ready(0, provider, bid);
        world.must(50, &ready);
    }
    for id in 1..=4 {
        world.must(100, &world.close(id));
    }
    let stored_closing = |ctx: &mut tenure_sdk::Ctx| {
        ctx.derived_range(b"market.closing/", Some(b"market.closing0"), false, usize::MAX)
            .expect("range")
            .len()
    };
    // The others attest the epochs their leases ended in.
    let provider_epoch_ends: Vec<u64> = (0..3)
        .map(|i| {
            let (provider, now) = (world.provider(i), world.ctx.now());
            tenure_x_provider::epoch_range(&provider, tenure_x_provider::epoch_of(&provider, now)).1
        })
        .collect();
    assert_eq!(stored_closing(&mut world.ctx), 4);
    let last = *provider_epoch_ends.iter().max().expect("three");
    // Between blocks: the clock stands where every epoch has ended, nothing is finalised yet.
    world.ctx.block.height += 1;
    world.ctx.block.header_ms += last - world.ctx.now();
    let (height, header_ms) = (world.ctx.block.height, world.ctx.block.header_ms);
    world.ctx.block.now_ms = tenure_sdk::clock::advance(&mut world.ctx, height, header_ms).expect("advances");
    for i in others {
        let provider = world.provider(i);
        let epoch = tenure_x_provider::epoch_of(&provider, provider_epoch_ends[i] - 1);
        let epochs = vec![tenure_proto::tenure::provider::v1::EpochRoot {
            epoch,
            root: vec![9; 32],
        }];
        let provider = world.providers[i].text();
        world
            .run(&tenure_proto::tenure::provider::v1::MsgAttest { provider, epochs })
            .expect("attests");
    }
    let mut left = vec![stored_closing(&mut world.ctx)];
    for _ in 0..3 {
        // One provider a round: the silent one must not keep the round from the others.
        tenure_x_market::end_block::finalise(&mut world.ctx, 10, 1).expect("a round");
        left.push(stored_closing(&mut world.ctx));
    }
    assert_eq!((left[0], left[3]), (4, 2), "{left:?}");
    // The silent one's leases follow when its epoch is missed.
    world.run_until(last + EPOCH + GRACE + 3_000, &[]);
    assert_eq!(stored_closing(&mut world.ctx), 0);
    assert!(
        world.ctx.get("market", b"f").expect("reads").is_none(),
        "no round is left open"
    );
}
