//! Random histories: after every block all modules' invariants hold, and in the end every lease was paid what an oracle says and every unit is
//! where it belongs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use prost::Message;
use tenure_proto::{
    any,
    tenure::{
        base::v1::Window,
        escrow::v1::TopUpOrder,
        market::v1::*,
        provider::v1::{MsgDrain, Provider},
    },
    Any,
};
use tenure_sdk::testing;

use crate::world::{coin, escrow_params, market_params, World, EPOCH, RICH, UNIT};

/// Something that somebody tries. Bids and leases are named by their place among those that are open, wrapping around, so most attempts meet
/// something that lives; what they want of it is often refused, which is part of the point.
#[derive(Clone, Debug)]
enum Attempt {
    Post {
        tenant: usize,
        deposit: u64,
        rate: u64,
        duration: u64,
        window: u64,
        top_up: Option<(u64, u64)>,
    },
    SetTopUp {
        lease: usize,
        top_up: Option<(u64, u64)>,
    },
    Cancel {
        bid: usize,
    },
    Claim {
        provider: usize,
        bid: usize,
        percent: u64,
    },
    WithdrawClaim {
        provider: usize,
        bid: usize,
    },
    Ready {
        lease: usize,
    },
    Close {
        lease: usize,
    },
    Finish {
        lease: usize,
        failed: bool,
    },
    Pause {
        lease: usize,
    },
    Resume {
        lease: usize,
    },
    Amend {
        lease: usize,
        rate: u64,
    },
    Down {
        lease: usize,
    },
    Deposit {
        by: usize,
        lease: usize,
        amount: u64,
    },
    Withdraw {
        lease: usize,
        amount: u64,
    },
    Earn {
        lease: usize,
    },
    Drain {
        provider: usize,
        drain: bool,
    },
}

#[derive(Clone, Debug)]
struct Step {
    ms: u64,
    /// Providers that do not attest; the first step of a stretch decides for the stretch.
    silent: [bool; 3],
    attempts: Vec<Attempt>,
}

fn attempt() -> impl Strategy<Value = Attempt> {
    let (any, rate) = (0_usize..8, 1_000_u64..=UNIT);
    let top_up = || proptest::option::weighted(0.4, (100_u64..60_000, 100_u64..20_000));
    prop_oneof![
        5 => (0_usize..2, 5_000_u64..60_000, rate.clone(), 5_000_u64..200_000, 0_u64..3, top_up()).prop_map(
            |(tenant, deposit, rate, duration, window, top_up)| {
                Attempt::Post { tenant, deposit, rate, duration, window, top_up }
            }
        ),
        1 => (any.clone(), top_up()).prop_map(|(lease, top_up)| Attempt::SetTopUp { lease, top_up }),
        1 => any.clone().prop_map(|bid| Attempt::Cancel { bid }),
        9 => (0_usize..3, any.clone(), 20_u64..=101)
            .prop_map(|(provider, bid, percent)| Attempt::Claim { provider, bid, percent }),
        1 => (0_usize..3, any.clone()).prop_map(|(provider, bid)| Attempt::WithdrawClaim { provider, bid }),
        9 => any.clone().prop_map(|lease| Attempt::Ready { lease }),
        1 => any.clone().prop_map(|lease| Attempt::Close { lease }),
        1 => (any.clone(), proptest::bool::ANY).prop_map(|(lease, failed)| Attempt::Finish { lease, failed }),
        3 => any.clone().prop_map(|lease| Attempt::Pause { lease }),
        3 => any.clone().prop_map(|lease| Attempt::Resume { lease }),
        2 => (any.clone(), rate).prop_map(|(lease, rate)| Attempt::Amend { lease, rate }),
        3 => any.clone().prop_map(|lease| Attempt::Down { lease }),
        3 => (0_usize..2, any.clone(), 100_u64..30_000).prop_map(|(by, lease, amount)| Attempt::Deposit { by, lease, amount }),
        2 => (any.clone(), 1_u64..20_000).prop_map(|(lease, amount)| Attempt::Withdraw { lease, amount }),
        2 => any.prop_map(|lease| Attempt::Earn { lease }),
        1 => (0_usize..3, proptest::bool::weighted(0.3)).prop_map(|(provider, drain)| Attempt::Drain { provider, drain }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let ms = prop_oneof![10 => 1_u64..3_000, 2 => 3_000_u64..9_999, 1 => Just(7_200_000_u64)];
    let silent = proptest::array::uniform3(proptest::bool::weighted(0.2));
    (ms, silent, proptest::collection::vec(attempt(), 0..7)).prop_map(|(ms, silent, attempts)| Step {
        ms,
        silent,
        attempts,
    })
}

fn order((maximum, amount): (u64, u64)) -> TopUpOrder {
    TopUpOrder {
        maximum: maximum.to_string(),
        amount: amount.to_string(),
    }
}

struct Player {
    world: World,
    last_bid: u64,
    /// The oracle's view: when each lease ran at which rate, `[from, to)`.
    spans: BTreeMap<u64, Vec<(u64, u64, u64)>>,
    /// Rates of the leases that ran after the last block.
    running: BTreeMap<u64, u64>,
    /// Stretches that each lease was excepted from.
    excepted: BTreeMap<u64, BTreeSet<(u64, u64)>>,
    /// What everybody asked for, and what came of it.
    journal: Vec<String>,
}

impl Player {
    fn new(quota: u32) -> Self {
        let mut world = World::with(
            Params {
                matches_per_block: 2,
                ..market_params()
            },
            escrow_params(),
            3,
        );
        world.set_quota(quota);
        Self {
            world,
            last_bid: 0,
            spans: BTreeMap::new(),
            running: BTreeMap::new(),
            excepted: BTreeMap::new(),
            journal: Vec::new(),
        }
    }

    fn play(&mut self, history: &[Step]) {
        for (i, step) in history.iter().enumerate() {
            // The first block of each stretch of fifteen decides for all of it: silences are long enough for a default.
            let decides = &history[i / 15 * 15];
            let attesting: Vec<usize> = (0..3).filter(|p| !decides.silent[*p]).collect();
            let live = step.ms.min(10_000);
            let mut msgs: Vec<Any> = step.attempts.iter().filter_map(|a| self.message(a, live)).collect();
            // Exceptions come before the attestations, everything else in the order in which it was drawn.
            let attestations = self.world.attestations(live, &attesting);
            msgs.extend(attestations);
            self.block(step.ms, &msgs);
            if i % 8 == 7 {
                let state = self.world.ctx.state.clone();
                self.world.ctx.state = testing::recommit(state).expect("commits");
            }
        }
    }

    /// Closes everything and attests until it is final.
    fn drain(&mut self) {
        for id in 1..=self.last_bid {
            let bid = self.world.bid(id);
            let lease = (bid.lease_id > 0).then(|| self.world.lease(bid.lease_id).lease.expect("lease"));
            let msg = match lease {
                Some(lease) => any(&MsgCloseLease {
                    tenant: lease.tenant,
                    lease_id: lease.id,
                }),
                None => any(&MsgCancelBid {
                    tenant: bid.tenant,
                    bid_id: id,
                }),
            };
            let attestations = self.world.attestations(200, &[0, 1, 2]);
            self.block(200, &attestations);
            self.block(1, &[msg]);
        }
        let until = self.world.ctx.now() + 3 * EPOCH;
        while self.world.ctx.now() < until {
            let attestations = self.world.attestations(1_000, &[0, 1, 2]);
            self.block(1_000, &attestations);
        }
    }

    /// Makes a block and notes for the oracle what can be seen from outside: which leases ran since the last one, and at which rate.
    fn block(&mut self, ms: u64, msgs: &[Any]) {
        let before = self.world.ctx.now();
        self.world.ctx.events.clear();
        for (msg, result) in msgs.iter().zip(self.world.block(ms, msgs)) {
            let refused = result.as_ref().err().map(|e| (e.codespace, e.code));
            let entry = format!("{} {} {refused:?}", msg.type_url, hex::encode(&msg.value));
            self.journal.push(entry);
            if result.is_err() {
                continue;
            }
            if msg.type_url.ends_with("MsgPostBid") {
                self.last_bid += 1;
            } else if msg.type_url.ends_with("MsgReportDown") {
                let report = MsgReportDown::decode(msg.value.as_slice()).expect("ours");
                let i = self
                    .world
                    .providers
                    .iter()
                    .position(|p| p.text() == report.provider)
                    .expect("ours");
                let range = tenure_x_provider::epoch_range(&self.world.provider(i), report.epoch);
                for id in report.lease_ids {
                    self.excepted.entry(id).or_default().insert(range);
                }
            }
        }
        let mut ran_out: BTreeMap<u64, u64> = BTreeMap::new();
        for event in &self.world.ctx.events {
            let get = |name| {
                event
                    .attributes
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, v)| v.as_str())
            };
            if event.kind.ends_with("EventLeasePaused") && get("by") == Some("exhaustion") {
                let number = |name| get(name).and_then(|v| v.parse().ok()).expect("number");
                ran_out.insert(number("lease_id"), number("at_ms"));
            }
        }
        let now = self.world.ctx.now();
        let ran = std::mem::take(&mut self.running);
        let answer: QueryLeasesResponse = self
            .world
            .query("/tenure.market.v1.Query/Leases", &QueryLeasesRequest::default())
            .expect("leases");
        for lease in answer.leases {
            if let Some(rate) = ran.get(&lease.id) {
                let ended = if lease.ended_ms > 0 { lease.ended_ms } else { now };
                let end = ran_out.get(&lease.id).map_or(ended, |x| ended.min(*x));
                self.spans.entry(lease.id).or_default().push((before, end, *rate));
            }
            if lease.state() == LeaseState::Active {
                self.running.insert(lease.id, lease.rate);
            }
        }
    }

    /// What a lease should have been paid in all: the whole base units of rate times attested, not excepted time.
    fn due(&mut self, lease: &Lease) -> u128 {
        let provider = lease.provider.parse().expect("address");
        let ctx = &mut self.world.ctx;
        let mut attested_between = |from, to| {
            let attested = tenure_x_provider::attested(ctx, &provider, &[from, to]).expect("registered");
            attested.attested_between(from, to)
        };
        let mut sum = 0;
        for (from, to, rate) in self.spans.remove(&lease.id).unwrap_or_default() {
            // A default is known only when its window has passed in blocks too, and dated back.
            let to = to.min(lease.ended_ms);
            let mut ms = attested_between(from, to);
            for (start, end) in self.excepted.get(&lease.id).into_iter().flatten() {
                ms -= attested_between(from.max(*start), to.min(*end).max(from.max(*start)));
            }
            sum += u128::from(rate) * u128::from(ms);
        }
        sum / u128::from(UNIT)
    }

    /// The place-th of the open bids.
    fn some_bid(&mut self, place: usize) -> Option<Bid> {
        let request = QueryBidsRequest {
            state: BidState::Open.into(),
            ..Default::default()
        };
        let answer: QueryBidsResponse = self
            .world
            .query("/tenure.market.v1.Query/Bids", &request)
            .expect("bids");
        let bids = answer.bids;
        bids.get(place.checked_rem(bids.len())?).cloned()
    }

    /// The place-th of the open leases, or of those in one state.
    fn some_lease(&mut self, place: usize, state: LeaseState) -> Option<Lease> {
        let request = QueryLeasesRequest {
            open_only: true,
            state: state.into(),
            ..Default::default()
        };
        let answer: QueryLeasesResponse = self
            .world
            .query("/tenure.market.v1.Query/Leases", &request)
            .expect("leases");
        let leases = answer.leases;
        leases.get(place.checked_rem(leases.len())?).cloned()
    }

    fn message(&mut self, attempt: &Attempt, ms: u64) -> Option<Any> {
        let provider_text = |player: &Self, i: usize| player.world.providers[i].text();
        Some(match *attempt {
            Attempt::Post {
                tenant,
                deposit,
                rate,
                duration,
                window,
                top_up,
            } => {
                let mut msg = self.world.post(deposit.into());
                msg.tenant = self.world.tenants[tenant].text();
                (msg.max_rate, msg.duration_ms) = (rate, duration);
                msg.auto_top_up = top_up.map(order);
                msg.expiry = Some(Window { blocks: 8, ms: 15_000 });
                msg.claim_window = Some(Window {
                    blocks: window,
                    ms: window * 1_000,
                });
                any(&msg)
            }
            Attempt::SetTopUp { lease, top_up } => {
                let lease = self.some_lease(lease, LeaseState::Unspecified)?;
                any(&MsgSetAutoTopUp {
                    tenant: lease.tenant,
                    bid_id: lease.bid_id,
                    auto_top_up: top_up.map(order),
                })
            }
            Attempt::Cancel { bid } => {
                let bid = self.some_bid(bid)?;
                any(&MsgCancelBid {
                    tenant: bid.tenant,
                    bid_id: bid.id,
                })
            }
            Attempt::Claim { provider, bid, percent } => {
                let bid = self.some_bid(bid)?;
                any(&self.world.claim(provider, bid.id, bid.max_rate * percent / 100))
            }
            Attempt::WithdrawClaim { provider, bid } => {
                let bid_id = self.some_bid(bid)?.id;
                any(&MsgWithdrawClaim {
                    provider: provider_text(self, provider),
                    bid_id,
                })
            }
            Attempt::Ready { lease } => {
                let lease = self.some_lease(lease, LeaseState::Starting)?;
                let tenant = self.world.tenants.iter().position(|t| t.text() == lease.tenant)?;
                let provider = self.world.providers.iter().position(|p| p.text() == lease.provider)?;
                any(&self.world.ready(tenant, provider, lease.id))
            }
            Attempt::Close { lease } => {
                let lease = self.some_lease(lease, LeaseState::Unspecified)?;
                any(&MsgCloseLease {
                    tenant: lease.tenant,
                    lease_id: lease.id,
                })
            }
            Attempt::Finish { lease, failed } => {
                let lease = self.some_lease(lease, LeaseState::Unspecified)?;
                let reason = if failed {
                    CloseReason::Provider
                } else {
                    CloseReason::Completed
                }
                .into();
                any(&MsgFinishLease {
                    provider: lease.provider,
                    lease_id: lease.id,
                    reason,
                    ..Default::default()
                })
            }
            Attempt::Pause { lease } => {
                let lease = self.some_lease(lease, LeaseState::Active)?;
                any(&MsgPauseLease {
                    tenant: lease.tenant,
                    lease_id: lease.id,
                })
            }
            Attempt::Resume { lease } => {
                let lease = self.some_lease(lease, LeaseState::Paused)?;
                any(&MsgResumeLease {
                    tenant: lease.tenant,
                    lease_id: lease.id,
                })
            }
            Attempt::Amend { lease, rate } => {
                let lease = self.some_lease(lease, LeaseState::Unspecified)?;
                any(&MsgAmendLease {
                    tenant: lease.tenant,
                    provider: lease.provider,
                    lease_id: lease.id,
                    rate,
                })
            }
            Attempt::Down { lease } => {
                let lease = self.some_lease(lease, LeaseState::Unspecified)?;
                let i = self.world.providers.iter().position(|p| p.text() == lease.provider)?;
                let provider: Provider = self.world.provider(i);
                let epoch = tenure_x_provider::epoch_of(&provider, provider.final_until_ms);
                let (_, end) = tenure_x_provider::epoch_range(&provider, epoch);
                if end > self.world.ctx.now() + ms {
                    return None;
                }
                any(&MsgReportDown {
                    provider: lease.provider,
                    epoch,
                    lease_ids: vec![lease.id],
                })
            }
            Attempt::Deposit { by, lease, amount } => {
                let bid_id = self.some_lease(lease, LeaseState::Unspecified)?.bid_id;
                any(&MsgDeposit {
                    depositor: self.world.tenants[by].text(),
                    bid_id,
                    amount: Some(coin(amount.into())),
                })
            }
            Attempt::Withdraw { lease, amount } => {
                let lease = self.some_lease(lease, LeaseState::Unspecified)?;
                let amount = Some(coin(amount.into()));
                any(&MsgWithdrawDeposit {
                    tenant: lease.tenant,
                    bid_id: lease.bid_id,
                    amount,
                })
            }
            Attempt::Earn { lease } => {
                let lease = self.some_lease(lease, LeaseState::Unspecified)?;
                any(&MsgWithdrawEarnings {
                    provider: lease.provider,
                    lease_ids: vec![lease.id],
                })
            }
            Attempt::Drain { provider, drain } => any(&MsgDrain {
                owner: provider_text(self, provider),
                drain,
            }),
        })
    }

    /// What everybody has in the end.
    fn balances(&mut self) -> Vec<u128> {
        let tenants = (0..2).map(|i| self.world.tenant_balance(i)).collect::<Vec<_>>();
        let providers = (0..3).map(|i| self.world.provider_balance(i)).collect::<Vec<_>>();
        [tenants, providers].concat()
    }

    /// Every lease is closed, every account empty, and what tenants lost is what providers and the protocol gained.
    fn check_end(&mut self) {
        let mut paid = 0;
        for id in 1..=self.last_bid {
            let bid = self.world.bid(id);
            assert_ne!(bid.state(), BidState::Open, "bid {id}");
            if bid.lease_id > 0 {
                assert_eq!(self.world.state(bid.lease_id), LeaseState::Closed);
                let answer = self.world.lease(bid.lease_id);
                let balance = answer.balance.expect("balance");
                let got = balance.paid.expect("coin").amount.parse::<u128>().expect("number");
                let lease = answer.lease.expect("lease");
                assert_eq!(got, self.due(&lease), "lease {} of {:?}", lease.id, lease.reason());
                paid += got;
                assert_eq!(balance.held.expect("coin").amount, "0");
            }
        }
        let spent: u128 = (0..2).map(|i| RICH - self.world.tenant_balance(i)).sum();
        assert_eq!(spent, paid);
        let escrow = tenure_types::Address::of_module("escrow");
        assert_eq!(self.world.balance(&escrow), 0, "nothing is left behind");
    }
}

/// So many cases; fifty times as many in the long tier.
fn config(cases: u32) -> ProptestConfig {
    let times = if std::env::var_os("TENURE_TEST_LONG").is_some() {
        50
    } else {
        1
    };
    ProptestConfig {
        cases: cases * times,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn invariants_hold_after_every_block_and_every_unit_is_accounted_for(
        history in proptest::collection::vec(step(), 60),
    ) {
        let mut player = Player::new(500);
        player.play(&history);
        player.drain();
        player.check_end();
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn balances_depend_neither_on_how_many_timers_a_block_handles_nor_on_how_long_gaps_are_kept(
        history in proptest::collection::vec(step(), 40),
    ) {
        let mut ends = Vec::new();
        for (quota, gap_horizon_ms) in [(1, 1), (500, u64::MAX)] {
            let mut player = Player::new(quota);
            player.world.set_gap_horizon(gap_horizon_ms);
            player.play(&history);
            player.drain();
            ends.push((player.balances(), player.journal));
        }
        let same = ends[0].1.iter().zip(&ends[1].1).position(|(a, b)| a != b);
        if let Some(i) = same {
            let (a, b) = (&ends[0].1[i], &ends[1].1[i]);
            prop_assert!(false, "entry {i} of the journal: {a} with lag, {b} without");
        }
        prop_assert_eq!(&ends[0], &ends[1]);
    }
}
