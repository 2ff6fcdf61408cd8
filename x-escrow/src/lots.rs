//! Deposits in the order they came: spent first in, first out; what is unspent returns to whoever paid it in.
//!
//! Were the rest divided in proportion, a late depositor would pay for the past. Lots are few, so that a refund is bounded work; one place is
//! the account owner's, or strangers could shut it out of its own account with the least deposits and let its leases run dry.

use tenure_proto::tenure::escrow::v1::Lot;
use tenure_types::{Amount, Error, Result};

use crate::state::stored_amount;

/// Most lots of an account.
pub const MAX_LOTS: usize = 16;

/// Adds a deposit. A depositor's own last lot grows; without room for another lot the newest of its own does, and is then spent the sooner.
/// False if there is neither.
pub(crate) fn add(lots: &mut Vec<Lot>, depositor: &str, is_owner: bool, amount: Amount) -> Result<bool> {
    let most = if is_owner { MAX_LOTS } else { MAX_LOTS.saturating_sub(1) };
    let is_last = lots.last().is_some_and(|last| last.depositor == depositor);
    if !is_last && lots.len() < most {
        lots.push(Lot {
            depositor: depositor.to_owned(),
            remaining: amount.to_string(),
        });
        return Ok(true);
    }
    let Some(own) = lots.iter_mut().rev().find(|lot| lot.depositor == depositor) else {
        return Ok(false);
    };
    own.remaining = stored_amount(&own.remaining)?.plus(amount)?.to_string();
    Ok(true)
}

/// Spends from the first lots on. Error (internal): they hold less.
pub(crate) fn spend(lots: &mut Vec<Lot>, amount: Amount) -> Result<()> {
    let mut left = amount;
    for lot in lots.iter_mut() {
        left = left.minus(shrink(lot, left)?)?;
    }
    lots.retain(|lot| lot.remaining != "0");
    if left.is_zero() {
        return Ok(());
    }
    Err(Error::internal(format!("lots hold {left} less than {amount}")))
}

/// Takes up to `amount` out of the last lots that `whose` chooses, newest first, and returns what was taken from whom.
pub(crate) fn take_newest(
    lots: &mut Vec<Lot>,
    amount: Amount,
    whose: impl Fn(&str) -> bool,
) -> Result<Vec<(String, Amount)>> {
    let (mut left, mut taken) = (amount, Vec::new());
    for lot in lots.iter_mut().rev().filter(|lot| whose(&lot.depositor)) {
        let part = shrink(lot, left)?;
        if !part.is_zero() {
            left = left.minus(part)?;
            taken.push((lot.depositor.clone(), part));
        }
    }
    lots.retain(|lot| lot.remaining != "0");
    Ok(taken)
}

/// Takes up to `amount` out of a lot and returns what was taken.
fn shrink(lot: &mut Lot, amount: Amount) -> Result<Amount> {
    let remaining = stored_amount(&lot.remaining)?;
    let part = remaining.min(amount);
    lot.remaining = remaining.minus(part)?.to_string();
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_depositor_does_not_pay_for_the_past() -> Result<()> {
        let mut lots = Vec::new();
        assert!(add(&mut lots, "a", true, Amount::new(100))?);
        spend(&mut lots, Amount::new(90))?;
        assert!(add(&mut lots, "b", false, Amount::new(100))?);
        let back = take_newest(&mut lots, Amount::new(110), |_| true)?;
        assert_eq!(
            back,
            [("b".to_owned(), Amount::new(100)), ("a".to_owned(), Amount::new(10))]
        );
        assert!(lots.is_empty());
        Ok(())
    }

    #[test]
    fn strangers_cannot_shut_the_owner_out() -> Result<()> {
        let mut lots = Vec::new();
        for i in 1..MAX_LOTS {
            assert!(add(&mut lots, &i.to_string(), false, Amount::new(1))?);
        }
        assert!(!add(&mut lots, "stranger", false, Amount::new(1))?);
        assert!(add(&mut lots, "owner", true, Amount::new(1))?);
        // Who has a lot can always add to it.
        assert!(add(&mut lots, "1", false, Amount::new(1))?);
        assert!(add(&mut lots, "owner", true, Amount::new(1))?);
        assert_eq!(lots.len(), MAX_LOTS);
        assert_eq!(
            (lots[0].remaining.as_str(), lots[MAX_LOTS - 1].remaining.as_str()),
            ("2", "2")
        );
        assert!(spend(&mut lots, Amount::new(100)).is_err_and(|e| e.is_internal()));
        Ok(())
    }

    #[test]
    fn only_the_chosen_depositors_lots_are_taken() -> Result<()> {
        let mut lots = Vec::new();
        for (who, amount) in [("a", 5), ("b", 5), ("a", 5)] {
            add(&mut lots, who, who == "a", Amount::new(amount))?;
        }
        assert_eq!(take_newest(&mut lots, Amount::new(7), |who| who == "a")?.len(), 2);
        assert_eq!(
            lots.iter().map(|l| l.remaining.as_str()).collect::<Vec<_>>(),
            ["3", "5"]
        );
        Ok(())
    }
}
