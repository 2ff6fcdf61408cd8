//! Every key of CometBFT v0.38.25's `config.toml`, and the values with which that CometBFT starts (its `config/config.go`, `ValidateBasic`).
//!
//! CometBFT ignores a misspelt key, and ends at once over a malformed value, long after whoever wrote it has gone. So both are refused here.

use toml::Value;

use Kind::{Duration, Flag, Integer, LogLevel, OneOf, PeerIds, Peers, Strings, Text};

/// What a key holds. CometBFT takes numbers and flags in quotes, too; its own file has one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `info`, or `<module>:<level>,…`.
    LogLevel,
    Flag,
    /// From, up to and including.
    Integer(i64, i64),
    /// Go's notation; at least this many nanoseconds.
    Duration(u64),
    /// An array of strings, or one string with commas.
    Strings,
    /// `<id>@<host>:<port>,…`.
    Peers,
    /// `<id>,…`.
    PeerIds,
}

/// Go's `int`, which may not be negative.
const COUNT: Kind = Integer(0, i64::MAX);
/// A span of time, none included.
const SPAN: Kind = Duration(0);

/// Sections and their keys; `""` has those outside sections.
pub(super) const SECTIONS: &[(&str, &[(&str, Kind)])] = &[
    (
        "",
        &[
            ("version", Text),
            ("proxy_app", Text),
            ("moniker", Text),
            ("db_backend", Text),
            ("db_dir", Text),
            ("log_level", LogLevel),
            ("log_format", OneOf(&["plain", "json"])),
            ("genesis_file", Text),
            ("priv_validator_key_file", Text),
            ("priv_validator_state_file", Text),
            ("priv_validator_laddr", Text),
            ("node_key_file", Text),
            ("abci", Text),
            ("filter_peers", Flag),
            ("event_bus_buffer_capacity", COUNT),
        ],
    ),
    (
        "rpc",
        &[
            ("laddr", Text),
            ("cors_allowed_origins", Strings),
            ("cors_allowed_methods", Strings),
            ("cors_allowed_headers", Strings),
            ("grpc_laddr", Text),
            ("grpc_max_open_connections", COUNT),
            ("unsafe", Flag),
            ("max_open_connections", COUNT),
            ("max_subscription_clients", COUNT),
            ("max_subscriptions_per_client", COUNT),
            ("experimental_subscription_buffer_size", Integer(100, i64::MAX)),
            ("experimental_websocket_write_buffer_size", COUNT),
            ("experimental_close_on_slow_client", Flag),
            ("timeout_broadcast_tx_commit", SPAN),
            ("max_request_batch_size", COUNT),
            ("max_body_bytes", COUNT),
            ("max_header_bytes", COUNT),
            ("tls_cert_file", Text),
            ("tls_key_file", Text),
            ("pprof_laddr", Text),
        ],
    ),
    (
        "p2p",
        &[
            ("laddr", Text),
            ("external_address", Text),
            ("seeds", Peers),
            ("persistent_peers", Peers),
            ("addr_book_file", Text),
            ("addr_book_strict", Flag),
            ("max_num_inbound_peers", COUNT),
            ("max_num_outbound_peers", COUNT),
            ("unconditional_peer_ids", PeerIds),
            ("persistent_peers_max_dial_period", SPAN),
            ("flush_throttle_timeout", SPAN),
            ("max_packet_msg_payload_size", COUNT),
            ("send_rate", COUNT),
            ("recv_rate", COUNT),
            ("pex", Flag),
            ("seed_mode", Flag),
            ("private_peer_ids", PeerIds),
            ("allow_duplicate_ip", Flag),
            ("handshake_timeout", SPAN),
            ("dial_timeout", SPAN),
        ],
    ),
    (
        "mempool",
        &[
            ("type", OneOf(&["flood", "nop", ""])),
            ("recheck", Flag),
            ("recheck_timeout", SPAN),
            ("broadcast", Flag),
            ("wal_dir", Text),
            ("size", COUNT),
            ("max_txs_bytes", COUNT),
            ("cache_size", COUNT),
            ("keep-invalid-txs-in-cache", Flag),
            ("max_tx_bytes", COUNT),
            ("max_batch_bytes", COUNT),
            ("experimental_max_gossip_connections_to_persistent_peers", COUNT),
            ("experimental_max_gossip_connections_to_non_persistent_peers", COUNT),
        ],
    ),
    (
        "statesync",
        &[
            ("enable", Flag),
            ("rpc_servers", Strings),
            ("trust_height", COUNT),
            ("trust_hash", Text),
            ("trust_period", SPAN),
            ("discovery_time", SPAN),
            ("temp_dir", Text),
            ("chunk_request_timeout", SPAN),
            ("chunk_fetchers", Integer(0, i32::MAX as i64)),
            ("max_snapshot_chunks", Integer(0, u32::MAX as i64)),
        ],
    ),
    ("blocksync", &[("version", OneOf(&["v0"]))]),
    (
        "consensus",
        &[
            ("wal_file", Text),
            ("timeout_propose", SPAN),
            ("timeout_propose_delta", SPAN),
            ("timeout_prevote", SPAN),
            ("timeout_prevote_delta", SPAN),
            ("timeout_precommit", SPAN),
            ("timeout_precommit_delta", SPAN),
            ("timeout_commit", SPAN),
            ("double_sign_check_height", COUNT),
            ("skip_timeout_commit", Flag),
            ("create_empty_blocks", Flag),
            ("create_empty_blocks_interval", SPAN),
            ("peer_gossip_sleep_duration", SPAN),
            ("peer_query_maj23_sleep_duration", SPAN),
            ("block_time_tolerance", Duration(1)),
        ],
    ),
    ("storage", &[("discard_abci_responses", Flag)]),
    (
        "tx_index",
        &[("indexer", OneOf(&["kv", "null", "psql"])), ("psql-conn", Text)],
    ),
    (
        "instrumentation",
        &[
            ("prometheus", Flag),
            ("prometheus_listen_addr", Text),
            ("max_open_connections", COUNT),
            ("namespace", Text),
        ],
    ),
];

/// The keys of a section.
pub(super) fn of(section: &str) -> Option<&'static [(&'static str, Kind)]> {
    SECTIONS
        .iter()
        .find(|(name, _)| *name == section)
        .map(|(_, keys)| *keys)
}

impl Kind {
    /// Error: CometBFT would not start with this value, or take it for something else; what it must be.
    pub(super) fn check(self, value: &Value) -> Result<(), String> {
        let good = match self {
            Text => value.is_str(),
            OneOf(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            LogLevel => value.as_str().is_some_and(is_log_level),
            Flag => flag(value).is_some(),
            Integer(min, max) => integer(value).is_some_and(|n| (min..=max).contains(&n)),
            // Go takes a bare number for nanoseconds, which nobody means.
            Duration(min) => value.as_str().and_then(nanoseconds).is_some_and(|ns| ns >= min),
            Strings => value.is_str() || value.as_array().is_some_and(|all| all.iter().all(Value::is_str)),
            Peers => value.as_str().is_some_and(|text| entries(text).all(is_peer)),
            PeerIds => value.as_str().is_some_and(|text| entries(text).all(is_id)),
        };
        if good {
            return Ok(());
        }
        Err(match self {
            Text => "a string".into(),
            OneOf(words) => {
                let words: Vec<_> = words
                    .iter()
                    .filter(|w| !w.is_empty())
                    .map(|w| format!("{w:?}"))
                    .collect();
                words.join(" or ")
            }
            LogLevel => "debug, info, error, none, or a list such as \"consensus:debug,*:error\"".into(),
            Flag => "true or false".into(),
            Integer(min, max) if integer(value).is_some() => match max {
                i64::MAX => format!("at least {min}"),
                max => format!("{min} to {max}"),
            },
            Integer(..) => "an integer".into(),
            Duration(0) => "a duration such as \"300ms\" or \"1m30s\"".into(),
            Duration(_) => "a duration above zero, such as \"300ms\" or \"1m30s\"".into(),
            Strings => "a list of strings, such as [\"a\", \"b\"]".into(),
            Peers => "peers with commas between, each <node id, 40 hex digits>@<host>:<port>".into(),
            PeerIds => "node ids of 40 hex digits with commas between".into(),
        })
    }
}

/// `true` or `false`, in quotes or not.
pub(super) fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| value.as_str()?.parse().ok())
}

/// A whole number, in quotes or not.
pub(super) fn integer(value: &Value) -> Option<i64> {
    value.as_integer().or_else(|| value.as_str()?.parse().ok())
}

/// What stands between commas; empty entries do not count, as with CometBFT.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn is_log_level(text: &str) -> bool {
    let is_level = |level| matches!(level, "debug" | "info" | "error" | "none");
    is_level(text)
        || text
            .split(',')
            .all(|pair| pair.split_once(':').is_some_and(|(_, level)| is_level(level)))
}

fn is_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_peer(text: &str) -> bool {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.split_once('@')
        .filter(|(id, _)| is_id(id))
        .and_then(|(_, address)| address.rsplit_once(':'))
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Reads Go's notation (`time.ParseDuration`) of a duration that is not negative: `0`, or decimal numbers with a unit each, `1h2.5s`.
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, after) = rest.split_at_checked(number)?;
        let unit = after.len()
            - after
                .trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.')
                .len();
        let (unit, after) = after.split_at_checked(unit)?;
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let digits = |text: &str| {
            if text.is_empty() {
                Some(0)
            } else {
                text.parse::<u64>().ok()
            }
        };
        let mut part = digits(whole)?.checked_mul(scale)?;
        let mut place = scale;
        for digit in fraction.chars() {
            place /= 10;
            part = part.checked_add(place.checked_mul(u64::from(digit.to_digit(10)?))?)?;
        }
        sum = sum.checked_add(part)?;
        rest = after;
    }
    i64::try_from(sum).is_ok().then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's `time.ParseDuration` says of the same texts; but it takes the one with a minus.
    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ns) in [
            ("0", Some(0)),
            ("+0", Some(0)),
            ("0s", Some(0)),
            ("300ms", Some(300_000_000)),
            ("168h0m0s", Some(604_800_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("2µs3ns", Some(2_003)),
            ("0.0000000001s", Some(0)),
            ("2562047h47m16.854775807s", Some(i64::MAX as u64)),
            ("2562047h47m16.854775808s", None),
            ("", None),
            ("+", None),
            ("1", None),
            ("banana", None),
            ("1 s", None),
            ("1d", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("-1s", None),
            ("1sm", None),
            ("ß1s", None),
        ] {
            assert_eq!(nanoseconds(text), ns, "{text:?}");
        }
    }

    #[test]
    fn values_are_those_that_cometbft_starts_with() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let peer = format!("{id}@node.example:26656");
        let text = |text: &str| Value::String(text.into());
        for (kind, good, bad) in [
            (
                Flag,
                vec![Value::Boolean(true), text("false")],
                vec![text("yes"), Value::Integer(1)],
            ),
            (
                Integer(0, 9),
                vec![Value::Integer(9), text("4")],
                vec![Value::Integer(10), text("-1"), text("x"), Value::Float(1.0)],
            ),
            (
                SPAN,
                vec![text("1m0s")],
                vec![text("banana"), Value::Integer(300), text("-1s")],
            ),
            (Duration(1), vec![text("1ns")], vec![text("0s")]),
            (
                LogLevel,
                vec![text("info"), text("p2p:none,*:error")],
                vec![text(""), text("loud"), text("p2p:loud"), text("p2p:info,")],
            ),
            (
                Strings,
                vec![text("a,b"), Value::Array(vec![text("a")])],
                vec![Value::Array(vec![Value::Integer(1)]), Value::Boolean(true)],
            ),
            (
                Peers,
                vec![text(""), text(&peer), text(&format!("{peer}, tcp://{id}@[::1]:1,"))],
                vec![
                    text("node.example:26656"),
                    text(id),
                    text(&format!("{id}@node.example")),
                    text(&format!("{id}@:x")),
                ],
            ),
            (
                PeerIds,
                vec![text(""), text(&format!("{id},{id}"))],
                vec![text(&peer), text("abc")],
            ),
            (OneOf(&["v0"]), vec![text("v0")], vec![text("v1"), Value::Integer(0)]),
            (Text, vec![text("")], vec![Value::Integer(0)]),
        ] {
            for value in good {
                assert_eq!(kind.check(&value), Ok(()), "{kind:?} {value}");
            }
            for value in bad {
                assert!(kind.check(&value).is_err(), "{kind:?} {value}");
            }
        }
    }
}
