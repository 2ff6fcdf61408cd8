//! Keys from words, and transactions signed where there is no node.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use serde_json::Value;
use tenure_types::Address;

use crate::engine::until;
use crate::live::{on_both_engines, Live};
use crate::support::{account, balance, finish, scraped, tenured, CHAIN_ID};

/// The words of every test vector of BIP-39.
const WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
/// The ed25519 key whose seed is the SHA-256 of these words, and its address: made with Python's hashlib and cryptography, as CometBFT's
/// `ed25519.GenPrivKeyFromSecret` does.
const PUBLIC: &str = "k6XyYZhJMeDfXHQ0sW1GjvsZUwmNPK1PoVBrngUuf8c=";
const ADDRESS: &str = "6FD145BCC8F8071A7239619B6A1A68CB8C8B2DEA";

on_both_engines!(what_was_signed_offline_is_sent_by_another_machine);

/// Runs a command with this on its standard input.
pub(crate) fn fed(command: &mut Command, input: &str) -> Result<(bool, String, String)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("stdin")?.write_all(input.as_bytes())?;
    let out = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((out.status.success(), text(out.stdout), text(out.stderr)))
}

#[test]
fn the_words_of_another_cosmos_chain_give_the_same_validator_here() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let recover = |home: &Path, words: &str| {
        let mut command = tenured(home);
        command.args([
            "init",
            "me",
            "--chain-id",
            "tenure-local-1",
            "--recover",
            "--output",
            "json",
        ]);
        fed(&mut command, words)
    };
    let mut nodes = Vec::new();
    // However they were typed.
    for (name, words) in [
        ("a", format!("{WORDS}\n")),
        ("b", format!("  {}  ", WORDS.replace(' ', "\n "))),
    ] {
        let home = dir.path().join(name);
        let (ok, out, err) = recover(&home, &words)?;
        ensure!(ok, "{err}");
        ensure!(
            err.contains("never run in two places") && !err.contains("abandon"),
            "{err}"
        );
        let made: Value = serde_json::from_str(&out)?;
        assert_eq!(made["validator"], ADDRESS);
        nodes.push(made["node_id"].clone());
        let key: Value = serde_json::from_slice(&fs::read(home.join("config/priv_validator_key.json"))?)?;
        assert_eq!(
            (&key["pub_key"]["value"], &key["address"]),
            (&PUBLIC.into(), &ADDRESS.into())
        );
        let genesis: Value = serde_json::from_slice(&fs::read(home.join("config/genesis.json"))?)?;
        assert_eq!(genesis["validators"][0]["pub_key"]["value"], PUBLIC);
        let (ok, shown, err) = finish(tenured(&home).args(["comet", "show-validator"]))?;
        ensure!(ok && shown.contains(PUBLIC), "{shown}{err}");
    }
    assert_ne!(nodes[0], nodes[1], "a node's own key is its own");
    // Nothing is left of words that are none, and words do not change a home that is there.
    let home = dir.path().join("c");
    let (ok, _, err) = recover(&home, "abandon abandon about")?;
    ensure!(!ok && !home.join("config").exists(), "{err}");
    ensure!(!err.contains("abandon abandon"), "the words are in the message: {err}");
    let (ok, _, err) = recover(&dir.path().join("a"), WORDS)?;
    ensure!(!ok && err.contains("exists already"), "{err}");
    Ok(())
}

#[test]
fn a_keyring_of_the_sdk_that_is_not_here_names_those_that_are() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for backend in ["os", "pass", "kwallet"] {
        let (ok, _, err) = finish(tenured(dir.path()).args(["keys", "list", "--keyring-backend", backend]))?;
        ensure!(!ok && err.contains(backend), "{err}");
        for word in ["desktop session", "file", "test", "TENURE_KEYRING_PASSPHRASE"] {
            ensure!(err.contains(word), "{word}: {err}");
        }
    }
    Ok(())
}

async fn what_was_signed_offline_is_sent_by_another_machine(live: &Live) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (cold, file) = (dir.path().join("cold"), dir.path().join("tx.json"));
    let test = ["--keyring-backend", "test"];
    let (ok, shown, err) = finish(tenured(&cold).args(["keys", "add", "me", "-o", "json"]).args(test))?;
    ensure!(ok, "{err}");
    let me: Address = serde_json::from_str::<Value>(&shown)?["address"]
        .as_str()
        .context("address")?
        .parse()?;
    let funded = live.send(live.transfer(&me, 5_000_000).await?).await?;
    live.committed(&funded).await?;
    let channel = live.channel().await?;
    let (number, sequence) = account(&channel, &me).await?;
    let to = Address::new([0x31; 20]);

    // The machine with the key: no node is near, and it says all that it must be told.
    let sign = |more: &[&str]| {
        let mut command = tenured(&cold);
        command.args([
            "tx",
            "bank",
            "send",
            "me",
            &to.to_string(),
            "2ten",
            "--offline",
            "-o",
            "json",
        ]);
        finish(command.args(test).args(more))
    };
    let (ok, _, err) = sign(&["--account-number", "1"])?;
    ensure!(!ok && !err.contains("--account-number,"), "{err}");
    for flag in ["--sequence", "--chain-id", "--gas", "--fees"] {
        ensure!(err.contains(flag), "{flag}: {err}");
    }
    let (number, sequence) = (number.to_string(), sequence.to_string());
    let told = [
        "--account-number",
        &number,
        "--sequence",
        &sequence,
        "--chain-id",
        CHAIN_ID,
        "--gas",
        "200000",
        "--fees",
        "1000uten",
        "--note",
        "from the cold <\"é\">",
    ];
    let (ok, signed, err) = sign(&told)?;
    ensure!(ok, "{err}");
    fs::write(&file, &signed)?;

    // The machine with the node.
    let send = |source: &str, input: &str| {
        let mut command = tenured(&dir.path().join("warm"));
        let node = format!("tcp://{}", live.node.run.rpc);
        command.args(["tx", "broadcast", source, "-b", "block", "-o", "json", "--node", &node]);
        fed(&mut command, input)
    };
    let changed = signed.replace("\"2000000\"", "\"3000000\"");
    ensure!(changed != signed);
    let (ok, _, err) = send("-", &changed)?;
    ensure!(!ok && err.contains("signature verification failed"), "{err}");
    let (ok, sent, err) = send(&file.display().to_string(), "")?;
    ensure!(ok, "{err}");
    let sent: Value = serde_json::from_str(&sent)?;
    ensure!(
        sent["code"] == 0 && sent["height"].as_str().is_some_and(|h| h != "0"),
        "{sent}"
    );
    assert_eq!(balance(&channel, &to).await?, 2_000_000);
    // Once: sent again it is known, which the Cosmos SDK does not call a failure.
    let mut again = tenured(&dir.path().join("warm"));
    let node = format!("tcp://{}", live.node.run.rpc);
    again.args([
        "tx",
        "broadcast",
        &file.display().to_string(),
        "-o",
        "json",
        "--node",
        &node,
    ]);
    let (ok, known, err) = finish(&mut again)?;
    ensure!(ok && err.contains("already"), "{err}");
    let known: Value = serde_json::from_str(&known)?;
    assert_eq!((&known["code"], &known["codespace"]), (&19.into(), &"sdk".into()));
    assert_eq!(known["txhash"], sent["txhash"]);
    assert_eq!(balance(&channel, &to).await?, 2_000_000);

    // What was refused on the way stands in the figures, with the code that wallets know.
    let metrics = live.node.run.metrics.context("metrics")?;
    until("the refused signature in the metrics", || {
        let text = scraped(metrics).ok()?;
        let has = |line: &str| text.lines().any(|l| l == line);
        // Code 4: unauthorized.
        (has("mempool_rejected_total{code=\"4\",codespace=\"sdk\"} 1")).then_some(())
    })
    .await
    .with_context(|| scraped(metrics).unwrap_or_default())
}
