//! `MsgAttest`: attests epochs.

use tenure_proto::tenure::provider::v1::{MsgAttest, MsgAttestResponse, Provider};
use tenure_sdk::{Ctx, Handler, Result};
use tenure_types::{Address, Window};

use crate::{
    epochs::{arm, deadline, epoch_range, miss_until},
    errors::ProviderError,
    events,
    params::{grace, params},
    state,
};

/// Most epochs of one message.
pub const MAX_EPOCHS_PER_ATTEST: usize = 64;

/// Attests epochs: moves W and touches no lease.
pub(crate) struct Attest;

impl Handler for Attest {
    type Msg = MsgAttest;
    type Response = MsgAttestResponse;

    fn signers(msg: &MsgAttest) -> Vec<&str> {
        vec![&msg.provider]
    }

    fn validate(msg: &MsgAttest) -> Result<()> {
        let found = msg.epochs.len();
        if found == 0 || found > MAX_EPOCHS_PER_ATTEST {
            return Err(ProviderError::EpochCount {
                found,
                max: MAX_EPOCHS_PER_ATTEST,
            }
            .into());
        }
        let mut last = None;
        for attested in &msg.epochs {
            let (epoch, found) = (attested.epoch, attested.root.len());
            if found != 32 {
                return Err(ProviderError::Root { epoch, found }.into());
            }
            if let Some(last) = last.filter(|last| *last >= epoch) {
                return Err(ProviderError::NotAscending { last, next: epoch }.into());
            }
            last = Some(epoch);
        }
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &MsgAttest) -> Result<MsgAttestResponse> {
        let owner: Address = msg.provider.parse()?;
        let grace = grace(&params(ctx)?)?;
        let mut provider = state::load(ctx, &owner)?;
        for attested in &msg.epochs {
            let (start, end) = check(ctx, &provider, attested.epoch, grace)?;
            if start > provider.final_until_ms {
                skip(ctx, &owner, &mut provider, start)?;
            }
            provider.final_until_ms = end;
            provider.consecutive_misses = 0;
            provider.attested_epochs = provider.attested_epochs.saturating_add(1);
            provider.last_root.clone_from(&attested.root);
            events::attested(ctx, &provider, attested.epoch);
        }
        arm(&mut provider, grace);
        state::save(ctx, &owner, &provider)?;
        Ok(MsgAttestResponse {
            final_until_ms: provider.final_until_ms,
        })
    }
}

/// Checks that an epoch of a provider may be attested now: it has ended, its deadline has not passed, and its outcome is open. Error: it may
/// not, or there is no such provider.
pub fn attestable(ctx: &mut Ctx, owner: &Address, epoch: u64) -> Result<()> {
    let grace = grace(&params(ctx)?)?;
    let provider = state::load(ctx, owner)?;
    check(ctx, &provider, epoch, grace).map(|_| ())
}

/// An epoch's range if it may be attested now: it has ended, its deadline has not passed, and its outcome is open.
fn check(ctx: &mut Ctx, provider: &Provider, epoch: u64, grace: Window) -> Result<(u64, u64)> {
    let (start, end) = epoch_range(provider, epoch);
    let now_ms = ctx.now();
    if now_ms < end {
        return Err(ProviderError::TooEarly {
            epoch,
            ends_ms: end,
            now_ms,
        }
        .into());
    }
    // The height part takes a search in the clock's history; while the instant has not passed it does not matter.
    if now_ms >= end.saturating_add(grace.ms) {
        let (by, now_height) = (deadline(ctx, end, grace)?, ctx.height());
        if by.passed(now_height, now_ms) {
            return Err(ProviderError::TooLate {
                epoch,
                height: by.height,
                ms: by.ms,
                now_height,
                now_ms,
            }
            .into());
        }
    }
    if end <= provider.final_until_ms {
        let final_until_ms = provider.final_until_ms;
        return Err(ProviderError::AlreadyFinal {
            epoch,
            ends_ms: end,
            final_until_ms,
        }
        .into());
    }
    Ok((start, end))
}

/// The epochs between W and an attested one become missed time. They count as missed only if leases were held; the one attested ends the row.
fn skip(ctx: &mut Ctx, owner: &Address, provider: &mut Provider, until: u64) -> Result<()> {
    let from = provider.final_until_ms;
    miss_until(ctx, owner, provider, until)?;
    if provider.open_leases > 0 {
        let epochs = until.saturating_sub(from).checked_div(provider.epoch_ms).unwrap_or(0);
        provider.missed_epochs = provider.missed_epochs.saturating_add(epochs);
        events::missed(ctx, provider, from, until);
    }
    Ok(())
}
