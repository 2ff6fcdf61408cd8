//! Records as tables and JSON.

use serde_json::{json, Value};
use tenure_client::{
    json::to_json,
    match_report::status_name,
    outputs::Money,
    units::{show_amount, show_duration, show_rate, show_size},
    Result,
};
use tenure_proto::tenure::{
    base::v1::Resources,
    escrow::v1::{Account, AccountState, AutoTopUp, Payment},
    market::v1::{Bid, BidState, Claim, CloseReason, Lease, LeaseState, QueryLeaseResponse},
    provider::v1::Provider,
};

use crate::ui::pairs;

/// Resources in one line.
pub(crate) fn resources(r: Option<&Resources>) -> String {
    let r = r.copied().unwrap_or_default();
    format!(
        "{} mCPU, {} memory, {} storage",
        r.cpu_milli,
        show_size(r.memory_bytes),
        show_size(r.storage_bytes)
    )
}

/// A proto enum's name as people say it: `LEASE_STATE_ACTIVE` is active.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_lowercase()
        .replace('_', " ")
}

pub(crate) fn bid_state(state: BidState) -> String {
    word(state.as_str_name(), "BID_STATE_")
}

pub(crate) fn lease_state(state: LeaseState) -> String {
    word(state.as_str_name(), "LEASE_STATE_")
}

pub(crate) fn close_reason(reason: CloseReason) -> String {
    match reason {
        CloseReason::Unspecified => String::new(),
        reason => word(reason.as_str_name(), "CLOSE_REASON_"),
    }
}

/// What a reason means, and what to do about it.
pub(crate) fn reason_meaning(reason: CloseReason) -> (&'static str, Option<&'static str>) {
    match reason {
        CloseReason::Unspecified => ("it has not ended", None),
        CloseReason::Tenant => ("its tenant ended it", None),
        CloseReason::Completed => ("the workload ended by itself with exit code 0", None),
        CloseReason::WorkloadFailed => (
            "the workload ended with an error",
            Some("read its log: `tenure lease logs <id>`"),
        ),
        CloseReason::Provider => (
            "the provider gave it up; nothing is owed beyond the last attested epoch",
            Some("run the job again"),
        ),
        CloseReason::Expired => (
            "its duration passed before the workload ended",
            Some("raise `duration` in job.toml and run it again"),
        ),
        CloseReason::Default => (
            "the provider missed too many attestations; the time it did not attest is not paid",
            Some("run the job again: another provider may take it"),
        ),
        CloseReason::Exhausted => (
            "the money ran out and nobody topped it up in time",
            Some("raise `deposit` in job.toml and run it again"),
        ),
        CloseReason::StartTimeout => (
            "the workload was not running in time; nothing was paid for it",
            Some("if the hand-over was slow, run the job again and stay attached until it runs"),
        ),
    }
}

/// "3 min ago", "in 2 h", from live milliseconds.
pub(crate) fn when(ms: u64, now_ms: u64) -> String {
    match ms {
        0 => "-".to_owned(),
        u64::MAX => "never".to_owned(),
        ms if ms > now_ms => format!("in {}", show_duration(ms - now_ms)),
        ms => format!("{} ago", show_duration(now_ms - ms)),
    }
}

/// A short time to the millisecond: what prices are counted in.
pub(crate) fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

/// Time of a lease that is not paid because its provider reported that it did not run; none if there is none.
pub(crate) fn excepted(payment: Option<&Payment>) -> Option<String> {
    let ms = payment.map_or(0, |payment| payment.excepted_ms_total);
    (ms > 0).then(|| format!("{}, reported down by the provider", seconds(ms)))
}

/// A standing order in one line.
fn auto_top_up(order: &AutoTopUp, denom: &str) -> String {
    let show = |amount: &str| show_amount(amount, denom);
    format!(
        "{} at a time, {} of {} left",
        show(&order.amount),
        show(&order.remaining),
        show(&order.maximum)
    )
}

/// How long an account's money lasts.
fn funded(account: &Account, now_ms: u64) -> String {
    match account.funded_until_ms {
        u64::MAX => "nothing accrues".to_owned(),
        ms if ms > now_ms => format!("for {} more", show_duration(ms - now_ms)),
        ms => format!("until {}", when(ms, now_ms)),
    }
}

pub(crate) const BID_HEADER: [&str; 7] = ["BID", "STATE", "CEILING", "DURATION", "RESOURCES", "LEASE", "TENANT"];

pub(crate) fn bid_row(bid: &Bid) -> Vec<String> {
    vec![
        bid.id.to_string(),
        bid_state(bid.state()),
        show_rate(bid.max_rate, &bid.denom),
        show_duration(bid.duration_ms),
        resources(bid.resources.as_ref()),
        if bid.lease_id == 0 {
            "-".to_owned()
        } else {
            bid.lease_id.to_string()
        },
        bid.tenant.clone(),
    ]
}

pub(crate) fn bid(bid: &Bid, now_ms: u64) -> String {
    let deadline = |d: &Option<tenure_proto::tenure::base::v1::Deadline>| {
        d.as_ref().map_or_else(
            || "-".to_owned(),
            |d| format!("{}, and not before height {}", when(d.ms, now_ms), d.height),
        )
    };
    pairs(&[
        ("bid", bid.id.to_string()),
        ("state", bid_state(bid.state())),
        ("tenant", bid.tenant.clone()),
        ("resources", resources(bid.resources.as_ref())),
        ("ceiling", show_rate(bid.max_rate, &bid.denom)),
        ("duration", show_duration(bid.duration_ms)),
        ("manifest", hex::encode(&bid.manifest_hash)),
        (
            "posted",
            format!("{}, height {}", when(bid.posted_ms, now_ms), bid.posted_height),
        ),
        ("claims close", deadline(&bid.claims_close)),
        ("expires", deadline(&bid.expires)),
        ("open claims", bid.open_claims.to_string()),
        (
            "lease",
            if bid.lease_id == 0 {
                "-".to_owned()
            } else {
                bid.lease_id.to_string()
            },
        ),
    ])
}

pub(crate) const CLAIM_HEADER: [&str; 3] = ["PRICE", "PROVIDER", "HEIGHT"];

pub(crate) fn claim_row(claim: &Claim, denom: &str) -> Vec<String> {
    vec![
        show_rate(claim.rate, denom),
        claim.provider.clone(),
        claim.height.to_string(),
    ]
}

pub(crate) const LEASE_HEADER: [&str; 7] = ["LEASE", "STATE", "REASON", "PRICE", "BID", "STARTED", "PROVIDER"];

pub(crate) fn lease_row(lease: &Lease, now_ms: u64) -> Vec<String> {
    let reason = close_reason(lease.reason());
    vec![
        lease.id.to_string(),
        lease_state(lease.state()),
        if reason.is_empty() { "-".to_owned() } else { reason },
        show_rate(lease.rate, &lease.denom),
        lease.bid_id.to_string(),
        when(lease.ready_ms, now_ms),
        lease.provider.clone(),
    ]
}

pub(crate) fn lease(response: &QueryLeaseResponse, now_ms: u64) -> String {
    let lease = response.lease.clone().unwrap_or_default();
    let mut rows = vec![
        ("lease", lease.id.to_string()),
        ("state", lease_state(lease.state())),
        ("tenant", lease.tenant.clone()),
        ("provider", lease.provider.clone()),
        ("bid and escrow", lease.bid_id.to_string()),
        ("resources", resources(lease.resources.as_ref())),
        ("price", show_rate(lease.rate, &lease.denom)),
        ("manifest", hex::encode(&lease.manifest_hash)),
        (
            "matched",
            format!("{}, height {}", when(lease.created_ms, now_ms), lease.created_height),
        ),
        ("running since", when(lease.ready_ms, now_ms)),
    ];
    if lease.ended_ms == 0 {
        rows.push(("expires", when(lease.expires_ms, now_ms)));
    }
    if lease.reason() != CloseReason::Unspecified {
        let (meaning, _) = reason_meaning(lease.reason());
        rows.push(("reason", format!("{}: {meaning}", close_reason(lease.reason()))));
        rows.push(("exit code", lease.exit_code.to_string()));
        rows.push((
            "detail",
            if lease.detail.is_empty() {
                "-".to_owned()
            } else {
                lease.detail.clone()
            },
        ));
        rows.push(("ended", when(lease.ended_ms, now_ms)));
        rows.push(("settled", when(lease.closed_ms, now_ms)));
        rows.push((
            "output root",
            if lease.output_root.is_empty() {
                "-".to_owned()
            } else {
                hex::encode(&lease.output_root)
            },
        ));
    }
    if let Some(excepted) = excepted(response.payment.as_ref()) {
        rows.push(("not paid", excepted));
    }
    if let Some(account) = &response.account {
        rows.push(("funded", funded(account, now_ms)));
        if let Some(order) = &account.auto_top_up {
            rows.push(("auto top-up", auto_top_up(order, &account.denom)));
        }
    }
    let mut text = pairs(&rows);
    if let Some(Ok(sums)) = response.balance.as_ref().map(Money::of) {
        text += &format!("\n\n{}", money(&sums));
    }
    text
}

/// Where a deposit went; the parts add up to it.
pub(crate) fn money(money: &Money) -> String {
    let show = |units: u128| show_amount(&units.to_string(), &money.denom);
    pairs(&[
        ("deposited", show(money.deposited)),
        ("= paid to the provider", show(money.provider)),
        ("+ protocol fee", show(money.take)),
        ("+ refunded", show(money.refunded)),
        ("+ still held", show(money.held)),
    ])
}

/// [`money`] as JSON, amounts as decimal strings in the denom's smallest unit.
pub(crate) fn money_json(money: &Money) -> Value {
    json!({
        "denom": money.denom,
        "deposited": money.deposited.to_string(),
        "provider": money.provider.to_string(),
        "take": money.take.to_string(),
        "refunded": money.refunded.to_string(),
        "held": money.held.to_string(),
    })
}

pub(crate) fn account(account: &Account, payments: &[Payment], now_ms: u64) -> String {
    let show = |amount: &str| show_amount(amount, &account.denom);
    let state = match account.state() {
        AccountState::Open if account.exhausted => "open, exhausted: its leases are paused until a top-up".to_owned(),
        state => word(state.as_str_name(), "ACCOUNT_STATE_"),
    };
    let mut rows = vec![
        ("account", account.id.to_string()),
        ("state", state),
        ("owner", account.owner.clone()),
        ("balance", show(&account.balance)),
        ("spent per hour", show_rate(account.rate_sum, &account.denom)),
        ("funded", funded(account, now_ms)),
        ("deposited", show(&account.deposited_total)),
        ("paid", show(&account.paid_total)),
        ("refunded", show(&account.refunded_total)),
    ];
    if let Some(order) = &account.auto_top_up {
        rows.push(("auto top-up", auto_top_up(order, &account.denom)));
    }
    let mut text = pairs(&rows);
    for lot in &account.lots {
        text += &format!("\nlot             {} of {}", show(&lot.remaining), lot.depositor);
    }
    for payment in payments {
        text += &format!(
            "\nlease {}: paid {}, of it {} protocol fee; to {}, {} not withdrawn",
            payment.lease_id,
            show(&payment.paid_total),
            show(&payment.take_total),
            payment.provider,
            show(&payment.earned)
        );
        if let Some(excepted) = excepted(Some(payment)) {
            text += &format!("; not paid: {excepted}");
        }
    }
    text
}

pub(crate) const PROVIDER_HEADER: [&str; 7] = ["MONIKER", "STATUS", "FREE", "LEASES", "BOND", "MISSED", "OWNER"];

/// Capacity less what leases hold.
fn free(provider: &Provider) -> Resources {
    let (all, held) = (
        provider.capacity.unwrap_or_default(),
        provider.reserved.unwrap_or_default(),
    );
    Resources {
        cpu_milli: all.cpu_milli.saturating_sub(held.cpu_milli),
        memory_bytes: all.memory_bytes.saturating_sub(held.memory_bytes),
        storage_bytes: all.storage_bytes.saturating_sub(held.storage_bytes),
    }
}

fn bond(provider: &Provider) -> String {
    provider
        .bond
        .as_ref()
        .map_or_else(|| "-".to_owned(), |b| show_amount(&b.amount, &b.denom))
}

pub(crate) fn provider_row(provider: &Provider) -> Vec<String> {
    vec![
        provider.moniker.clone(),
        status_name(provider.status()).to_owned(),
        resources(Some(&free(provider))),
        provider.open_leases.to_string(),
        bond(provider),
        format!(
            "{} of {}",
            provider.missed_epochs,
            provider.missed_epochs.saturating_add(provider.attested_epochs)
        ),
        provider.owner.clone(),
    ]
}

pub(crate) fn provider(provider: &Provider, now_ms: u64) -> String {
    pairs(&[
        ("owner", provider.owner.clone()),
        ("moniker", provider.moniker.clone()),
        ("status", status_name(provider.status()).to_owned()),
        ("gateway", provider.endpoint.clone()),
        ("bond", bond(provider)),
        ("capacity", resources(provider.capacity.as_ref())),
        ("free", resources(Some(&free(provider)))),
        ("open leases", provider.open_leases.to_string()),
        ("epoch", show_duration(provider.epoch_ms)),
        ("attested epochs", provider.attested_epochs.to_string()),
        (
            "missed epochs",
            format!(
                "{}, {} of them in a row just now",
                provider.missed_epochs, provider.consecutive_misses
            ),
        ),
        ("registered", when(provider.registered_ms, now_ms)),
    ])
}

/// A list of messages as JSON.
pub(crate) fn values<M: prost::Message + prost::Name>(messages: &[M]) -> Result<Vec<Value>> {
    messages.iter().map(to_json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_reasons_are_words() {
        assert_eq!(lease_state(LeaseState::Active), "active");
        assert_eq!(bid_state(BidState::Open), "open");
        assert_eq!(close_reason(CloseReason::StartTimeout), "start timeout");
        assert_eq!(close_reason(CloseReason::Unspecified), "");
    }

    #[test]
    fn instants_are_told_from_now() {
        assert_eq!(when(0, 5), "-");
        assert_eq!(when(u64::MAX, 5), "never");
        assert_eq!(when(60_000, 0), "in 1 min");
        assert_eq!(when(1, 60_001), "1 min ago");
    }

    #[test]
    fn the_parts_of_a_deposit_stand_below_it() {
        let sums = Money {
            denom: "uten".to_owned(),
            deposited: 1_000_000,
            provider: 95_000,
            take: 5_000,
            refunded: 900_000,
            held: 0,
        };
        let text = money(&sums);
        assert!(
            text.starts_with("deposited               1 TEN\n= paid to the provider  0.095 TEN\n"),
            "{text}"
        );
    }
}
