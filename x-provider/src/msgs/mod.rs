//! Messages, one file each.

mod attest;
mod drain;
mod leave;
mod register;
mod update;

pub use attest::{attestable, MAX_EPOCHS_PER_ATTEST};
pub(crate) use {attest::Attest, drain::Drain, leave::Leave, register::Register, update::Update};

use tenure_proto::tenure::base::v1::Resources as ProtoResources;
use tenure_types::Result;

use crate::{errors::ProviderError, state};

const MAX_MONIKER_BYTES: usize = 64;
const MAX_ENDPOINT_BYTES: usize = 256;

/// Checks what a provider declares.
fn check_declaration(moniker: &str, endpoint: &str, capacity: Option<&ProtoResources>) -> Result<()> {
    let refuse = |field, why: String| Err(ProviderError::Declaration { field, why }.into());
    if moniker.is_empty() || moniker.len() > MAX_MONIKER_BYTES || moniker.chars().any(char::is_control) {
        let why = format!(
            "has {} bytes, must have 1 to {MAX_MONIKER_BYTES} and no control characters",
            moniker.len()
        );
        return refuse("moniker", why);
    }
    if endpoint.len() > MAX_ENDPOINT_BYTES {
        return refuse(
            "endpoint",
            format!("has {} bytes, must have at most {MAX_ENDPOINT_BYTES}", endpoint.len()),
        );
    }
    let authority = endpoint
        .strip_prefix("http://")
        .or_else(|| endpoint.strip_prefix("https://"));
    if !authority.is_some_and(is_authority) {
        return refuse(
            "endpoint",
            format!("{endpoint:?} must be http://host:port or https://host:port"),
        );
    }
    let capacity = state::resources(capacity);
    for (field, value) in [
        ("capacity.cpu_milli", capacity.cpu_milli),
        ("capacity.memory_bytes", capacity.memory_bytes),
    ] {
        if value == 0 {
            return refuse(field, "is 0, must be above 0".to_owned());
        }
    }
    Ok(())
}

/// `host:port` with nothing after it. The host is a name, an IPv4 address or an IPv6 address in brackets.
fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let host_fits = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(name),
    };
    let port_fits = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    host_fits && port_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_bounded_and_endpoints_are_addresses() {
        let capacity = ProtoResources {
            cpu_milli: 1,
            memory_bytes: 1,
            storage_bytes: 0,
        };
        let field = |moniker: &str, endpoint: &str, capacity| {
            check_declaration(moniker, endpoint, Some(&capacity))
                .err()
                .map(|e| e.message.split(' ').next().unwrap().to_owned())
        };
        for good in [
            "http://localhost:1",
            "https://a-b.example:65535",
            "http://10.0.0.1:8080",
            "http://[::1]:80",
        ] {
            assert_eq!(field("m", good, capacity), None, "{good}");
        }
        for bad in [
            "",
            "localhost:1",
            "http://:1",
            "http://a",
            "http://a:0",
            "http://a:65536",
            "http://a:1/x",
            "http://u@a:1",
            "http://a:+1",
            "http://[x]:1",
        ] {
            assert_eq!(field("m", bad, capacity).as_deref(), Some("endpoint"), "{bad}");
        }
        assert_eq!(field("", "http://a:1", capacity).as_deref(), Some("moniker"));
        assert_eq!(
            field(&"x".repeat(65), "http://a:1", capacity).as_deref(),
            Some("moniker")
        );
        assert_eq!(field("a\nb", "http://a:1", capacity).as_deref(), Some("moniker"));
        let none = ProtoResources {
            cpu_milli: 0,
            ..capacity
        };
        assert_eq!(field("m", "http://a:1", none).as_deref(), Some("capacity.cpu_milli"));
    }
}
