//! What a running engine tells about itself and its validator.

use crate::core::SoloClient;
use crate::error::SoloError;
use crate::keys;
use crate::{BLOCK_PROTOCOL, COMETBFT_VERSION, P2P_PROTOCOL};
use tendermint_proto::v0_38::p2p::{DefaultNodeInfo, DefaultNodeInfoOther, ProtocolVersion};

impl SoloClient {
    /// The node as CometBFT would describe itself to a peer. There is no p2p, so it listens nowhere and has no channels.
    pub fn node_info(&self) -> DefaultNodeInfo {
        let node = &self.0.node;
        DefaultNodeInfo {
            protocol_version: Some(ProtocolVersion {
                p2p: P2P_PROTOCOL,
                block: BLOCK_PROTOCOL,
                app: node.app_version,
            }),
            default_node_id: node.node_id.clone(),
            listen_addr: "tcp://0.0.0.0:0".into(),
            network: self.genesis().chain_id.clone(),
            version: COMETBFT_VERSION.into(),
            channels: Vec::new(),
            moniker: node.moniker.clone(),
            other: Some(DefaultNodeInfoOther {
                tx_index: "on".into(),
                rpc_address: node.rpc_addr.clone(),
            }),
        }
    }

    /// The validator's address: the first 20 bytes of its key's SHA-256.
    pub fn validator_address(&self) -> [u8; 20] {
        keys::address(&self.validator_key())
    }

    /// The validator's power at a height; `None` before the first block and after the one that comes next.
    pub fn power(&self, height: i64) -> Result<Option<i64>, SoloError> {
        let first = self.genesis().initial_height;
        let next = self.latest_height().saturating_add(1).max(first);
        if !(first..=next).contains(&height) {
            return Ok(None);
        }
        self.0.store.power(height)
    }
}
