//! Where a server listens, in the form CometBFT's `proxy_app` has.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// A transport and its address. Prints and parses as CometBFT's `proxy_app`: `unix:///run/app.sock`, `tcp://127.0.0.1:26658`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket: the default, and faster. Only processes of the same user can open it.
    Unix(PathBuf),
    /// TCP, for an engine on another machine. ABCI has no authentication: whoever reaches the port drives the application.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(addr) => write!(f, "tcp://{addr}"),
        }
    }
}

/// A text that is no ABCI address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("ABCI address {text:?} is neither unix://<path> nor tcp://<ip>:<port>")]
pub struct AddressError {
    text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    /// Accepts exactly what [`fmt::Display`] prints. Host names are refused: a listener's address must not depend on a resolver.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parsed = match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Some(Self::Unix(PathBuf::from(path))),
            Some(("tcp", addr)) => addr.parse().ok().map(Self::Tcp),
            _ => None,
        };
        parsed.ok_or_else(|| AddressError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_back() {
        for text in [
            "unix:///run/app.sock",
            "unix://app.sock",
            "tcp://127.0.0.1:26658",
            "tcp://[::1]:1",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "unix://",
            "tcp://",
            "tcp://localhost:1",
            "127.0.0.1:26658",
            "http://127.0.0.1:1",
            "/run/app.sock",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
