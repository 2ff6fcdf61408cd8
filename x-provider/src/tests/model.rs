//! Attested time against a list of outcomes, epoch by epoch.
//!
//! Two chains see the same blocks and messages. One handles its timers in every block, as long as quotas suffice; on the other they lag at
//! random, so that whole runs of epochs become final at once. Both must be what the list says.

use proptest::prelude::*;
use tenure_sdk::{clock, Ctx, Handler, Module, Result, Timer, TimerClass};
use tenure_types::{AttestedTime, GapSpan};

use super::{messages, registered, EPOCH_MS, PROVIDER};
use crate::{
    attested, close_lease, epoch_of, epoch_range, load, msgs::Attest, open_lease, state, take_defaults, Provider,
    ProviderModule, NAME,
};

const GRACE_BLOCKS: u64 = 3;
const GRACE_MS: u64 = 400;
const DEFAULT_AFTER: u32 = 3;

#[derive(Clone, Debug)]
enum Op {
    /// Nothing happens in this block.
    Nothing,
    /// A lease begins.
    Open,
    /// A lease ends for good.
    Close,
    /// Epochs are attested, counted back from the one that holds now, in ascending order.
    Attest(Vec<u64>),
    /// The market takes over what it has not been told of.
    Take,
    /// Somebody looks.
    Look,
}

/// A block: milliseconds since the last one, whether the lagging chain handles its timers, what happens.
fn block() -> impl Strategy<Value = (u64, bool, Op)> {
    let gap = prop_oneof![4 => 1_u64..200, 4 => 100_u64..1_500, 1 => 3_000_u64..30_000];
    let back = proptest::collection::btree_set(0_u64..6, 1..4);
    let op = prop_oneof![
        3 => Just(Op::Nothing),
        2 => Just(Op::Open),
        1 => Just(Op::Close),
        5 => back.prop_map(|set| Op::Attest(set.into_iter().rev().collect())),
        1 => Just(Op::Take),
        1 => Just(Op::Look),
    ];
    (gap, proptest::bool::weighted(0.2), op)
}

/// What the rules say, one epoch and one block at a time.
struct Model {
    /// Live times of all blocks; block 1 is the first.
    blocks: Vec<u64>,
    origin: u64,
    /// Outcomes of all epochs from the origin on.
    outcomes: Vec<bool>,
    leases: u32,
    in_a_row: u32,
    /// All defaults, in order.
    defaults: Vec<u64>,
    /// When each lease was made since the last time there was none.
    made: Vec<u64>,
    /// Defaults before this one the market knows.
    taken: usize,
}

impl Model {
    fn w(&self) -> u64 {
        self.origin + self.outcomes.len() as u64 * EPOCH_MS
    }

    fn passed(&self, end: u64) -> bool {
        let (height, now) = (self.blocks.len(), *self.blocks.last().unwrap());
        let ended = self.blocks.iter().position(|t| *t >= end).map(|i| i + 1);
        now >= end + GRACE_MS && ended.is_some_and(|ended| height as u64 >= ended as u64 + GRACE_BLOCKS)
    }

    fn block(&mut self, live_ms: u64) {
        self.blocks.push(live_ms);
        while self.leases > 0 && self.passed(self.w() + EPOCH_MS) {
            self.outcomes.push(false);
            self.in_a_row += 1;
            if self.in_a_row == DEFAULT_AFTER {
                self.in_a_row = 0;
                self.defaults.push(live_ms);
            }
        }
    }

    /// The error's code, or nothing: a message is whole or not at all.
    fn attest(&mut self, provider: &Provider, epochs: &[u64]) -> Option<u32> {
        let (now, before) = (*self.blocks.last().unwrap(), self.outcomes.len());
        for k in epochs {
            let (start, end) = epoch_range(provider, *k);
            let code = match () {
                () if now < end => 7,
                () if self.passed(end) => 8,
                () if end <= self.w() => 9,
                () => 0,
            };
            if code > 0 {
                self.outcomes.truncate(before);
                return Some(code);
            }
            while self.w() < start {
                self.outcomes.push(false);
            }
            self.outcomes.push(true);
        }
        self.in_a_row = 0;
        None
    }

    fn open(&mut self) {
        if self.leases == 0 {
            let now = *self.blocks.last().unwrap();
            while self.w() + EPOCH_MS <= now {
                self.outcomes.push(false);
            }
            self.in_a_row = 0;
        }
        self.made.push(*self.blocks.last().unwrap());
        self.leases += 1;
    }

    fn close(&mut self) {
        self.leases -= 1;
        if self.leases == 0 {
            self.in_a_row = 0;
            self.made.clear();
            self.taken = self.defaults.len();
        }
    }

    /// The default that ends a lease, by all that the provider ever did.
    fn ends_at(defaults: &[u64], made: u64) -> Option<u64> {
        defaults.iter().copied().find(|at| made < *at)
    }

    /// What is new to the market must end every lease where all defaults together would end it, but for those that it ended before.
    fn check_new(&self, found: &[u64]) {
        let (known, new) = self.defaults.split_at(self.taken);
        assert!(found.iter().all(|at| new.contains(at)), "{found:?} of {new:?}");
        for made in &self.made {
            if Self::ends_at(known, *made).is_none() {
                assert_eq!(
                    Self::ends_at(found, *made),
                    Self::ends_at(new, *made),
                    "{found:?} of {new:?}"
                );
            }
        }
        // Of those after the last lease was made only the first waits, and of those of one block one.
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        let last = self.made.last().copied().unwrap_or(0);
        assert!(
            found.iter().filter(|at| last < **at).count() <= 1,
            "{found:?} after {last}"
        );
    }

    fn gaps(&self) -> Vec<GapSpan> {
        let (mut gaps, mut missed) = (Vec::<GapSpan>::new(), 0);
        for (i, attested) in self.outcomes.iter().enumerate() {
            let start_ms = self.origin + i as u64 * EPOCH_MS;
            let end_ms = start_ms + EPOCH_MS;
            if !attested {
                match gaps.last_mut().filter(|gap| gap.end_ms == start_ms) {
                    Some(gap) => gap.end_ms = end_ms,
                    None => gaps.push(GapSpan {
                        start_ms,
                        end_ms,
                        missed_before_ms: missed,
                    }),
                }
                missed += EPOCH_MS;
            }
        }
        gaps
    }

    fn check(&self, ctx: &mut Ctx) -> Result<()> {
        let provider = load(ctx, &PROVIDER)?;
        let spans = state::all_gaps(ctx)?.into_iter().map(|gap| GapSpan {
            start_ms: gap.start_ms,
            end_ms: gap.end_ms,
            missed_before_ms: gap.missed_before_ms,
        });
        let time = AttestedTime {
            final_until_ms: provider.final_until_ms,
            gaps: spans.collect(),
        };
        assert_eq!(time.final_until_ms, self.w());
        assert_eq!(time.gaps, self.gaps());
        let found = (provider.open_leases, provider.consecutive_misses);
        assert_eq!(found, (self.leases, self.in_a_row));
        self.check_new(&provider.default_at_ms);
        // Asked for few instants, the time between them is the same, and few gaps are read.
        let asked = [
            self.origin.saturating_sub(1),
            self.origin + 1,
            self.w() / 2 + self.origin / 2,
            self.w().saturating_sub(1),
            u64::MAX,
        ];
        let few = attested(ctx, &PROVIDER, &asked)?;
        assert!(few.gaps.len() <= asked.len() + 1);
        for from in asked {
            for to in asked {
                assert_eq!(few.attested_between(from, to), time.attested_between(from, to));
            }
        }
        Ok(())
    }
}

/// Makes a block without handling anything.
fn advance(ctx: &mut Ctx, ms: u64) -> Result<u64> {
    ctx.block.height += 1;
    ctx.block.header_ms += ms;
    let height = ctx.block.height;
    let header_ms = ctx.block.header_ms;
    ctx.block.now_ms = clock::advance(ctx, height, header_ms)?;
    Ok(ctx.block.now_ms)
}

/// Handles this module's due timers as a block does; the market's stay, as nobody here ends leases.
fn handle_due(ctx: &mut Ctx) -> Result<()> {
    let (mut from, to) = Timer::due_range(TimerClass::Safety, ctx.now());
    while let Some((key, value)) = ctx.derived_range(&from, Some(&to), false, 1)?.pop() {
        let timer = Timer::decode(&key, &value)?;
        from = [key.as_slice(), &[0]].concat();
        if timer.module == NAME && timer.due.height <= ctx.height() {
            ProviderModule.due(ctx, &timer)?;
            assert!(
                ctx.derived_range(&key, Some(&from), false, 1)?.is_empty(),
                "{timer:?} is still there"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if std::env::var_os("TENURE_TEST_LONG").is_some() { 20_000 } else { 600 }, ..ProptestConfig::default() })]

    #[test]
    fn outcomes_are_those_of_a_list_however_late_the_timers_are(blocks in proptest::collection::vec(block(), 1..60)) {
        let mut chains = [registered().unwrap(), registered().unwrap()];
        let provider = load(&mut chains[0], &PROVIDER).unwrap();
        let mut model = Model {
            blocks: vec![chains[0].now()],
            origin: provider.final_until_ms,
            outcomes: Vec::new(),
            leases: 0,
            in_a_row: 0,
            defaults: Vec::new(),
            made: Vec::new(),
            taken: 0,
        };
        for (ms, handles, op) in blocks {
            for (ctx, handles) in chains.iter_mut().zip([true, handles]) {
                advance(ctx, ms).unwrap();
                if handles {
                    handle_due(ctx).unwrap();
                }
            }
            model.block(chains[0].now());
            let mut looks = true;
            match op {
                Op::Nothing => looks = false,
                Op::Look => {}
                Op::Open => {
                    model.open();
                    for ctx in &mut chains { open_lease(ctx, &PROVIDER).unwrap(); }
                }
                Op::Close if model.leases > 0 => {
                    model.close();
                    for ctx in &mut chains { close_lease(ctx, &PROVIDER).unwrap(); }
                }
                Op::Close => {}
                Op::Take => {
                    for ctx in &mut chains { model.check_new(&take_defaults(ctx, &PROVIDER).unwrap()); }
                    model.taken = model.defaults.len();
                }
                Op::Attest(back) => {
                    let current = epoch_of(&provider, chains[0].now());
                    let epochs: Vec<u64> = back.iter().map(|back| current - back).collect();
                    let expected = model.attest(&provider, &epochs);
                    let msg = messages::attest(&PROVIDER, &epochs);
                    for ctx in &mut chains {
                        let found = ctx.atomically(|ctx| Attest::execute(ctx, &msg)).err().map(|e| e.code);
                        prop_assert_eq!(found, expected);
                    }
                }
            }
            if looks {
                for ctx in &mut chains {
                    model.check(ctx).unwrap();
                    ProviderModule.invariants(ctx).unwrap();
                }
            }
        }
        for ctx in &mut chains {
            model.check(ctx).unwrap();
            ProviderModule.invariants(ctx).unwrap();
        }
        let [a, b] = chains.each_mut().map(|ctx| ctx.range(NAME, b"\0", None, false, usize::MAX).unwrap());
        prop_assert_eq!(a, b);
    }
}
