//! Lists and their filters.

use tenure_proto::{any, cosmos::base::query::v1beta1::PageRequest, tenure::market::v1::*};

use crate::world::{World, UNIT};

fn leases(world: &mut World, request: &QueryLeasesRequest) -> Vec<u64> {
    let answer: QueryLeasesResponse = world.query("/tenure.market.v1.Query/Leases", request).expect("leases");
    answer.leases.iter().map(|l| l.id).collect()
}

fn bids(world: &mut World, request: &QueryBidsRequest) -> Vec<u64> {
    let answer: QueryBidsResponse = world.query("/tenure.market.v1.Query/Bids", request).expect("bids");
    answer.bids.iter().map(|b| b.id).collect()
}

#[test]
fn lists_are_in_order_of_id_and_filters_keep_what_they_say() {
    let mut world = World::new();
    // Leases 1..4: of tenants 0, 1, 0, 1 at providers 0, 1, 2, 0; then one open bid of each tenant.
    for i in 0..4_u64 {
        let mut post = world.post(100_000);
        post.tenant = world.tenants[(i % 2) as usize].text();
        let claim = world.claim((i % 3) as usize, i + 1, UNIT);
        for result in world.block(100, &[any(&post), any(&claim)]) {
            result.expect("succeeds");
        }
    }
    for i in 0..2 {
        let mut post = world.post(100_000);
        post.tenant = world.tenants[i].text();
        world.must(100, &post);
    }
    world.must(100, &world.close(3));
    let ready = world.ready(0, 0, 1);
    world.must(100, &ready);

    let (t0, t1) = (world.tenants[0].text(), world.tenants[1].text());
    let (p0, p1) = (world.providers[0].text(), world.providers[1].text());
    let of = |tenant: &str, provider: &str, state: LeaseState, open_only| QueryLeasesRequest {
        tenant: tenant.to_owned(),
        provider: provider.to_owned(),
        state: state.into(),
        open_only,
        pagination: None,
    };
    let any_state = LeaseState::Unspecified;
    for (request, want) in [
        (of("", "", any_state, false), vec![1, 2, 3, 4]),
        (of("", "", any_state, true), vec![1, 2, 4]),
        (of("", "", LeaseState::Active, false), vec![1]),
        (of("", "", LeaseState::Starting, false), vec![2, 4]),
        (of("", "", LeaseState::Closed, false), vec![3]),
        (of("", "", LeaseState::Closed, true), vec![]),
        (of(&t0, "", any_state, false), vec![1, 3]),
        (of(&t0, "", any_state, true), vec![1]),
        (of(&t0, "", LeaseState::Closed, false), vec![3]),
        (of("", &p0, any_state, false), vec![1, 4]),
        (of("", &p0, LeaseState::Active, true), vec![1]),
        (of(&t1, &p0, any_state, false), vec![4]),
        (of(&t0, &p1, any_state, false), vec![]),
    ] {
        assert_eq!(leases(&mut world, &request), want, "{request:?}");
    }
    let of = |tenant: &str, state: BidState| QueryBidsRequest {
        tenant: tenant.to_owned(),
        state: state.into(),
        pagination: None,
    };
    for (request, want) in [
        (of("", BidState::Unspecified), vec![1, 2, 3, 4, 5, 6]),
        (of("", BidState::Open), vec![5, 6]),
        (of("", BidState::Leased), vec![1, 2, 3, 4]),
        (of(&t1, BidState::Unspecified), vec![2, 4, 6]),
        (of(&t1, BidState::Open), vec![6]),
        (of("", BidState::Cancelled), vec![]),
    ] {
        assert_eq!(bids(&mut world, &request), want, "{request:?}");
    }
}

/// Found by `histories`: an index of stored states missed what the queue had not got round to.
#[test]
fn lists_by_state_do_not_depend_on_how_many_timers_a_block_handles() {
    let lists = |quota: u32| {
        let mut world = World::new();
        world.set_quota(quota);
        // Bids 1..3 become leases that run for twenty seconds' money, bids 4..6 expire after a minute and twenty blocks.
        for _ in 0..3 {
            world.start_lease(20_000);
        }
        for _ in 0..3 {
            world.must(100, &world.post(20_000));
        }
        let mut seen = Vec::new();
        for _ in 0..70 {
            // Three of a kind come due in one block: with a quota of one, two of them wait.
            let now = world.ctx.now();
            world.run_until(now + 1_000, &[0]);
            for state in 1..=5 {
                let request = QueryLeasesRequest {
                    state,
                    ..Default::default()
                };
                seen.push((now, "leases", state, leases(&mut world, &request)));
            }
            for state in 1..=4 {
                let request = QueryBidsRequest {
                    state,
                    ..Default::default()
                };
                seen.push((now, "bids", state, bids(&mut world, &request)));
            }
        }
        for (what, state) in [
            ("leases", LeaseState::Paused.into()),
            ("leases", LeaseState::Closing.into()),
            ("leases", LeaseState::Closed.into()),
            ("bids", i32::from(BidState::Expired)),
        ] {
            let came = seen
                .iter()
                .any(|(_, list, s, ids)| *list == what && *s == state && ids.len() == 3);
            assert!(came, "{what} never came to state {state}");
        }
        seen
    };
    assert_eq!(lists(1), lists(500));
}

#[test]
fn lists_come_in_pages() {
    let mut world = World::new();
    for _ in 0..7 {
        world.must(100, &world.post(100_000));
    }
    for (state, tenant) in [
        (BidState::Unspecified, false),
        (BidState::Open, false),
        (BidState::Open, true),
    ] {
        let (mut seen, mut key) = (Vec::new(), Vec::new());
        loop {
            let request = QueryBidsRequest {
                state: state.into(),
                tenant: if tenant { world.tenants[0].text() } else { String::new() },
                pagination: Some(PageRequest {
                    key,
                    limit: 3,
                    ..Default::default()
                }),
            };
            let answer: QueryBidsResponse = world.query("/tenure.market.v1.Query/Bids", &request).expect("bids");
            seen.extend(answer.bids.iter().map(|b| b.id));
            key = answer.pagination.expect("pagination").next_key;
            if key.is_empty() {
                break;
            }
        }
        assert_eq!(seen, (1..=7).collect::<Vec<_>>());
    }
}

#[test]
fn malformed_requests_are_refused() {
    let mut world = World::new();
    let refused = |world: &mut World, request: &QueryLeasesRequest| {
        world
            .query::<_, QueryLeasesResponse>("/tenure.market.v1.Query/Leases", request)
            .expect_err("refused")
            .code
    };
    assert_eq!(
        refused(
            &mut world,
            &QueryLeasesRequest {
                state: 9,
                ..Default::default()
            }
        ),
        1
    );
    assert_eq!(
        refused(
            &mut world,
            &QueryLeasesRequest {
                tenant: "x".to_owned(),
                ..Default::default()
            }
        ),
        7
    );
    let missing = world.query::<_, QueryLeaseResponse>("/tenure.market.v1.Query/Lease", &QueryLeaseRequest { id: 1 });
    assert_eq!(missing.expect_err("missing").code, 3);
    let missing =
        world.query::<_, QueryClaimsResponse>("/tenure.market.v1.Query/Claims", &QueryClaimsRequest { bid_id: 1 });
    assert_eq!(missing.expect_err("missing").code, 2);
    let params: QueryParamsResponse = world
        .query("/tenure.market.v1.Query/Params", &QueryParamsRequest {})
        .expect("params");
    assert_eq!(params.params, Some(crate::world::market_params()));
}
