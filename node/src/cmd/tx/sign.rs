//! `tenured tx sign`: adds a signature to a transaction in a file.
//!
//! Everybody who must sign has a place, in the order in which the chain asks for them, so they may sign in any order; the place of one who has not
//! signed yet is empty. `SIGN_MODE_DIRECT` covers every place: only the last signer can use it. `SIGN_MODE_LEGACY_AMINO_JSON` covers the messages, the
//! fee and the signer's own sequence, so all can.

use anyhow::{ensure, Context, Result};
use prost::Message as _;
use tenure_client::keys::{verify, Key};
use tenure_proto::amino::SignDoc;
use tenure_proto::cosmos::crypto::secp256k1::PubKey;
use tenure_proto::cosmos::tx::signing::v1beta1::SignMode;
use tenure_proto::cosmos::tx::v1beta1::{mode_info, ModeInfo, SignDoc as DirectDoc, SignerInfo, Tx};
use tenure_proto::{any, Any};
use tenure_types::Address;

use super::names;
use super::offline::Signing;
use crate::application::message_signers;

/// How a signature is made, under simd's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Mode {
    /// Over the transaction's bytes.
    Direct,
    /// Over the transaction as JSON, as hardware wallets show it.
    AminoJson,
}

/// Who must sign, in order: the signers of the messages, then the fee's payer if it is not among them. Error: a message is not of this chain.
pub(super) fn required(messages: &[Any], payer: Option<Address>) -> Result<Vec<Address>> {
    let mut signers: Vec<Address> = Vec::new();
    for message in messages {
        for signer in message_signers(message)? {
            if !signers.contains(&signer) {
                signers.push(signer);
            }
        }
    }
    signers.extend(payer.filter(|payer| !signers.contains(payer)));
    Ok(signers)
}

/// [`required`] of a transaction. Error: also if the payer is no address.
pub(super) fn signers(tx: &Tx) -> Result<Vec<Address>> {
    let messages = tx.body.as_ref().map(|body| body.messages.as_slice());
    required(messages.unwrap_or_default(), payer(tx)?)
}

/// Who pays instead of the first signer. Error: it is no address.
pub(super) fn payer(tx: &Tx) -> Result<Option<Address>> {
    let fee = tx.auth_info.as_ref().and_then(|auth_info| auth_info.fee.as_ref());
    let payer = fee.map(|fee| &fee.payer).filter(|payer| !payer.is_empty());
    let payer = payer.map(|payer| payer.parse().with_context(|| format!("fee.payer is {payer:?}")));
    payer.transpose()
}

/// The signer's place. Error: nobody asks for that signature.
pub(super) fn place(signers: &[Address], signer: &Address) -> Result<usize> {
    signers.iter().position(|other| other == signer).with_context(|| {
        format!(
            "this transaction is signed by {}, and the key is {signer}'s; name another with --from",
            names(signers)
        )
    })
}

/// Adds the key's signature. Without a `mode` it is direct where one signs, amino JSON where several do. Errors: the key is of nobody who must sign;
/// it has signed already and is not to `overwrite` that; a direct signature would not cover what another one adds; amino JSON cannot say it.
pub(super) fn add(mut tx: Tx, key: &Key, mode: Option<Mode>, signing: &Signing, overwrite: bool) -> Result<Tx> {
    let signers = signers(&tx)?;
    let own = key.address();
    let place = place(&signers, &own)?;
    let mode = mode.unwrap_or(match signers.len() {
        1 => Mode::Direct,
        _ => Mode::AminoJson,
    });
    let auth_info = tx.auth_info.get_or_insert_default();
    if auth_info.signer_infos.is_empty() && tx.signatures.is_empty() {
        auth_info.signer_infos.resize_with(signers.len(), SignerInfo::default);
        tx.signatures.resize_with(signers.len(), Vec::new);
    }
    let (infos, signatures) = (auth_info.signer_infos.len(), tx.signatures.len());
    ensure!(
        infos == signers.len() && signatures == signers.len(),
        "the transaction has {infos} signer_infos and {signatures} signatures, must have {} of each, or none of both: remove them and sign it again",
        signers.len()
    );
    ensure!(
        overwrite || tx.signatures[place].is_empty(),
        "{own} has signed it already; --overwrite signs it again"
    );
    for (index, signer) in signers.iter().enumerate().filter(|(index, _)| *index != place) {
        let signed = !tx.signatures[index].is_empty();
        ensure!(
            !(signed && is_direct(&auth_info.signer_infos[index])),
            "{signer} has signed it with direct, which covers every signer's sequence and would not be valid any more: that signer signs last"
        );
        ensure!(
            signed || mode != Mode::Direct,
            "{signer} has not signed it yet, and a direct signature covers what others add: sign last, or with --sign-mode amino-json"
        );
    }
    // Amino JSON has a fee, and the chain asks for one.
    auth_info.fee.get_or_insert_default();
    auth_info.signer_infos[place] = SignerInfo {
        public_key: Some(any(&PubKey {
            key: key.public_key().to_vec(),
        })),
        mode_info: Some(ModeInfo {
            sum: Some(mode_info::Sum::Single(mode_info::Single {
                mode: sign_mode(mode).into(),
            })),
        }),
        sequence: signing.sequence,
    };
    let bytes = covered(&tx, mode, signing)?;
    tx.signatures[place] = key.sign(&bytes).to_vec();
    Ok(tx)
}

/// The bytes that a signature in this mode is over.
fn covered(tx: &Tx, mode: Mode, signing: &Signing) -> Result<Vec<u8>> {
    let body = tx.body.clone().unwrap_or_default();
    let auth_info = tx.auth_info.clone().unwrap_or_default();
    match mode {
        Mode::Direct => {
            let document = DirectDoc {
                body_bytes: body.encode_to_vec(),
                auth_info_bytes: auth_info.encode_to_vec(),
                chain_id: signing.chain_id.clone(),
                account_number: signing.account_number,
            };
            Ok(document.encode_to_vec())
        }
        Mode::AminoJson => {
            let document = SignDoc {
                chain_id: &signing.chain_id,
                account_number: signing.account_number,
                sequence: signing.sequence,
                timeout_height: body.timeout_height,
                fee: &auth_info.fee.unwrap_or_default(),
                memo: &body.memo,
                messages: &body.messages,
            };
            Ok(document.bytes()?)
        }
    }
}

/// What is wrong with the signature in a signer's place. `signing` says for whom and where it must be valid; without it only whose it is is looked at.
pub(super) fn fault(tx: &Tx, place: usize, signer: &Address, signing: Option<&Signing>) -> Result<Option<String>> {
    let info = tx
        .auth_info
        .as_ref()
        .and_then(|auth_info| auth_info.signer_infos.get(place));
    let signature = tx.signatures.get(place).filter(|signature| !signature.is_empty());
    let (Some(info), Some(signature)) = (info, signature) else {
        return Ok(Some("not signed yet".to_owned()));
    };
    let key = info
        .public_key
        .as_ref()
        .and_then(|any| PubKey::decode(any.value.as_slice()).ok());
    let key = key.and_then(|key| <[u8; 33]>::try_from(key.key).ok());
    let Some(key) = key.filter(|key| Address::of_secp256k1(key) == *signer) else {
        return Ok(Some("signature does not match its respective signer".to_owned()));
    };
    let Some(signing) = signing else {
        return Ok(None);
    };
    if info.sequence != signing.sequence {
        return Ok(Some(format!(
            "signed for sequence {}, the account is at {}",
            info.sequence, signing.sequence
        )));
    }
    let mode = if is_direct(info) { Mode::Direct } else { Mode::AminoJson };
    let valid = verify(&key, &covered(tx, mode, signing)?, signature);
    Ok((!valid).then(|| {
        format!(
            "not a signature over this transaction for chain {} and account number {}",
            signing.chain_id, signing.account_number
        )
    }))
}

fn sign_mode(mode: Mode) -> SignMode {
    match mode {
        Mode::Direct => SignMode::Direct,
        Mode::AminoJson => SignMode::LegacyAminoJson,
    }
}

fn is_direct(info: &SignerInfo) -> bool {
    let sum = info.mode_info.as_ref().and_then(|mode| mode.sum.as_ref());
    matches!(sum, Some(mode_info::Sum::Single(single)) if single.mode() == SignMode::Direct)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_proto::cosmos::bank::v1beta1::MsgSend;
    use tenure_proto::cosmos::tx::v1beta1::{AuthInfo, Fee, TxBody};
    use tenure_proto::tenure::market::v1::MsgAmendLease;

    const SIGNING: Signing = Signing {
        chain_id: String::new(),
        account_number: 3,
        sequence: 9,
    };

    fn transfer(from: &Key) -> Tx {
        unsigned(any(&MsgSend {
            from_address: from.address().to_string(),
            to_address: from.address().to_string(),
            amount: Vec::new(),
        }))
    }

    fn amendment(tenant: &Key, provider: &Key) -> Tx {
        unsigned(any(&MsgAmendLease {
            tenant: tenant.address().to_string(),
            provider: provider.address().to_string(),
            lease_id: 7,
            rate: 5,
        }))
    }

    fn unsigned(message: Any) -> Tx {
        Tx {
            body: Some(TxBody {
                messages: vec![message],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn refused(outcome: Result<Tx>, words: &[&str]) {
        let error = format!("{:#}", outcome.expect_err(words[0]));
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }

    /// Whether the signature in this place covers the transaction as it is.
    fn covers(tx: &Tx, place: usize, key: &Key) -> bool {
        let auth_info = tx.auth_info.clone().expect("auth_info");
        let info = &auth_info.signer_infos[place];
        let body = tx.body.clone().expect("body");
        let bytes = if is_direct(info) {
            tenure_proto::cosmos::tx::v1beta1::SignDoc {
                body_bytes: body.encode_to_vec(),
                auth_info_bytes: auth_info.encode_to_vec(),
                chain_id: SIGNING.chain_id,
                account_number: SIGNING.account_number,
            }
            .encode_to_vec()
        } else {
            let document = SignDoc {
                chain_id: &SIGNING.chain_id,
                account_number: SIGNING.account_number,
                sequence: info.sequence,
                timeout_height: body.timeout_height,
                fee: &auth_info.fee.clone().expect("fee"),
                memo: &body.memo,
                messages: &body.messages,
            };
            document.bytes().expect("a document")
        };
        verify(key.public_key(), &bytes, &tx.signatures[place])
    }

    #[test]
    fn one_signer_signs_in_either_mode_and_again_only_on_demand() -> Result<()> {
        let (key, other) = (Key::random(), Key::random());
        for (mode, direct) in [(None, true), (Some(Mode::Direct), true), (Some(Mode::AminoJson), false)] {
            let signed = add(transfer(&key), &key, mode, &SIGNING, false)?;
            let info = &signed.auth_info.clone().context("auth_info")?.signer_infos[0];
            assert_eq!((is_direct(info), info.sequence), (direct, 9));
            assert!(covers(&signed, 0, &key));
            refused(add(signed.clone(), &key, mode, &SIGNING, false), &["--overwrite"]);
            assert_eq!(add(signed.clone(), &key, mode, &SIGNING, true)?, signed);
        }
        let (named, found) = (key.address().to_string(), other.address().to_string());
        refused(
            add(transfer(&key), &other, None, &SIGNING, false),
            &[&named, &found, "--from"],
        );
        Ok(())
    }

    #[test]
    fn several_signers_come_in_any_order_and_none_breaks_anothers_signature() -> Result<()> {
        let (tenant, provider) = (Key::random(), Key::random());
        for keys in [[&tenant, &provider], [&provider, &tenant]] {
            for last in [None, Some(Mode::Direct)] {
                let half = add(amendment(&tenant, &provider), keys[0], None, &SIGNING, false)?;
                let whole = add(half, keys[1], last, &SIGNING, false)?;
                assert!(covers(&whole, 0, &tenant) && covers(&whole, 1, &provider));
            }
        }
        let unsigned = amendment(&tenant, &provider);
        let early = add(unsigned.clone(), &tenant, Some(Mode::Direct), &SIGNING, false);
        refused(early, &[&provider.address().to_string(), "sign last"]);
        // Who signs again after a direct signature would break that.
        let half = add(unsigned, &provider, None, &SIGNING, false)?;
        let whole = add(half, &tenant, Some(Mode::Direct), &SIGNING, false)?;
        refused(
            add(whole, &provider, None, &SIGNING, true),
            &[&tenant.address().to_string(), "signs last"],
        );
        Ok(())
    }

    #[test]
    fn whoever_pays_signs_too_and_a_file_with_too_few_places_is_refused() -> Result<()> {
        let (key, payer) = (Key::random(), Key::random());
        let mut tx = transfer(&key);
        tx.auth_info = Some(AuthInfo {
            fee: Some(Fee {
                payer: payer.address().to_string(),
                ..Default::default()
            }),
            ..Default::default()
        });
        assert_eq!(signers(&tx)?, [key.address(), payer.address()]);
        let half = add(tx, &payer, None, &SIGNING, false)?;
        assert!(half.signatures[0].is_empty() && covers(&half, 1, &payer));
        let mut damaged = half;
        damaged.signatures.pop();
        refused(
            add(damaged, &key, None, &SIGNING, false),
            &["2 signer_infos and 1 signatures", "must have 2"],
        );
        Ok(())
    }
}
