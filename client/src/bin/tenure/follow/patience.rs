//! Bearing with a node that does not answer for a while: what was begun on the chain goes on without us.

use std::{future::Future, time::Duration};

use tenure_client::{Error, Result};
use tokio::time::{sleep, Instant};

use super::POLL;
use crate::ui::Ui;

/// How long a node that does not answer is waited for.
pub(crate) const NODE_PATIENCE: Duration = Duration::from_secs(60);

/// Bears with a node that does not answer for a while, and says so once.
pub(crate) struct Patience {
    limit: Duration,
    /// Since when it has not answered.
    since: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self::new(NODE_PATIENCE)
    }
}

impl Patience {
    /// Bears with a silence of this length.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, since: None }
    }

    /// What was asked for; `None`, after a moment, if the node did not answer. Error: any other, or it has been silent for longer than the limit.
    pub(crate) async fn take<T>(&mut self, ui: &Ui, answer: Result<T>) -> Result<Option<T>> {
        match answer {
            Err(e @ Error::Unreachable { .. }) => {
                if self.since.is_none() {
                    ui.note(format!("{e}; trying again for {} s", self.limit.as_secs()));
                }
                if self.since.get_or_insert_with(Instant::now).elapsed() > self.limit {
                    return Err(e);
                }
                sleep(POLL).await;
                Ok(None)
            }
            answer => {
                if self.since.take().is_some() {
                    ui.note("the node answers again");
                }
                answer.map(Some)
            }
        }
    }

    /// Asks until the node answers.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) async fn ask<T, F>(&mut self, ui: &Ui, question: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            if let Some(answer) = self.take(ui, question().await).await? {
                return Ok(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::args::Format;

    fn silent() -> Error {
        Error::Unreachable {
            what: "the node",
            address: "http://x".to_owned(),
            detail: "refused".to_owned(),
        }
    }

    #[tokio::test]
    async fn silence_is_borne_up_to_the_limit_and_a_no_is_not() {
        let ui = Ui::new(Format::Table, true);
        let asked = Cell::new(0);
        let answer_at_third = || async {
            asked.set(asked.get() + 1);
            if asked.get() < 3 {
                Err(silent())
            } else {
                Ok(asked.get())
            }
        };
        assert!(matches!(Patience::default().ask(&ui, answer_at_third).await, Ok(3)));
        let mut short = Patience::new(Duration::from_millis(1));
        let never = || async { Err::<(), _>(silent()) };
        assert!(matches!(short.ask(&ui, never).await, Err(Error::Unreachable { .. })));
        let no = || async { Err::<(), _>(Error::NotFound("x".to_owned())) };
        assert!(matches!(
            Patience::default().ask(&ui, no).await,
            Err(Error::NotFound(_))
        ));
    }
}
