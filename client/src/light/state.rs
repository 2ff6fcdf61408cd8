//! Records of the chain's state with their proofs.

use base64::{engine::general_purpose::STANDARD as BASE64, Engine};
use ics23::CommitmentProof;
use prost::Message;
use serde_json::{json, Value};
use tendermint::block::Header;
use tenure_store::proof;
use tenure_types::Address;

use crate::{
    rpc::{malformed, Node},
    Error, Result,
};

/// A record that is, or is not, in the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The store it is in.
    pub store: String,
    /// Its key there.
    pub key: Vec<u8>,
    /// Its value; none: proven absent.
    pub value: Option<Vec<u8>>,
    /// The block after which the state is so. Its app hash is in the header of the next height.
    pub height: u64,
}

/// Key of a balance in the store `bank`: 16 bytes, big-endian; absent: nothing. The layout is that of `x-bank/src/keys.rs`.
pub fn balance_key(address: &Address, denom: &str) -> Vec<u8> {
    [b"b", address.as_bytes().as_slice(), denom.as_bytes()].concat()
}

/// Key of a lease in the store `market`. The layout is that of `x-market/src/keys.rs`.
pub fn lease_key(id: u64) -> Vec<u8> {
    [b"l".as_slice(), &id.to_be_bytes()].concat()
}

/// Key of a lease's payment in the store `escrow`. The layout is that of `x-escrow/src/keys.rs`.
pub fn payment_key(lease: u64) -> Vec<u8> {
    [b"l".as_slice(), &lease.to_be_bytes()].concat()
}

/// Asks for a record as of the block before a verified header, and checks the answer against that header's app hash.
pub(super) async fn fetch<N: Node>(node: &N, header: &Header, store: &str, key: &[u8]) -> Result<Proven> {
    let height = header.height.value().saturating_sub(1);
    let params = json!({ "path": format!("/store/{store}/key"), "data": hex::encode(key), "height": height.to_string(), "prove": true });
    let answer = node.call("abci_query", params).await?;
    let response = &answer["response"];
    let code = response["code"].as_u64().unwrap_or_default();
    if code != 0 {
        let log = response["log"].as_str().unwrap_or_default();
        return Err(Error::Server {
            what: crate::rpc::RPC,
            code: tonic::Code::Unknown,
            message: format!("the record cannot be read at height {height}: {log}"),
            chain: None,
        });
    }
    let value = bytes(response, "value")?;
    let value = Some(value).filter(|value| !value.is_empty());
    let [inner, outer] = proofs(response)?;
    // Not what the node says of itself but what was asked for is checked: key, store and the verified header's app hash.
    let app_hash = <[u8; 32]>::try_from(header.app_hash.as_bytes()).map_err(|_| {
        Error::Verification(format!(
            "the app hash of header {} has {} bytes, not 32",
            header.height,
            header.app_hash.as_bytes().len()
        ))
    })?;
    proof::verify(&app_hash, store, key, value.as_deref(), &inner, &outer).map_err(|e| {
        Error::Verification(format!(
            "the node's answer for {store}/{} at height {height} does not follow from header {} ({}): {e}",
            hex::encode(key),
            header.height,
            header.hash()
        ))
    })?;
    Ok(Proven {
        store: store.to_owned(),
        key: key.to_vec(),
        value,
        height,
    })
}

/// The two levels of a proof: the key in its store, the store in the app hash.
fn proofs(response: &Value) -> Result<[CommitmentProof; 2]> {
    let ops = response["proofOps"]["ops"].as_array().map_or(&[][..], Vec::as_slice);
    let [inner, outer] = ops else {
        return Err(Error::Verification(format!(
            "the node's answer has {} levels of proof, it must have 2",
            ops.len()
        )));
    };
    let decode = |op: &Value| {
        CommitmentProof::decode(bytes(op, "data")?.as_slice())
            .map_err(|e| Error::Verification(format!("the proof does not decode: {e}")))
    };
    Ok([decode(inner)?, decode(outer)?])
}

/// A field in base64; absent or null: empty.
fn bytes(object: &Value, field: &str) -> Result<Vec<u8>> {
    match &object[field] {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => BASE64
            .decode(text)
            .map_err(|e| malformed(format!("abci_query: {field}: {e}"))),
        other => Err(malformed(format!("abci_query: {field} is {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same vectors stand in the modules' `keys.rs`.
    #[test]
    fn keys_are_the_modules_own() {
        let address = Address::new([7; 20]);
        assert_eq!(
            hex::encode(balance_key(&address, "uten")),
            format!("62{}7574656e", "07".repeat(20))
        );
        assert_eq!(hex::encode(lease_key(3)), "6c0000000000000003");
        assert_eq!(hex::encode(payment_key(5)), "6c0000000000000005");
    }
}
