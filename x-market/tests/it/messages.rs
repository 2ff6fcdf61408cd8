//! Every refusal with its number.

use tenure_proto::{
    any,
    cosmos::base::v1beta1::Coin,
    tenure::{base::v1::Window, market::v1::*, provider::v1::MsgDrain},
};

use crate::world::{code, coin, escrow_params, market_params, Person, World, UNIT};

const FIELD: (&str, u32) = ("market", 1);
const RATE_LIMIT: u64 = 1 << 60;

#[test]
fn a_bid_out_of_bounds_is_refused() {
    let mut world = World::new();
    type Break = fn(&mut MsgPostBid);
    let cases: [(&str, Break, (&str, u32)); 21] = [
        ("capitals", |m| m.tenant = m.tenant.to_uppercase(), ("sdk", 7)),
        ("tenant", |m| m.tenant = "tenure1x".to_owned(), ("sdk", 7)),
        ("no resources", |m| m.resources = None, FIELD),
        ("no cpu", |m| m.resources.as_mut().unwrap().cpu_milli = 0, FIELD),
        ("no memory", |m| m.resources.as_mut().unwrap().memory_bytes = 0, FIELD),
        ("no rate", |m| m.max_rate = 0, FIELD),
        ("rate", |m| m.max_rate = RATE_LIMIT, FIELD),
        ("short", |m| m.duration_ms = 999, FIELD),
        ("long", |m| m.duration_ms = 1_000_001, FIELD),
        ("no deposit", |m| m.deposit = None, FIELD),
        ("zero deposit", |m| m.deposit = Some(coin(0)), FIELD),
        (
            "malformed deposit",
            |m| {
                m.deposit = Some(Coin {
                    denom: "uten".to_owned(),
                    amount: "1.5".to_owned(),
                })
            },
            ("sdk", 10),
        ),
        (
            "denom",
            |m| m.deposit.as_mut().unwrap().denom = "uatom".to_owned(),
            ("market", 7),
        ),
        ("runway", |m| m.deposit = Some(coin(4_999)), ("market", 8)),
        ("hash", |m| m.manifest_hash = vec![1; 31], FIELD),
        (
            "expiry without blocks",
            |m| m.expiry = Some(Window { blocks: 0, ms: 1_000 }),
            FIELD,
        ),
        (
            "expiry without time",
            |m| m.expiry = Some(Window { blocks: 1, ms: 0 }),
            FIELD,
        ),
        (
            "expiry beyond",
            |m| m.expiry = Some(Window { blocks: 21, ms: 1_000 }),
            FIELD,
        ),
        (
            "window beyond the longest",
            |m| m.claim_window = Some(Window { blocks: 1, ms: 60_001 }),
            FIELD,
        ),
        (
            "window beyond its expiry",
            |m| {
                m.claim_window = Some(Window { blocks: 3, ms: 0 });
                m.expiry = Some(Window { blocks: 2, ms: 1_000 });
            },
            FIELD,
        ),
        ("too poor", |m| m.deposit = Some(coin(2_000_000_000_000)), ("sdk", 5)),
    ];
    for (name, breaks, want) in cases {
        let mut msg = world.post(200_000);
        breaks(&mut msg);
        assert_eq!(code(world.run(&msg)), want, "{name}");
    }
}

#[test]
fn bids_and_leases_obey_their_owners_only_and_only_in_their_states() {
    let mut world = World::new();
    let (tenant, other) = (world.tenants[0].text(), world.tenants[1].text());
    let (provider, rival) = (world.providers[0].text(), world.providers[1].text());
    let cancel = |tenant: &str, bid_id| {
        any(&MsgCancelBid {
            tenant: tenant.to_owned(),
            bid_id,
        })
    };
    let run = |world: &mut World, msg| code(world.block(10, &[msg]).pop().unwrap());
    assert_eq!(run(&mut world, cancel(&tenant, 0)), FIELD);
    assert_eq!(run(&mut world, cancel(&tenant, 1)), ("market", 2));
    let close = any(&world.close(1));
    assert_eq!(run(&mut world, close), ("market", 3));
    world.must(10, &world.post(100_000));
    assert_eq!(run(&mut world, cancel(&other, 1)), ("market", 6));
    world.must(
        10,
        &MsgCancelBid {
            tenant: tenant.clone(),
            bid_id: 1,
        },
    );
    assert_eq!(world.bid(1).state(), BidState::Cancelled);
    assert_eq!(run(&mut world, cancel(&tenant, 1)), ("market", 4));

    let id = world.start_lease(200_000);
    let pause = |tenant: &str| {
        any(&MsgPauseLease {
            tenant: tenant.to_owned(),
            lease_id: id,
        })
    };
    let resume = |tenant: &str| {
        any(&MsgResumeLease {
            tenant: tenant.to_owned(),
            lease_id: id,
        })
    };
    let close = |tenant: &str| {
        any(&MsgCloseLease {
            tenant: tenant.to_owned(),
            lease_id: id,
        })
    };
    let amend = |tenant: &str, provider: &str, rate| {
        any(&MsgAmendLease {
            tenant: tenant.to_owned(),
            provider: provider.to_owned(),
            lease_id: id,
            rate,
        })
    };
    let finish = |provider: &str, reason: CloseReason, exit_code| MsgFinishLease {
        provider: provider.to_owned(),
        lease_id: id,
        reason: reason.into(),
        exit_code,
        ..Default::default()
    };
    let earn = |provider: &str, lease_ids: &[u64]| {
        any(&MsgWithdrawEarnings {
            provider: provider.to_owned(),
            lease_ids: lease_ids.to_vec(),
        })
    };
    let long = "x".repeat(257);
    for (msg, want) in [
        (pause(&other), ("market", 6)),
        (resume(&tenant), ("market", 5)),
        (close(&other), ("market", 6)),
        (close(&provider), ("market", 6)),
        (amend(&other, &provider, 5), ("market", 6)),
        (amend(&tenant, &rival, 5), ("market", 6)),
        (amend(&tenant, &provider, 0), FIELD),
        (amend(&tenant, &provider, RATE_LIMIT), FIELD),
        (any(&finish(&rival, CloseReason::Completed, 0)), ("market", 6)),
        (any(&finish(&provider, CloseReason::Completed, 1)), FIELD),
        (any(&finish(&provider, CloseReason::Tenant, 0)), FIELD),
        (any(&finish(&provider, CloseReason::Default, 0)), FIELD),
        (
            any(&MsgFinishLease {
                output_root: vec![1; 31],
                ..finish(&provider, CloseReason::Completed, 0)
            }),
            FIELD,
        ),
        (
            any(&MsgFinishLease {
                detail: long,
                ..finish(&provider, CloseReason::Completed, 0)
            }),
            FIELD,
        ),
        (earn(&rival, &[id]), ("market", 6)),
        (earn(&provider, &[]), FIELD),
        (earn(&provider, &[id, id]), FIELD),
        (earn(&provider, &[0]), FIELD),
        (earn(&provider, &(1..=101).collect::<Vec<_>>()), FIELD),
        (earn(&provider, &[id + 1]), ("market", 3)),
        (
            any(&MsgReportDown {
                provider: provider.clone(),
                epoch: 1,
                lease_ids: (1..=257).collect(),
            }),
            FIELD,
        ),
        (
            any(&MsgReportDown {
                provider: other.clone(),
                epoch: 1,
                lease_ids: vec![id],
            }),
            ("provider", 1),
        ),
        (
            any(&MsgDeposit {
                depositor: tenant.clone(),
                bid_id: 2,
                amount: Some(coin(0)),
            }),
            FIELD,
        ),
        (
            any(&MsgDeposit {
                depositor: tenant.clone(),
                bid_id: 2,
                amount: None,
            }),
            FIELD,
        ),
        (
            any(&MsgDeposit {
                depositor: tenant.clone(),
                bid_id: 9,
                amount: Some(coin(1_000)),
            }),
            ("market", 2),
        ),
        (
            any(&MsgDeposit {
                depositor: tenant.clone(),
                bid_id: 1,
                amount: Some(coin(1_000)),
            }),
            ("market", 4),
        ),
        (
            any(&MsgWithdrawDeposit {
                tenant: tenant.clone(),
                bid_id: 1,
                amount: Some(coin(1_000)),
            }),
            ("market", 4),
        ),
    ] {
        let name = format!("{} {:?}", msg.type_url, msg.value);
        assert_eq!(run(&mut world, msg), want, "{name}");
    }
    assert_eq!(world.state(id), LeaseState::Active);
    world.must(
        10,
        &MsgCloseLease {
            tenant: tenant.clone(),
            lease_id: id,
        },
    );
    for msg in [
        close(&tenant),
        pause(&tenant),
        amend(&tenant, &provider, 5),
        any(&finish(&provider, CloseReason::Completed, 0)),
    ] {
        assert_eq!(run(&mut world, msg), ("market", 5));
    }
}

#[test]
fn claims_are_bounded_improve_and_evict_the_worst() {
    let mut world = World::with(market_params(), escrow_params(), 5);
    let mut post = world.post(200_000);
    post.claim_window = Some(Window { blocks: 15, ms: 10_000 });
    world.must(10, &post);
    let claim = |world: &World, p, rate| world.claim(p, 1, rate);
    assert_eq!(world.refused(10, &claim(&world, 0, 0)), FIELD);
    assert_eq!(world.refused(10, &claim(&world, 0, UNIT + 1)), ("market", 9));
    let stranger = MsgClaim {
        provider: world.tenants[0].text(),
        bid_id: 1,
        rate: 5,
    };
    assert_eq!(world.refused(10, &stranger).0, "provider");

    world.must(10, &claim(&world, 0, 1_000));
    for (rate, refused) in [(1_001, true), (1_000, true), (991, true), (990, false), (990, true)] {
        let msg = claim(&world, 0, rate);
        let result = world.block(10, &[any(&msg)]).pop().unwrap();
        if refused {
            assert_eq!(code(result), ("market", 10), "{rate}");
        } else {
            result.expect("improves");
        }
    }
    world.must(10, &claim(&world, 1, 2_000));
    world.must(10, &claim(&world, 2, 1_500));
    // Full: only a better one gets in, and the worst goes.
    assert_eq!(world.refused(10, &claim(&world, 3, 2_000)), ("market", 11));
    world.must(10, &claim(&world, 3, 1_999));
    let left: QueryClaimsResponse = world
        .query("/tenure.market.v1.Query/Claims", &QueryClaimsRequest { bid_id: 1 })
        .unwrap();
    let mut rates: Vec<_> = left.claims.iter().map(|c| c.rate).collect();
    rates.sort_unstable();
    assert_eq!(rates, [990, 1_500, 1_999]);

    let withdraw = MsgWithdrawClaim {
        provider: world.providers[1].text(),
        bid_id: 1,
    };
    assert_eq!(world.refused(10, &withdraw), ("market", 14), "it was evicted");
    let withdraw = MsgWithdrawClaim {
        provider: world.providers[0].text(),
        bid_id: 1,
    };
    world.must(10, &withdraw);
    assert_eq!(world.bid(1).open_claims, 2);

    // Capacity and status.
    let mut big = world.post(200_000);
    big.resources.as_mut().unwrap().cpu_milli = 8_001;
    world.must(10, &big);
    let msg = world.claim(0, 2, 5);
    assert_eq!(world.refused(10, &msg), ("market", 13));
    world.must(
        10,
        &MsgDrain {
            owner: world.providers[4].text(),
            drain: true,
        },
    );
    assert_eq!(world.refused(10, &claim(&world, 4, 1)), ("market", 12));

    // A bid that others claimed takes no claim after its expiry.
    let mut late = world.post(200_000);
    late.expiry = Some(Window { blocks: 2, ms: 50 });
    late.claim_window = late.expiry;
    world.must(10, &late);
    let msg = world.claim(0, 3, 5);
    world.must(10, &msg);
    let msg = world.claim(1, 3, 4);
    assert_eq!(world.refused(60, &msg), ("market", 16));
    assert_eq!(world.bid(3).state(), BidState::Leased, "it was matched, not expired");
}

#[test]
fn a_lease_starts_only_with_its_tenants_receipt() {
    let mut world = World::new();
    let bid = world.bid_and_match(100_000);
    let id = world.bid(bid).lease_id;
    let good = world.ready(0, 0, id);
    let sign = |world: &World, person: &Person, lease, hash: &[u8]| MsgLeaseReady {
        receipt_signature: world.receipt(&person.key, lease, hash),
        ..good.clone()
    };
    let high_s = {
        use k256::ecdsa::Signature;
        let low = Signature::from_slice(&good.receipt_signature).unwrap();
        let (r, s) = low.split_scalars();
        let high = Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        MsgLeaseReady {
            receipt_signature: high.to_vec(),
            ..good.clone()
        }
    };
    for (name, msg, want) in [
        (
            "short",
            MsgLeaseReady {
                receipt_signature: vec![1; 63],
                ..good.clone()
            },
            FIELD,
        ),
        (
            "zeros",
            MsgLeaseReady {
                receipt_signature: vec![0; 64],
                ..good.clone()
            },
            ("market", 15),
        ),
        (
            "another's key",
            sign(&world, &world.tenants[1], id, &[7; 32]),
            ("market", 15),
        ),
        (
            "another lease",
            sign(&world, &world.tenants[0], id + 1, &[7; 32]),
            ("market", 15),
        ),
        (
            "another manifest",
            sign(&world, &world.tenants[0], id, &[8; 32]),
            ("market", 15),
        ),
        ("high S", high_s, ("market", 15)),
        (
            "another provider",
            MsgLeaseReady {
                provider: world.providers[1].text(),
                ..good.clone()
            },
            ("market", 6),
        ),
    ] {
        assert_eq!(world.refused(10, &msg), want, "{name}");
    }
    world.must(10, &good);
    assert_eq!(world.refused(10, &good), ("market", 5), "it runs already");
}

#[test]
fn numbers_of_refusals_do_not_change() {
    use tenure_x_market::MarketError as E;
    let text = String::new;
    let all = [
        E::Field {
            field: "",
            value: text(),
            limit: text(),
        },
        E::NoBid(1),
        E::NoLease(1),
        E::BidNotOpen { id: 1, state: "" },
        E::LeaseState {
            id: 1,
            state: "",
            wanted: "",
        },
        E::NotYours {
            signer: text(),
            role: "",
            object: "",
            id: 1,
            owner: text(),
        },
        E::Denom {
            denom: text(),
            allowed: text(),
        },
        E::Runway {
            have: 1,
            need: 1,
            rate: 1,
            min_runway_ms: 1,
        },
        E::AboveCeiling {
            bid: 1,
            rate: 1,
            ceiling: 1,
        },
        E::NoImprovement {
            rate: 1,
            most: 1,
            old: 1,
        },
        E::BidFull {
            bid: 1,
            limit: 1,
            rate: 1,
        },
        E::ProviderNotActive {
            provider: text(),
            why: text(),
        },
        E::Capacity {
            bid: 1,
            provider: text(),
            need: Default::default(),
            free: Default::default(),
        },
        E::NoClaim {
            bid: 1,
            provider: text(),
        },
        E::Receipt { lease: 1, why: text() },
        E::ClaimsEnded {
            bid: 1,
            height: 1,
            ms: 1,
        },
        E::Epoch { epoch: 1, why: text() },
    ];
    let codes: Vec<u32> = all.iter().map(E::code).collect();
    assert_eq!(codes, (1..=17).collect::<Vec<_>>());
}
