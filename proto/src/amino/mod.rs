//! What `SIGN_MODE_LEGACY_AMINO_JSON` signs: the form in which hardware wallets show a transaction.
//!
//! The chain builds the document from the transaction it received, the client from the one it is about to send: both here. The rules are those
//! of the Cosmos SDK 0.50 to 0.53 (`x/tx/signing/aminojson`), driven by the options of `amino/amino.proto`; a golden file made with that very
//! package holds this one to them (`tests/it/golden.rs`).
//!
//! A document speaks for a transaction only if no other transaction has the same one. So what the rules would write ambiguously (maps, oneofs,
//! floats, `Any` inside a message) has no document here, and neither does a message that carries unknown fields or is not in canonical encoding.
//! No document is valid protobuf (its first byte, `{`, begins a group in field 15), so none can be mistaken for a SIGN_MODE_DIRECT document or
//! for anything else that a key of this chain signs.

mod plan;
mod text;

use prost_reflect::{DynamicMessage, Value};

use crate::{cosmos::tx::v1beta1::Fee, Any};
use plan::{Field, Plan};

/// Longest amino name: Ledger's Cosmos application shows no more.
pub const MAX_NAME_BYTES: usize = 39;

/// Why a transaction has no amino JSON document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AminoError {
    /// No message of this type URL is known, or it has no amino name.
    #[error("{0:?} has no amino name, sign it with SIGN_MODE_DIRECT")]
    NoName(String),
    /// The bytes are not such a message.
    #[error("{name} does not decode: {detail}")]
    Decode {
        /// Full name of the message.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// Fields that are not known, or bytes that could be written in another way and mean the same: the document would not cover them.
    #[error("{0} has unknown fields or is not in canonical encoding, amino JSON would not cover all of it")]
    NotCanonical(String),
    /// A field that must be written is absent.
    #[error("{name}: field {field:?} is absent, amino JSON cannot say so")]
    Absent {
        /// Full name of the message.
        name: String,
        /// Its field.
        field: String,
    },
}

/// What a signer signs beside the messages.
#[derive(Debug, Clone, Copy)]
pub struct SignDoc<'a> {
    /// Chain id.
    pub chain_id: &'a str,
    /// Number of the signer's account.
    pub account_number: u64,
    /// Sequence of the signer's account.
    pub sequence: u64,
    /// Height after which the transaction is void; 0: never.
    pub timeout_height: u64,
    /// What is paid for which gas, and by whom.
    pub fee: &'a Fee,
    /// The transaction's note.
    pub memo: &'a str,
    /// The messages.
    pub messages: &'a [Any],
}

impl SignDoc<'_> {
    /// The document's bytes; their SHA-256 is what is signed. Their length is at most 8 times that of what they are made from, and a constant.
    ///
    /// # Errors
    /// [`AminoError`]: a message cannot be represented without loss.
    pub fn bytes(&self) -> Result<Vec<u8>, AminoError> {
        let mut out = String::with_capacity(1024);
        out.push_str(r#"{"account_number":""#);
        text::integer(&mut out, self.account_number);
        out.push_str(r#"","chain_id":"#);
        text::string(&mut out, self.chain_id);
        out.push_str(r#","fee":{"amount":["#);
        for (i, coin) in self.fee.amount.iter().enumerate() {
            out.push_str(if i == 0 { r#"{"amount":"# } else { r#",{"amount":"# });
            text::string(&mut out, &coin.amount);
            if !coin.denom.is_empty() {
                out.push_str(r#","denom":"#);
                text::string(&mut out, &coin.denom);
            }
            out.push('}');
        }
        out.push_str(r#"],"gas":""#);
        text::integer(&mut out, self.fee.gas_limit);
        out.push('"');
        for (name, value) in [("granter", &self.fee.granter), ("payer", &self.fee.payer)] {
            if !value.is_empty() {
                out.push_str(",\"");
                out.push_str(name);
                out.push_str("\":");
                text::string(&mut out, value);
            }
        }
        out.push_str(r#"},"memo":"#);
        text::string(&mut out, self.memo);
        out.push_str(r#","msgs":["#);
        for (i, message) in self.messages.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            write_any(&mut out, message)?;
        }
        out.push_str(r#"],"sequence":""#);
        text::integer(&mut out, self.sequence);
        out.push('"');
        if self.timeout_height > 0 {
            out.push_str(r#","timeout_height":""#);
            text::integer(&mut out, self.timeout_height);
            out.push('"');
        }
        out.push('}');
        Ok(out.into_bytes())
    }
}

/// The amino name of the message with this type URL, if it has one.
pub fn name(type_url: &str) -> Option<&'static str> {
    plan::of(type_url.strip_prefix('/')?)?.name.as_deref()
}

/// A message as it stands in a document: `{"type":<amino name>,"value":{…}}`.
///
/// # Errors
/// [`AminoError`]: it cannot be represented without loss.
pub fn message_json(message: &Any) -> Result<String, AminoError> {
    let mut out = String::new();
    write_any(&mut out, message)?;
    Ok(out)
}

fn write_any(out: &mut String, message: &Any) -> Result<(), AminoError> {
    let no_name = || AminoError::NoName(message.type_url.chars().take(128).collect());
    let full_name = message.type_url.strip_prefix('/').ok_or_else(no_name)?;
    let plan = plan::of(full_name).ok_or_else(no_name)?;
    let name = plan.name.as_ref().ok_or_else(no_name)?;
    let dynamic =
        DynamicMessage::decode(plan.descriptor.clone(), message.value.as_slice()).map_err(|e| AminoError::Decode {
            name: full_name.to_owned(),
            detail: e.to_string(),
        })?;
    // Unknown fields are kept by a dynamic message and would come out again.
    if dynamic.unknown_fields().next().is_some() || prost::Message::encode_to_vec(&dynamic) != message.value {
        return Err(AminoError::NotCanonical(full_name.to_owned()));
    }
    out.push_str(r#"{"type":"#);
    text::string(out, name);
    out.push_str(r#","value":"#);
    write_message(out, &dynamic, plan)?;
    out.push('}');
    Ok(())
}

fn write_message(out: &mut String, message: &DynamicMessage, plan: &'static Plan) -> Result<(), AminoError> {
    if message.unknown_fields().next().is_some() {
        return Err(AminoError::NotCanonical(plan.descriptor.full_name().to_owned()));
    }
    out.push('{');
    let mut first = true;
    for field in &plan.fields {
        let present = message.has_field(&field.descriptor);
        if !present && field.omit_empty {
            continue;
        }
        if !present && field.is_single_message() {
            return Err(AminoError::Absent {
                name: plan.descriptor.full_name().to_owned(),
                field: field.name.clone(),
            });
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        text::string(out, &field.name);
        out.push(':');
        write_value(out, &message.get_field(&field.descriptor), field)?;
    }
    out.push('}');
    Ok(())
}

fn write_value(out: &mut String, value: &Value, field: &Field) -> Result<(), AminoError> {
    match value {
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::I32(value) | Value::EnumNumber(value) => text::integer(out, *value),
        Value::U32(value) => text::integer(out, *value),
        Value::I64(value) => text::quoted(out, *value),
        Value::U64(value) => text::quoted(out, *value),
        Value::String(value) => text::string(out, value),
        Value::Bytes(value) => text::base64(out, value),
        Value::List(items) if items.is_empty() && !field.empty_list_is_array => out.push_str("null"),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item, field)?;
            }
            out.push(']');
        }
        Value::Message(message) => match field.message.as_deref().and_then(plan::of) {
            Some(plan) => write_message(out, message, plan)?,
            None => return Err(AminoError::NoName(field.descriptor.full_name().to_owned())),
        },
        // A plan with such a field is never made.
        Value::F32(_) | Value::F64(_) | Value::Map(_) => {
            return Err(AminoError::NoName(field.descriptor.full_name().to_owned()))
        }
    }
    Ok(())
}
