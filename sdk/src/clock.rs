//! Live time: block time less halts.
//!
//! Every rule of the chain uses live time, which advances by at most `max_block_gap_ms` from one block to the next. A chain that stood still
//! for two hours resumes as if a second had passed: no deadline moves past, nothing accrues, nobody defaults. That is the rule "after a gap
//! between two headers every open deadline moves by the gap, and the gap is neither paid nor punished", kept in one place.
//!
//! The module's store is `chain`: `p` → [`Params`], `c` → [`Clock`], `h` · height (8 bytes, big-endian) → live time (8 bytes, big-endian) of
//! the last `clock_history_blocks` heights, which answers when an instant was first reached ([`first_height_at`]).

use serde_json::{json, Value};
use tenure_proto::tenure::chain::v1::{Clock, Params, ParamsRequest, ParamsResponse};
use tenure_types::{sdk, Deadline, Error, Result};

use crate::{json, module::request, records::required, Ctx, Module, QueryRoute};

/// Store, genesis section and codespace.
pub const NAME: &str = "chain";
const PARAMS: &[u8] = b"p";
const CLOCK: &[u8] = b"c";
const HISTORY: u8 = b'h';

/// Keeps the clock and the chain-wide parameters.
pub struct ClockModule;

/// The chain-wide parameters.
pub fn params(ctx: &mut Ctx) -> Result<Params> {
    required(ctx.load(NAME, PARAMS)?, "chain params")
}

/// The clock as of the last block that set it.
pub fn clock(ctx: &mut Ctx) -> Result<Clock> {
    Ok(ctx.load(NAME, CLOCK)?.unwrap_or_default())
}

/// Defaults for a development chain.
pub fn default_params() -> Params {
    Params {
        max_block_gap_ms: 10_000,
        clock_history_blocks: 1_000,
        due_per_class: 500,
        min_gas_price_micro: 1_000,
        max_block_gas: 200_000_000,
        max_tx_bytes: 262_144,
    }
}

/// Sets the clock at the beginning of a block from its header time and returns live time, milliseconds. Error (internal): header time does
/// not increase.
pub fn advance(ctx: &mut Ctx, height: u64, header_ms: u64) -> Result<u64> {
    let params = params(ctx)?;
    let last = clock(ctx)?;
    let halted_ms = if last.height == 0 {
        0
    } else {
        let gap = header_ms
            .checked_sub(last.header_ms)
            .filter(|gap| *gap > 0)
            .ok_or_else(|| {
                Error::internal(format!(
                    "block {height}: time {header_ms} ms does not follow {} ms",
                    last.header_ms
                ))
            })?;
        last.halted_ms
            .saturating_add(gap.saturating_sub(params.max_block_gap_ms))
    };
    ctx.save(
        NAME,
        CLOCK,
        &Clock {
            height,
            header_ms,
            halted_ms,
        },
    )?;
    let live_ms = header_ms.saturating_sub(halted_ms);
    ctx.set(NAME, &history_key(height), live_ms.to_be_bytes().to_vec())?;
    if let Some(old) = height.checked_sub(params.clock_history_blocks) {
        ctx.delete(NAME, &history_key(old))?;
    }
    Ok(live_ms)
}

/// The first height whose live time is at or after an instant; `None` while there is none. An instant before the kept history gives the
/// oldest height kept.
pub fn first_height_at(ctx: &mut Ctx, instant_ms: u64) -> Result<Option<u64>> {
    // Not the context's height: a simulated block has no entry of its own yet.
    let height = clock(ctx)?.height;
    let kept = params(ctx)?.clock_history_blocks;
    let (mut low, mut high) = (
        height.saturating_sub(kept).saturating_add(1).max(1),
        height.saturating_add(1),
    );
    // Genesis may begin at a later height than 1: skip what was never recorded. Before the first block of an exported state that is all.
    let first = ctx.range(NAME, &[HISTORY], Some(&[HISTORY + 1]), false, 1)?;
    let oldest = first.first().and_then(|(key, _)| key.get(1..)?.try_into().ok());
    match oldest.map(u64::from_be_bytes) {
        Some(oldest) => low = low.max(oldest),
        None => return Ok(None),
    }
    while low < high {
        let middle = low.midpoint(high);
        let at = required(ctx.get(NAME, &history_key(middle))?, "clock history")?;
        if live_time(at)? >= instant_ms {
            high = middle;
        } else {
            low = middle.saturating_add(1);
        }
    }
    Ok((low <= height).then_some(low))
}

/// Live time of the first block at which a deadline had passed in both parts; `None` while it has not. A deadline that passed before the kept
/// history gives the time of the oldest height kept.
pub fn passed_at(ctx: &mut Ctx, deadline: Deadline) -> Result<Option<u64>> {
    let Some(first) = first_height_at(ctx, deadline.ms)? else {
        return Ok(None);
    };
    let (height, last) = (first.max(deadline.height), clock(ctx)?.height);
    if height > last {
        return Ok(None);
    }
    let at = required(ctx.get(NAME, &history_key(height))?, "clock history")?;
    live_time(at).map(Some)
}

fn live_time(stored: Vec<u8>) -> Result<u64> {
    let bytes = stored
        .try_into()
        .map_err(|_| Error::internal("clock history is not 8 bytes"))?;
    Ok(u64::from_be_bytes(bytes))
}

fn history_key(height: u64) -> Vec<u8> {
    [&[HISTORY], height.to_be_bytes().as_slice()].concat()
}

fn check(params: &Params) -> Result<()> {
    let at_least = |name: &str, value: u64, least: u64| {
        if value >= least {
            return Ok(());
        }
        Err(Error::sdk(
            sdk::INVALID_REQUEST,
            format!("chain.params.{name} is {value}, must be at least {least}"),
        ))
    };
    at_least("max_block_gap_ms", params.max_block_gap_ms, 1_000)?;
    at_least("clock_history_blocks", params.clock_history_blocks, 100)?;
    at_least("due_per_class", params.due_per_class.into(), 1)?;
    at_least("max_block_gas", params.max_block_gas, 1_000_000)?;
    at_least("max_tx_bytes", params.max_tx_bytes, 1_024)
}

/// Refuses a chain that does not begin where the exported one ended: deadlines are heights and instants of that one.
fn check_follows(ctx: &Ctx, clock: &Clock) -> Result<()> {
    let refused = |message: String| Err(Error::sdk(sdk::INVALID_REQUEST, message));
    let (height, header_ms) = (ctx.height(), ctx.block.header_ms);
    if height != clock.height {
        let first = clock.height.saturating_add(1);
        return refused(format!(
            "chain.clock.height is {}: initial_height is {}, must be {first}",
            clock.height,
            height.saturating_add(1)
        ));
    }
    if header_ms <= clock.header_ms {
        return refused(format!(
            "chain.clock.header_ms is {}: genesis_time is {header_ms} ms, must be later",
            clock.header_ms
        ));
    }
    if clock.halted_ms > clock.header_ms {
        return refused(format!(
            "chain.clock.halted_ms is {}, must be at most header_ms, {}",
            clock.halted_ms, clock.header_ms
        ));
    }
    Ok(())
}

impl Module for ClockModule {
    fn name(&self) -> &'static str {
        NAME
    }

    fn queries(&self) -> Vec<QueryRoute> {
        vec![QueryRoute {
            path: "/tenure.chain.v1.Query/Params",
            answer: |ctx, bytes| {
                request::<ParamsRequest>(bytes)?;
                Ok(prost::Message::encode_to_vec(&ParamsResponse {
                    params: Some(params(ctx)?),
                }))
            },
        }]
    }

    fn init_genesis(&self, ctx: &mut Ctx, section: &Value) -> Result<()> {
        let params: Params = json::from_json(json::field(section, "params")?)?;
        check(&params)?;
        ctx.save(NAME, PARAMS, &params)?;
        // An exported chain goes on with its own live time.
        if let Some(clock) = section.get("clock") {
            let clock: Clock = json::from_json(clock)?;
            if clock.height > 0 {
                check_follows(ctx, &clock)?;
                ctx.save(NAME, CLOCK, &clock)?;
            }
        }
        Ok(())
    }

    fn export_genesis(&self, ctx: &mut Ctx) -> Result<Value> {
        Ok(json!({ "params": json::to_json(&params(ctx)?)?, "clock": json::to_json(&clock(ctx)?)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{derived, testing, DeriveTable};

    fn ctx() -> Result<Ctx> {
        let mut ctx = testing::ctx(DeriveTable::new([(NAME, derived::nothing as _)]));
        ClockModule.init_genesis(&mut ctx, &json!({ "params": json::to_json(&default_params())? }))?;
        Ok(ctx)
    }

    fn block(ctx: &mut Ctx, height: u64, header_ms: u64) -> Result<u64> {
        ctx.block.height = height;
        ctx.block.now_ms = advance(ctx, height, header_ms)?;
        Ok(ctx.block.now_ms)
    }

    #[test]
    fn a_halt_of_two_hours_advances_live_time_by_the_longest_gap_only() -> Result<()> {
        let mut ctx = ctx()?;
        assert_eq!(block(&mut ctx, 1, 1_000_000)?, 1_000_000);
        assert_eq!(block(&mut ctx, 2, 1_001_000)?, 1_001_000);
        assert_eq!(block(&mut ctx, 3, 1_001_000 + 7_200_000)?, 1_011_000);
        assert_eq!(block(&mut ctx, 4, 1_001_500 + 7_200_000)?, 1_011_500);
        assert!(block(&mut ctx, 5, 1_001_500 + 7_200_000).is_err_and(|e| e.is_internal()));
        Ok(())
    }

    #[test]
    fn the_first_height_at_an_instant_is_found_in_the_kept_history() -> Result<()> {
        let mut ctx = ctx()?;
        for height in 1..=1_500 {
            block(&mut ctx, height, 1_000_000 + height * 1_000)?;
        }
        assert_eq!(first_height_at(&mut ctx, 1_000_000 + 1_400_000)?, Some(1_400));
        assert_eq!(first_height_at(&mut ctx, 1_000_000 + 1_400_001)?, Some(1_401));
        assert_eq!(first_height_at(&mut ctx, 1_000_000 + 1_500_001)?, None);
        assert_eq!(first_height_at(&mut ctx, 0)?, Some(501));
        // Whichever part passes later decides.
        for (height, ms, at) in [
            (0, 1_400_001, Some(1_401_000)),
            (1_401, 1_400_001, Some(1_401_000)),
            (1_450, 1_400_001, Some(1_450_000)),
            (1_501, 1_400_001, None),
            (0, 1_500_001, None),
            (3, 5, Some(501_000)),
        ] {
            let deadline = Deadline {
                height,
                ms: 1_000_000 + ms,
            };
            assert_eq!(
                passed_at(&mut ctx, deadline)?,
                at.map(|at: u64| at + 1_000_000),
                "{deadline:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn an_exported_chain_goes_on_at_the_next_height_and_later() -> Result<()> {
        let import = |height: u64, header_ms: u64| -> Result<Ctx> {
            let mut ctx = testing::ctx(DeriveTable::new([(NAME, derived::nothing as _)]));
            (ctx.block.height, ctx.block.header_ms) = (height, header_ms);
            let clock = json!({ "height": "500", "header_ms": "9000", "halted_ms": "1000" });
            let section = json!({ "params": json::to_json(&default_params())?, "clock": clock });
            ClockModule.init_genesis(&mut ctx, &section)?;
            Ok(ctx)
        };
        let refused = |height, header_ms| import(height, header_ms).err().map(|e| e.message).unwrap_or_default();
        assert!(refused(0, 9_001).contains("initial_height is 1, must be 501"));
        assert!(refused(500, 9_000).contains("genesis_time is 9000 ms, must be later"));
        let mut ctx = import(500, 9_001)?;
        assert_eq!(first_height_at(&mut ctx, 1)?, None);
        assert_eq!(block(&mut ctx, 501, 9_500)?, 8_500);
        assert_eq!(first_height_at(&mut ctx, 1)?, Some(501));
        Ok(())
    }
}
