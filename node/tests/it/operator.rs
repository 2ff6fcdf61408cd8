//! What an operator does with a chain's files: gentxs, a network's homes, keys, settings, snapshots, export, metrics, doctor.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use tenure_node::account_key::AccountKey;

use crate::support::{finish, rpc, scraped, tenured, Node, OWN_PORTS};

fn run(home: &Path, args: &[&str]) -> Result<String> {
    let (ok, out, err) = finish(tenured(home).args(args).env_remove("TENURE_KEYRING_PASSPHRASE"))?;
    ensure!(ok, "tenured {args:?}: {out}{err}");
    Ok(out)
}

fn refused(home: &Path, args: &[&str], word: &str) -> Result<()> {
    let (ok, out, err) = finish(tenured(home).args(args))?;
    ensure!(
        !ok && err.contains(word),
        "tenured {args:?} must fail with {word:?}: {out}{err}"
    );
    Ok(())
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| text.to_owned())
}

fn height(node: &Node) -> Result<u64> {
    let status = rpc(node.run.rpc, "/status")?;
    Ok(status["sync_info"]["latest_block_height"]
        .as_str()
        .context("height")?
        .parse()?)
}

fn wait_for(node: &Node, wanted: u64) -> Result<()> {
    let begun = Instant::now();
    while height(node)? < wanted {
        ensure!(begun.elapsed() < Duration::from_secs(20), "no block {wanted}");
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

fn start(home: &Path) -> Result<Node> {
    let mut command = tenured(home);
    command
        .args(["start", "--auto-ports"])
        .env("TENURED_SOLO_BLOCK_INTERVAL", "50ms")
        .env("TENURED_TELEMETRY_ENABLED", "true")
        .env("TENURED_TELEMETRY_ADDRESS", "127.0.0.1:0");
    Node::start(home, &mut command)
}

/// One validator's way into a genesis, as simd's documentation has it.
#[test]
fn two_operators_make_a_genesis_by_gentx() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (alice, bob) = (dir.path().join("alice"), dir.path().join("bob"));
    let test = ["--keyring-backend", "test"];
    let mut address = BTreeMap::new();
    for (home, name) in [(&alice, "alice"), (&bob, "bob")] {
        run(home, &["init", name, "--chain-id", "tenure-local-3"])?;
        let made = json(&run(home, &[&["keys", "add", name, "-o", "json"], &test[..]].concat())?)?;
        ensure!(
            made["mnemonic"].as_str().is_some_and(|m| m.split(' ').count() == 24),
            "{made}"
        );
        let shown = run(home, &[&["keys", "show", name, "-a"], &test[..]].concat())?;
        ensure!(shown.trim() == made["address"], "{shown}");
        address.insert(name, shown.trim().to_owned());
    }
    // Bob takes alice's genesis, which has both accounts.
    run(
        &alice,
        &[&["genesis", "add-genesis-account", "alice", "500ten"], &test[..]].concat(),
    )?;
    run(&alice, &["add-genesis-account", &address["bob"], "300ten"])?;
    fs::copy(alice.join("config/genesis.json"), bob.join("config/genesis.json"))?;
    run(
        &alice,
        &[&["genesis", "gentx", "alice", "500ten", "--ip", "10.0.0.1"], &test[..]].concat(),
    )?;
    refused(
        &bob,
        &[&["genesis", "gentx", "bob", "301ten"], &test[..]].concat(),
        "begins with 300000000uten",
    )?;
    refused(
        &bob,
        &[&["genesis", "gentx", "carol", "1ten"], &test[..]].concat(),
        "it has bob",
    )?;
    refused(
        &bob,
        &[&["genesis", "gentx", "bob", "1ten", "--chain-id", "x"], &test[..]].concat(),
        "tenure-local-3",
    )?;
    run(
        &bob,
        &[
            &["gentx", "bob", "200ten", "--ip", "10.0.0.2", "--moniker", "Bob"],
            &test[..],
        ]
        .concat(),
    )?;
    for entry in fs::read_dir(bob.join("config/gentx"))? {
        let path = entry?.path();
        fs::copy(
            &path,
            alice.join("config/gentx").join(path.file_name().context("name")?),
        )?;
    }
    let collected = json(&run(&alice, &["genesis", "collect-gentxs"])?)?;
    let peers = collected["persistent_peers"].as_str().context("peers")?;
    ensure!(
        peers.ends_with("@10.0.0.2:26656") && !peers.contains("10.0.0.1"),
        "{peers}"
    );
    let document = json(&fs::read_to_string(alice.join("config/genesis.json"))?)?;
    let mut powers: Vec<_> = document["validators"]
        .as_array()
        .context("validators")?
        .iter()
        .map(|v| {
            (
                v["name"].as_str().unwrap_or_default(),
                v["power"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    powers.sort_unstable();
    assert_eq!(powers, [("Bob", "200"), ("alice", "500")]);
    run(&alice, &["validate-genesis"])?;
    ensure!(run(&alice, &["config", "get", "config", "p2p.persistent_peers"])?.trim() == peers);
    // A changed file is refused and named.
    let tampered = fs::read_dir(alice.join("config/gentx"))?
        .next()
        .context("gentx")??
        .path();
    fs::write(&tampered, fs::read_to_string(&tampered)?.replace(":26656", ":26650"))?;
    refused(&alice, &["genesis", "collect-gentxs"], "the signature of")?;
    Ok(())
}

#[test]
fn a_networks_homes_agree() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let net = dir.path().join("net");
    let out = net.display().to_string();
    let args = [
        "testnet",
        "init-files",
        "-v",
        "4",
        "--full-nodes",
        "1",
        "--single-host",
        "-o",
        &out,
        "--faucet",
        "--output",
        "json",
    ];
    let made = json(&run(dir.path(), &args)?)?;
    let nodes = made["nodes"].as_array().context("nodes")?;
    ensure!(nodes.len() == 5 && nodes[4]["validator"] == false, "{made}");
    let read = |i: usize, file: &str| fs::read_to_string(net.join(format!("node{i}/config/{file}")));
    let genesis = read(0, "genesis.json")?;
    for i in 0..5 {
        assert_eq!(read(i, "genesis.json")?, genesis);
        let config: toml::Table = read(i, "config.toml")?.parse()?;
        let peers = config["p2p"]["persistent_peers"].as_str().context("peers")?;
        assert_eq!(peers.split(',').count(), if i < 4 { 3 } else { 4 }, "{peers}");
        assert_eq!(
            config["p2p"]["laddr"].as_str(),
            Some(format!("tcp://127.0.0.1:{}", 26656 + 10 * i).as_str())
        );
        assert_eq!(config["p2p"]["addr_book_strict"].as_bool(), Some(false));
        let app: toml::Table = read(i, "app.toml")?.parse()?;
        assert_eq!(
            app["grpc"]["address"].as_str(),
            Some(format!("127.0.0.1:{}", 9090 + 10 * i).as_str())
        );
    }
    let document = json(&genesis)?;
    assert_eq!(document["validators"].as_array().map(Vec::len), Some(4));
    run(&net.join("node3"), &["genesis", "validate"])?;
    refused(dir.path(), &args, "exists already")?;
    // Nothing is left of a network that cannot be made.
    let bad = dir.path().join("bad");
    let bad_text = bad.display().to_string();
    let twice = format!("{}=1ten", AccountKey::random().address());
    let args = [
        "testnet",
        "init-files",
        "--single-host",
        "--output-dir",
        &bad_text,
        "--account",
        &twice,
        "--account",
        &twice,
    ];
    refused(dir.path(), &args, "already")?;
    ensure!(fs::read_dir(&bad)?.next().is_none());
    Ok(())
}

#[test]
fn keys_live_under_simds_verbs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let keys = |args: &[&str]| run(&home, &[&["keys"], args, &["--keyring-backend", "test"]].concat());
    let words = keys(&["mnemonic"])?;
    let file = dir.path().join("words");
    fs::write(&file, &words)?;
    let file = file.display().to_string();
    let imported = json(&keys(&["import", "a", &file, "-o", "json"])?)?;
    ensure!(imported.get("mnemonic").is_none(), "imported words are not printed");
    assert_eq!(keys(&["export", "a"])?.trim(), words.trim());
    keys(&["rename", "a", "b", "--yes"])?;
    let listed = json(&keys(&["list", "-o", "json"])?)?;
    assert_eq!(
        (listed[0]["name"].as_str(), listed.as_array().map(Vec::len)),
        (Some("b"), Some(1))
    );
    assert_eq!(listed[0]["address"], imported["address"]);
    let valoper = keys(&["show", "b", "-a", "--bech", "val"])?;
    ensure!(valoper.starts_with("tenurevaloper1"), "{valoper}");
    let parsed = json(&keys(&["parse", valoper.trim(), "-o", "json"])?)?;
    let back = json(&keys(&[
        "parse",
        parsed["bytes"].as_str().context("bytes")?,
        "-o",
        "json",
    ])?)?;
    assert_eq!(back["formats"][0], imported["address"]);
    refused(
        &home,
        &["keys", "add", "b", "--keyring-backend", "test"],
        "never replaced",
    )?;
    refused(
        &home,
        &["keys", "add", "c", "--keyring-backend", "file"],
        "TENURE_KEYRING_PASSPHRASE",
    )?;
    refused(
        &home,
        &["keys", "show", "nobody", "--keyring-backend", "test"],
        "it has b",
    )?;
    keys(&["delete", "b", "--yes"])?;
    refused(
        &home,
        &["keys", "show", "b", "--keyring-backend", "test"],
        "tenured keys add",
    )?;
    // Sealed keys keep their words through a new name.
    let sealed = |args: &[&str]| {
        let mut command = tenured(&home);
        command
            .args([&["keys"], args, &["--keyring-backend", "file"]].concat())
            .env("TENURE_KEYRING_PASSPHRASE", "correct horse");
        finish(&mut command)
    };
    for (args, expect) in [
        (vec!["import", "s", file.as_str()], "tenure1"),
        (vec!["rename", "s", "t", "-y"], ""),
        (vec!["export", "t"], words.trim()),
    ] {
        let (ok, out, err) = sealed(&args)?;
        ensure!(ok && out.contains(expect), "{args:?}: {out}{err}");
    }
    Ok(())
}

#[test]
fn settings_are_changed_only_to_what_a_start_accepts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    run(&home, &["init", "me", "--chain-id", "tenure-local-4"])?;
    assert_eq!(
        run(&home, &["config", "get", "client", "chain-id"])?.trim(),
        "tenure-local-4"
    );
    assert_eq!(run(&home, &["config", "diff", "app"])?, "");
    run(&home, &["config", "set", "app", "grpc.max-connections", "77"])?;
    assert_eq!(
        run(&home, &["config", "diff", "app"])?,
        "-grpc.max-connections = 512\n+grpc.max-connections = 77\n"
    );
    ensure!(fs::read_to_string(home.join("config/app.toml"))?.contains("# Connections served at a time"));
    refused(
        &home,
        &["config", "set", "app", "grpc.max-connections", "0"],
        "must be 1 to",
    )?;
    refused(
        &home,
        &["config", "set", "app", "grpc.max-connections", "many"],
        "an integer",
    )?;
    refused(
        &home,
        &["config", "set", "app", "grpc.nothing", "1"],
        "no key grpc.nothing",
    )?;
    refused(&home, &["config", "set", "client", "keyring-backend", "os"], "os")?;
    assert_eq!(
        run(&home, &["config", "get", "app", "grpc.max-connections"])?.trim(),
        "77"
    );
    let view = json(&run(&home, &["config", "view", "config", "-o", "json"])?)?;
    assert_eq!(view["moniker"], "me");
    assert_eq!(run(&home, &["config", "home"])?.trim(), home.display().to_string());
    let comet = run(&home, &["comet", "version"])?;
    ensure!(comet.starts_with("CometBFT: 0.38."), "{comet}");
    let (ok, out, _) = finish(tenured(&home).arg("pre-upgrade"))?;
    ensure!(ok && out.contains("height 0"), "{out}");
    // A chain that has not begun can be another one; its keys stay.
    let validator = run(&home, &["comet", "show-validator"])?;
    refused(&home, &["init", "me", "--chain-id", "tenure-local-5"], "exists already")?;
    let made = json(&run(
        &home,
        &[
            "init",
            "you",
            "--chain-id",
            "tenure-local-5",
            "--overwrite",
            "--output",
            "json",
        ],
    )?)?;
    assert_eq!(made["chain_id"], "tenure-local-5");
    assert_eq!(run(&home, &["comet", "show-validator"])?, validator);
    assert_eq!(run(&home, &["config", "get", "config", "moniker"])?.trim(), "you");
    run(&home, &["genesis", "validate"])?;
    fs::write(home.join("config/app.toml"), "x = 1")?;
    let mut child = tenured(&home).arg("pre-upgrade").spawn()?;
    assert_eq!(child.wait()?.code(), Some(30));
    for shell in ["bash", "zsh", "fish"] {
        ensure!(
            run(&home, &["completions", shell])?.contains("collect-gentxs"),
            "{shell}"
        );
    }
    let address = run(&home, &["debug", "addr", "03".repeat(20).as_str()])?;
    ensure!(address.contains("Bech32 Val: tenurevaloper1"), "{address}");
    Ok(())
}

/// A chain's whole life in an operator's hands.
#[test]
fn a_chain_is_asked_paid_measured_exported_snapshot_and_rolled_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    run(&home, &["init", "me", "--chain-id", "tenure-local-9", "--fast"])?;
    run(&home, &["config", "set", "client", "keyring-backend", "test"])?;
    // A slow machine makes many blocks meanwhile; all of them are taken back below.
    run(&home, &["config", "set", "app", "store.keep-undo", "100000"])?;
    run(&home, &["keys", "add", "me"])?;
    run(&home, &["genesis", "add-genesis-account", "me", "100ten"])?;
    let to = AccountKey::random().address().to_string();
    let nobody = ["query", "bank", "balances", &to, "--node", "tcp://127.0.0.1:1"];
    refused(&home, &nobody, "does not answer")?;

    let node = start(&home)?;
    wait_for(&node, 2)?;
    // Paid, in simd's words.
    let sent = json(&run(
        &home,
        &[
            "tx", "bank", "send", "me", &to, "3ten", "-y", "-b", "block", "-o", "json",
        ],
    )?)?;
    ensure!(
        sent["code"] == 0 && sent["height"].as_str().is_some_and(|h| h != "0"),
        "{sent}"
    );
    let balance = json(&run(&home, &["query", "bank", "balances", &to, "-o", "json"])?)?;
    assert_eq!(
        balance["balances"],
        serde_json::json!([{ "denom": "uten", "amount": "3000000" }])
    );
    let text = run(&home, &["q", "bank", "balance", &to, "uten"])?;
    ensure!(text.contains("amount: \"3000000\""), "{text}");
    let hash = sent["txhash"].as_str().context("hash")?;
    assert_eq!(
        json(&run(&home, &["query", "tx", hash, "-o", "json"])?)?["height"],
        sent["height"]
    );
    refused(
        &home,
        &[
            "tx", "bank", "send", &to, "900ten", "--from", "me", "-y", "-b", "block", "--gas", "200000",
        ],
        "refused it with code 5",
    )?;
    refused(&home, &["tx", "bank", "send", &to, "1ten", "--from", "me"], "--yes")?;
    refused(&home, &["query", "bank", "balance", &to], "(")?;
    let unsigned = json(&run(
        &home,
        &["tx", "bank", "send", "me", &to, "1ten", "--generate-only", "-o", "json"],
    )?)?;
    assert_eq!(unsigned["body"]["messages"][0]["@type"], "/cosmos.bank.v1beta1.MsgSend");

    // A node of another chain is not believed.
    run(&home, &["config", "set", "client", "chain-id", "tenure-other-1"])?;
    refused(&home, &["query", "bank", "balances", &to], "--chain-id")?;
    refused(&home, &["tx", "bank", "send", "me", &to, "1ten", "-y"], "--chain-id")?;
    run(&home, &["config", "set", "client", "chain-id", "tenure-local-9"])?;

    // Measured.
    let metrics = scrape(node.run.metrics.context("metrics")?)?;
    let value = |name: &str| {
        metrics
            .get(name)
            .copied()
            .with_context(|| format!("{name} is not in {metrics:?}"))
    };
    ensure!(value("app_height")? >= 2.0 && value("abci_finalize_block_seconds_count")? >= 2.0);
    ensure!(value("app_txs_total{result=\"ok\"}")? >= 1.0 && value("app_gas_used_total")? > 10_000.0);
    ensure!(value("mempool_checks_total{kind=\"new\",result=\"accepted\"}")? >= 1.0);
    ensure!(value("process_resident_memory_bytes")? > 1e6);
    ensure!(value("app_block_seconds_bucket{le=\"+Inf\"}")? >= 1.0);

    // Healthy while it runs, and when it has stopped.
    let doctor = |args: &[&str]| -> Result<(bool, Value)> {
        let (ok, out, _) = finish(tenured(&home).args([&["doctor", "-o", "json"], args].concat()))?;
        Ok((ok, json(&out)?))
    };
    let (_, report) = doctor(&["--peer", &format!("tcp://{}", node.run.rpc)])?;
    let status = |report: &Value, check: &str| -> Vec<String> {
        let all = report["checks"].as_array().into_iter().flatten();
        all.filter(|c| c["check"] == check)
            .map(|c| c["status"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    for check in ["process", "height", "clock", "double-sign"] {
        ensure!(status(&report, check).iter().all(|s| s == "ok"), "{check}: {report}");
    }
    let last = height(&node)?.max(8);
    wait_for(&node, last)?;
    assert_eq!(node.terminate()?, Some(0));
    fs::set_permissions(
        home.join("config/priv_validator_key.json"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )?;
    let (ok, report) = doctor(&[])?;
    ensure!(
        !ok && status(&report, "permissions") == ["failed"] && status(&report, "state") == ["ok"],
        "{report}"
    );
    fs::set_permissions(
        home.join("config/priv_validator_key.json"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;

    // Exported, now and in the past; the new chain has the same money.
    let exported = dir.path().join("exported.json");
    run(&home, &["export", "--output-document", &exported.display().to_string()])?;
    let document = json(&fs::read_to_string(&exported)?)?;
    let next: u64 = document["initial_height"].as_str().context("height")?.parse()?;
    // Whoever exports a height, and whenever, gets the same bytes: operators compare their hashes.
    assert_eq!(
        run(&home, &["export"])?.trim(),
        fs::read_to_string(&exported)?.trim(),
        "an export is a function of the height"
    );
    let before = json(&run(&home, &["export", "--height", "1"])?)?;
    ensure!(
        before["genesis_time"].as_str() < document["genesis_time"].as_str(),
        "the time of its block"
    );
    ensure!(
        !before["app_state"]["bank"]["balances"].to_string().contains(&to),
        "paid before it was"
    );
    ensure!(!home.join("data/export.tmp").exists());
    let anew = json(&run(&home, &["export", "--for-zero-height"])?)?;
    assert_eq!(anew["initial_height"], "1");
    assert_eq!(anew["app_state"]["bank"], document["app_state"]["bank"]);
    refused(&home, &["export", "--height", &next.to_string()], "the last block")?;
    let copy = dir.path().join("copy");
    run(&copy, &["init", "copy", "--chain-id", "tenure-local-9"])?;
    fs::copy(&exported, copy.join("config/genesis.json"))?;
    let key = "config/priv_validator_key.json";
    fs::copy(home.join(key), copy.join(key))?;
    let node = start(&copy)?;
    wait_for(&node, next)?;
    let (old, new) = (
        &document["app_state"]["bank"]["balances"],
        json(&run(&copy, &["query", "bank", "balances", &to, "-o", "json"])?)?,
    );
    let entry = old
        .as_array()
        .context("balances")?
        .iter()
        .find(|b| b["address"] == to.as_str())
        .context("account")?;
    assert_eq!(new["balances"], entry["coins"]);
    assert_eq!(node.terminate()?, Some(0));

    // A snapshot goes through an archive and comes back with the same app hash.
    run(&home, &["snapshots", "export"])?;
    let listed = json(&run(&home, &["snapshots", "list", "-o", "json"])?)?;
    let taken = (next - 1).to_string();
    assert_eq!(listed[0]["height"].as_str(), Some(taken.as_str()));
    let archive = dir.path().join("s.tar.gz").display().to_string();
    run(&home, &["snapshots", "dump", &taken, "1", "--output-file", &archive])?;
    run(&home, &["snapshots", "delete", &taken, "1"])?;
    refused(
        &home,
        &["snapshots", "restore", &taken, "1", "--yes"],
        "there is no snapshot",
    )?;
    run(&home, &["snapshots", "load", &archive])?;
    refused(&home, &["snapshots", "restore", &taken, "1"], "--yes")?;
    let restored = run(&home, &["snapshots", "restore", &taken, "1", "--yes"])?;
    ensure!(
        restored.contains(listed[0]["app_hash"].as_str().context("hash")?),
        "{restored}"
    );
    // A changed chunk is found before anything is removed.
    let chunk = home.join("data/snapshots").join(&taken).join("00000");
    let mut bytes = fs::read(&chunk)?;
    bytes[7] ^= 1;
    fs::write(&chunk, bytes)?;
    refused(
        &home,
        &["snapshots", "restore", &taken, "1", "--yes"],
        "the manifest says",
    )?;

    // Blocks above a rollback are executed again.
    let node = start(&home)?;
    wait_for(&node, next + 3)?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_tenured"))
        .arg("--home")
        .arg(&home)
        .arg("pre-upgrade")
        .spawn()?;
    assert_eq!(child.wait()?.code(), Some(31), "the home is in use");
    assert_eq!(node.terminate()?, Some(0));
    refused(&home, &["rollback", "--hard"], "solo")?;
    let back = json(&run(&home, &["rollback", "--blocks", "2", "-o", "json"])?)?;
    ensure!(back["height"].as_str().is_some(), "{back}");
    let node = start(&home)?;
    ensure!(node.log_text().contains("replayed block"), "{}", node.log_text());
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}

/// CometBFT's state and the application's go back together, and forward again.
#[test]
fn a_rollback_takes_cometbft_along() -> Result<()> {
    let program = match tenure_comet::binary::CometBft::find(None) {
        Ok(found) => found.path.display().to_string(),
        Err(e) => {
            eprintln!("**** SKIPPED: {e}");
            return Ok(());
        }
    };
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    run(&home, &["init", "me", "--chain-id", "tenure-local-8", "--fast"])?;
    let start = || {
        let mut command = tenured(&home);
        command
            .args(["start", "--engine", "comet", "--auto-ports", "--comet-bin", &program])
            .envs(OWN_PORTS)
            .env("TENURED_CONSENSUS_TIMEOUT_COMMIT", "50ms");
        Node::start(&home, &mut command)
    };
    let node = start()?;
    wait_for(&node, 4)?;
    assert_eq!(node.terminate()?, Some(0));
    let state = json(&run(&home, &["export"])?)?;
    let last: u64 = state["initial_height"].as_str().context("height")?.parse::<u64>()? - 1;
    refused(&home, &["rollback", "--blocks", "2", "--comet-bin", &program], "--hard")?;
    // Refused before CometBFT has taken anything back, which could not be undone.
    let all = last.to_string();
    refused(
        &home,
        &["rollback", "--hard", "--blocks", &all, "--comet-bin", &program],
        "cannot take back",
    )?;
    let back = json(&run(&home, &["rollback", "--comet-bin", &program, "-o", "json"])?)?;
    assert_eq!(
        (&back["height"], &back["engine_height"]),
        (&Value::from((last - 1).to_string()), &back["height"])
    );
    let node = start()?;
    wait_for(&node, last + 2)?;
    assert_eq!(node.terminate()?, Some(0));
    Ok(())
}

/// Prometheus' text, read by its rules: every sample has a type announced before it.
fn scrape(address: SocketAddr) -> Result<BTreeMap<String, f64>> {
    let text = scraped(address)?;
    let (head, body) = text.split_once("\r\n\r\n").context("HTTP")?;
    ensure!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"),
        "{head}"
    );
    let mut samples = BTreeMap::new();
    for family in prometheus_parse::Scrape::parse(body.lines().map(|l| Ok(l.to_owned())))?.samples {
        let labels: Vec<String> = family.labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let mut labels = labels;
        labels.sort();
        let name = if labels.is_empty() {
            family.metric.clone()
        } else {
            format!("{}{{{}}}", family.metric, labels.join(","))
        };
        match family.value {
            prometheus_parse::Value::Counter(v)
            | prometheus_parse::Value::Gauge(v)
            | prometheus_parse::Value::Untyped(v) => {
                samples.insert(name, v);
            }
            prometheus_parse::Value::Histogram(buckets) => {
                for bucket in buckets {
                    let le = if bucket.less_than.is_infinite() {
                        "+Inf".to_owned()
                    } else {
                        bucket.less_than.to_string()
                    };
                    samples.insert(format!("{}_bucket{{le=\"{le}\"}}", family.metric), bucket.count);
                }
            }
            prometheus_parse::Value::Summary(_) => {}
        }
    }
    Ok(samples)
}
