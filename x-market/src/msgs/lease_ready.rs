//! Says that the workload is in the provider's hands and running: the lease accrues from here.
//!
//! The tenant's signed receipt of the hand-over comes with it, so a provider cannot declare itself ready alone.

use k256::ecdsa::{signature::hazmat::PrehashVerifier, Signature, VerifyingKey};
use prost::Message;
use sha2::{Digest, Sha256};
use tenure_proto::tenure::market::v1::{HandoverReceipt, Lease, LeaseState, MsgLeaseReady, MsgLeaseReadyResponse};
use tenure_sdk::{records::required, Ctx, Handler, Result};

use super::{check_address, check_id};
use crate::{
    errors::MarketError,
    events,
    lifecycle::{lease, require_provider, require_state},
    state::{save_lease, stored_address},
};

/// Handles [`MsgLeaseReady`].
pub(super) struct LeaseReady;

impl Handler for LeaseReady {
    type Msg = MsgLeaseReady;
    type Response = MsgLeaseReadyResponse;

    fn signers(msg: &Self::Msg) -> Vec<&str> {
        vec![&msg.provider]
    }

    fn validate(msg: &Self::Msg) -> Result<()> {
        check_address("provider", &msg.provider)?;
        check_id("lease_id", msg.lease_id)?;
        if msg.receipt_signature.len() != 64 {
            let value = format!("{} bytes long", msg.receipt_signature.len());
            return Err(MarketError::field("receipt_signature", value, "must be 64 bytes"));
        }
        Ok(())
    }

    fn execute(ctx: &mut Ctx, msg: &Self::Msg) -> Result<Self::Response> {
        let mut lease = lease(ctx, msg.lease_id)?;
        require_provider(&lease, &msg.provider)?;
        require_state(&lease, &[LeaseState::Starting], "STARTING")?;
        check_receipt(ctx, &lease, &msg.receipt_signature)?;
        let provider = stored_address(&lease.provider)?;
        // Two epochs before the money runs out, so that its last misses but one are known and the tenant has time to act.
        let lead_ms = tenure_x_provider::load(ctx, &provider)?.epoch_ms.saturating_mul(2);
        tenure_x_escrow::start_payment(ctx, lease.bid_id, lease.id, &provider, lease.rate, lead_ms)?;
        lease.state = LeaseState::Active.into();
        lease.ready_ms = ctx.now();
        lease.expires_ms = required(ctx.now().checked_add(lease.duration_ms), "a bounded duration")?;
        save_lease(ctx, &lease)?;
        events::lease_ready(ctx, &lease);
        Ok(MsgLeaseReadyResponse {})
    }
}

/// Gas of verifying the receipt: what one signature of a transaction costs.
const RECEIPT_GAS: u64 = tenure_sdk::gas::SIGNATURE;

/// Verifies the tenant's signature over the canonical receipt of this lease: ECDSA over secp256k1 and SHA-256, 64 bytes, low S.
fn check_receipt(ctx: &mut Ctx, lease: &Lease, signature: &[u8]) -> Result<()> {
    ctx.gas.charge(RECEIPT_GAS, "receipt")?;
    let refuse = |why: &str| MarketError::Receipt {
        lease: lease.id,
        why: why.to_owned(),
    };
    let tenant = stored_address(&lease.tenant)?;
    let account = tenure_x_auth::account(ctx, &tenant)?.ok_or_else(|| refuse("the tenant has no account"))?;
    let key = tenure_x_auth::pub_key_of(&account)?.ok_or_else(|| refuse("the tenant's account has no public key"))?;
    let key = VerifyingKey::from_sec1_bytes(&key).map_err(|_| refuse("the tenant's public key is not on the curve"))?;
    let signature = Signature::from_slice(signature).map_err(|_| refuse("it is not a signature"))?;
    if signature.normalize_s().is_some() {
        return Err(refuse("its S is high").into());
    }
    let receipt = HandoverReceipt {
        chain_id: ctx.block.chain_id.clone(),
        lease_id: lease.id,
        manifest_hash: lease.manifest_hash.clone(),
    };
    let digest = Sha256::digest(receipt.encode_to_vec());
    key.verify_prehash(&digest, &signature)
        .map_err(|_| refuse("another key or another receipt was signed").into())
}
