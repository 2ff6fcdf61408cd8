//! Keys of which only the public half is here, as `keys add --pubkey` of the Cosmos SDK makes them.

use anyhow::{ensure, Result};
use serde_json::json;
use tenure_types::Address;

use crate::cosmos_cli::Operator;
use crate::live::{on_both_engines, Live};

on_both_engines!(a_watched_account_is_paid_for_by_the_machine_with_its_key);

async fn a_watched_account_is_paid_for_by_the_machine_with_its_key(live: &Live) -> Result<()> {
    let cold = Operator::of(live).await?;
    let watch = Operator::poor(live.node.run.rpc)?;
    let public = cold.run(&["keys", "show", "me", "--pubkey"])?;
    let address = cold.address.to_string();
    let add = ["keys", "add", "cold", "--pubkey", public.trim()];
    let made = watch.json(&add)?;
    let record = json!({ "name": "cold", "type": "offline", "address": address, "pubkey": public.trim() });
    assert_eq!(made, record);
    watch.refused(&add, &["exists already"])?;
    watch.refused(
        &["keys", "add", "x", "--pubkey", "{}"],
        &["/cosmos.crypto.secp256k1.PubKey"],
    )?;
    assert_eq!(watch.json(&["keys", "show", "cold"])?, record);
    assert_eq!(watch.run(&["keys", "show", &address, "--pubkey"])?, public);
    let list = watch.json(&["keys", "list"])?;
    assert_eq!((&list[0], &list[1]["type"]), (&record, &json!("local")));
    ensure!(watch
        .run(&["keys", "list"])?
        .contains("name: cold\n  pubkey: '{\"@type\""));

    // It names the account, and says what to do where a signature is asked for.
    let to = Address::new([0x81; 20]).to_string();
    let send = ["tx", "bank", "send", "cold", &to, "3uten"];
    watch.refused(
        &[&send[..], &["-y"]].concat(),
        &[
            "key cold is offline",
            "--generate-only",
            "tenured tx sign",
            "tenured tx broadcast",
        ],
    )?;
    // At once: neither is a node asked, nor a person.
    watch.refused(
        &[&send[..], &["--node", "tcp://127.0.0.1:1"]].concat(),
        &["key cold is offline"],
    )?;
    watch.refused(&["keys", "export", "cold"], &["key cold is offline"])?;
    let (unsigned, signed) = (watch.file("tx.json"), watch.file("signed.json"));
    std::fs::write(&unsigned, watch.run(&[&send[..], &["--generate-only"]].concat())?)?;
    cold.run(&["tx", "sign", &unsigned, "--from", "me", "--output-document", &signed])?;
    let sent = watch.json(&["tx", "broadcast", &signed, "-b", "block"])?;
    assert_eq!(sent["tx"]["body"]["messages"][0]["from_address"], address);

    watch.run(&["keys", "rename", "cold", "vault", "-y"])?;
    assert_eq!(watch.run(&["keys", "list", "-n"])?, "me\nvault\n");
    watch.run(&["keys", "delete", "vault", "-y"])?;
    assert_eq!(watch.run(&["keys", "list", "-n"])?, "me\n");
    Ok(())
}
