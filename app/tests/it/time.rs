//! Halts and header times.

use tenure_proto::tenure::chain::v1::{ParamsRequest, ParamsResponse, StatusRequest, StatusResponse};

use crate::{chain::Chain, world::World};

#[test]
fn a_halt_of_two_hours_does_not_exist_for_the_modules() {
    let world = World::new(6);
    let mut chain = Chain::new(&world.app_state());
    let live = |chain: &Chain| {
        chain
            .query::<StatusResponse>("/tenure.chain.v1.Query/Status", &StatusRequest {})
            .unwrap()
            .live_ms
    };
    chain.block(1_000, &[]);
    chain.block(1_000, &[]);
    let before = live(&chain);
    chain.block(7_200_000, &[]);
    let rules = chain.query::<ParamsResponse>("/tenure.chain.v1.Query/Params", &ParamsRequest {});
    let longest = rules.unwrap().params.unwrap().max_block_gap_ms;
    assert_eq!(live(&chain), before + longest, "a halt counts as the longest gap");
    chain.block(1_000, &[]);
    assert_eq!(live(&chain), before + longest + 1_000);
}

#[test]
#[should_panic(expected = "does not follow")]
fn a_header_time_that_does_not_advance_stops_the_node() {
    let world = World::new(6);
    let mut chain = Chain::new(&world.app_state());
    chain.block(1_000, &[]);
    chain.block(0, &[]);
}

#[test]
#[should_panic(expected = "Commit without FinalizeBlock")]
fn a_commit_without_a_block_stops_the_node() {
    use tendermint_abci::Application;
    let world = World::new(6);
    let chain = Chain::new(&world.app_state());
    chain.app.commit();
}

#[test]
fn nobody_gains_or_loses_by_a_halt_of_two_hours() {
    use crate::{
        market::{attest, claim, lease, lease_ready, post_bid, provider, register},
        world::tx,
    };
    use tenure_proto::tenure::market::v1::LeaseState;

    // Two chains do the same; one stands still for two hours, the other for as long as a block may take.
    let paid_after = |halt_ms: u64| {
        let world = World::new(6);
        let [tenant, host] = [&world.people[5], &world.people[0]];
        let mut chain = Chain::new(&world.app_state());
        chain.block(1_000, &[]);
        let mut step = |who, message| {
            let tx = tx(&chain, who, vec![message]);
            let result = chain.deliver(tx);
            assert_eq!(result.code, 0, "{}", result.log);
        };
        step(host, register(host));
        step(tenant, post_bid(tenant, 3_600_000, 60_000, 1_000_000, None));
        step(host, claim(host, 1, 3_600_000));
        let found = lease(&chain, 1).lease.unwrap();
        let ready = tx(&chain, host, vec![lease_ready(host, tenant, &found)]);
        assert_eq!(chain.deliver(ready).code, 0);
        for i in 0..12 {
            let txs: Vec<_> = attest(&chain, host)
                .map(|message| tx(&chain, host, vec![message]))
                .into_iter()
                .collect();
            let response = chain.block(if i == 5 { halt_ms } else { 1_000 }, &txs);
            assert!(
                response.tx_results.iter().all(|r| r.code == 0),
                "{:?}",
                response.tx_results
            );
        }
        assert_eq!(
            lease(&chain, 1).lease.unwrap().state(),
            LeaseState::Active,
            "no lease ends by a halt"
        );
        assert_eq!(
            provider(&chain, host).unwrap().missed_epochs,
            0,
            "no epoch is missed by a halt"
        );
        // Long after the end of the lease and of its last epoch everything is settled.
        for _ in 0..60 {
            let txs: Vec<_> = attest(&chain, host)
                .map(|message| tx(&chain, host, vec![message]))
                .into_iter()
                .collect();
            chain.block(1_000, &txs);
        }
        let closed = lease(&chain, 1);
        assert_eq!(closed.lease.unwrap().state(), LeaseState::Closed);
        closed.balance.unwrap()
    };
    let halted = paid_after(7_200_000);
    assert_eq!(halted, paid_after(10_000));
    // A minute at 3.6M an hour.
    assert_eq!(halted.paid.unwrap().amount, "60000");
}
