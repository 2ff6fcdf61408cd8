//! Home, keys and play money.

use std::io::{IsTerminal, Read, Write};

use serde_json::json;
use tenure_client::{
    home::Config,
    keyring::{Backend, KeyInfo},
    keys::{new_mnemonic, parse_mnemonic},
    passphrase::ask,
    units::show_amount,
    Error, Result,
};
use tokio::time::{sleep, Instant};
use zeroize::Zeroizing;

use crate::{
    args::Keys,
    context::Context,
    follow::POLL,
    ui::{out, pairs},
};

pub(super) async fn init(context: &Context, recover: bool) -> Result<()> {
    let mut config = context.config.clone();
    // The chain is pinned at the first init, so that a wrong node shows later.
    let reached = context.client().await;
    match &reached {
        Ok(client) => config.chain_id = client.status().await?.chain_id,
        Err(Error::Unreachable { .. }) => {}
        Err(_) => return reached.map(|_| ()),
    }
    let name = config.key.clone();
    let known = context.keyring().list()?.into_iter().find(|key| key.name == name);
    let (info, words) = match known {
        Some(_) if recover => {
            return Err(Error::Usage(format!(
                "key {name:?} exists already; store the other one with `tenure keys add <name> --recover`"
            )));
        }
        Some(info) => (info, None),
        None => add_key(context, &name, recover)?,
    };
    config.save(&context.home)?;
    let path = Config::path(&context.home);
    context.ui.note(if context.configured {
        "configuration kept, with what the flags changed"
    } else {
        "configuration written"
    });
    let record = json!({
        "home": context.home, "key": info.name, "address": info.address, "node": config.node, "chain_id": config.chain_id,
        "keyring": config.keyring, "mnemonic": words.as_ref().map(|w| w.to_string()),
    });
    context.ui.record(&record, || {
        let chain = match (&reached, config.chain_id.as_str()) {
            (Err(_), "") => "unknown: the node does not answer; it is asked at the first command".to_owned(),
            (_, chain) => chain.to_owned(),
        };
        pairs(&[
            ("configuration", path.display().to_string()),
            ("node", config.node.clone()),
            ("chain", chain),
            ("key", format!("{} ({} keyring)", info.name, config.keyring)),
            ("address", info.address.clone()),
        ])
    });
    show_words(context, words.as_ref().map(|w| w.as_str()));
    context.ui.note(if reached.is_ok() {
        "next: tenure faucet"
    } else {
        "next: start a node with `tenured start`, then `tenure faucet`"
    });
    Ok(())
}

/// New words are shown once; in `json` they are part of the record.
fn show_words(context: &Context, words: Option<&str>) {
    let clear = context.config.keyring == Backend::Test;
    if clear {
        context
            .ui
            .note("warning: the test keyring keeps keys in clear: use them on development networks only");
    }
    if let Some(words) = words {
        let lost = if clear {
            ""
        } else {
            " They are the only way back if this machine or the passphrase is lost."
        };
        context.ui.note(format!(
            "\nWrite these words down; whoever has them owns the account.{lost}\n\n  {words}\n"
        ));
    }
}

fn add_key(context: &Context, name: &str, recover: bool) -> Result<(KeyInfo, Option<Zeroizing<String>>)> {
    let mnemonic = if recover {
        parse_mnemonic(&read_words()?)?
    } else {
        new_mnemonic()?
    };
    let key = context.keyring().add(name, &mnemonic)?;
    let info = KeyInfo {
        name: name.to_owned(),
        address: key.address().to_string(),
    };
    Ok((info, (!recover).then(|| Zeroizing::new(mnemonic.to_string()))))
}

fn read_words() -> Result<Zeroizing<String>> {
    if std::io::stdin().is_terminal() {
        return ask("Words: ");
    }
    let mut words = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(4096)
        .read_to_string(&mut words)
        .map_err(|e| Error::Key(format!("no words on standard input: {e}")))?;
    Ok(words)
}

pub(super) fn keys(context: &Context, command: Keys) -> Result<()> {
    let ring = context.keyring();
    let key_json =
        |info: &KeyInfo| json!({ "name": info.name, "address": info.address, "keyring": context.config.keyring });
    let key_row = |info: &KeyInfo| vec![info.name.clone(), info.address.clone()];
    match command {
        Keys::Add { name, recover } => added(context, &name, recover)?,
        Keys::Import { name } => added(context, &name, true)?,
        Keys::List => {
            let keys = ring.list()?;
            let records: Vec<_> = keys.iter().map(key_json).collect();
            let empty = format!(
                "no keys in the {} keyring: `tenure keys add {}`",
                context.config.keyring, context.config.key
            );
            context.ui.list(
                &records,
                &["NAME", "ADDRESS"],
                keys.iter().map(key_row).collect(),
                &empty,
            );
        }
        Keys::Show { name, address } => {
            let info = ring.show(&name)?;
            if address {
                out(&info.address);
            } else {
                context.ui.record(&key_json(&info), || {
                    pairs(&[("name", info.name.clone()), ("address", info.address.clone())])
                });
            }
        }
        Keys::Delete { name, yes } => {
            let info = ring.show(&name)?;
            if !yes
                && !confirmed(&format!(
                    "Delete key {name} ({})? Without its words the account is lost. [y/N] ",
                    info.address
                ))?
            {
                return Err(Error::Usage("nothing was deleted".to_owned()));
            }
            ring.delete(&name)?;
            context
                .ui
                .record(&json!({ "deleted": name, "address": info.address }), || {
                    format!("deleted {name}")
                });
        }
        Keys::Export { name } => {
            let words = ring.export(&name)?;
            context.ui.note("whoever reads these words owns the account");
            context
                .ui
                .record(&json!({ "name": name, "mnemonic": words.as_str() }), || {
                    words.to_string()
                });
        }
    }
    Ok(())
}

fn added(context: &Context, name: &str, recover: bool) -> Result<()> {
    let (info, words) = add_key(context, name, recover)?;
    let words = words.as_ref().map(|w| w.as_str());
    let record =
        json!({ "name": info.name, "address": info.address, "keyring": context.config.keyring, "mnemonic": words });
    context.ui.record(&record, || {
        pairs(&[("name", info.name.clone()), ("address", info.address.clone())])
    });
    show_words(context, words);
    Ok(())
}

/// Asks at the terminal. Error: there is none.
pub(super) fn confirmed(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage("there is no terminal to ask at: pass --yes".to_owned()));
    }
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|e| Error::Usage(format!("no answer was read: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub(super) async fn faucet(context: &Context, to: Option<&str>) -> Result<()> {
    let address = context.resolve(to)?;
    let client = context.client().await?;
    let drip = client.drip(&address).await?;
    let amount = drip.amount.unwrap_or_default();
    context.ui.waiting("waiting for the transfer's block");
    let begin = Instant::now();
    let result = loop {
        if let Some(response) = client.tx(&drip.tx_hash).await? {
            break response;
        }
        if begin.elapsed().as_secs() > 60 {
            return Err(Error::NotIncluded {
                hash: drip.tx_hash,
                waited: begin.elapsed(),
            });
        }
        sleep(POLL).await;
    };
    if result.code != 0 {
        return Err(Error::Server {
            what: "the faucet",
            code: tonic::Code::Aborted,
            message: result.raw_log,
            chain: Some((result.codespace, result.code)),
        });
    }
    let balance = client.balance(&address).await?.to_string();
    let record = json!({
        "address": address, "amount": amount.amount, "denom": amount.denom, "tx": drip.tx_hash, "height": result.height.to_string(),
        "balance_uten": balance,
    });
    context.ui.record(&record, || {
        pairs(&[
            ("received", show_amount(&amount.amount, &amount.denom)),
            ("address", address.clone()),
            ("balance", show_amount(&balance, tenure_types::BASE_DENOM)),
            ("transaction", drip.tx_hash.clone()),
        ])
    });
    Ok(())
}
