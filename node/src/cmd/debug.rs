//! `tenured debug`: what an address, a key or bytes say in other forms.

use anyhow::{ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::Subcommand;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tenure_types::address::{ACCOUNT_PREFIX, VALCONS_PREFIX, VALOPER_PREFIX};
use tenure_types::Address;

use super::out;

#[derive(Subcommand)]
pub(super) enum DebugCommand {
    /// Every form of an address given in hex or bech32
    #[command(after_help = "Example:\n  tenured debug addr tenure1...")]
    Addr {
        /// Hex or bech32
        address: String,
    },
    /// Address and hex of a public key given as JSON
    #[command(after_help = "Example:\n  tenured debug pubkey \"$(tenured comet show-validator)\"")]
    Pubkey {
        /// {"@type":"/cosmos.crypto.secp256k1.PubKey","key":"..."} or ed25519
        pubkey: String,
    },
    /// Hex of bytes as Go prints them
    #[command(after_help = "Example:\n  tenured debug raw-bytes '[10 21 13 255]'")]
    RawBytes {
        /// For example [10 21 13 255]
        bytes: String,
    },
    /// The prefixes of addresses
    Prefixes,
}

pub(super) fn run(command: DebugCommand) -> Result<()> {
    match command {
        DebugCommand::Addr { address } => print(&parse(&address)?),
        DebugCommand::Pubkey { pubkey } => {
            let (address, key) = public_key(&pubkey)?;
            out(format!("Address: {}", hex::encode_upper(address.as_bytes())));
            out(format!("PubKey Hex: {}", hex::encode_upper(key)));
            print(&address);
        }
        DebugCommand::RawBytes { bytes } => out(hex::encode_upper(raw_bytes(&bytes)?)),
        DebugCommand::Prefixes => {
            out(format!("Bech32 Acc: {ACCOUNT_PREFIX}"));
            out(format!("Bech32 Val: {VALOPER_PREFIX}"));
            out(format!("Bech32 Con: {VALCONS_PREFIX}"));
        }
    }
    Ok(())
}

fn print(address: &Address) {
    out(format!("Address: {:?}", address.as_bytes()).replace(',', ""));
    out(format!("Address (hex): {}", hex::encode_upper(address.as_bytes())));
    out(format!("Bech32 Acc: {}", address.to_bech32(ACCOUNT_PREFIX)));
    out(format!("Bech32 Val: {}", address.to_bech32(VALOPER_PREFIX)));
    out(format!("Bech32 Con: {}", address.to_bech32(VALCONS_PREFIX)));
}

fn parse(text: &str) -> Result<Address> {
    let bytes = match hex::decode(text) {
        Ok(bytes) => bytes,
        Err(_) => {
            bech32::decode(text)
                .map_err(|e| anyhow::anyhow!("{text:?} is neither hex nor bech32: {e}"))?
                .1
        }
    };
    Address::from_slice(&bytes).with_context(|| format!("{text:?} has {} bytes, an address has 20", bytes.len()))
}

fn public_key(text: &str) -> Result<(Address, Vec<u8>)> {
    let value: Value = serde_json::from_str(text).with_context(|| format!("{text:?} is not JSON"))?;
    let key = BASE64
        .decode(value["key"].as_str().unwrap_or_default())
        .context("key is not base64")?;
    let (address, length) = match value["@type"].as_str().unwrap_or_default() {
        "/cosmos.crypto.secp256k1.PubKey" => (Some(Address::of_secp256k1(&key)), 33),
        "/cosmos.crypto.ed25519.PubKey" => (Address::from_slice(&Sha256::digest(&key)[..20]), 32),
        other => anyhow::bail!(
            "@type is {other:?}, must be /cosmos.crypto.secp256k1.PubKey or /cosmos.crypto.ed25519.PubKey"
        ),
    };
    ensure!(key.len() == length, "key has {} bytes, must have {length}", key.len());
    Ok((address.context("the key has no address")?, key))
}

fn raw_bytes(text: &str) -> Result<Vec<u8>> {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    let number = |word: &str| {
        word.parse()
            .with_context(|| format!("{word:?} is not a byte, 0 to 255"))
    };
    inner
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(number)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_bytes_are_read_or_refused() -> Result<()> {
        assert_eq!(raw_bytes("[10 21 13 255]")?, [10, 21, 13, 255]);
        assert!(raw_bytes("[256]").expect_err("a byte").to_string().contains("256"));
        let json = |kind: &str, n: usize| {
            format!(
                "{{\"@type\":\"/cosmos.crypto.{kind}.PubKey\",\"key\":\"{}\"}}",
                BASE64.encode(vec![2; n])
            )
        };
        assert_eq!(public_key(&json("ed25519", 32))?.1.len(), 32);
        for (text, word) in [
            (json("ed25519", 33), "33 bytes"),
            (json("sr25519", 32), "@type"),
            ("x".to_owned(), "JSON"),
        ] {
            let error = format!("{:#}", public_key(&text).expect_err(word));
            assert!(error.contains(word), "{error}");
        }
        Ok(())
    }
}
