//! One registry, three faces: gRPC (and gRPC-web), REST and ABCI answer the same, for every method there is.

use anyhow::{bail, Context, Result};
use base64::prelude::{Engine, BASE64_STANDARD};
use bytes::Bytes;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, MethodDescriptor, Value};
use serde_json::Value as Json;
use tenure_node::grpc::registry::BytesCodec;
use tenure_node::grpc::services;
use tenure_proto::cosmos::bank::v1beta1::{QueryBalanceRequest, QueryBalanceResponse};
use tenure_types::Address;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::{account, http, rest, rpc, Net, NetOptions, START};

/// A chain with a transfer in block 2 and an empty block after it; the transfer that may follow, and the hash of the first.
async fn chain() -> Result<(Net, Vec<u8>, String)> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let channel = net.channel().await?;
    let (number, sequence) = account(&channel, &net.alice.address()).await?;
    let tx = net.transfer(number, sequence, &Address::new([9; 20]), 7);
    let sent = net.engine.as_ref().context("engine")?.broadcast_tx_sync(&tx)?;
    assert_eq!(sent.check_tx.code, 0, "{}", sent.check_tx.log);
    net.block()?;
    net.block()?;
    let next = net.transfer(number, sequence + 1, &Address::new([9; 20]), 7);
    Ok((net, next, hex::encode_upper(sent.hash)))
}

/// A request with something in every field that a query needs.
fn sample(rpc: &MethodDescriptor, net: &Net, tx: &[u8], hash: &str) -> DynamicMessage {
    let mut message = DynamicMessage::new(rpc.input());
    for field in rpc.input().fields() {
        let value = match (field.name(), field.kind()) {
            ("address" | "owner" | "tenant" | "provider", Kind::String) => {
                Value::String(net.alice.address().to_string())
            }
            ("denom", Kind::String) => Value::String("uten".to_owned()),
            ("name", Kind::String) => Value::String("escrow".to_owned()),
            ("hash", Kind::String) => Value::String(hash.to_owned()),
            ("path", Kind::String) => Value::String("/app/version".to_owned()),
            ("query", Kind::String) => Value::String("tx.height>1".to_owned()),
            ("height", Kind::Int64) => Value::I64(2),
            ("tx_bytes", Kind::Bytes) => Value::Bytes(tx.to_vec().into()),
            ("id" | "bid_id" | "lease_id", Kind::Uint64) => Value::U64(1),
            ("pagination", Kind::Message(kind)) => {
                let mut page = DynamicMessage::new(kind);
                page.set_field_by_name("limit", Value::U64(3));
                page.set_field_by_name("count_total", Value::Bool(true));
                Value::Message(page)
            }
            _ => continue,
        };
        message.set_field(&field, value);
    }
    message
}

/// Method and path of an RPC's first rule, with the request in it.
fn rest_call(rpc: &MethodDescriptor, request: &DynamicMessage) -> Result<(String, String)> {
    let http = rpc
        .parent_pool()
        .get_extension_by_name("google.api.http")
        .context("http")?;
    let options = rpc.options();
    if !options.has_extension(&http) {
        bail!("{} has no google.api.http", rpc.full_name());
    }
    let rule = options.get_extension(&http);
    let rule = rule.as_message().context("rule")?;
    let text = |name: &str| {
        rule.get_field_by_name(name)
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let json = serde_json::to_string(request)?;
    if rule.has_field_by_name("post") {
        assert_eq!(text("body"), "*");
        return Ok((format!("POST {}", text("post")), json));
    }
    let mut path = text("get");
    let mut query = Vec::new();
    let mut leaves = Vec::new();
    leaf_texts(request, "", &mut leaves);
    for (name, value) in leaves {
        let escaped: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        for pattern in [format!("{{{name}}}"), format!("{{{name}=**}}")] {
            if path.contains(&pattern) {
                path = path.replace(&pattern, &escaped);
            }
        }
        if !text("get").contains(&format!("{{{name}")) {
            query.push(format!("{name}={escaped}"));
        }
    }
    Ok((format!("GET {path}?{}", query.join("&")), String::new()))
}

fn leaf_texts(message: &DynamicMessage, prefix: &str, out: &mut Vec<(String, String)>) {
    for (field, value) in message.fields() {
        let name = format!("{prefix}{}", field.name());
        match value {
            Value::Message(inner) => leaf_texts(inner, &format!("{name}."), out),
            Value::String(text) => out.push((name, text.clone())),
            Value::Bytes(bytes) => out.push((name, BASE64_STANDARD.encode(bytes))),
            Value::Bool(v) => out.push((name, v.to_string())),
            Value::U64(v) => out.push((name, v.to_string())),
            Value::I64(v) => out.push((name, v.to_string())),
            other => panic!("{name} is {other:?}"),
        }
    }
}

async fn grpc(channel: &Channel, path: &str, request: Vec<u8>) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
    let path = path.parse().expect("path");
    let answer = grpc.unary(Request::new(Bytes::from(request)), path, BytesCodec).await;
    answer.map(tonic::Response::into_inner)
}

/// Code, log and value of an ABCI query through JSON-RPC.
fn abci(net: &Net, path: &str, request: &[u8]) -> Result<(u64, String, Vec<u8>)> {
    let answer = rpc(
        net.rpc,
        &format!("/abci_query?path=%22{path}%22&data=0x{}", hex::encode(request)),
    )?;
    let response = &answer["response"];
    let value = BASE64_STANDARD.decode(response["value"].as_str().unwrap_or_default())?;
    let log = response["log"].as_str().unwrap_or_default().to_owned();
    Ok((response["code"].as_u64().context("code")?, log, value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_method_answers_alike_on_every_face() -> Result<()> {
    let (net, tx, hash) = chain().await?;
    let channel = net.channel().await?;
    let registry = net.registry.get().context("registry")?;
    let paths: Vec<String> = registry.paths().map(str::to_owned).collect();
    assert!(paths.len() > 40, "{paths:?}");
    let mut answered = 0;
    for path in &paths {
        let (service, method) = path[1..].split_once('/').context("path")?;
        let service = tenure_proto::pool()
            .get_service_by_name(service)
            .context(path.clone())?;
        let method = service.methods().find(|m| m.name() == method).context(path.clone())?;
        let request = sample(&method, &net, &tx, &hash);
        let bytes = request.encode_to_vec();
        if services::find(path).is_some_and(|m| m.kind == services::Kind::Send) {
            let (code, log, _) = abci(&net, path, &bytes)?;
            assert!(code == 6 && log.contains("not answered over ABCI"), "{path}: {log}");
            continue;
        }
        let over_grpc = grpc(&channel, path, bytes.clone()).await;
        let (code, log, over_abci) = abci(&net, path, &bytes)?;
        let (head, body) = rest_call(&method, &request)?;
        let (status, over_rest) = rest(net.api, &head, &body).await?;
        match over_grpc {
            Ok(value) => {
                answered += 1;
                assert_eq!((code, &over_abci), (0, &value.to_vec()), "{path}: {log}");
                assert_eq!(status, 200, "{head}: {over_rest}");
                let dynamic = DynamicMessage::decode(method.output(), value)?;
                let expected: Json = serde_json::from_slice(&tenure_rest::json::render(&dynamic, 1 << 24)?)?;
                assert_eq!(over_rest, expected, "{head}");
            }
            Err(refused) => {
                // What this chain does not have: bid 1 and its like.
                assert_eq!(refused.code(), Code::NotFound, "{path}: {refused}");
                assert!(code > 0, "{path}: {log}");
                assert_eq!(
                    (status, &over_rest["code"]),
                    (404, &Json::from(5)),
                    "{head}: {over_rest}"
                );
                assert_eq!(over_rest["message"], refused.message(), "{head}");
            }
        }
    }
    assert!(answered > 30, "only {answered} of {} answered", paths.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heights_are_asked_for_and_told_over_rest() -> Result<()> {
    let (net, ..) = chain().await?;
    let head = format!(
        "GET /cosmos/bank/v1beta1/balances/{}/by_denom?denom=uten",
        Address::new([9; 20])
    );
    for (height, amount) in [("1", "0"), ("2", "7"), ("0", "7")] {
        let (status, headers, body) = http(net.api, &head, &[("x-cosmos-block-height", height)], b"").await?;
        let body: Json = serde_json::from_slice(&body)?;
        assert_eq!(
            (status, &body["balance"]["amount"]),
            (200, &Json::from(amount)),
            "{body}"
        );
        let told = if height == "0" { "3" } else { height };
        assert!(headers.contains(&format!("x-cosmos-block-height: {told}")), "{headers}");
    }
    let (status, _, body) = http(net.api, &head, &[("x-cosmos-block-height", "soon")], b"").await?;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    let (status, _, body) = http(net.api, &head, &[("x-cosmos-block-height", "99")], b"").await?;
    assert!(status == 400 && String::from_utf8_lossy(&body).contains("99"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_reach_grpc_by_grpc_web() -> Result<()> {
    let (net, ..) = chain().await?;
    let message = QueryBalanceRequest {
        address: net.faucet_key.address().to_string(),
        denom: "uten".to_owned(),
    }
    .encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len())?.to_be_bytes());
    frame.extend(message);
    let headers = [
        ("content-type", "application/grpc-web+proto"),
        ("origin", "https://wallet.example"),
        ("x-grpc-web", "1"),
    ];
    let (status, head, body) = http(net.address, "POST /cosmos.bank.v1beta1.Query/Balance", &headers, &frame).await?;
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    // Without it a page cannot read the status of an answer that is a refusal.
    assert!(head.contains("access-control-expose-headers: *"), "{head}");
    let length = usize::try_from(u32::from_be_bytes(body[1..5].try_into()?))?;
    let answer = QueryBalanceResponse::decode(&body[5..5 + length])?;
    assert_eq!(answer.balance.context("balance")?.amount, START.to_string());
    // The trailers come as a last frame.
    let trailers = String::from_utf8_lossy(&body[5 + length..]).to_lowercase();
    assert!(
        body[5 + length] == 0x80 && trailers.contains("grpc-status:0"),
        "{trailers}"
    );

    let preflight = [
        ("origin", "https://wallet.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-grpc-web"),
    ];
    let (status, head, _) = http(
        net.address,
        "OPTIONS /cosmos.bank.v1beta1.Query/Balance",
        &preflight,
        b"",
    )
    .await?;
    assert!(
        status == 200
            && head.contains("access-control-allow-headers: *")
            && head.contains("access-control-allow-methods: *"),
        "{head}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_describes_every_method() -> Result<()> {
    let (net, ..) = chain().await?;
    let (status, document) = rest(net.api, "GET /openapi.json", "").await?;
    assert_eq!(status, 200);
    let described: Vec<&str> = document["paths"]
        .as_object()
        .context("paths")?
        .values()
        .flat_map(|item| item.as_object().into_iter().flat_map(|verbs| verbs.values()))
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    for path in net.registry.get().context("registry")?.paths() {
        let id = path[1..].replace('/', ".");
        assert!(described.contains(&id.as_str()), "{id}");
    }
    Ok(())
}
