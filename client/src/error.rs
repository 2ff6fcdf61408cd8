//! What can go wrong between a person and the chain. Every error says what happened and what it means; [`Error::hint`] says what to type next.

use std::{path::PathBuf, time::Duration};

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// At which point the chain said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Simulation before signing: nothing was sent.
    Simulate,
    /// The node's check before its mempool: nothing was or will be executed, nothing paid.
    Check,
    /// Execution in a block: the fee is paid, the messages had no effect.
    Block,
}

/// The chain refused a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where.
    pub stage: Stage,
    /// Namespace of the code; empty if the node did not say (simulation).
    pub codespace: String,
    /// Stable number in its namespace; 0 if the node did not say.
    pub code: u32,
    /// The chain's sentence.
    pub log: String,
    /// Hash of the transaction, upper-case hex; empty if it was never signed.
    pub hash: String,
    /// Height of the block that executed it, or 0.
    pub height: u64,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.stage {
            Stage::Simulate => write!(f, "the chain would refuse this transaction: {}", self.log)?,
            Stage::Check => write!(f, "the node refused the transaction: {}", self.log)?,
            Stage::Block => write!(f, "the transaction failed in block {}: {}", self.height, self.log)?,
        }
        if self.code != 0 {
            write!(f, " (codespace {}, code {})", self.codespace, self.code)?;
        }
        match self.stage {
            Stage::Simulate => f.write_str("; nothing was sent and nothing was paid"),
            Stage::Check => f.write_str("; it was not executed and nothing was paid"),
            Stage::Block => write!(
                f,
                "; its fee is paid, its messages had no effect. Transaction {}",
                self.hash
            ),
        }
    }
}

/// Everything that can go wrong in the client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the person asked for is malformed or does not fit together.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers at an address.
    #[error("{what} at {address} does not answer: {detail}")]
    Unreachable {
        /// The node, the gateway or the faucet.
        what: &'static str,
        /// Its address.
        address: String,
        /// Why, in the transport's words.
        detail: String,
    },
    /// The thing asked for does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// A server answered with an error.
    #[error("{what} answered: {message}")]
    Server {
        /// The node, the gateway or the faucet.
        what: &'static str,
        /// gRPC status code.
        code: tonic::Code,
        /// Its sentence.
        message: String,
        /// Codespace and number of the chain's error, if the server gave them.
        chain: Option<(String, u32)>,
    },
    /// A server's answer breaks its contract.
    #[error("{what} sent an answer that makes no sense: {detail}")]
    Malformed {
        /// The node, the gateway or the faucet.
        what: &'static str,
        /// Which part of the answer, and how.
        detail: String,
    },
    /// The chain refused a transaction.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// A transaction was accepted for a block and has not appeared in one.
    #[error("transaction {hash} was sent and is in no block after {} s; it may still be included", .waited.as_secs())]
    NotIncluded {
        /// Its hash, upper-case hex.
        hash: String,
        /// How long it was looked for.
        waited: Duration,
    },
    /// The transport failed while a transaction was sent, so that nobody knows whether the node has it.
    #[error("transaction {hash} was sent but the node's answer was lost ({detail}); it may still be included, so it must not be sent anew blindly")]
    OutcomeUnknown {
        /// Its hash, upper-case hex.
        hash: String,
        /// The last failure.
        detail: String,
    },
    /// Another transaction of the same account took this one's place; this one can never be included.
    #[error(
        "transaction {hash} can no longer be included: another transaction of the account took its sequence {sequence}"
    )]
    Replaced {
        /// Its hash, upper-case hex.
        hash: String,
        /// The sequence.
        sequence: u64,
    },
    /// What came back is not what the chain says it should be.
    #[error("verification failed: {0}")]
    Verification(String),
    /// The workload ended with an error, or never ran.
    #[error("{0}")]
    Workload(String),
    /// Something did not happen in the time given for it.
    #[error("{0}")]
    TimedOut(String),
    /// A key, a passphrase or a mnemonic is not usable.
    #[error("{0}")]
    Key(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{}: {detail}", .path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

/// The stable exit codes of the `tenure` command; client/README.md lists them.
pub mod exit {
    /// It worked.
    pub const OK: u8 = 0;
    /// It failed for a reason without its own code.
    pub const FAILURE: u8 = 1;
    /// The command line, the job file or the configuration is wrong; nothing was sent.
    pub const USAGE: u8 = 2;
    /// The node, the gateway or the faucet does not answer.
    pub const UNREACHABLE: u8 = 3;
    /// The chain refused the transaction, before or in a block.
    pub const REFUSED: u8 = 4;
    /// The workload ended with an error or could not be run.
    pub const WORKLOAD: u8 = 5;
    /// Something did not happen in time; what was sent may still take effect.
    pub const TIMED_OUT: u8 = 6;
    /// Outputs or accounts do not agree with the chain.
    pub const VERIFICATION: u8 = 7;
    /// The thing asked for does not exist.
    pub const NOT_FOUND: u8 = 8;
    /// A key is missing, locked or damaged.
    pub const KEY: u8 = 9;
    /// Ctrl-C: the client let go of a lease that goes on.
    pub const DETACHED: u8 = 130;
}

impl Error {
    /// For use with `map_err`: a file that cannot be read or written.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// A gRPC status as an error: transport failures are [`Error::Unreachable`], absence is [`Error::NotFound`].
    pub fn from_status(what: &'static str, address: &str, status: &tonic::Status) -> Self {
        if is_transport_failure(status) {
            return Self::Unreachable {
                what,
                address: address.to_owned(),
                detail: transport_detail(status),
            };
        }
        match Self::server(what, status) {
            Self::Server {
                code: tonic::Code::NotFound,
                message,
                ..
            } => Self::NotFound(message),
            other => other,
        }
    }

    /// A server's answer that says no, with all that it says.
    pub(crate) fn server(what: &'static str, status: &tonic::Status) -> Self {
        let message = status.message().to_owned();
        let chain = chain_error(status);
        // The node writes the number behind its sentence for those who do not read metadata.
        let message = match &chain {
            Some((codespace, code)) => {
                let suffix = format!(" ({codespace}/{code})");
                message.strip_suffix(&suffix).map(str::to_owned).unwrap_or(message)
            }
            None => message,
        };
        Self::Server {
            what,
            code: status.code(),
            message,
            chain,
        }
    }

    /// The process's exit code for this error: one of [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Unreachable { .. } => exit::UNREACHABLE,
            Self::Refused(_) | Self::Replaced { .. } => exit::REFUSED,
            Self::Workload(_) => exit::WORKLOAD,
            Self::TimedOut(_) | Self::NotIncluded { .. } | Self::OutcomeUnknown { .. } => exit::TIMED_OUT,
            Self::Verification(_) => exit::VERIFICATION,
            Self::NotFound(_) => exit::NOT_FOUND,
            Self::Key(_) => exit::KEY,
            Self::Server { .. } | Self::Malformed { .. } | Self::File { .. } | Self::Damaged { .. } => exit::FAILURE,
        }
    }

    /// What to type next, where the error itself tells.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { what: "the node", .. } => Some(
                "start one with `tenured devnet`, or name another with --node http://HOST:9090 or TENURE_NODE"
                    .to_owned(),
            ),
            Self::Unreachable {
                what: crate::rpc::RPC, ..
            } => Some("name the node's JSON-RPC, not its gRPC, with --rpc http://HOST:26657 or TENURE_RPC".to_owned()),
            Self::NotIncluded { hash, .. } | Self::OutcomeUnknown { hash, .. } => {
                Some(format!("look it up with `tenure tx {hash}` before sending it again"))
            }
            Self::Refused(refusal) => refusal_hint(refusal),
            Self::Replaced { .. } => Some("it had no effect and cost nothing; run the command again".to_owned()),
            _ => None,
        }
    }
}

fn refusal_hint(refusal: &Refusal) -> Option<String> {
    use tenure_types::sdk;
    let log = refusal.log.to_lowercase();
    let funds = refusal.codespace == "sdk" && refusal.code == sdk::INSUFFICIENT_FUNDS;
    if funds || log.contains("insufficient funds") || log.contains("is smaller than") {
        return Some("see what the account holds with `tenure bank balance`; on a development network `tenure faucet` adds to it".to_owned());
    }
    match (refusal.codespace.as_str(), refusal.code) {
        ("sdk", sdk::UNKNOWN_ADDRESS) => {
            Some("the chain does not know the account until it receives something: `tenure faucet`".to_owned())
        }
        ("sdk", sdk::OUT_OF_GAS) => Some("give it more gas, for example --gas-adjustment 2".to_owned()),
        ("sdk", sdk::INSUFFICIENT_FEE) => Some("the network's least gas price rose; run the command again".to_owned()),
        _ => None,
    }
}

/// Codespace and number of the chain's error, which the node puts into a status's metadata.
fn chain_error(status: &tonic::Status) -> Option<(String, u32)> {
    let text = |name| status.metadata().get(name)?.to_str().ok();
    Some((text("tenure-codespace")?.to_owned(), text("tenure-code")?.parse().ok()?))
}

/// Whether a status means that the answer was lost or never given, as against an answer that says no.
pub fn is_transport_failure(status: &tonic::Status) -> bool {
    use tonic::Code;
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => true,
        // hyper reports a connection that broke in the middle of a call so.
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

fn transport_detail(status: &tonic::Status) -> String {
    // The innermost source says "Connection refused"; the outer ones only say that there was an error.
    let mut detail = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(inner) = source {
        detail = inner.to_string();
        source = inner.source();
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chains_number_is_read_from_the_status_and_told_once() {
        let mut status = tonic::Status::failed_precondition("bid 3 is closed (market/7)");
        status
            .metadata_mut()
            .insert("tenure-codespace", "market".parse().expect("ascii"));
        status.metadata_mut().insert("tenure-code", 7.into());
        match Error::from_status("the node", "http://x", &status) {
            Error::Server { message, chain, .. } => {
                assert_eq!(
                    (message.as_str(), chain),
                    ("bid 3 is closed", Some(("market".to_owned(), 7)))
                );
            }
            other => panic!("{other}"),
        }
        let plain = tonic::Status::failed_precondition("no (market/7)");
        assert!(
            matches!(Error::from_status("x", "y", &plain), Error::Server { chain: None, message, .. } if message == "no (market/7)")
        );
    }

    #[test]
    fn a_lost_answer_is_told_apart_from_a_no() {
        for status in [
            tonic::Status::unavailable("x"),
            tonic::Status::deadline_exceeded("x"),
            tonic::Status::cancelled("x"),
        ] {
            assert!(matches!(
                Error::from_status("the node", "y", &status),
                Error::Unreachable { .. }
            ));
        }
        for status in [
            tonic::Status::internal("x"),
            tonic::Status::unknown("x"),
            tonic::Status::invalid_argument("x"),
        ] {
            assert!(matches!(
                Error::from_status("the node", "y", &status),
                Error::Server { .. }
            ));
        }
        let mut absent = tonic::Status::not_found("lease 9 does not exist (market/3)");
        absent
            .metadata_mut()
            .insert("tenure-codespace", "market".parse().expect("ascii"));
        absent.metadata_mut().insert("tenure-code", 3.into());
        let found = Error::from_status("the node", "y", &absent);
        assert!(matches!(found, Error::NotFound(text) if text == "lease 9 does not exist"));
        assert!(matches!(
            Error::from_status("the node", "y", &tonic::Status::not_found("x")),
            Error::NotFound(_)
        ));
    }

    #[test]
    fn refusals_say_whether_anything_was_paid() {
        let refusal = |stage| Refusal {
            stage,
            codespace: "sdk".to_owned(),
            code: 5,
            log: "1uten is smaller than 2uten".to_owned(),
            hash: "AB".to_owned(),
            height: 9,
        };
        assert!(refusal(Stage::Simulate)
            .to_string()
            .ends_with("(codespace sdk, code 5); nothing was sent and nothing was paid"));
        assert!(refusal(Stage::Block).to_string().contains("failed in block 9"));
        assert!(refusal(Stage::Block)
            .to_string()
            .ends_with("its fee is paid, its messages had no effect. Transaction AB"));
        let error = Error::Refused(Box::new(refusal(Stage::Check)));
        assert_eq!(error.exit_code(), exit::REFUSED);
        assert!(error.hint().is_some_and(|hint| hint.contains("tenure faucet")));
    }
}
