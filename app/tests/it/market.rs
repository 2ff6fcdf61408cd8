//! What tenants and providers do, for [`World`] and for scripted tests.

use prost::Message;
use rand::{seq::SliceRandom, Rng};
use tenure_proto::{
    any,
    tenure::{
        base::v1::{Resources, Window},
        escrow::v1::TopUpOrder,
        market::v1::{
            Bid, BidState, CloseReason, HandoverReceipt, Lease, LeaseState, MsgAmendLease, MsgCancelBid, MsgClaim,
            MsgCloseLease, MsgDeposit, MsgFinishLease, MsgLeaseReady, MsgPauseLease, MsgPostBid, MsgReportDown,
            MsgResumeLease, MsgSetAutoTopUp, MsgWithdrawClaim, MsgWithdrawDeposit, MsgWithdrawEarnings,
            QueryBidsRequest, QueryBidsResponse, QueryLeaseRequest, QueryLeaseResponse, QueryLeasesRequest,
            QueryLeasesResponse,
        },
        provider::v1::{
            EpochRoot, MsgAttest, MsgDrain, MsgLeave, MsgRegister, MsgUpdate, Provider, QueryProviderRequest,
            QueryProviderResponse, QueryProvidersRequest, QueryProvidersResponse,
        },
    },
    Any,
};

use crate::{
    chain::{Chain, CHAIN_ID},
    world::{coin, Action, Person, World},
};

/// A provider's capacity here.
const CAPACITY: Resources = Resources {
    cpu_milli: 64_000,
    memory_bytes: 64 << 30,
    storage_bytes: 1 << 40,
};

pub(crate) fn register(person: &Person) -> Any {
    any(&MsgRegister {
        owner: person.address.to_string(),
        moniker: "a provider".into(),
        endpoint: "http://localhost:8443".into(),
        capacity: Some(CAPACITY),
        bond: Some(coin("uten", 100_000_000)),
    })
}

pub(crate) fn update(person: &Person, cpu_milli: u64) -> Any {
    any(&MsgUpdate {
        owner: person.address.to_string(),
        moniker: "renamed".into(),
        endpoint: "https://localhost:8443".into(),
        capacity: Some(Resources { cpu_milli, ..CAPACITY }),
    })
}

pub(crate) fn post_bid(
    person: &Person,
    rate: u64,
    duration_ms: u64,
    deposit: u64,
    claim_window: Option<Window>,
) -> Any {
    any(&MsgPostBid {
        tenant: person.address.to_string(),
        resources: Some(Resources {
            cpu_milli: 500,
            memory_bytes: 1 << 20,
            storage_bytes: 1 << 20,
        }),
        max_rate: rate,
        duration_ms,
        deposit: Some(coin("uten", deposit)),
        manifest_hash: vec![7; 32],
        claim_window,
        expiry: Some(Window { blocks: 30, ms: 30_000 }),
        auto_top_up: None,
    })
}

pub(crate) fn claim(person: &Person, bid_id: u64, rate: u64) -> Any {
    any(&MsgClaim {
        provider: person.address.to_string(),
        bid_id,
        rate,
    })
}

pub(crate) fn lease_ready(provider: &Person, tenant: &Person, lease: &Lease) -> Any {
    let receipt = HandoverReceipt {
        chain_id: CHAIN_ID.into(),
        lease_id: lease.id,
        manifest_hash: lease.manifest_hash.clone(),
    };
    let receipt_signature = tenant.sign(&receipt.encode_to_vec());
    any(&MsgLeaseReady {
        provider: provider.address.to_string(),
        lease_id: lease.id,
        receipt_signature,
    })
}

/// Attests all epochs that have ended and can still be attested, if there are any.
pub(crate) fn attest(chain: &Chain, person: &Person) -> Option<Any> {
    let provider = provider(chain, person)?;
    let (_, _, now_ms, _) = chain.app.committed();
    let next = (provider.final_until_ms - provider.grid_offset_ms) / provider.epoch_ms;
    let current = (now_ms - provider.grid_offset_ms) / provider.epoch_ms;
    let epochs: Vec<_> = (next..current)
        .rev()
        .take(4)
        .map(|epoch| EpochRoot {
            epoch,
            root: vec![9; 32],
        })
        .collect();
    let epochs: Vec<_> = epochs.into_iter().rev().collect();
    (!epochs.is_empty()).then(|| {
        any(&MsgAttest {
            provider: person.address.to_string(),
            epochs,
        })
    })
}

pub(crate) fn report_down(chain: &Chain, person: &Person, lease_ids: Vec<u64>) -> Option<Any> {
    let provider = provider(chain, person)?;
    let epoch = (provider.final_until_ms - provider.grid_offset_ms) / provider.epoch_ms;
    Some(any(&MsgReportDown {
        provider: person.address.to_string(),
        epoch,
        lease_ids,
    }))
}

pub(crate) fn provider(chain: &Chain, person: &Person) -> Option<Provider> {
    let request = QueryProviderRequest {
        owner: person.address.to_string(),
    };
    chain
        .query::<QueryProviderResponse>("/tenure.provider.v1.Query/Provider", &request)
        .ok()?
        .provider
}

pub(crate) fn lease(chain: &Chain, id: u64) -> QueryLeaseResponse {
    chain
        .query("/tenure.market.v1.Query/Lease", &QueryLeaseRequest { id })
        .unwrap()
}

pub(crate) fn finish(person: &Person, lease_id: u64) -> Any {
    any(&MsgFinishLease {
        provider: person.address.to_string(),
        lease_id,
        reason: CloseReason::Completed.into(),
        exit_code: 0,
        output_root: vec![5; 32],
        detail: "done".into(),
    })
}

impl World {
    fn index_of(&self, address: &str) -> Option<usize> {
        self.people
            .iter()
            .position(|person| person.address.to_string() == address)
    }

    fn one<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.choose(&mut self.rng).cloned()
    }

    fn a_provider(&mut self, chain: &Chain) -> Option<usize> {
        let path = "/tenure.provider.v1.Query/Providers";
        let all: QueryProvidersResponse = chain.query(path, &QueryProvidersRequest::default()).ok()?;
        let provider = self.one(&all.providers)?;
        self.index_of(&provider.owner)
    }

    fn a_bid(&mut self, chain: &Chain) -> Option<Bid> {
        let request = QueryBidsRequest {
            state: BidState::Open.into(),
            ..Default::default()
        };
        let all: QueryBidsResponse = chain.query("/tenure.market.v1.Query/Bids", &request).ok()?;
        self.one(&all.bids)
    }

    fn a_lease(&mut self, chain: &Chain, state: LeaseState) -> Option<Lease> {
        // Now and then one in any state: what does not fit is refused, and that must be agreed on too.
        let state = if self.rng.gen_ratio(1, 8) {
            LeaseState::Unspecified
        } else {
            state
        };
        let request = QueryLeasesRequest {
            state: state.into(),
            ..Default::default()
        };
        let all: QueryLeasesResponse = chain.query("/tenure.market.v1.Query/Leases", &request).ok()?;
        self.one(&all.leases)
    }

    pub(crate) fn register(&mut self, _chain: &Chain) -> Option<Action> {
        // Providers are the first four, so that there are tenants who are nothing else.
        let i = self.rng.gen_range(0..4);
        Some((vec![i], vec![register(&self.people[i])]))
    }

    pub(crate) fn update(&mut self, chain: &Chain) -> Option<Action> {
        let i = self.a_provider(chain)?;
        let cpu_milli = self.rng.gen_range(1..128_000);
        Some((vec![i], vec![update(&self.people[i], cpu_milli)]))
    }

    pub(crate) fn drain(&mut self, chain: &Chain) -> Option<Action> {
        let i = self.a_provider(chain)?;
        let drain = self.rng.gen_ratio(1, 3);
        Some((
            vec![i],
            vec![any(&MsgDrain {
                owner: self.people[i].address.to_string(),
                drain,
            })],
        ))
    }

    pub(crate) fn leave(&mut self, chain: &Chain) -> Option<Action> {
        let i = self.a_provider(chain).filter(|_| self.rng.gen_ratio(1, 3))?;
        Some((
            vec![i],
            vec![any(&MsgLeave {
                owner: self.people[i].address.to_string(),
            })],
        ))
    }

    pub(crate) fn post_bid(&mut self, _chain: &Chain) -> Option<Action> {
        let i = self.someone();
        let rng = &mut self.rng;
        let rate = rng.gen_range(1_000_000..40_000_000);
        let (duration, deposit) = (rng.gen_range(2_000..60_000), rng.gen_range(5_000..400_000));
        let window = rng.gen::<bool>().then(|| Window {
            blocks: rng.gen_range(0..3),
            ms: rng.gen_range(0..3_000),
        });
        Some((
            vec![i],
            vec![post_bid(&self.people[i], rate, duration, deposit, window)],
        ))
    }

    pub(crate) fn cancel_bid(&mut self, chain: &Chain) -> Option<Action> {
        let bid = self.a_bid(chain)?;
        let i = self.index_of(&bid.tenant)?;
        Some((
            vec![i],
            vec![any(&MsgCancelBid {
                tenant: bid.tenant,
                bid_id: bid.id,
            })],
        ))
    }

    pub(crate) fn claim(&mut self, chain: &Chain) -> Option<Action> {
        let (bid, i) = (self.a_bid(chain)?, self.a_provider(chain)?);
        let rate = self.rng.gen_range(bid.max_rate / 2..bid.max_rate + 100_000);
        Some((vec![i], vec![claim(&self.people[i], bid.id, rate)]))
    }

    pub(crate) fn withdraw_claim(&mut self, chain: &Chain) -> Option<Action> {
        let (bid, i) = (self.a_bid(chain)?, self.a_provider(chain)?);
        let provider = self.people[i].address.to_string();
        Some((
            vec![i],
            vec![any(&MsgWithdrawClaim {
                provider,
                bid_id: bid.id,
            })],
        ))
    }

    pub(crate) fn lease_ready(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Starting)?;
        let (i, tenant) = (self.index_of(&lease.provider)?, self.index_of(&lease.tenant)?);
        Some((
            vec![i],
            vec![lease_ready(&self.people[i], &self.people[tenant], &lease)],
        ))
    }

    /// All providers at once: most attestations should come in time.
    pub(crate) fn attest(&mut self, chain: &Chain) -> Option<Action> {
        let due = (0..4).filter_map(|i| attest(chain, &self.people[i]).map(|message| (i, message)));
        let (signers, messages): (Vec<usize>, Vec<Any>) = due.filter(|_| self.rng.gen_ratio(7, 8)).unzip();
        (!signers.is_empty()).then_some((signers, messages))
    }

    pub(crate) fn report_down(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Active)?;
        let i = self.index_of(&lease.provider)?;
        Some((vec![i], vec![report_down(chain, &self.people[i], vec![lease.id])?]))
    }

    pub(crate) fn close_lease(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Active)?;
        let i = self.index_of(&lease.tenant)?;
        Some((
            vec![i],
            vec![any(&MsgCloseLease {
                tenant: lease.tenant,
                lease_id: lease.id,
            })],
        ))
    }

    pub(crate) fn finish_lease(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Active)?;
        let i = self.index_of(&lease.provider)?;
        Some((vec![i], vec![finish(&self.people[i], lease.id)]))
    }

    pub(crate) fn pause_lease(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Active)?;
        let i = self.index_of(&lease.tenant)?;
        Some((
            vec![i],
            vec![any(&MsgPauseLease {
                tenant: lease.tenant,
                lease_id: lease.id,
            })],
        ))
    }

    pub(crate) fn resume_lease(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Paused)?;
        let i = self.index_of(&lease.tenant)?;
        Some((
            vec![i],
            vec![any(&MsgResumeLease {
                tenant: lease.tenant,
                lease_id: lease.id,
            })],
        ))
    }

    pub(crate) fn set_auto_top_up(&mut self, chain: &Chain) -> Option<Action> {
        let state = *[LeaseState::Starting, LeaseState::Active, LeaseState::Paused].choose(&mut self.rng)?;
        let lease = self.a_lease(chain, state)?;
        let i = self.index_of(&lease.tenant)?;
        let amount = self.rng.gen_range(1_000..100_000_u64);
        let order = TopUpOrder {
            maximum: (amount * self.rng.gen_range(1..5)).to_string(),
            amount: amount.to_string(),
        };
        Some((
            vec![i],
            vec![any(&MsgSetAutoTopUp {
                tenant: lease.tenant,
                bid_id: lease.bid_id,
                auto_top_up: self.rng.gen_bool(0.8).then_some(order),
            })],
        ))
    }

    pub(crate) fn amend_lease(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Active)?;
        let (a, b) = (self.index_of(&lease.tenant)?, self.index_of(&lease.provider)?);
        let rate = self.rng.gen_range(1_000_000..60_000_000);
        let signers = if a == b { vec![a] } else { vec![a, b] };
        let Lease {
            tenant,
            provider,
            id: lease_id,
            ..
        } = lease;
        Some((
            signers,
            vec![any(&MsgAmendLease {
                tenant,
                provider,
                lease_id,
                rate,
            })],
        ))
    }

    pub(crate) fn deposit(&mut self, chain: &Chain) -> Option<Action> {
        let (lease, i) = (self.a_lease(chain, LeaseState::Active)?, self.someone());
        let amount = Some(coin("uten", self.rng.gen_range(1_000..100_000)));
        let depositor = self.people[i].address.to_string();
        Some((
            vec![i],
            vec![any(&MsgDeposit {
                depositor,
                bid_id: lease.bid_id,
                amount,
            })],
        ))
    }

    pub(crate) fn withdraw_deposit(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Active)?;
        let i = self.index_of(&lease.tenant)?;
        let amount = Some(coin("uten", self.rng.gen_range(1..50_000)));
        Some((
            vec![i],
            vec![any(&MsgWithdrawDeposit {
                tenant: lease.tenant,
                bid_id: lease.bid_id,
                amount,
            })],
        ))
    }

    pub(crate) fn withdraw_earnings(&mut self, chain: &Chain) -> Option<Action> {
        let lease = self.a_lease(chain, LeaseState::Closing)?;
        let i = self.index_of(&lease.provider)?;
        Some((
            vec![i],
            vec![any(&MsgWithdrawEarnings {
                provider: lease.provider,
                lease_ids: vec![lease.id],
            })],
        ))
    }
}
