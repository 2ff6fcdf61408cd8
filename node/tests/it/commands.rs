use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use tenure_node::account_key::AccountKey;
use tenure_types::Address;

use crate::support::{balance, connect, finish, rpc, tenured, Node};

#[test]
fn init_makes_a_whole_home_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let init = || finish(tenured(&home).args(["init", "me", "--chain-id", "tenure-local-7"]));
    let (ok, out, err) = init()?;
    ensure!(ok, "{err}");
    assert!(
        out.contains("tenured start") && out.contains("add-genesis-account"),
        "{out}"
    );
    let (ok, _, err) = init()?;
    assert!(!ok && err.contains("exists already") && err.contains("--home"), "{err}");

    let address = Address::new([5; 20]).to_string();
    let add = |coins: &str| finish(tenured(&home).args(["genesis", "add-genesis-account", &address, coins]));
    let (ok, _, err) = add("100ten,5abc")?;
    ensure!(ok, "{err}");
    let (ok, _, err) = add("1ten")?;
    assert!(!ok && err.contains("already"), "{err}");
    let (ok, out, err) = finish(tenured(&home).args(["genesis", "validate"]))?;
    ensure!(ok && out.contains("is valid"), "{err}");

    let (ok, id, _) = finish(tenured(&home).args(["comet", "show-node-id"]))?;
    assert!(ok && id.trim().len() == 40, "{id}");
    let (ok, key, _) = finish(tenured(&home).args(["comet", "show-validator"]))?;
    assert!(
        ok && serde_json::from_str::<Value>(&key)?["@type"] == "/cosmos.crypto.ed25519.PubKey",
        "{key}"
    );
    let (ok, address, _) = finish(tenured(&home).args(["tendermint", "show-address"]))?;
    assert!(ok && address.starts_with("tenurevalcons1"), "{address}");
    let (ok, out, _) = finish(tenured(&home).args(["version", "--long", "-o", "json"]))?;
    assert!(
        ok && serde_json::from_str::<Value>(&out)?["server_name"] == "tenured",
        "{out}"
    );
    Ok(())
}

#[test]
fn mistakes_are_answered_with_what_to_type() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let (ok, _, err) = finish(tenured(&home).arg("start"))?;
    assert!(!ok && err.contains("tenured init"), "{err}");
    let (ok, _, err) = finish(tenured(&home).args(["start", "--engine", "none"]))?;
    assert!(!ok && err.contains("possible values: solo, comet, external"), "{err}");
    let (ok, _, err) = finish(tenured(&home).args(["init", "me", "--chain-id", "a b"]))?;
    assert!(!ok && err.contains("chain id"), "{err}");
    assert!(!home.exists(), "a refused init leaves nothing");
    let (ok, _, err) = finish(tenured(&home).args(["init", "me", "--chain-id", "tenure-5"]))?;
    ensure!(ok, "{err}");
    // A main network's name, a bad setting, a bad genesis: each an ordinary error.
    let quick = |name: &str, value: &str| finish(tenured(&home).args(["start", "--auto-ports"]).env(name, value));
    let (ok, _, err) = quick("RUST_LOG", "info")?;
    assert!(!ok && err.contains("main network") && err.contains("--force"), "{err}");
    let (ok, _, err) = quick("TENURED_GRPC_MAX_MESSAGE_BYTES", "5")?;
    assert!(
        !ok && err.contains("grpc.max-message-bytes is 5, must be 1024"),
        "{err}"
    );
    let (ok, _, err) = quick("RUST_LOG", "]][")?;
    assert!(!ok && err.contains("RUST_LOG"), "{err}");
    let path = home.join("config/genesis.json");
    let text = std::fs::read_to_string(&path)?.replace("tenure-5", "tenure-local-5");
    std::fs::write(
        &path,
        text.replace("\"default_send_enabled\"", "\"default_sent_enabled\""),
    )?;
    let (ok, _, err) = finish(tenured(&home).args(["start", "--auto-ports"]))?;
    assert!(
        !ok && err.contains("default_sent_enabled") && err.contains("genesis.json"),
        "{err}"
    );
    let (ok, _, err) = finish(tenured(&home).args(["genesis", "validate"]))?;
    assert!(!ok && err.contains("default_sent_enabled"), "{err}");
    let (ok, _, err) = finish(tenured(&home).arg("export"))?;
    assert!(!ok && err.contains("tenured start"), "{err}");
    Ok(())
}

/// `tenured start 2>&1 | head -1`, and journald when it is restarted.
#[test]
fn a_node_outlives_the_reader_of_its_log() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = tenured(&home);
    command.args(["devnet", "--fast", "--auto-ports"]);
    let node = Node::start_logging_to(&home, &mut command, writer)?;
    let height = || -> Result<u64> {
        let status = rpc(node.run.rpc, "/status")?;
        let height = status["sync_info"]["latest_block_height"].as_str();
        Ok(height.context("height")?.parse()?)
    };
    let (began, deadline) = (height()?, Instant::now() + Duration::from_secs(20));
    while height()? < began + 2 {
        ensure!(Instant::now() < deadline, "no more blocks");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_devnet_lives_stops_rolls_back_and_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let alice = AccountKey::random();
    let start = || {
        let mut command = tenured(&home);
        command.args([
            "devnet",
            "--fast",
            "--auto-ports",
            "--account",
            &format!("{}=7ten", alice.address()),
        ]);
        command.env("TENURED_SOLO_BLOCK_INTERVAL", "50ms");
        Node::start(&home, &mut command)
    };
    let node = start()?;
    // The log says what it is; status agrees.
    let log = node.log_text();
    for word in [
        "tenure-local-1",
        "solo: not BFT",
        &node.run.grpc.to_string(),
        &node.run.rpc.to_string(),
    ] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
    let (ok, out, err) = finish(tenured(&home).arg("status"))?;
    ensure!(ok, "{err}");
    assert_eq!(
        serde_json::from_str::<Value>(&out)?["node_info"]["network"],
        "tenure-local-1"
    );
    let channel = connect(node.run.grpc).await?;
    assert_eq!(balance(&channel, &alice.address()).await?, 7_000_000);

    // One home, one process.
    for command in [
        vec!["start"],
        vec!["devnet"],
        vec!["rollback"],
        vec!["export"],
        vec!["comet", "unsafe-reset-all"],
    ] {
        let (ok, _, err) = finish(tenured(&home).args(&command))?;
        assert!(
            !ok && err.contains(&format!("pid {}", node.run.pid)),
            "{command:?}: {err}"
        );
    }
    // Its ports are busy for another home.
    let other = dir.path().join("other");
    let mut busy = tenured(&other);
    busy.arg("devnet")
        .env("TENURED_GRPC_ADDRESS", node.run.grpc.to_string());
    let (ok, _, err) = finish(&mut busy)?;
    assert!(
        !ok && err.contains(&node.run.grpc.port().to_string()) && err.contains("--auto-ports"),
        "{err}"
    );

    while rpc(node.run.rpc, "/status")?["sync_info"]["latest_block_height"]
        .as_str()
        .context("height")?
        .parse::<u64>()?
        < 12
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(channel);
    assert_eq!(node.terminate()?, Some(0));
    assert!(!home.join("run.json").exists());

    let (ok, out, err) = finish(tenured(&home).arg("export"))?;
    ensure!(ok, "{err}");
    let exported: Value = serde_json::from_str(&out)?;
    let next: u64 = exported["initial_height"].as_str().context("height")?.parse()?;
    assert!(next > 12, "{next}");
    std::fs::write(dir.path().join("exported.json"), &out)?;
    let (ok, _, err) = finish(
        tenured(&home)
            .args(["genesis", "validate"])
            .arg(dir.path().join("exported.json")),
    )?;
    ensure!(ok, "{err}");

    let (ok, out, err) = finish(tenured(&home).args(["rollback", "--blocks", "5"]))?;
    ensure!(ok, "{err}");
    assert!(
        out.contains(&format!("height {} and hash", next - 6)) && out.contains("replays"),
        "{out}"
    );
    let (ok, _, err) = finish(tenured(&home).args(["rollback", "--blocks", "5000"]))?;
    assert!(!ok && err.contains("5000"), "{err}");

    // Replays what was rolled back, then goes on.
    let node = start()?;
    let height: u64 = rpc(node.run.rpc, "/status")?["sync_info"]["latest_block_height"]
        .as_str()
        .context("height")?
        .parse()?;
    assert!(height + 1 >= next, "{height} {next}");
    assert_eq!(node.terminate()?, Some(0));

    let (ok, _, err) =
        finish(tenured(&home).args(["devnet", "--account", &format!("{}=1ten", Address::new([8; 20]))]))?;
    assert!(!ok && err.contains("only when a home is made"), "{err}");
    let (ok, _, err) = finish(tenured(&home).args([
        "genesis",
        "add-genesis-account",
        &Address::new([8; 20]).to_string(),
        "1ten",
    ]))?;
    assert!(!ok && err.contains("unsafe-reset-all"), "{err}");

    let (ok, _, err) = finish(tenured(&home).args(["comet", "unsafe-reset-all"]))?;
    ensure!(ok, "{err}");
    let node = start()?;
    let first: u64 = rpc(node.run.rpc, "/status")?["sync_info"]["earliest_block_height"]
        .as_str()
        .context("height")?
        .parse()?;
    assert_eq!(first, 1);
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}
