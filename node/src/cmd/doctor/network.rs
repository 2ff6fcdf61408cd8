//! The running node and its peers: height, clock, chain.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tendermint::Time;

use super::super::rpc;
use super::{Findings, Level};
use crate::home::RunFile;

/// A block's time this far ahead of this machine's clock means that the clock is behind.
const AHEAD_WARN_MS: i128 = 500;
const AHEAD_FAIL_MS: i128 = 5_000;
/// Without a block for this long, the chain stands or the clock is far ahead.
const STALL_MS: i128 = 60_000;
/// Blocks behind a peer.
const BEHIND_WARN: u64 = 5;
const BEHIND_FAIL: u64 = 100;

/// What a node's `status` says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    chain_id: String,
    height: u64,
    /// Milliseconds since 1970.
    time_ms: i128,
    catching_up: bool,
}

fn view(status: &Value) -> Option<View> {
    let sync = &status["sync_info"];
    let time = Time::parse_from_rfc3339(sync["latest_block_time"].as_str()?).ok()?;
    Some(View {
        chain_id: status["node_info"]["network"].as_str()?.to_owned(),
        height: sync["latest_block_height"].as_str()?.parse().ok()?,
        time_ms: time.unix_timestamp_nanos() / 1_000_000,
        catching_up: sync["catching_up"].as_bool()?,
    })
}

fn now_ms() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(since.as_millis()).unwrap_or(i128::MAX)
}

/// What the running node says.
pub(super) fn own(run: Option<&RunFile>, found: &mut Findings) -> Option<View> {
    let Some(run) = run else {
        found.skip("height", "the node does not run");
        return None;
    };
    let own = match rpc::status(run.rpc) {
        Ok(status) => view(&status),
        Err(error) => {
            found.fail(
                "height",
                format!("{} does not answer: {error:#}", run.rpc),
                "look into the node's log",
            );
            return None;
        }
    };
    let Some(own) = own else {
        found.fail(
            "height",
            format!("{} does not answer as CometBFT v0.38 does", run.rpc),
            "look into the node's log",
        );
        return None;
    };
    if own.catching_up {
        found.warn(
            "height",
            format!("{}, and catching up", own.height),
            "wait; `tenured status` shows the progress",
        );
    } else {
        found.ok("height", own.height.to_string());
    }
    clock(&own, now_ms(), found);
    // An engine without peers has none to name.
    if let Ok(info) = rpc::call(run.rpc, "net_info", &serde_json::json!({})) {
        let peers = info["n_peers"].as_str().unwrap_or("0");
        if peers == "0" && info["listening"] == true {
            found.warn(
                "peers",
                "no peer is connected",
                "check p2p.persistent_peers, the firewall and port 26656",
            );
        } else {
            found.ok("peers", format!("{peers} connected"));
        }
    }
    Some(own)
}

/// The time of the last block is the median of what validators' clocks said: a clock that disagrees is wrong.
fn clock(own: &View, now_ms: i128, found: &mut Findings) {
    let age = now_ms - own.time_ms;
    let fix = "set the clock by NTP: timedatectl set-ntp true, or install chrony";
    let text = |ms: i128| format!("{:.1} s", ms as f64 / 1e3);
    let (level, detail, fix) = match age {
        _ if age < -AHEAD_FAIL_MS => (
            Level::Failed,
            format!("this clock is {} behind the chain's", text(-age)),
            fix,
        ),
        _ if age < -AHEAD_WARN_MS => (
            Level::Warning,
            format!("this clock is {} behind the chain's", text(-age)),
            fix,
        ),
        _ if age > STALL_MS && !own.catching_up => (
            Level::Failed,
            format!(
                "the last block is {} old: the chain stands, or this clock is ahead",
                text(age)
            ),
            "compare `date -u` with another machine; then look into the log for missing votes",
        ),
        _ => {
            found.ok("clock", format!("the last block is {} old", text(age)));
            return;
        }
    };
    found.add("clock", level, detail, Some(fix.to_owned()));
}

pub(super) fn peers(own: Option<&View>, peers: &[String], found: &mut Findings) {
    for peer in peers {
        let answer = rpc::address(peer).and_then(rpc::status);
        match answer.map(|status| view(&status)) {
            Ok(Some(theirs)) => compare(own, peer, &theirs, now_ms(), found),
            Ok(None) => found.warn(
                "peers",
                format!("{peer} does not answer as CometBFT v0.38 does"),
                "name its JSON-RPC, port 26657",
            ),
            Err(error) => found.warn(
                "peers",
                format!("{peer}: {error:#}"),
                "check the address, and whether its RPC is open to you",
            ),
        }
    }
}

fn compare(own: Option<&View>, peer: &str, theirs: &View, now_ms: i128, found: &mut Findings) {
    let Some(own) = own else {
        // Its clock says something about ours even so.
        clock(theirs, now_ms, found);
        found.skip("height", format!("{peer} is at {}", theirs.height));
        return;
    };
    if own.chain_id != theirs.chain_id {
        found.fail(
            "peers",
            format!(
                "{peer} is of chain {:?}, this node of {:?}",
                theirs.chain_id, own.chain_id
            ),
            "name a node of the same chain, or fetch the right genesis",
        );
        return;
    }
    let behind = theirs.height.saturating_sub(own.height);
    let detail = format!("{behind} blocks behind {peer}, which is at {}", theirs.height);
    let fix = "look into the log for peers and disk; `tenured status` shows whether it catches up";
    match behind {
        _ if behind > BEHIND_FAIL => found.fail("height", detail, fix),
        _ if behind > BEHIND_WARN => found.warn("height", detail, fix),
        _ => found.ok("height", format!("level with {peer}, which is at {}", theirs.height)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(height: u64, time_ms: i128) -> View {
        View {
            chain_id: "c".to_owned(),
            height,
            time_ms,
            catching_up: false,
        }
    }

    #[test]
    fn a_wrong_clock_and_a_standing_chain_are_told() {
        for (time, level, word) in [
            (100_000, Level::Ok, "0.0 s old"),
            (103_000, Level::Warning, "3.0 s behind"),
            (110_000, Level::Failed, "10.0 s behind"),
            (30_000, Level::Failed, "stands"),
        ] {
            let mut found = Findings::default();
            clock(&at(1, time), 100_000, &mut found);
            let finding = &found.0[0];
            assert!(finding.status == level && finding.detail.contains(word), "{finding:?}");
        }
    }

    #[test]
    fn a_node_is_compared_with_its_peers() {
        let own = at(100, 0);
        for (theirs, level) in [
            (at(102, 0), Level::Ok),
            (at(150, 0), Level::Warning),
            (at(500, 0), Level::Failed),
            (
                View {
                    chain_id: "d".to_owned(),
                    ..at(100, 0)
                },
                Level::Failed,
            ),
        ] {
            let mut found = Findings::default();
            compare(Some(&own), "p", &theirs, 0, &mut found);
            assert_eq!(found.0[0].status, level, "{:?}", found.0[0]);
        }
    }

    #[test]
    fn a_status_is_read_or_refused() {
        let status = serde_json::json!({
            "node_info": { "network": "c" },
            "sync_info": { "latest_block_height": "7", "latest_block_time": "1970-01-01T00:00:01.5Z", "catching_up": false },
        });
        assert_eq!(view(&status), Some(at(7, 1_500)));
        assert_eq!(view(&serde_json::json!({})), None);
    }
}
