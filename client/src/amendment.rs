//! A change of a lease's price, which tenant and provider both sign: one proposes and signs, the other countersigns and sends.
//!
//! The proposer signs amino JSON, because that document holds the message, the fee and the proposer's own sequence, and not the other
//! signer's: a provider's agent goes on sending attestations while the proposal travels, and the signature stays good. The countersigner signs
//! the finished transaction with `SIGN_MODE_DIRECT`.

use base64::{engine::general_purpose::STANDARD as BASE64, Engine};
use prost::Message;
use serde::{Deserialize, Serialize};
use tenure_proto::{
    amino::SignDoc,
    any,
    cosmos::{
        auth::v1beta1::BaseAccount,
        crypto::secp256k1::PubKey,
        tx::{signing::v1beta1::SignMode, v1beta1::Fee},
    },
    tenure::market::v1::MsgAmendLease,
};
use tenure_types::Address;
use tokio::time::{sleep, Instant};

use crate::{
    chain::Client,
    error::{Refusal, Stage},
    keys::{verify, Key},
    sender::{outcome, TxOptions, TxResult},
    tx::{fee_of, Draft, SignedTx, Signer},
    Error, Result,
};

/// What a proposal's file begins with, so that nobody countersigns something else.
const KIND: &str = "tenure lease amendment, version 1";

/// A change of a lease's price, signed by one of its two parties. Its JSON form is what the parties hand each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    kind: String,
    /// The chain.
    pub chain_id: String,
    /// The tenant: first signer, pays the fee.
    pub tenant: String,
    /// The provider: second signer.
    pub provider: String,
    /// The lease.
    pub lease_id: u64,
    /// New price, base units per hour.
    #[serde(with = "decimal")]
    pub rate: u64,
    /// Gas asked for.
    #[serde(with = "decimal")]
    pub gas: u64,
    /// Fee, base units.
    #[serde(with = "decimal")]
    pub fee: u64,
    /// Not valid in a block above this height; 0: as long as the proposer sends nothing else.
    #[serde(with = "decimal")]
    pub timeout_height: u64,
    /// Who proposes: tenant or provider.
    pub proposer: String,
    #[serde(with = "decimal")]
    account_number: u64,
    #[serde(with = "decimal")]
    sequence: u64,
    public_key: String,
    signature: String,
}

/// What both sign, before anybody has.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The chain.
    pub chain_id: String,
    /// The change.
    pub message: MsgAmendLease,
    /// Gas to ask for.
    pub gas: u64,
    /// Fee, base units.
    pub fee: u64,
    /// Not valid in a block above this height, or 0.
    pub timeout_height: u64,
}

impl Proposal {
    /// Signs terms as one of the two parties. `account` is the proposer's. Errors: the key is of neither party; amino JSON cannot say it.
    pub fn sign(terms: Terms, key: &Key, account: &BaseAccount) -> Result<Self> {
        let proposer = key.address().to_string();
        let MsgAmendLease {
            tenant,
            provider,
            lease_id,
            rate,
        } = terms.message;
        if proposer != tenant && proposer != provider {
            return Err(Error::Usage(format!(
                "lease {lease_id} is between {tenant} and {provider}, and the signing key is {proposer}; name one of theirs with --from"
            )));
        }
        let mut proposal = Self {
            kind: KIND.to_owned(),
            chain_id: terms.chain_id,
            tenant,
            provider,
            lease_id,
            rate,
            gas: terms.gas,
            fee: terms.fee,
            timeout_height: terms.timeout_height,
            proposer,
            account_number: account.account_number,
            sequence: account.sequence,
            public_key: BASE64.encode(key.public_key()),
            signature: String::new(),
        };
        proposal.signature = BASE64.encode(key.sign(&proposal.document()?));
        Ok(proposal)
    }

    /// Reads a proposal and checks its signature. Errors (damaged): not a proposal, or signed by neither party.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let proposal: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if proposal.kind != KIND {
            return Err(format!("kind is {:?}, expected {KIND:?}", proposal.kind));
        }
        let public_key = proposal.bytes(&proposal.public_key, "public_key")?;
        let signer = Address::of_secp256k1(&public_key).to_string();
        if signer != proposal.proposer || (signer != proposal.tenant && signer != proposal.provider) {
            return Err(format!(
                "it is signed by {signer}, which is not its proposer or no party of the lease"
            ));
        }
        let document = proposal.document().map_err(|e| e.to_string())?;
        if !verify(
            &public_key,
            &document,
            &proposal.bytes(&proposal.signature, "signature")?,
        ) {
            return Err("its signature is wrong: something in it was changed after it was signed".to_owned());
        }
        Ok(proposal)
    }

    /// The file's text.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::Usage(format!("the proposal cannot be written: {e}")))
    }

    /// Who has not signed yet.
    pub fn counterparty(&self) -> &str {
        if self.proposer == self.tenant {
            &self.provider
        } else {
            &self.tenant
        }
    }

    /// The change.
    pub fn message(&self) -> MsgAmendLease {
        MsgAmendLease {
            tenant: self.tenant.clone(),
            provider: self.provider.clone(),
            lease_id: self.lease_id,
            rate: self.rate,
        }
    }

    /// The finished transaction, signed by the other party. `account` is the countersigner's. Error: the key is not the other party's.
    pub fn countersign(&self, key: &Key, account: &BaseAccount) -> Result<SignedTx> {
        let own = key.address().to_string();
        if own != self.counterparty() {
            return Err(Error::Usage(format!(
                "{} must countersign this proposal, and the signing key is {own}; name the right key with --from",
                self.counterparty()
            )));
        }
        let damaged = |detail| Error::Verification(format!("the proposal: {detail}"));
        let proposer = Signer {
            public_key: self.bytes(&self.public_key, "public_key").map_err(damaged)?,
            sequence: self.sequence,
            mode: SignMode::LegacyAminoJson,
        };
        let signature = self.bytes(&self.signature, "signature").map_err(damaged)?;
        let signature: [u8; 64] = signature
            .try_into()
            .map_err(|_| damaged("the signature must have 64 bytes".to_owned()))?;
        let countersigner = Signer::new(key, account.sequence);
        let tenant_proposes = self.proposer == self.tenant;
        let signers = if tenant_proposes {
            [proposer, countersigner]
        } else {
            [countersigner, proposer]
        };
        let draft = Draft::new(
            vec![any(&self.message())],
            "",
            self.timeout_height,
            &signers,
            self.gas,
            self.fee.into(),
        );
        let own = draft.sign(key, &self.chain_id, account.account_number);
        Ok(draft.assemble(if tenant_proposes {
            vec![signature, own]
        } else {
            vec![own, signature]
        }))
    }

    /// The amino JSON document that the proposer signs.
    fn document(&self) -> Result<Vec<u8>> {
        let fee: Fee = fee_of(self.gas, self.fee.into());
        SignDoc {
            chain_id: &self.chain_id,
            account_number: self.account_number,
            sequence: self.sequence,
            timeout_height: self.timeout_height,
            fee: &fee,
            memo: "",
            messages: &[any(&self.message())],
        }
        .bytes()
        .map_err(|e| Error::Usage(e.to_string()))
    }

    fn bytes(&self, text: &str, field: &str) -> Result<Vec<u8>, String> {
        BASE64.decode(text).map_err(|e| format!("{field}: {e}"))
    }
}

/// The public key of an account. Error: it has never signed anything, so the chain does not know it.
pub fn public_key(account: &BaseAccount) -> Result<Vec<u8>> {
    let known = account
        .pub_key
        .as_ref()
        .and_then(|any| PubKey::decode(any.value.as_slice()).ok());
    known.map(|key| key.key).ok_or_else(|| {
        Error::Usage(format!(
            "{} has never sent a transaction, so the chain does not know its key yet",
            account.address
        ))
    })
}

/// Sends a finished transaction once and waits for its block. Sending the same bytes again is harmless: they can be executed once only.
///
/// # Errors
/// `Refused`, `NotIncluded`, `Unreachable` as for every transaction.
pub async fn send_finished(client: &Client, signed: SignedTx, options: &TxOptions) -> Result<TxResult> {
    let response = client.broadcast(signed.bytes).await?;
    if response.code != 0 {
        return Err(Error::Refused(Box::new(Refusal {
            stage: Stage::Check,
            codespace: response.codespace,
            code: response.code,
            log: response.raw_log,
            hash: signed.hash,
            height: 0,
        })));
    }
    let begin = Instant::now();
    loop {
        if let Some(response) = client.tx(&signed.hash).await? {
            return outcome(response);
        }
        if begin.elapsed() >= options.timeout {
            return Err(Error::NotIncluded {
                hash: signed.hash,
                waited: begin.elapsed(),
            });
        }
        sleep(options.poll).await;
    }
}

/// 64-bit integers as decimal strings, as in all JSON of this project.
mod decimal {
    use serde::{de::Error, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(key: &Key, account_number: u64, sequence: u64) -> BaseAccount {
        BaseAccount {
            address: key.address().to_string(),
            account_number,
            sequence,
            pub_key: None,
        }
    }

    fn terms(tenant: &Key, provider: &Key) -> Terms {
        Terms {
            chain_id: "tenure-1".to_owned(),
            message: MsgAmendLease {
                tenant: tenant.address().to_string(),
                provider: provider.address().to_string(),
                lease_id: 3,
                rate: 99,
            },
            gas: 100_000,
            fee: 200,
            timeout_height: 0,
        }
    }

    #[test]
    fn a_proposal_travels_as_text_and_every_change_to_it_is_found() {
        let (tenant, provider) = (Key::random(), Key::random());
        let proposal = Proposal::sign(terms(&tenant, &provider), &tenant, &account(&tenant, 5, 6)).expect("a party");
        let text = proposal.to_json().expect("JSON");
        assert_eq!(Proposal::from_json(&text).as_ref(), Ok(&proposal));
        for (from, to) in [
            ("\"rate\": \"99\"", "\"rate\": \"98\""),
            ("\"lease_id\": 3", "\"lease_id\": 4"),
            ("\"fee\": \"200\"", "\"fee\": \"2000\""),
            ("tenure-1\"", "tenure-2\""),
            ("\"timeout_height\": \"0\"", "\"timeout_height\": \"9\""),
            ("version 1", "version 2"),
            ("\"gas\"", "\"gaz\""),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(Proposal::from_json(&changed).is_err(), "{from}");
        }
        let stranger = Key::random();
        assert!(Proposal::sign(terms(&tenant, &provider), &stranger, &account(&stranger, 1, 1)).is_err());
    }

    #[test]
    fn only_the_other_party_countersigns_and_signers_stand_in_the_messages_order() {
        use tenure_proto::cosmos::tx::v1beta1::{AuthInfo, TxRaw};
        let (tenant, provider) = (Key::random(), Key::random());
        for (proposer, other) in [(&tenant, &provider), (&provider, &tenant)] {
            let proposal =
                Proposal::sign(terms(&tenant, &provider), proposer, &account(proposer, 5, 6)).expect("a party");
            assert!(proposal.countersign(proposer, &account(proposer, 5, 6)).is_err());
            let tx = proposal
                .countersign(other, &account(other, 7, 8))
                .expect("the other party");
            let raw = TxRaw::decode(tx.bytes.as_slice()).expect("decodes");
            let auth = AuthInfo::decode(raw.auth_info_bytes.as_slice()).expect("decodes");
            let sequence_of_tenant = if std::ptr::eq(proposer, &tenant) { 6 } else { 8 };
            assert_eq!(auth.signer_infos[0].sequence, sequence_of_tenant);
            assert_eq!(raw.signatures.len(), 2);
        }
    }
}
