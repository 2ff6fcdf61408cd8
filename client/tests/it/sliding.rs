//! A chain whose validators change with every block, made up here: what the solo engine's single validator cannot show.

use ed25519_consensus::SigningKey;
use serde_json::{json, Value};
use tendermint::{
    block::{
        header::{Header, Version},
        parts,
        signed_header::SignedHeader,
        Commit, CommitSig, Id,
    },
    validator::{Info, Set},
    vote::{SignedVote, Type, ValidatorIndex, Vote},
    AppHash, Hash, PublicKey, Signature, Time,
};
use tenure_client::{
    light::{Anchor, LightClient, TRUST_PERIOD},
    rpc::Node,
    Error, Result,
};

const CHAIN: &str = "sliding-1";
const LAST: u64 = 12;
const WINDOW: u64 = 4;

/// At each height the validators are four in a row; the next height drops one and takes one.
struct Sliding {
    /// From this height on, validators that nobody ever elected sign.
    forged_from: u64,
}

impl Sliding {
    fn new(forged_from: u64) -> Self {
        Self { forged_from }
    }

    fn keys(&self, height: u64, forged: bool) -> Vec<SigningKey> {
        let seed = |i: u64| [if forged { 100 + i as u8 } else { i as u8 }; 32];
        (height..height + WINDOW).map(|i| SigningKey::from(seed(i))).collect()
    }

    fn validators(&self, height: u64, forged: bool) -> Set {
        let info = |key: &SigningKey| {
            let key = PublicKey::from_raw_ed25519(&key.verification_key().to_bytes()).unwrap();
            Info::new(key, 10_u32.into())
        };
        Set::without_proposer(self.keys(height, forged).iter().map(info).collect())
    }

    fn signed(&self, height: u64) -> SignedHeader {
        // The last honest header names the next honest validators, whatever the node says of them.
        let forged = height >= self.forged_from;
        let set = self.validators(height, forged);
        let now = i64::try_from(tenure_client::auth::wall_ms() / 1000).unwrap();
        let time = Time::from_unix_timestamp(now / 3600 * 3600 - 3600 + height as i64, 0).unwrap();
        let header = Header {
            version: Version { block: 11, app: 0 },
            chain_id: CHAIN.parse().unwrap(),
            height: height.try_into().unwrap(),
            time,
            last_block_id: None,
            last_commit_hash: None,
            data_hash: None,
            validators_hash: set.hash(),
            next_validators_hash: self.validators(height + 1, forged).hash(),
            consensus_hash: Hash::Sha256([3; 32]),
            app_hash: AppHash::try_from(vec![height as u8; 32]).unwrap(),
            last_results_hash: None,
            evidence_hash: None,
            proposer_address: set.validators()[0].address,
        };
        let block_id = Id {
            hash: header.hash(),
            part_set_header: parts::Header::new(1, Hash::Sha256([4; 32])).unwrap(),
        };
        let keys = self.keys(height, forged);
        let signatures = set.validators().iter().enumerate().map(|(index, info)| {
            let mut vote = Vote {
                vote_type: Type::Precommit,
                height: header.height,
                round: 0_u16.into(),
                block_id: Some(block_id),
                timestamp: Some(time),
                validator_address: info.address,
                validator_index: ValidatorIndex::try_from(index).unwrap(),
                // Replaced below: the bytes to sign do not hold it.
                signature: Signature::new(vec![1; 64]).unwrap(),
                extension: Vec::new(),
                extension_signature: None,
            };
            let bytes = SignedVote::from_vote(vote.clone(), header.chain_id.clone())
                .unwrap()
                .sign_bytes();
            let key = keys
                .iter()
                .find(|k| info.pub_key.to_bytes() == k.verification_key().to_bytes())
                .unwrap();
            vote.signature = Signature::new(key.sign(&bytes).to_bytes()).unwrap();
            CommitSig::BlockIdFlagCommit {
                validator_address: info.address,
                timestamp: time,
                signature: vote.signature,
            }
        });
        let commit = Commit {
            height: header.height,
            round: 0_u16.into(),
            block_id,
            signatures: signatures.collect(),
        };
        SignedHeader::new(header, commit).unwrap()
    }
}

impl Node for &Sliding {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value> {
        let height: u64 = params["height"].as_str().unwrap_or("0").parse().unwrap();
        Ok(match method {
            "commit" => json!({ "signed_header": self.signed(height), "canonical": true }),
            // One validator a page, so that pages are followed.
            "validators" => {
                let page: usize = params["page"].as_str().unwrap().parse().unwrap();
                let all = self.validators(height, height >= self.forged_from);
                json!({ "validators": [all.validators()[page - 1]], "count": "1", "total": WINDOW.to_string() })
            }
            _ => json!({ "sync_info": { "latest_block_height": LAST.to_string() } }),
        })
    }
}

async fn at_first(node: &Sliding) -> LightClient<&Sliding> {
    let hash = node.signed(1).header.hash().to_string();
    LightClient::from_anchor(node, &Anchor::new(1, &hash).unwrap(), TRUST_PERIOD)
        .await
        .unwrap()
}

#[tokio::test]
async fn headers_between_are_fetched_only_where_trust_does_not_reach() {
    let node = Sliding::new(u64::MAX);
    let mut light = at_first(&node).await;
    light.verify_to(LAST).await.unwrap();
    assert_eq!(light.trusted().height().value(), LAST);
    let path = light.path().to_vec();
    assert!(path.len() > 3 && path.len() < LAST as usize, "{path:?}");
    // More than a third of four equal validators is two: steps of at most three heights from the set of the next height.
    assert!(path.windows(2).all(|w| w[1] - w[0] <= 3), "{path:?}");
    let (signers, total) = light.signers().unwrap();
    assert_eq!((signers.len(), total), (4, 40));
}

#[tokio::test]
async fn a_history_signed_by_others_is_not_followed_wherever_it_forks_off() {
    for forged_from in 2..=LAST {
        let node = Sliding::new(forged_from);
        let hash = node.signed(1).header.hash().to_string();
        let anchor = Anchor::new(1, &hash).unwrap();
        let result = match LightClient::from_anchor(&node, &anchor, TRUST_PERIOD).await {
            Ok(mut light) => light.verify_to(LAST).await,
            Err(e) => Err(e),
        };
        assert!(
            matches!(result, Err(Error::Verification(_))),
            "{forged_from}: {result:?}"
        );
    }
}
