//! What a Cosmos operator types from memory, `simd` of 0.50 in mind: transactions and blocks in the SDK's shapes, on both engines.

use std::process::Command;

use anyhow::{ensure, Context, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use serde_json::{json, Value};
use tempfile::TempDir;
use tenure_types::Address;

use crate::live::{on_both_engines, Live};
use crate::offline::fed;
use crate::support::{balance, finish, rest, tenured};

on_both_engines!(
    a_transaction_has_the_sdks_shape_everywhere,
    blocks_and_validators_are_shown_under_the_sdks_names,
    the_sender_may_stand_first_and_in_from,
    files_are_simulated_and_their_signatures_validated,
    lists_are_paged_with_the_sdks_flags,
    a_port_that_is_not_json_rpc_is_named,
);

/// The fields of a `TxResponse` in their order.
const TX_RESPONSE: [&str; 13] = [
    "height",
    "txhash",
    "codespace",
    "code",
    "data",
    "raw_log",
    "logs",
    "info",
    "gas_wanted",
    "gas_used",
    "tx",
    "timestamp",
    "events",
];
const NOBODY: [u8; 20] = [0x61; 20];

/// An operator with a key `me` that has money, at a node.
pub(crate) struct Operator {
    dir: TempDir,
    pub(crate) node: String,
    pub(crate) address: Address,
}

impl Operator {
    /// Without money.
    pub(crate) fn poor(node: std::net::SocketAddr) -> Result<Self> {
        let mut operator = Self {
            dir: tempfile::tempdir()?,
            node: format!("tcp://{node}"),
            address: Address::new(NOBODY),
        };
        operator.address = operator.key("me")?;
        Ok(operator)
    }

    pub(crate) async fn of(live: &Live) -> Result<Self> {
        let operator = Self::poor(live.node.run.rpc)?;
        let funded = live.send(live.transfer(&operator.address, 50_000_000).await?).await?;
        live.committed(&funded).await?;
        Ok(operator)
    }

    /// Makes a key.
    pub(crate) fn key(&self, name: &str) -> Result<Address> {
        let made = self.json(&["keys", "add", name])?;
        Ok(made["address"].as_str().context("address")?.parse()?)
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = tenured(&self.dir.path().join("home"));
        command.args(args);
        command
            .env("TENURED_NODE", &self.node)
            .env("TENURED_KEYRING_BACKEND", "test");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        let (ok, out, err) = finish(&mut self.command(args))?;
        ensure!(ok, "tenured {args:?}: {out}{err}");
        Ok(out)
    }

    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        let out = self.run(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&out).with_context(|| format!("tenured {args:?}: {out}"))
    }

    /// It must fail with these words.
    pub(crate) fn refused(&self, args: &[&str], words: &[&str]) -> Result<()> {
        let (ok, out, err) = finish(&mut self.command(args))?;
        for word in words {
            ensure!(
                !ok && err.contains(word),
                "tenured {args:?} must fail with {word:?}: {out}{err}"
            );
        }
        Ok(())
    }

    /// Sends and waits for the block; the `TxResponse`.
    fn sent(&self, args: &[&str]) -> Result<Value> {
        let checked = self.json(&[&["tx"], args, &["-y", "-b", "sync"]].concat())?;
        let hash = checked["txhash"].as_str().context("txhash")?;
        let found = self.json(&["q", "wait-tx", hash])?;
        ensure!(found["code"] == 0, "{found}");
        Ok(found)
    }
}

pub(crate) fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

fn fields(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .map(String::as_str)
        .collect()
}

async fn a_transaction_has_the_sdks_shape_everywhere(live: &Live) -> Result<()> {
    let me = Operator::of(live).await?;
    let (from, to) = (me.address.to_string(), Address::new([0x41; 20]).to_string());
    let send = ["tx", "bank", "send", "me", &to, "5uten", "-y"];

    // The node has checked it: the whole shape, with what is not known yet empty.
    let checked = me.json(&send)?;
    assert_eq!(fields(&checked), TX_RESPONSE);
    assert_eq!(
        (&checked["height"], &checked["code"], &checked["tx"], &checked["events"]),
        (&json!("0"), &json!(0), &Value::Null, &json!([]))
    );
    let hash = text(&checked["txhash"])?;
    let waited = me.json(&["query", "wait-tx", hash, "--timeout", "1m"])?;
    assert_eq!(fields(&waited), TX_RESPONSE);
    // However it is asked for, it is what REST says.
    let (status, answer) = rest(live.api()?, &format!("GET /cosmos/tx/v1beta1/txs/{hash}"), "").await?;
    assert_eq!((status, &answer["tx_response"]), (200, &waited));
    assert_eq!(
        waited["tx"]["body"]["messages"][0]["@type"],
        "/cosmos.bank.v1beta1.MsgSend"
    );
    ensure!(
        text(&waited["timestamp"])?.ends_with('Z') && waited["logs"] == json!([]),
        "{waited}"
    );
    let signature = text(&waited["tx"]["signatures"][0])?;
    for by in [
        vec![hash],
        vec!["--type", "hash", hash],
        vec!["--type=acc_seq", &format!("{from}/0")],
        vec!["--type", "signature", signature],
    ] {
        assert_eq!(me.json(&[&["q", "tx"], by.as_slice()].concat())?, waited, "{by:?}");
    }
    let shown = me.run(&["q", "tx", hash])?;
    ensure!(
        shown.starts_with(&format!("height: \"{}\"\n", text(&waited["height"])?)) && shown.contains("\ngas_used: "),
        "{shown}"
    );
    me.refused(&["q", "tx", &"0".repeat(64)], &["tx not found"])?;
    me.refused(&["q", "tx", "abc"], &["64 hex digits"])?;
    me.refused(
        &["q", "tx", "--type", "acc_seq", &format!("{from}/77")],
        &["no transaction in a block has"],
    )?;
    me.refused(&["q", "tx", "--type", "acc_seq", "me"], &["<address>/<sequence>"])?;
    me.refused(&["q", "tx", "--type", "signature", "?"], &["base64"])?;

    // As the SDK pipes it, in either form, and however little the sending tells.
    for (number, more) in [(2, &["-o", "json"][..]), (3, &[]), (4, &["-b", "async"])] {
        let printed = me.run(&[&send[..], more].concat())?;
        let (ok, out, err) = fed(&mut me.command(&["q", "event-query-tx-for", "-o", "json"]), &printed)?;
        ensure!(ok, "{err}");
        let found: Value = serde_json::from_str(&out)?;
        assert_eq!(found["code"], 0);
        let page = me.json(&["q", "txs", "--query", &format!("message.sender='{from}'")])?;
        assert_eq!(
            (&page["total_count"], &page["txs"][number - 1]),
            (&json!(number.to_string()), &found)
        );
    }
    let (ok, _, err) = fed(&mut me.command(&["q", "wait-tx"]), "code: 0\n")?;
    ensure!(!ok && err.contains("no txhash"), "{err}");
    let query = format!("message.sender='{from}' AND tx.height>0");
    let search = ["q", "txs", "--query", &query, "--limit", "3", "--order_by", "desc"];
    let page = me.json(&[&search[..], &["--page", "2"]].concat())?;
    assert_eq!(
        fields(&page),
        ["total_count", "count", "page_number", "page_total", "limit", "txs"]
    );
    assert_eq!(
        (&page["page_number"], &page["page_total"], &page["count"], &page["txs"]),
        (&json!("2"), &json!("2"), &json!("1"), &json!([waited]))
    );
    me.refused(&["q", "txs", "--query", "tx.height=="], &["query"])?;
    me.refused(&["q", "txs"], &["--query"])?;
    me.refused(
        &["q", "wait-tx", &"0".repeat(64), "--timeout", "300ms"],
        &["timed out waiting for transaction 0000", "after 300ms"],
    )?;
    assert_eq!(balance(&live.channel().await?, &to.parse()?).await?, 20);
    Ok(())
}

async fn blocks_and_validators_are_shown_under_the_sdks_names(live: &Live) -> Result<()> {
    let me = Operator::of(live).await?;
    let height = live.reach(4).await? - 1;
    let number = height.to_string();
    let path = format!("GET /cosmos/base/tendermint/v1beta1/blocks/{height}");
    let (_, known) = rest(live.api()?, &path, "").await?;
    let block = &known["block"];
    assert_eq!(fields(block), ["header", "data", "evidence", "last_commit"]);
    let hash = hex::encode_upper(BASE64_STANDARD.decode(text(&known["block_id"]["hash"])?)?);
    for by in [
        vec![number.as_str()],
        vec!["--type", "height", &number],
        vec!["--height", &number],
        vec![&hash],
        vec!["--type=hash", &hash],
    ] {
        assert_eq!(&me.json(&[&["q", "block"], by.as_slice()].concat())?, block, "{by:?}");
    }
    let latest = me.json(&["q", "block"])?;
    ensure!(text(&latest["header"]["height"])?.parse::<i64>()? >= height, "{latest}");
    me.refused(
        &["q", "block", "--type", "hash", &number],
        &["64 hex digits", "--type height"],
    )?;
    me.refused(&["q", "block", &"0".repeat(64)], &["no block has the hash"])?;
    me.refused(&["q", "block", "99999999"], &["99999999"])?;
    me.refused(&["q", "block", "abc"], &["neither a height nor"])?;

    let query = format!("block.height >= 2 AND block.height <= {height}");
    let search = ["q", "blocks", "--query", &query, "--limit", "1", "--order_by", "desc"];
    let found = me.json(&search)?;
    assert_eq!(
        fields(&found),
        ["total_count", "count", "page_number", "page_total", "limit", "blocks"]
    );
    assert_eq!(
        (&found["total_count"], &found["page_total"], &found["blocks"]),
        (
            &json!((height - 1).to_string()),
            &json!((height - 1).to_string()),
            &json!([block])
        )
    );

    let results = me.json(&["q", "block-results", &number])?;
    ensure!(
        results["height"] == json!(number) && results.get("finalize_block_events").is_some(),
        "{results}"
    );
    assert_eq!(me.json(&["q", "block-results", "--height", &number])?, results);
    let path = format!("GET /cosmos/base/tendermint/v1beta1/validatorsets/{height}");
    let (_, set) = rest(live.api()?, &path, "").await?;
    for name in ["comet-validator-set", "tendermint-validator-set"] {
        let shown = me.json(&["q", name, &number])?;
        assert_eq!(shown, set);
    }
    ensure!(me.run(&["q", "comet-validator-set"])?.contains("voting_power: \"10\""));
    Ok(())
}

async fn the_sender_may_stand_first_and_in_from(live: &Live) -> Result<()> {
    let me = Operator::of(live).await?;
    let from = me.address.to_string();
    let [a, b, c] = [0x51, 0x52, 0x53].map(|byte| Address::new([byte; 20]));
    let [to, second, third] = [a, b, c].map(|address| address.to_string());
    for args in [
        vec!["me", &to, "1uten"],
        vec![&from, &to, "1uten", "--from", "me"],
        vec!["me", &to, "1uten", "--from", &from],
        vec![&to, "1uten", "--from", &from],
        vec!["--to-address", &to, "--amount", "1uten", "me", "--from", "me"],
    ] {
        let sent = me.sent(&[&["bank", "send"], args.as_slice()].concat())?;
        assert_eq!(sent["tx"]["body"]["messages"][0]["from_address"], from, "{args:?}");
    }
    let channel = live.channel().await?;
    assert_eq!(balance(&channel, &a).await?, 5);
    me.refused(
        &["tx", "bank", "send", &second, &to, "1uten", "--from", "me", "-y"],
        &[&second, "--from is \"me\"", "[KEY] [TO-ADDRESS] [AMOUNT]"],
    )?;
    me.refused(
        &["tx", "bank", "send", "me", &to, "1uten", "2uten", "-y"],
        &["\"2uten\" is one too many", "[KEY] [TO-ADDRESS] [AMOUNT]"],
    )?;

    let whole = me.sent(&["bank", "multi-send", "me", &second, &third, "10uten"])?;
    assert_eq!(
        whole["tx"]["body"]["messages"][0]["inputs"][0]["coins"][0]["amount"],
        "20"
    );
    let split = [
        "bank",
        "multi-send",
        &from,
        &second,
        &third,
        "5uten",
        "--split",
        "--from",
        "me",
    ];
    me.sent(&split)?;
    assert_eq!((balance(&channel, &b).await?, balance(&channel, &c).await?), (12, 12));
    me.refused(
        &[
            "tx",
            "bank",
            "multi-send",
            &second,
            &third,
            "5uten",
            "--from",
            "me",
            "-y",
        ],
        &[&second, "--from is \"me\""],
    )?;
    me.refused(
        &["tx", "bank", "multi-send", "me", "5uten", "-y"],
        &["[TO-ADDRESS]... [AMOUNT]"],
    )
}

async fn files_are_simulated_and_their_signatures_validated(live: &Live) -> Result<()> {
    let me = Operator::of(live).await?;
    let payer = me.key("payer")?;
    me.sent(&["bank", "send", "me", &payer.to_string(), "5ten"])?;
    let to = Address::new([0x71; 20]).to_string();
    let (unsigned, half, whole) = (me.file("tx.json"), me.file("half.json"), me.file("whole.json"));
    let send = ["tx", "bank", "send", "me", &to, "2uten", "--note", "rent"];
    let generate = |more: &[&str]| -> Result<()> {
        let out = me.run(&[&send[..], &["--generate-only"], more].concat())?;
        Ok(std::fs::write(&unsigned, out)?)
    };

    // Two accounts: one sends, one pays.
    me.refused(
        &[&send[..], &["--fee-payer", "payer", "-y"]].concat(),
        &["--generate-only", &payer.to_string()],
    )?;
    me.refused(
        &[&send[..], &["--fee-granter", "payer", "-y"]].concat(),
        &["no fee grants", "--fee-payer payer"],
    )?;
    generate(&["--fee-payer", "payer"])?;
    let simulated = me.json(&["tx", "simulate", &unsigned, "--from", "me"])?;
    let gas: u64 = text(&simulated["gas_info"]["gas_used"])?.parse()?;
    ensure!(
        gas > 10_000
            && simulated["result"]["events"]
                .as_array()
                .is_some_and(|events| !events.is_empty()),
        "{simulated}"
    );
    let stranger = me.key("stranger")?;
    me.refused(
        &["tx", "simulate", &unsigned, "--from", "stranger"],
        &[&stranger.to_string(), "--from"],
    )?;
    let missing = ["[ERROR: not signed yet]", "signatures validation failed"];
    let validate = |file: &str, more: &[&str]| {
        let (ok, out, err) = finish(&mut me.command(&[&["tx", "validate-signatures", file], more].concat()))?;
        anyhow::Ok((ok, out + &err))
    };
    for more in [&[][..], &["--offline"]] {
        let (ok, said) = validate(&unsigned, more)?;
        ensure!(!ok && missing.iter().all(|word| said.contains(word)), "{said}");
    }
    me.run(&["tx", "sign", &unsigned, "--from", "payer", "--output-document", &half])?;
    let (ok, said) = validate(&half, &[])?;
    ensure!(
        !ok && said.contains(&format!("1: {payer}\t\t\t[OK]")) && said.contains("1 of 2"),
        "{said}"
    );
    me.run(&["tx", "sign", &half, "--from", "me", "--output-document", &whole])?;
    for more in [&[][..], &["--offline"]] {
        let (ok, said) = validate(&whole, more)?;
        ensure!(ok && said.matches("[OK]").count() == 2, "{said}");
    }
    // A changed transaction has the same signers, and no valid signature.
    let changed = std::fs::read_to_string(&whole)?.replace("\"rent\"", "\"gift\"");
    std::fs::write(&half, changed)?;
    let (ok, said) = validate(&half, &["--offline"])?;
    ensure!(ok, "{said}");
    let (ok, said) = validate(&half, &[])?;
    ensure!(!ok && said.contains("not a signature over this transaction"), "{said}");

    let sent = me.json(&["tx", "broadcast", &whole, "-b", "block"])?;
    let events = sent["events"].as_array().context("events")?;
    let paid_by = events.iter().flat_map(|event| event["attributes"].as_array()).flatten();
    let paid_by = paid_by
        .filter(|attribute| attribute["key"] == "fee_payer")
        .map(|attribute| &attribute["value"]);
    assert_eq!(paid_by.collect::<Vec<_>>(), [&json!(payer.to_string())]);
    // What is in a block is not valid again, and that is told apart from a signature that is wrong.
    let (ok, said) = validate(&whole, &[])?;
    ensure!(
        !ok && said.contains("signed for sequence 1, the account is at 2"),
        "{said}"
    );

    let sent = me.sent(&["bank", "send", "me", &to, "1uten", "--sign-mode", "amino-json"])?;
    let info = &sent["tx"]["auth_info"]["signer_infos"][0];
    assert_eq!(info["mode_info"]["single"]["mode"], "SIGN_MODE_LEGACY_AMINO_JSON");
    me.refused(
        &[&send[..], &["--sign-mode", "textual"]].concat(),
        &["direct, amino-json"],
    )?;
    me.refused(
        &[&send[..], &["--timeout-height", "1", "-y"]].concat(),
        &["timeout height"],
    )
}

async fn lists_are_paged_with_the_sdks_flags(live: &Live) -> Result<()> {
    let me = Operator::of(live).await?;
    let accounts = |more: &[&str]| -> Result<(Vec<Value>, Value)> {
        let page = me.json(&[&["q", "auth", "accounts"], more].concat())?;
        let names = page["accounts"].as_array().context("accounts")?;
        Ok((names.clone(), page["pagination"].clone()))
    };
    let (all, _) = accounts(&[])?;
    ensure!(all.len() >= 4, "{all:?}");
    let (first, page) = accounts(&["--page-limit", "2", "--page-count-total"])?;
    assert_eq!((&first[..], &page["total"]), (&all[..2], &json!(all.len().to_string())));
    let (next, _) = accounts(&["--page-key", text(&page["next_key"])?, "--page-limit", "1"])?;
    assert_eq!(next[..], all[2..3]);
    let (next, _) = accounts(&["--page-offset", "2", "--page-limit", "1"])?;
    assert_eq!(next[..], all[2..3]);
    let (last, _) = accounts(&["--page-reverse", "--page-limit", "1"])?;
    assert_eq!(last[..], all[all.len() - 1..]);
    me.refused(
        &["q", "auth", "accounts", "--page-offset", "x"],
        &["--page-offset", "number"],
    )
}

async fn a_port_that_is_not_json_rpc_is_named(live: &Live) -> Result<()> {
    let run = &live.node.run;
    for (port, speaks) in [(run.grpc, "gRPC"), (live.api()?, "REST")] {
        let node = format!("tcp://{port}");
        let words =
            format!("{port} speaks {speaks}, not CometBFT's JSON-RPC: pass that port, as a rule tcp://127.0.0.1:26657");
        for command in [&["q", "bank", "total"][..], &["q", "block"], &["status"]] {
            let args = [command, &["--node", &node]].concat();
            let (ok, out, err) = finish(tenured(std::path::Path::new("/nonexistent")).args(&args))?;
            ensure!(
                !ok && err.contains(&words) && !err.contains("does not answer"),
                "{args:?}: {out}{err}"
            );
        }
    }
    Ok(())
}
