//! The REST calls that Keplr and ping.pub make, with what they read from the answers, on both engines.

use anyhow::{Context, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use prost::Message;
use serde_json::{json, Value};
use tenure_proto::cosmos::tx::v1beta1::mode_info::{Single, Sum};
use tenure_proto::cosmos::tx::v1beta1::{AuthInfo, Fee, ModeInfo, SignerInfo, TxBody, TxRaw};
use tenure_types::Address;

use crate::live::{on_both_engines, Live, START};
use crate::support::{rest, rpc, CHAIN_ID};

on_both_engines!(
    hermes_finds_the_versions_it_asks_for,
    keplr_connects_reads_simulates_and_sends,
    modules_that_are_not_there_say_so,
    pingpub_shows_blocks_transactions_accounts_and_supply,
);

struct Wallet<'a> {
    live: &'a Live,
    api: std::net::SocketAddr,
}

impl<'a> Wallet<'a> {
    fn open(live: &'a Live) -> Result<Self> {
        Ok(Self { live, api: live.api()? })
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = rest(self.api, &format!("GET {path}"), "").await?;
        assert_eq!(status, 200, "{path}: {body}");
        Ok(body)
    }

    async fn post(&self, path: &str, body: Value) -> Result<(u16, Value)> {
        rest(self.api, &format!("POST {path}"), &body.to_string()).await
    }

    async fn transfer(&self, amount: u64) -> Result<Vec<u8>> {
        self.live.transfer(&Address::new([9; 20]), amount).await
    }
}

/// A number as these APIs write it: a string of digits.
fn digits(value: &Value) -> &str {
    let text = value.as_str().unwrap_or_default();
    assert!(!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()), "{value}");
    text
}

/// The transfer as Keplr simulates it: the messages, no key, amino mode, 64 zero bytes for a signature.
fn simulated_by_keplr(tx: &[u8], sequence: u64) -> Result<Vec<u8>> {
    let raw = TxRaw::decode(tx)?;
    let body = TxBody::decode(raw.body_bytes.as_slice())?;
    let auth = AuthInfo {
        signer_infos: vec![SignerInfo {
            public_key: None,
            mode_info: Some(ModeInfo {
                sum: Some(Sum::Single(Single { mode: 127 })),
            }),
            sequence,
        }],
        fee: Some(Fee::default()),
        ..AuthInfo::default()
    };
    let raw = TxRaw {
        body_bytes: body.encode_to_vec(),
        auth_info_bytes: auth.encode_to_vec(),
        signatures: vec![vec![0; 64]],
    };
    Ok(raw.encode_to_vec())
}

/// As Hermes reads `build_deps` (its `version.rs` and `compatibility.rs`): these paths exactly, a version that is semver behind a `v`, within its bounds. It
/// asks over gRPC and, as a fallback, over ABCI.
async fn hermes_finds_the_versions_it_asks_for(live: &Live) -> Result<()> {
    use tenure_proto::cosmos::base::tendermint::v1beta1::service_client::ServiceClient;
    use tenure_proto::cosmos::base::tendermint::v1beta1::{GetNodeInfoRequest, GetNodeInfoResponse};
    let mut client = ServiceClient::new(live.channel().await?);
    let over_grpc = client.get_node_info(GetNodeInfoRequest {}).await?.into_inner();
    let path = "/abci_query?path=%22/cosmos.base.tendermint.v1beta1.Service/GetNodeInfo%22";
    let over_abci = rpc(live.node.run.rpc, path)?["response"]["value"].take();
    let over_abci = BASE64_STANDARD.decode(over_abci.as_str().context("value")?)?;
    assert_eq!(GetNodeInfoResponse::decode(over_abci.as_slice())?, over_grpc);

    let info = over_grpc.application_version.context("application_version")?;
    let version = |path: &str| -> Result<semver::Version> {
        let module = info
            .build_deps
            .iter()
            .find(|m| m.path == path)
            .context(path.to_owned())?;
        Ok(semver::Version::parse(module.version.trim_start_matches('v'))?)
    };
    let sdk = version("github.com/cosmos/cosmos-sdk")?;
    assert!(semver::VersionReq::parse(">=0.46.0, <0.54.0")?.matches(&sdk), "{sdk}");
    assert_eq!(format!("v{sdk}"), info.cosmos_sdk_version);
    let comet = version("github.com/cometbft/cometbft")?;
    assert!(
        semver::VersionReq::parse(">=0.37.0, <0.39.0")?.matches(&comet),
        "{comet}"
    );
    // The rest is what the binary is built from.
    let prost = info.build_deps.iter().find(|m| m.path == "prost").context("prost")?;
    assert!(
        prost.version.starts_with("v0.13.") && prost.sum.starts_with("sha256:"),
        "{prost:?}"
    );
    Ok(())
}

async fn keplr_connects_reads_simulates_and_sends(live: &Live) -> Result<()> {
    let wallet = Wallet::open(live)?;
    let alice = live.alice.address();
    let info = wallet.get("/cosmos/base/tendermint/v1beta1/node_info").await?;
    assert_eq!(info["default_node_info"]["network"], CHAIN_ID);
    assert!(info["default_node_info"]["version"]
        .as_str()
        .context("version")?
        .starts_with("0.38."));
    assert_eq!(info["application_version"]["app_name"], "tenured");

    let found = wallet.get(&format!("/cosmos/auth/v1beta1/accounts/{alice}")).await?;
    let account = &found["account"];
    assert_eq!(account["@type"], "/cosmos.auth.v1beta1.BaseAccount");
    assert_eq!(account["address"], alice.to_string());
    digits(&account["account_number"]);
    assert_eq!(digits(&account["sequence"]), "0");
    let nobody = Address::new([7; 20]);
    let (status, missing) = rest(wallet.api, &format!("GET /cosmos/auth/v1beta1/accounts/{nobody}"), "").await?;
    assert_eq!(
        (status, &missing["code"], &missing["details"]),
        (404, &json!(5), &json!([])),
        "{missing}"
    );

    let balances = wallet
        .get(&format!("/cosmos/bank/v1beta1/balances/{alice}?pagination.limit=1000"))
        .await?;
    let all = json!([{ "denom": "uten", "amount": START.to_string() }]);
    assert_eq!(balances["balances"], all);
    assert_eq!(balances["pagination"]["next_key"], Value::Null);
    let spendable = format!("/cosmos/bank/v1beta1/spendable_balances/{alice}?pagination.limit=1000");
    assert_eq!(wallet.get(&spendable).await?["balances"], all);

    let tx = wallet.transfer(7).await?;
    let trial = BASE64_STANDARD.encode(simulated_by_keplr(&tx, 0)?);
    let (status, simulated) = wallet
        .post("/cosmos/tx/v1beta1/simulate", json!({ "tx_bytes": trial }))
        .await?;
    assert_eq!(status, 200, "{simulated}");
    assert!(
        digits(&simulated["gas_info"]["gas_used"]).parse::<u64>()? > 10_000,
        "{simulated}"
    );

    let send = json!({ "tx_bytes": BASE64_STANDARD.encode(&tx), "mode": "BROADCAST_MODE_SYNC" });
    let (status, sent) = wallet.post("/cosmos/tx/v1beta1/txs", send.clone()).await?;
    let response = &sent["tx_response"];
    assert_eq!(
        (status, &response["code"], &response["raw_log"]),
        (200, &json!(0), &json!("")),
        "{sent}"
    );
    assert_eq!(response["txhash"].as_str().map(str::len), Some(64));
    let (status, again) = wallet.post("/cosmos/tx/v1beta1/txs", send).await?;
    assert_eq!(
        (
            status,
            &again["tx_response"]["code"],
            &again["tx_response"]["codespace"]
        ),
        (200, &json!(19), &json!("sdk"))
    );
    live.committed(response["txhash"].as_str().context("txhash")?).await?;
    let after = wallet.get(&format!("/cosmos/auth/v1beta1/accounts/{alice}")).await?;
    assert_eq!(after["account"]["sequence"], "1");
    assert_eq!(after["account"]["pub_key"]["@type"], "/cosmos.crypto.secp256k1.PubKey");

    let (status, refused) = wallet
        .post("/cosmos/tx/v1beta1/txs", json!({ "tx_bytes": "?", "mode": 2 }))
        .await?;
    assert!(
        status == 400 && refused["message"].as_str().is_some_and(|m| m.contains("tx_bytes")),
        "{refused}"
    );
    Ok(())
}

/// The staking page is empty on a chain without staking: each of these is code 12, as on any chain without the module.
async fn modules_that_are_not_there_say_so(live: &Live) -> Result<()> {
    let wallet = Wallet::open(live)?;
    for path in [
        "/cosmos/staking/v1beta1/params",
        "/cosmos/staking/v1beta1/pool",
        "/cosmos/staking/v1beta1/validators?pagination.limit=1000&status=BOND_STATUS_BONDED",
        "/cosmos/staking/v1beta1/delegations/tenure1x?pagination.limit=1000",
        "/cosmos/staking/v1beta1/delegators/tenure1x/unbonding_delegations",
        "/cosmos/distribution/v1beta1/delegators/tenure1x/rewards",
        "/cosmos/distribution/v1beta1/params",
        "/cosmos/distribution/v1beta1/community_pool",
        "/cosmos/slashing/v1beta1/params",
        "/cosmos/slashing/v1beta1/signing_infos?pagination.limit=300",
        "/cosmos/mint/v1beta1/inflation",
        "/cosmos/mint/v1beta1/annual_provisions",
        "/cosmos/gov/v1/params/voting",
        "/cosmos/gov/v1/proposals?proposal_status=2",
        "/ibc/core/channel/v1/channels",
    ] {
        let (status, body) = rest(wallet.api, &format!("GET {path}"), "").await?;
        assert_eq!((status, &body["code"]), (501, &json!(12)), "{path}: {body}");
    }
    Ok(())
}

async fn pingpub_shows_blocks_transactions_accounts_and_supply(live: &Live) -> Result<()> {
    let wallet = Wallet::open(live)?;
    let tx = wallet.transfer(7).await?;
    let send = json!({ "tx_bytes": BASE64_STANDARD.encode(&tx), "mode": "BROADCAST_MODE_SYNC" });
    let (_, sent) = wallet.post("/cosmos/tx/v1beta1/txs", send).await?;
    let hash = sent["tx_response"]["txhash"].as_str().context("hash")?.to_owned();
    let height = live.committed(&hash).await?;
    live.reach(height + 1).await?;

    let latest = wallet.get("/cosmos/base/tendermint/v1beta1/blocks/latest").await?;
    assert!(digits(&latest["block"]["header"]["height"]).parse::<i64>()? > height);
    let header = &latest["block"]["header"];
    assert_eq!(header["chain_id"], CHAIN_ID);
    for bytes in [
        &header["app_hash"],
        &header["validators_hash"],
        &latest["block_id"]["hash"],
    ] {
        assert_eq!(BASE64_STANDARD.decode(bytes.as_str().context("base64")?)?.len(), 32);
    }
    assert!(header["time"].as_str().is_some_and(|t| t.ends_with('Z')));
    let signature = &latest["block"]["last_commit"]["signatures"][0];
    assert_eq!(signature["block_id_flag"], "BLOCK_ID_FLAG_COMMIT");
    assert_eq!(
        BASE64_STANDARD
            .decode(signature["signature"].as_str().context("sig")?)?
            .len(),
        64
    );
    assert!(latest["sdk_block"]["header"]["proposer_address"]
        .as_str()
        .is_some_and(|a| a.starts_with("tenurevalcons1")));

    let block = wallet
        .get(&format!("/cosmos/base/tendermint/v1beta1/blocks/{height}"))
        .await?;
    assert_eq!(block["block"]["data"]["txs"], json!([BASE64_STANDARD.encode(&tx)]));
    let (status, body) = rest(wallet.api, "GET /cosmos/base/tendermint/v1beta1/blocks/999999", "").await?;
    assert_eq!((status, &body["code"]), (400, &json!(3)), "{body}");
    let (status, body) = rest(wallet.api, "GET /cosmos/base/tendermint/v1beta1/blocks/abc", "").await?;
    assert!(
        status == 400 && body["message"] == "height is \"abc\", must be a 64-bit integer",
        "{body}"
    );

    let validators = "/cosmos/base/tendermint/v1beta1/validatorsets";
    for path in [
        format!("{validators}/latest?pagination.limit=500"),
        format!("{validators}/{height}"),
    ] {
        let set = wallet.get(&path).await?;
        let validator = &set["validators"][0];
        assert_eq!(validator["pub_key"]["@type"], "/cosmos.crypto.ed25519.PubKey");
        assert_eq!(
            BASE64_STANDARD
                .decode(validator["pub_key"]["key"].as_str().context("key")?)?
                .len(),
            32
        );
        assert_eq!(
            (digits(&validator["voting_power"]), &set["pagination"]["total"]),
            ("10", &json!("1"))
        );
    }

    let found = wallet.get(&format!("/cosmos/tx/v1beta1/txs/{hash}")).await?;
    let message = &found["tx"]["body"]["messages"][0];
    assert_eq!(
        (&message["@type"], &message["amount"][0]["amount"]),
        (&json!("/cosmos.bank.v1beta1.MsgSend"), &json!("7"))
    );
    let response = &found["tx_response"];
    assert_eq!(
        (&response["code"], &response["txhash"], &response["logs"]),
        (&json!(0), &json!(hash), &json!([]))
    );
    assert_eq!(digits(&response["height"]).parse::<i64>()?, height);
    assert_eq!(response["tx"]["@type"], "/cosmos.tx.v1beta1.Tx");
    assert!(digits(&response["gas_used"]).parse::<u64>()? > 0);
    assert!(response["events"]
        .as_array()
        .context("events")?
        .iter()
        .any(|e| e["type"] == "transfer"));
    let (status, missing) = rest(
        wallet.api,
        &format!("GET /cosmos/tx/v1beta1/txs/{}", "0".repeat(64)),
        "",
    )
    .await?;
    assert_eq!((status, &missing["code"]), (404, &json!(5)));

    let sender = live.alice.address();
    let searches = [
        format!("query=message.sender='{sender}'"),
        format!("events=message.sender='{sender}'&pagination.reverse=true"),
        format!("pagination.limit=50&query=tx.height={height}&order_by=ORDER_BY_DESC"),
    ];
    for search in searches {
        let page = wallet
            .get(&format!("/cosmos/tx/v1beta1/txs?{}", search.replace('\'', "%27")))
            .await?;
        assert_eq!(
            (&page["total"], &page["tx_responses"][0]["txhash"]),
            (&json!("1"), &json!(hash)),
            "{search}: {page}"
        );
        assert_eq!(page["txs"].as_array().map(Vec::len), Some(1));
    }
    let (status, body) = rest(wallet.api, "GET /cosmos/tx/v1beta1/txs", "").await?;
    assert!(
        status == 400 && body["message"].as_str().is_some_and(|m| m.contains("query")),
        "{body}"
    );
    let whole = wallet.get(&format!("/cosmos/tx/v1beta1/txs/block/{height}")).await?;
    assert_eq!(whole["txs"][0]["signatures"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&whole["block"]["header"]["chain_id"], &whole["pagination"]["total"]),
        (&json!(CHAIN_ID), &json!("1"))
    );

    assert_eq!(
        wallet.get("/cosmos/auth/v1beta1/params").await?["params"]["tx_sig_limit"]
            .as_str()
            .map(str::is_empty),
        Some(false)
    );
    let accounts = wallet.get("/cosmos/auth/v1beta1/accounts?pagination.limit=50").await?;
    assert!(accounts["accounts"]
        .as_array()
        .context("accounts")?
        .iter()
        .any(|a| a["address"] == sender.to_string()));
    let modules = wallet.get("/cosmos/auth/v1beta1/module_accounts").await?;
    let names: Vec<&str> = modules["accounts"]
        .as_array()
        .context("modules")?
        .iter()
        .filter_map(|a| a["name"].as_str())
        .collect();
    assert!(names.contains(&"escrow") && names.is_sorted(), "{names:?}");
    assert_eq!(
        wallet.get("/cosmos/auth/v1beta1/bech32").await?["bech32_prefix"],
        "tenure"
    );
    assert_eq!(
        wallet
            .get(&format!("/cosmos/auth/v1beta1/account_info/{sender}"))
            .await?["info"]["sequence"],
        "1"
    );

    assert!(wallet.get("/cosmos/bank/v1beta1/params").await?["params"]["default_send_enabled"].is_boolean());
    let supply = wallet.get("/cosmos/bank/v1beta1/supply?pagination.limit=500").await?;
    assert_eq!(supply["supply"][0]["denom"], "uten");
    let of = wallet.get("/cosmos/bank/v1beta1/supply/by_denom?denom=uten").await?;
    assert_eq!(of["amount"], supply["supply"][0]);
    let metadatas = wallet
        .get("/cosmos/bank/v1beta1/denoms_metadata?pagination.limit=500")
        .await?;
    assert_eq!(
        (
            &metadatas["metadatas"][0]["symbol"],
            &metadatas["metadatas"][0]["denom_units"][1]["exponent"]
        ),
        (&json!("TEN"), &json!(6))
    );
    let one = wallet.get("/cosmos/bank/v1beta1/denoms_metadata/uten").await?;
    assert_eq!(one["metadata"], metadatas["metadatas"][0]);
    assert_eq!(
        wallet.get("/cosmos/base/tendermint/v1beta1/syncing").await?,
        json!({ "syncing": false })
    );
    let config = wallet.get("/cosmos/base/node/v1beta1/config").await?;
    assert!(
        config["minimum_gas_price"]
            .as_str()
            .is_some_and(|p| p.ends_with("uten")),
        "{config}"
    );
    let status = wallet.get("/cosmos/base/node/v1beta1/status").await?;
    assert!(digits(&status["height"]).parse::<i64>()? > height);
    Ok(())
}
