//! Work that a block does for nobody's gas is bounded.

use tenure_proto::{
    any,
    tenure::{
        base::v1::Window,
        market::v1::{BidState, CloseReason, LeaseState, MsgFinishLease, MsgPostBid, MsgWithdrawEarnings, Params},
        provider::v1::{EpochRoot, MsgAttest},
    },
};
use tenure_sdk::{gas, module::handle_due};

use crate::world::{escrow_params, market_params, World, EPOCH, MODULES, UNIT};

/// Gas of settling a lease after its provider has attested every second epoch, so many times.
fn gas_of_settling(rounds: u64) -> u64 {
    let mut world = World::new();
    let id = world.start_lease(2_000_000);
    for _ in 0..rounds {
        let next = world.provider(0).final_until_ms + 2 * EPOCH;
        // The first of two epochs passes without an attestation.
        while world.ctx.now() < next {
            let ms = (next - world.ctx.now()).min(9_000);
            world.block(ms, &[]);
        }
        let attest = MsgAttest {
            provider: world.providers[0].text(),
            epochs: vec![EpochRoot {
                epoch: tenure_x_provider::epoch_of(&world.provider(0), next - EPOCH),
                root: vec![9; 32],
            }],
        };
        world.must(100, &attest);
    }
    assert_eq!(world.state(id), LeaseState::Active);
    let withdraw = MsgWithdrawEarnings {
        provider: world.providers[0].text(),
        lease_ids: vec![id],
    };
    let before = world.ctx.gas.used();
    world.run(&withdraw).expect("settles");
    world.ctx.gas.used() - before
}

#[test]
fn settling_costs_the_same_however_often_the_provider_missed() {
    let (few, many) = (gas_of_settling(3), gas_of_settling(20));
    // Amounts have more digits.
    assert!(many.abs_diff(few) < 200, "{few} gas after 3 gaps, {many} after 20");
}

#[test]
fn a_provider_with_a_long_queue_takes_no_lease_and_costs_no_block_the_whole_queue() {
    let market = Params {
        matches_per_block: 1_000,
        ..market_params()
    };
    let mut world = World::with(market, escrow_params(), 2);
    let mut small = world.post(10_000);
    small.resources.as_mut().expect("resources").cpu_milli = 1;
    small.resources.as_mut().expect("resources").memory_bytes = 1;
    small.resources.as_mut().expect("resources").storage_bytes = 0;
    let mut msgs = Vec::new();
    for bid in 1..=300 {
        msgs.push(any(&small));
        msgs.push(any(&world.claim(0, bid, UNIT)));
    }
    for result in world.block(100, &msgs) {
        result.expect("succeeds");
    }
    // None becomes ready; all time out at one instant, and the queue handles one a block.
    world.set_quota(1);
    for _ in 0..4 {
        world.block(5_500, &[]);
    }
    let bid = 301;
    let claim = world.claim(0, bid, UNIT);
    let results = world.block(100, &[any(&small), any(&claim)]);
    let error = results[1].as_ref().expect_err("must be refused");
    assert_eq!((error.codespace, error.code), ("market", 12), "{error}");
    assert_eq!(world.bid(bid).state(), BidState::Open);
    // Others are not concerned, and when the queue is short it may try again.
    world.set_quota(500);
    world.block(100, &[]);
    world.must(100, &claim);
    assert_eq!(world.bid(bid).state(), BidState::Leased);
    let gives_up = MsgFinishLease {
        provider: world.providers[0].text(),
        lease_id: 301,
        reason: CloseReason::Provider.into(),
        ..Default::default()
    };
    world.must(100, &gives_up);
}

#[test]
fn bids_that_wait_for_their_height_are_passed_over_in_portions() {
    let mut world = World::new();
    let short = MsgPostBid {
        expiry: Some(Window { blocks: 20, ms: 1 }),
        ..world.post(10_000)
    };
    for result in world.block(100, &vec![any(&short); 200]) {
        result.expect("succeeds");
    }
    let before = world.ctx.gas.used();
    handle_due(&mut world.ctx, &MODULES).expect("handles");
    world.ctx.block.now_ms += 100;
    let idle = world.ctx.gas.used() - before;
    let before = world.ctx.gas.used();
    handle_due(&mut world.ctx, &MODULES).expect("handles");
    let waiting = world.ctx.gas.used() - before - idle;
    // One by one they would cost a read each.
    assert!(waiting < 200 * gas::READ, "{waiting} gas");
    assert_eq!(world.bid(200).state(), BidState::Open);
    for _ in 0..20 {
        world.block(100, &[]);
    }
    assert_eq!(world.bid(200).state(), BidState::Expired);
}
