//! The order in which an engine may call an application, as a state machine.
//!
//! It is the grammar of CometBFT's specification (`spec/abci/abci++_comet_expected_behavior.md`, v0.38), with vote extensions off and
//! with the heights that the text says in prose:
//!
//! ```abnf
//! start               = clean-start / recovery
//! clean-start         = init-chain [state-sync] consensus-exec
//! state-sync          = *state-sync-attempt success-sync info
//! state-sync-attempt  = offer-snapshot *apply-chunk
//! success-sync        = offer-snapshot 1*apply-chunk
//! recovery            = info consensus-exec
//! consensus-exec      = (inf)consensus-height
//! consensus-height    = *consensus-round decide commit
//! consensus-round     = proposer / non-proposer
//! proposer            = *got-vote [prepare-proposal [process-proposal]] [extend]
//! extend              = *got-vote extend-vote *got-vote
//! non-proposer        = *got-vote [process-proposal] [extend]
//! ```
//!
//! Two things differ, because v0.38.25 does them: a node that starts by state sync gets no `InitChain` (`node/node.go` leaves the
//! handshake out), and `Info` comes before `InitChain` at the handshake (`consensus/replay.go`). `Info` may come at any time, since any
//! RPC client can ask for it; it counts where the grammar needs it.
//!
//! `Echo`, `Flush`, `CheckTx`, `Query`, `ListSnapshots` and `LoadSnapshotChunk` may come at any time and are not observed.

use std::fmt;

/// A call, with what the grammar needs to know of its request or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Observed when answered.
    Info {
        /// The answer's `last_block_height`.
        height: i64,
    },
    /// Observed before the call.
    InitChain {
        /// Height of the first block; 0 means 1.
        initial_height: i64,
    },
    /// Observed when answered.
    OfferSnapshot {
        /// Height of the snapshot.
        height: u64,
        /// Whether the answer was `ACCEPT`.
        accepted: bool,
    },
    /// Observed before the call.
    ApplySnapshotChunk,
    /// Observed before the call.
    PrepareProposal {
        /// Height of the proposal.
        height: i64,
    },
    /// Observed before the call.
    ProcessProposal {
        /// Height of the proposal.
        height: i64,
    },
    /// Vote extensions are off: never legal.
    ExtendVote {
        /// Height of the vote.
        height: i64,
    },
    /// Vote extensions are off: never legal.
    VerifyVoteExtension {
        /// Height of the vote.
        height: i64,
    },
    /// Observed before the call.
    FinalizeBlock {
        /// Height of the block.
        height: i64,
    },
    /// Observed before the call.
    Commit,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info { height } => write!(f, "Info answered with height {height}"),
            Self::InitChain { initial_height } => write!(f, "InitChain with initial height {initial_height}"),
            Self::OfferSnapshot { height, .. } => write!(f, "OfferSnapshot of height {height}"),
            Self::ApplySnapshotChunk => f.write_str("ApplySnapshotChunk"),
            Self::PrepareProposal { height } => write!(f, "PrepareProposal of height {height}"),
            Self::ProcessProposal { height } => write!(f, "ProcessProposal of height {height}"),
            Self::ExtendVote { height } => write!(f, "ExtendVote of height {height}"),
            Self::VerifyVoteExtension { height } => write!(f, "VerifyVoteExtension of height {height}"),
            Self::FinalizeBlock { height } => write!(f, "FinalizeBlock of height {height}"),
            Self::Commit => f.write_str("Commit"),
        }
    }
}

/// A call that may not come now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ABCI grammar: {call} {state}; legal is {expected}")]
pub struct Violation {
    /// The call.
    pub call: Call,
    /// What had happened before it.
    pub state: State,
    /// What may come instead.
    pub expected: String,
}

/// Where a run of an engine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has come yet that counts.
    Start,
    /// `InitChain` has come, and nothing of the first block.
    Genesis {
        /// Height of the first block.
        next: i64,
    },
    /// A snapshot was offered.
    Restoring {
        /// Its height.
        height: u64,
        /// Whether the application took the offer.
        accepted: bool,
        /// Whether a chunk of it was applied.
        chunks: bool,
    },
    /// Blocks are made; none is decided that is not committed.
    Running {
        /// The height that comes next.
        next: i64,
    },
    /// A block is executed and not committed.
    Decided {
        /// Its height.
        height: i64,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("at the start of a run"),
            Self::Genesis { .. } => f.write_str("after InitChain"),
            Self::Restoring {
                height,
                accepted: false,
                ..
            } => {
                write!(f, "after an offered snapshot of height {height} that was not accepted")
            }
            Self::Restoring { height, .. } => write!(f, "while a snapshot of height {height} is restored"),
            Self::Running { next } => write!(f, "before height {next} is decided"),
            Self::Decided { height } => write!(f, "after FinalizeBlock of height {height}"),
        }
    }
}

impl State {
    fn expected(self) -> String {
        match self {
            Self::Start => "Info, InitChain (at application height 0) or OfferSnapshot".to_owned(),
            Self::Genesis { next } => {
                format!("OfferSnapshot, or PrepareProposal, ProcessProposal or FinalizeBlock of height {next}")
            }
            Self::Restoring { accepted: false, .. } => "OfferSnapshot".to_owned(),
            Self::Restoring { chunks: false, .. } => "ApplySnapshotChunk or OfferSnapshot".to_owned(),
            Self::Restoring { height, .. } => {
                format!("ApplySnapshotChunk, OfferSnapshot, or Info answered with height {height}")
            }
            Self::Running { next } => format!("PrepareProposal, ProcessProposal or FinalizeBlock of height {next}"),
            Self::Decided { height } => format!("Commit of height {height}"),
        }
    }
}

/// The state machine. Feed it every call of one application, in order.
#[derive(Clone, Debug)]
pub struct Grammar {
    state: State,
    /// Last height that the application is known to have committed.
    committed: Option<i64>,
}

impl Default for Grammar {
    fn default() -> Self {
        Self::new()
    }
}

impl Grammar {
    /// At the start of a run, with an application of unknown height.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Start,
            committed: None,
        }
    }

    /// Where the run stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The last height known to be committed; `None` before the first `Info`, `InitChain` or restored snapshot.
    #[must_use]
    pub fn committed(&self) -> Option<i64> {
        self.committed
    }

    /// A new engine took over the same application: what was not committed is void. The engine's `Info` came on another connection,
    /// before this could be known, so that the application's height is taken from what was seen.
    pub fn restart(&mut self) {
        self.state = match self.committed {
            Some(height) if height > 0 => State::Running {
                next: height.saturating_add(1),
            },
            _ => State::Start,
        };
    }

    /// Takes the next call.
    ///
    /// # Errors
    /// If it may not come now; the state stays what it was.
    pub fn observe(&mut self, call: Call) -> Result<(), Violation> {
        self.state = self.after(call).ok_or_else(|| Violation {
            call,
            state: self.state,
            expected: self.state.expected(),
        })?;
        match (call, self.state) {
            (Call::Commit, State::Running { next }) => self.committed = Some(next - 1),
            (Call::InitChain { .. }, _) => self.committed = Some(0),
            (Call::Info { height }, State::Start) => self.committed = Some(height),
            (Call::Info { height }, State::Running { next }) if next.checked_sub(1) == Some(height) => {
                self.committed = Some(height);
            }
            _ => {}
        }
        Ok(())
    }

    fn after(&self, call: Call) -> Option<State> {
        let state = self.state;
        let fresh = self.committed.unwrap_or(0) == 0;
        match (call, state) {
            // An answer may be older than a commit that was observed meanwhile, so Info is held to a height only where it counts.
            (Call::Info { height }, State::Start) if height > 0 => Some(State::Running {
                next: height.checked_add(1)?,
            }),
            (Call::Info { height: 0 }, State::Start) => Some(state),
            (Call::Info { .. }, State::Start) => None,
            (
                Call::Info { height },
                State::Restoring {
                    height: offered,
                    chunks: true,
                    ..
                },
            ) if u64::try_from(height) == Ok(offered) => Some(State::Running {
                next: height.checked_add(1)?,
            }),
            (Call::Info { .. }, _) => Some(state),

            (Call::InitChain { initial_height }, State::Start) if fresh && initial_height >= 0 => {
                Some(State::Genesis {
                    next: initial_height.max(1),
                })
            }

            (
                Call::OfferSnapshot { height, accepted },
                State::Start | State::Genesis { .. } | State::Restoring { .. },
            ) if fresh => Some(State::Restoring {
                height,
                accepted,
                chunks: false,
            }),
            (
                Call::ApplySnapshotChunk,
                State::Restoring {
                    height, accepted: true, ..
                },
            ) => Some(State::Restoring {
                height,
                accepted: true,
                chunks: true,
            }),

            (
                Call::PrepareProposal { height } | Call::ProcessProposal { height },
                State::Genesis { next } | State::Running { next },
            ) if height == next => Some(State::Running { next }),
            (Call::FinalizeBlock { height }, State::Genesis { next } | State::Running { next }) if height == next => {
                Some(State::Decided { height })
            }
            (Call::Commit, State::Decided { height }) => Some(State::Running {
                next: height.checked_add(1)?,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
