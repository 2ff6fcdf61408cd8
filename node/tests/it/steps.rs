//! A transaction's steps as commands on files, each on a machine of its own: generate, sign, encode, decode, broadcast.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::{json, Value};
use tempfile::TempDir;
use tenure_types::Address;

use crate::live::{on_both_engines, Live};
use crate::support::{account, balance, finish, tenured, CHAIN_ID};

on_both_engines!(
    a_transaction_is_generated_signed_and_sent_on_three_machines,
    several_signers_sign_one_after_another
);

/// A key on a machine of its own, with money on the chain.
struct Owner {
    home: PathBuf,
    address: Address,
    number: u64,
}

/// Machines, and the chain that one of them sees.
struct Machines<'a> {
    live: &'a Live,
    dir: TempDir,
}

impl<'a> Machines<'a> {
    fn of(live: &'a Live) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        Ok(Self { live, dir })
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Makes a key and gives it money.
    async fn owner(&self, name: &str) -> Result<Owner> {
        let home = self.dir.path().join(name);
        let shown = ran(&home, &["keys", "add", "me", "-o", "json", "--keyring-backend", "test"])?;
        let shown: Value = serde_json::from_str(&shown)?;
        let address = shown["address"].as_str().context("address")?.parse()?;
        let funded = self.live.send(self.live.transfer(&address, 5_000_000).await?).await?;
        self.live.committed(&funded).await?;
        let (number, _) = account(&self.live.channel().await?, &address).await?;
        Ok(Owner { home, address, number })
    }

    /// A command on a machine without keys that sees the chain.
    fn online(&self, args: &[&str]) -> Result<(bool, String, String)> {
        let node = format!("tcp://{}", self.live.node.run.rpc);
        finish(
            tenured(&self.dir.path().join("online"))
                .args(args)
                .args(["--node", &node]),
        )
    }

    /// The transfer of 2ten as it is generated where the key is not.
    fn generated(&self, from: &Address, to: &Address, file: &str) -> Result<Value> {
        let (from, to) = (from.to_string(), to.to_string());
        let args = ["tx", "bank", "send", &to, "2ten", "--from", &from, "--generate-only"];
        let (ok, out, err) = self.online(&args)?;
        ensure!(ok, "{err}");
        fs::write(file, &out)?;
        Ok(serde_json::from_str(&out)?)
    }

    fn broadcast(&self, file: &str) -> Result<Value> {
        let (ok, out, err) = self.online(&["tx", "broadcast", file, "-b", "block", "-o", "json"])?;
        ensure!(ok, "{err}");
        Ok(serde_json::from_str(&out)?)
    }
}

impl Owner {
    /// Signs a file where no node is.
    fn sign(&self, file: &str, sequence: u64, more: &[&str]) -> Result<(bool, String, String)> {
        let (number, sequence) = (self.number.to_string(), sequence.to_string());
        let told = [
            "--account-number",
            &number,
            "--sequence",
            &sequence,
            "--chain-id",
            CHAIN_ID,
        ];
        let sign = [
            "tx",
            "sign",
            file,
            "--from",
            "me",
            "--keyring-backend",
            "test",
            "--offline",
        ];
        finish(tenured(&self.home).args(sign).args(told).args(more))
    }
}

/// The output of a command that must succeed.
fn ran(home: &Path, args: &[&str]) -> Result<String> {
    let (ok, out, err) = finish(tenured(home).args(args))?;
    ensure!(ok, "{args:?}: {err}");
    Ok(out)
}

async fn a_transaction_is_generated_signed_and_sent_on_three_machines(live: &Live) -> Result<()> {
    let machines = Machines::of(live)?;
    let owner = machines.owner("cold").await?;
    let to = Address::new([0x32; 20]);
    let (unsigned, signed) = (machines.file("tx.json"), machines.file("signed.json"));

    // It is whole but for the signature: what it may cost is in it.
    let generated = machines.generated(&owner.address, &to, &unsigned)?;
    assert_eq!(generated["auth_info"]["signer_infos"], json!([]));
    let fee = &generated["auth_info"]["fee"];
    let gas: u64 = fee["gas_limit"].as_str().context("gas_limit")?.parse()?;
    ensure!(gas > 10_000 && fee["amount"][0]["denom"] == "uten", "{fee}");
    let (ok, _, err) = machines.online(&["tx", "broadcast", &unsigned])?;
    ensure!(!ok && err.contains("no signature") && err.contains("tx sign"), "{err}");

    // Where no node is, what it may cost is told.
    let nowhere = |more: &[&str]| {
        let (from, to) = (owner.address.to_string(), to.to_string());
        let generate = ["tx", "bank", "send", &to, "2ten", "--from", &from];
        finish(
            tenured(&owner.home)
                .args(generate)
                .args(["--generate-only", "--offline"])
                .args(more),
        )
    };
    let (ok, _, err) = nowhere(&[])?;
    ensure!(
        !ok && err.contains("--gas") && err.contains("--fees") && !err.contains("--sequence,"),
        "{err}"
    );
    let (ok, out, err) = nowhere(&["--gas", "70000", "--fees", "70uten"])?;
    ensure!(ok, "{err}");
    let told: Value = serde_json::from_str(&out)?;
    assert_eq!(
        (&told["body"], &told["auth_info"]["signer_infos"]),
        (&generated["body"], &json!([]))
    );
    assert_eq!(told["auth_info"]["fee"]["gas_limit"], "70000");

    let missing = [
        "tx",
        "sign",
        &unsigned,
        "--from",
        "me",
        "--keyring-backend",
        "test",
        "--offline",
    ];
    let (ok, _, err) = finish(tenured(&owner.home).args(missing))?;
    ensure!(!ok && !err.contains("--gas"), "the fee is in the file: {err}");
    for flag in ["--account-number", "--sequence", "--chain-id"] {
        ensure!(err.contains(flag), "{flag}: {err}");
    }
    let stranger = machines.owner("stranger").await?;
    let (ok, _, err) = stranger.sign(&unsigned, 0, &[])?;
    ensure!(
        !ok && err.contains(&owner.address.to_string()) && err.contains(&stranger.address.to_string()),
        "{err}"
    );
    let (ok, out, err) = owner.sign(&unsigned, 0, &["--output-document", &signed])?;
    ensure!(ok && out.is_empty(), "{out}{err}");
    let document: Value = serde_json::from_slice(&fs::read(&signed)?)?;
    assert_eq!(
        (&document["body"], &document["auth_info"]["fee"]),
        (&generated["body"], fee)
    );

    // The bytes as text, in both directions, signed or not.
    for file in [&unsigned, &signed] {
        let base64 = ran(&owner.home, &["tx", "encode", file])?.trim().to_owned();
        let document: Value = serde_json::from_slice(&fs::read(file)?)?;
        let decoded = ran(&owner.home, &["tx", "decode", &base64])?;
        assert_eq!(serde_json::from_str::<Value>(&decoded)?, document);
        let hexadecimal = hex::encode(BASE64.decode(&base64)?);
        assert_eq!(ran(&owner.home, &["tx", "decode", "-x", &hexadecimal])?, decoded);
    }
    let (ok, _, err) = finish(tenured(&owner.home).args(["tx", "decode", "no!"]))?;
    ensure!(!ok && err.contains("base64") && err.contains("--hex"), "{err}");

    let sent = machines.broadcast(&signed)?;
    assert_eq!(
        (&sent["code"], sent["gas_wanted"].as_str()),
        (&json!(0), fee["gas_limit"].as_str())
    );
    assert_eq!(balance(&live.channel().await?, &to).await?, 2_000_000);

    // Once more, in the form that hardware wallets sign, on a machine that sees the chain.
    machines.generated(&owner.address, &to, &unsigned)?;
    let node = format!("tcp://{}", live.node.run.rpc);
    let online = [
        "tx",
        "sign",
        &unsigned,
        "--from",
        "me",
        "--keyring-backend",
        "test",
        "--node",
        &node,
    ];
    let out = ran(&owner.home, &[&online[..], &["--sign-mode", "amino-json"]].concat())?;
    fs::write(&signed, &out)?;
    let document: Value = serde_json::from_str(&out)?;
    let info = &document["auth_info"]["signer_infos"][0];
    assert_eq!(info["mode_info"]["single"]["mode"], "SIGN_MODE_LEGACY_AMINO_JSON");
    assert_eq!(info["sequence"], "1", "the chain was asked");
    machines.broadcast(&signed)?;
    assert_eq!(balance(&live.channel().await?, &to).await?, 4_000_000);
    Ok(())
}

async fn several_signers_sign_one_after_another(live: &Live) -> Result<()> {
    let machines = Machines::of(live)?;
    let (one, two) = (machines.owner("one").await?, machines.owner("two").await?);
    let to = Address::new([0x33; 20]);
    let (file, half, whole) = (
        machines.file("tx.json"),
        machines.file("half.json"),
        machines.file("whole.json"),
    );
    let mut both = machines.generated(&one.address, &to, &file)?;
    let second = machines.generated(&two.address, &to, &file)?;
    let more = second["body"]["messages"][0].clone();
    both["body"]["messages"].as_array_mut().context("messages")?.push(more);
    both["auth_info"]["fee"] = json!({ "amount": [{ "denom": "uten", "amount": "20000" }], "gas_limit": "400000" });
    fs::write(&file, serde_json::to_vec(&both)?)?;

    // The second one first, and not with a signature that would cover the other's place.
    let (ok, _, err) = two.sign(&file, 0, &["--sign-mode", "direct"])?;
    ensure!(!ok && err.contains(&one.address.to_string()), "{err}");
    let (ok, _, err) = two.sign(&file, 0, &["--output-document", &half])?;
    ensure!(ok, "{err}");
    let (ok, _, err) = machines.online(&["tx", "broadcast", &half])?;
    ensure!(!ok && err.contains(&format!("{} has not signed", one.address)), "{err}");
    let (ok, _, err) = one.sign(&half, 0, &["--sign-mode", "direct", "--output-document", &whole])?;
    ensure!(ok, "{err}");
    machines.broadcast(&whole)?;
    assert_eq!(balance(&live.channel().await?, &to).await?, 4_000_000);

    // What needs several is not sent with one signature.
    let (one_name, two_name) = (one.address.to_string(), two.address.to_string());
    let amend = ["tx", "market", "amend-lease", &two_name, "1", "5", "--from", "me", "-y"];
    let node = format!("tcp://{}", live.node.run.rpc);
    let test = ["--keyring-backend", "test", "--node", &node];
    let (ok, _, err) = finish(tenured(&one.home).args(amend).args(test))?;
    ensure!(
        !ok && err.contains("--generate-only") && err.contains(&format!("{one_name} and {two_name}")),
        "{err}"
    );
    Ok(())
}
