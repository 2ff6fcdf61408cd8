//! Random histories against an exact oracle: the port of the reference simulation (`model/accrual.py`), extended by what that leaves out:
//! exceptions, lots, take, withdrawals, ends dated in the past, several accounts.
//!
//! The oracle keeps what tenants and providers did (rates from instants on, epochs' outcomes, exceptions) and no running sums. Where a lease
//! stops because the money ran out, the instant is checked against its definition before the oracle believes it.

use std::{env, thread};

use rand::{rngs::StdRng, seq::SliceRandom, Rng, SeedableRng};
use tenure_sdk::{Ctx, Module, Result};
use tenure_types::{Address, Amount, AttestedTime, Coin, GapSpan, MS_PER_HOUR};
use tenure_x_auth::FEE_COLLECTOR;

use super::{chain, small, uten, FRIEND, OWNER, PROVIDERS, STRANGER, WEALTH};
use crate::{
    accrual::FOREVER, amend, begin_close, catch_up, close_account, deposit, except, finish_close, open_account, pause,
    pay_out, payment, resume, settle, start_payment, state, withdraw_deposit, AccountState, EscrowModule,
};

const STEPS: usize = 60;
const D: u128 = MS_PER_HOUR as u128;

/// A provider's outcomes, one by one, and the value that x-provider would make of them.
struct Reference {
    epoch_ms: u64,
    outcomes: Vec<(u64, bool)>,
    time: AttestedTime,
    missed: u64,
}

impl Reference {
    fn new(epoch_ms: u64, from_ms: u64) -> Self {
        let time = AttestedTime {
            final_until_ms: from_ms,
            gaps: Vec::new(),
        };
        Self {
            epoch_ms,
            outcomes: Vec::new(),
            time,
            missed: 0,
        }
    }

    fn finalise(&mut self, attested: bool) {
        let (start, end) = (self.time.final_until_ms, self.time.final_until_ms + self.epoch_ms);
        self.outcomes.push((start, attested));
        if !attested {
            match self.time.gaps.last_mut().filter(|gap| gap.end_ms == start) {
                Some(gap) => gap.end_ms = end,
                None => self.time.gaps.push(GapSpan {
                    start_ms: start,
                    end_ms: end,
                    missed_before_ms: self.missed,
                }),
            }
            self.missed += self.epoch_ms;
        }
        self.time.final_until_ms = end;
    }

    /// What x-market would be handed: only gaps that matter from an instant on.
    fn since(&self, from_ms: u64) -> AttestedTime {
        let gaps = self
            .time
            .gaps
            .iter()
            .copied()
            .filter(|gap| gap.end_ms > from_ms)
            .collect();
        AttestedTime { gaps, ..self.time }
    }
}

#[derive(Clone)]
struct Lease {
    id: u64,
    account: u64,
    provider: usize,
    rates: Vec<(u64, u64)>,
    agreed: u64,
    excepted: Vec<(u64, u64)>,
    closing: bool,
    done: bool,
}

impl Lease {
    fn rate(&self) -> u64 {
        self.rates.last().unwrap().1
    }

    /// Σ rate · attested ms before an instant, the definition taken literally.
    fn exact(&self, provider: &Reference, until: u64) -> u128 {
        let mut sum = 0;
        for (i, (from, rate)) in self.rates.iter().enumerate() {
            let to = self.rates.get(i + 1).map_or(until, |next| next.0).min(until);
            for (start, _) in provider.outcomes.iter().filter(|o| o.1) {
                let (x, y) = (*start.max(from), to.min(start + provider.epoch_ms));
                if x < y {
                    let excepted: u64 = self
                        .excepted
                        .iter()
                        .map(|(a, b)| y.min(*b).saturating_sub(x.max(*a)))
                        .sum();
                    sum += u128::from(*rate) * u128::from(y - x - excepted);
                }
            }
        }
        sum
    }

    /// Σ rate · ms in `[from, to)`.
    fn most(&self, from: u64, to: u64) -> u128 {
        let mut sum = 0;
        for (i, (start, rate)) in self.rates.iter().enumerate() {
            let end = self.rates.get(i + 1).map_or(to, |next| next.0).min(to);
            sum += u128::from(*rate) * u128::from(end.saturating_sub(from.max(*start)));
        }
        sum
    }
}

/// How a history is run; the history itself depends on the seed alone.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// Money that ran out is noticed whenever something else happens, or not at all for a while.
    Lagging,
    /// It is noticed at once.
    Prompt,
}

struct World {
    ctx: Ctx,
    rng: StdRng,
    providers: Vec<Reference>,
    accounts: Vec<u64>,
    leases: Vec<Lease>,
    epoch_ms: u64,
    /// Longest time between two steps: an epoch, or so little that many changes fall into one.
    step_ms: u64,
    past_ends: bool,
    stats: Stats,
}

/// What the histories covered: a generator that never reaches a case proves nothing of it.
#[derive(Clone, Copy, Debug, Default)]
struct Stats {
    leases: u64,
    exhaustions: u64,
    exceptions: u64,
    withdrawals: u64,
    past_ends: u64,
    resumptions: u64,
    refusals: u64,
    most_segments: usize,
}

impl World {
    fn new(seed: u64, past_ends: bool) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let epoch_ms = *[1_000, 600_000].choose(&mut rng).unwrap();
        let step_ms = *[epoch_ms, epoch_ms / 20].choose(&mut rng).unwrap();
        let mut ctx = chain(&small())?;
        ctx.block.now_ms = 10_000_000;
        let providers = (0..PROVIDERS.len())
            .map(|_| Reference::new(epoch_ms, ctx.now() - epoch_ms - rng.gen_range(0..epoch_ms)))
            .collect();
        let accounts: Vec<u64> = (1..=rng.gen_range(1..=2)).collect();
        for id in &accounts {
            let amount = *[1_u128, 50, 10_000, 1_000_000_000, 1 << 89].choose(&mut rng).unwrap();
            open_account(&mut ctx, *id, &OWNER, "uten", Amount::new(amount))?;
        }
        Ok(Self {
            ctx,
            rng,
            providers,
            accounts,
            leases: Vec::new(),
            epoch_ms,
            step_ms,
            past_ends,
            stats: Stats::default(),
        })
    }

    fn pick(&mut self, fits: impl Fn(&Lease) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.leases.len()).filter(|i| fits(&self.leases[*i])).collect();
        all.choose(&mut self.rng).copied()
    }

    fn time_of(&mut self, lease: usize) -> Result<AttestedTime> {
        let lease = &self.leases[lease];
        let from = payment(&mut self.ctx, lease.id)?.settled_to_ms;
        Ok(self.providers[lease.provider].since(from))
    }

    /// X by its definition: the last instant at which the balance covers what could be owed.
    fn check_x(&mut self, account: u64) -> Result<u64> {
        let record = state::account(&mut self.ctx, account)?;
        let x = record.funded_until_ms;
        if record.rate_sum == 0 {
            assert_eq!(x, FOREVER);
            return Ok(x);
        }
        let means = state::stored_amount(&record.balance)?.get() * D;
        let (mut owed, mut later) = (0, 0);
        for lease in self.leases.iter().filter(|l| l.account == account && !l.done) {
            let payment = payment(&mut self.ctx, lease.id)?;
            owed += u128::from(payment.acc) + lease.most(payment.settled_to_ms, x);
            later += u128::from(payment.acc) + lease.most(payment.settled_to_ms, x.saturating_add(1));
        }
        assert!(
            owed <= means && (means < later || x == FOREVER),
            "X {x}: owed {owed} of {means}, a moment later {later}"
        );
        Ok(x)
    }

    /// What the oracle learns when the money of an account has run out by an instant.
    fn exhaust(&mut self, account: u64, x: u64, by: u64) -> Vec<u64> {
        if x > by {
            return Vec::new();
        }
        self.stats.exhaustions += 1;
        let running = self
            .leases
            .iter_mut()
            .filter(|l| l.account == account && !l.done && l.rate() > 0);
        running
            .map(|lease| {
                lease.rates.push((x, 0));
                lease.id
            })
            .collect()
    }

    /// Runs an operation on an account, all or nothing; false if it was refused.
    fn attempt<T>(&mut self, account: u64, by: u64, f: impl FnOnce(&mut Ctx) -> Result<T>) -> Result<Option<T>> {
        let x = self.check_x(account)?;
        match self.ctx.atomically(f) {
            Ok(value) => {
                self.exhaust(account, x, by);
                Ok(Some(value))
            }
            Err(error) if error.is_internal() => Err(error),
            Err(_) => {
                self.stats.refusals += 1;
                Ok(None)
            }
        }
    }

    fn step(&mut self, pace: Pace) -> Result<()> {
        self.ctx.block.now_ms += self.rng.gen_range(1..self.step_ms);
        let now = self.ctx.now();
        let epoch = self.epoch_ms;
        for provider in &mut self.providers {
            while provider.time.final_until_ms + epoch <= now
                && (self.rng.gen_bool(0.5) || provider.time.final_until_ms + 2 * epoch <= now)
            {
                let attested = self.rng.gen_bool(0.7);
                provider.finalise(attested);
            }
        }
        let op = self.rng.gen_range(0..13);
        if pace == Pace::Prompt || (self.past_ends && op != 11 && self.rng.gen_bool(0.4)) {
            for account in self.accounts.clone() {
                let x = self.check_x(account)?;
                let stopped = catch_up(&mut self.ctx, account)?;
                assert_eq!(stopped, self.exhaust(account, x, now));
            }
        }
        let account = *self.accounts.choose(&mut self.rng).unwrap();
        match op {
            0 | 1 => self.start(account)?,
            2 => {
                let open = |l: &Lease| !l.closing;
                if let Some(i) = self.pick(open) {
                    let at = if self.past_ends && self.rng.gen_bool(0.4) {
                        now - self.rng.gen_range(0..self.step_ms)
                    } else {
                        now
                    };
                    self.end(i, at)?;
                }
            }
            3 => {
                if let Some(i) = self.pick(|l| !l.closing) {
                    let rate = *[1, 5, 4_000, 1 << 58].choose(&mut self.rng).unwrap();
                    let (id, account) = (self.leases[i].id, self.leases[i].account);
                    if self.attempt(account, now, |ctx| amend(ctx, id, rate))?.is_some() {
                        self.leases[i].agreed = rate;
                        if self.leases[i].rate() > 0 {
                            self.leases[i].rates.push((now, rate));
                        }
                    }
                }
            }
            4 => {
                if let Some(i) = self.pick(|l| !l.closing) {
                    let (id, account) = (self.leases[i].id, self.leases[i].account);
                    if self.attempt(account, now, |ctx| pause(ctx, id))?.is_some() {
                        self.leases[i].rates.push((now, 0));
                    }
                }
            }
            5 => {
                let who = *[OWNER, OWNER, FRIEND, STRANGER].choose(&mut self.rng).unwrap();
                let coin = Coin::base(self.rng.gen_range(1..100_000));
                let mut goes_on = self
                    .attempt(account, now, |ctx| deposit(ctx, account, &who, &coin))?
                    .is_some();
                while goes_on {
                    let stopped = self.pick(|l| !l.closing && l.account == account && l.rate() == 0);
                    goes_on = stopped.map_or(Ok(false), |i| self.resume(i))?;
                }
            }
            6 => {
                let most = state::stored_amount(&state::account(&mut self.ctx, account)?.balance)?.get();
                let coin = Coin::base(self.rng.gen_range(0..=most));
                let done = self.attempt(account, now, |ctx| withdraw_deposit(ctx, account, &OWNER, &coin, now))?;
                self.stats.withdrawals += u64::from(done.is_some());
            }
            7 | 8 => {
                if let Some(i) = self.pick(|_| true) {
                    self.settle(i)?;
                }
            }
            9 => {
                // Also epochs that are not over: they must be refused.
                if let Some(i) = self.pick(|l| !l.done) {
                    let (time, Lease { id, account, .. }) = (self.time_of(i)?, self.leases[i].clone());
                    let start = time.final_until_ms;
                    let done = self.attempt(account, now, |ctx| except(ctx, id, &time, start, start + epoch))?;
                    assert_eq!(done.is_some(), start + epoch <= now);
                    if done.is_some() && !self.leases[i].excepted.contains(&(start, start + epoch)) {
                        self.leases[i].excepted.push((start, start + epoch));
                        self.stats.exceptions += 1;
                    }
                }
            }
            10 => {
                if let Some(i) = self.pick(|l| l.closing && !l.done) {
                    self.finish(i)?;
                }
                if let Some(i) = self.pick(|_| true) {
                    pay_out(&mut self.ctx, self.leases[i].id)?;
                }
            }
            11 => {}
            _ => {
                if let Some(i) = self.pick(|l| !l.closing) {
                    self.resume(i)?;
                }
            }
        }
        for account in self.accounts.clone() {
            self.check_x(account)?;
        }
        self.ctx.events.clear();
        EscrowModule.invariants(&mut self.ctx)
    }

    fn start(&mut self, account: u64) -> Result<()> {
        let (now, id) = (self.ctx.now(), self.leases.len() as u64 + 1);
        let provider = self.rng.gen_range(0..PROVIDERS.len());
        let rate = *[1, 7, 3_600, 1_000_000_000, 1 << 59].choose(&mut self.rng).unwrap();
        let started = self.attempt(account, now, |ctx| {
            start_payment(ctx, account, id, &PROVIDERS[provider], rate, 0)
        })?;
        if started.is_some() {
            let (excepted, closing, done) = (Vec::new(), false, false);
            let rates = vec![(now, rate)];
            self.leases.push(Lease {
                id,
                account,
                provider,
                rates,
                agreed: rate,
                excepted,
                closing,
                done,
            });
            self.stats.leases += 1;
        }
        Ok(())
    }

    fn resume(&mut self, i: usize) -> Result<bool> {
        let Lease {
            id, account, agreed, ..
        } = self.leases[i];
        let now = self.ctx.now();
        let done = self.attempt(account, now, |ctx| resume(ctx, id))?.is_some();
        if done {
            self.leases[i].rates.push((now, agreed));
            self.stats.resumptions += 1;
        }
        Ok(done)
    }

    fn end(&mut self, i: usize, at: u64) -> Result<()> {
        let Lease { id, account, .. } = self.leases[i];
        let settled_to = payment(&mut self.ctx, id)?.settled_to_ms;
        let ended = self
            .attempt(account, at, |ctx| begin_close(ctx, id, at))?
            .expect("an open lease can end");
        let lease = &mut self.leases[i];
        let at_most = at.max(settled_to);
        lease.rates.retain(|(from, _)| *from < at_most);
        if lease.rates.last().is_some_and(|(_, rate)| *rate > 0) {
            lease.rates.push((at_most, 0));
        }
        assert_eq!(
            lease.rates.last().map_or(ended, |last| last.0.max(ended)),
            at_most.min(ended)
        );
        if lease.rates.is_empty() {
            lease.rates.push((ended, 0));
        }
        lease.closing = true;
        self.stats.past_ends += u64::from(at < self.ctx.now());
        Ok(())
    }

    fn settle(&mut self, i: usize) -> Result<()> {
        let (time, Lease { id, account, .. }) = (self.time_of(i)?, self.leases[i].clone());
        let now = self.ctx.now();
        let held = uten(&mut self.ctx, &Address::of_module("escrow"));
        let settled = self
            .attempt(account, now, |ctx| settle(ctx, id, &time))?
            .expect("a lease can be settled");
        assert_eq!(settled.take.plus(settled.net)?, settled.gross);
        assert_eq!(
            held - uten(&mut self.ctx, &Address::of_module("escrow")),
            settled.take.get()
        );
        self.check_paid(i)
    }

    /// Paid is the floor of the exact due of settled time.
    fn check_paid(&mut self, i: usize) -> Result<()> {
        let lease = &self.leases[i];
        let record = payment(&mut self.ctx, lease.id)?;
        self.stats.most_segments = self.stats.most_segments.max(record.segments.len());
        let exact = lease.exact(&self.providers[lease.provider], record.settled_to_ms);
        assert_eq!(
            state::stored_amount(&record.paid_total)?.get(),
            exact / D,
            "{lease:?}",
            lease = record
        );
        Ok(())
    }

    fn finish(&mut self, i: usize) -> Result<bool> {
        let (time, Lease { id, account, .. }) = (self.time_of(i)?, self.leases[i].clone());
        let now = self.ctx.now();
        let done = self
            .attempt(account, now, |ctx| finish_close(ctx, id, &time))?
            .is_some();
        if done {
            self.leases[i].done = true;
            // Everything, not only what was settled: the lease had ended.
            let lease = &self.leases[i];
            let exact = lease.exact(&self.providers[lease.provider], FOREVER);
            let record = payment(&mut self.ctx, id)?;
            assert_eq!(state::stored_amount(&record.paid_total)?.get(), exact / D, "{record:?}");
            assert_eq!(record.earned, "0");
        }
        Ok(done)
    }

    /// Ends everything and checks that no unit is left or lost.
    fn wind_up(&mut self) -> Result<()> {
        let now = self.ctx.now();
        for i in 0..self.leases.len() {
            if !self.leases[i].closing {
                self.end(i, now)?;
            }
        }
        // One account closes by itself with its last payment, the other when it is told to.
        close_account(&mut self.ctx, 1)?;
        self.ctx.block.now_ms += 3 * self.epoch_ms;
        for provider in &mut self.providers {
            while provider.time.final_until_ms <= now {
                let attested = self.rng.gen_bool(0.7);
                provider.finalise(attested);
            }
        }
        for i in 0..self.leases.len() {
            if !self.leases[i].done {
                assert!(self.finish(i)?, "all outcomes are final");
            }
        }
        for id in self.accounts.clone() {
            if state::account(&mut self.ctx, id)?.state() == AccountState::Open {
                close_account(&mut self.ctx, id)?;
            }
            assert_eq!(state::account(&mut self.ctx, id)?.state(), AccountState::Closed);
        }
        EscrowModule.invariants(&mut self.ctx)?;
        assert_eq!(uten(&mut self.ctx, &Address::of_module("escrow")), 0);
        let (mut paid, mut take) = (0, 0);
        for lease in &self.leases {
            let record = payment(&mut self.ctx, lease.id)?;
            let all = lease.exact(&self.providers[lease.provider], FOREVER) / D;
            paid += all;
            take += all * u128::from(record.take_bps) / 10_000;
        }
        let of = |ctx: &mut Ctx, who: &[Address]| who.iter().map(|who| uten(ctx, who)).sum::<u128>();
        assert_eq!(of(&mut self.ctx, &[Address::of_module(FEE_COLLECTOR)]), take);
        assert_eq!(of(&mut self.ctx, &PROVIDERS), paid - take);
        assert_eq!(of(&mut self.ctx, &[OWNER, FRIEND, STRANGER]), 3 * WEALTH - paid);
        Ok(())
    }
}

/// Keys and values of stores.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// Runs a history and returns what is left in the stores.
fn run(seed: u64, pace: Pace, past_ends: bool) -> (Stats, Records) {
    let go = || -> Result<_> {
        let mut world = World::new(seed, past_ends)?;
        for _ in 0..STEPS {
            world.step(pace)?;
        }
        for account in world.accounts.clone() {
            let x = world.check_x(account)?;
            let now = world.ctx.now();
            catch_up(&mut world.ctx, account)?;
            world.exhaust(account, x, now);
        }
        let mut records = world.ctx.range("escrow", b"\0", None, false, usize::MAX)?;
        world.wind_up()?;
        records.extend(world.ctx.range("escrow", b"\0", None, false, usize::MAX)?);
        records.extend(world.ctx.range("bank", b"\0", None, false, usize::MAX)?);
        Ok((world.stats, records))
    };
    go().unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

fn histories(short: u64, long: u64) -> u64 {
    if env::var_os("TENURE_TEST_LONG").is_some() {
        long
    } else {
        short
    }
}

/// Runs seeds `0..count` on two threads.
fn each_seed(count: u64, f: impl Fn(u64) -> Stats + Sync) -> Stats {
    let f = &f;
    let part = |from: u64| move || (from..count).step_by(2).map(f).collect::<Vec<_>>();
    let all = thread::scope(|scope| {
        let (a, b) = (scope.spawn(part(0)), scope.spawn(part(1)));
        [a.join(), b.join()].map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    all.into_iter().flatten().fold(Stats::default(), |a, b| Stats {
        leases: a.leases + b.leases,
        exhaustions: a.exhaustions + b.exhaustions,
        exceptions: a.exceptions + b.exceptions,
        withdrawals: a.withdrawals + b.withdrawals,
        past_ends: a.past_ends + b.past_ends,
        resumptions: a.resumptions + b.resumptions,
        refusals: a.refusals + b.refusals,
        most_segments: a.most_segments.max(b.most_segments),
    })
}

#[test]
fn every_lease_is_paid_the_floor_of_its_exact_due_whatever_happens() {
    let count = histories(6_000, 100_000);
    let stats = each_seed(count, |seed| run(seed, Pace::Lagging, true).0);
    println!("{count} histories: {stats:?}");
    for (what, n) in [
        ("leases", stats.leases),
        ("exhaustions", stats.exhaustions),
        ("exceptions", stats.exceptions),
        ("withdrawals", stats.withdrawals),
        ("ends in the past", stats.past_ends),
        ("resumptions", stats.resumptions),
        ("refusals", stats.refusals),
    ] {
        assert!(n > count / 10, "{what}: only {n} in {count} histories");
    }
}

#[test]
fn it_makes_no_difference_when_it_is_noticed_that_money_ran_out() {
    let count = histories(300, 5_000);
    let stats = each_seed(count, |seed| {
        let (prompt, lagging) = (run(seed, Pace::Prompt, false), run(seed, Pace::Lagging, false));
        assert!(prompt.1 == lagging.1, "seed {seed}: the records differ");
        lagging.0
    });
    assert!(stats.exhaustions > count / 10, "{stats:?}");
}
