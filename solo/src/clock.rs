//! Where the engine reads the time. Only vote timestamps come from here; block time follows from them (BFT time).

use parking_lot::Mutex;
use std::time::Duration;
use tendermint::Time;

/// A source of wall-clock time. It may jump or go back: the engine keeps block time strictly increasing regardless.
pub trait Clock: Send + Sync + 'static {
    /// The current time, UTC.
    fn now(&self) -> Time;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time::now()
    }
}

/// A clock that moves only when told to; for tests that need two hours to pass in a millisecond.
///
/// As in CometBFT, the time of block `h + 1` is the vote time of block `h`: a jump shows in the block *after* the next one.
#[derive(Debug)]
pub struct ManualClock(Mutex<Time>);

impl ManualClock {
    /// A clock standing at `time`.
    pub fn new(time: Time) -> Self {
        Self(Mutex::new(time))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, time: Time) {
        *self.0.lock() = time;
    }

    /// Moves the clock forwards; it stays where it is if the result is outside what a timestamp can hold (year 9999).
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock();
        if let Some(later) = now.checked_add(by) {
            *now = later;
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        *self.0.lock()
    }
}
