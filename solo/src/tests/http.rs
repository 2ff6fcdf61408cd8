//! JSON-RPC over real sockets: meaning of every method, indexes, and bad input.

use super::*;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

/// A minimal HTTP client, so that what is sent is exactly what the test says.
pub(super) struct Rpc(SocketAddr);

impl Rpc {
    /// Sends raw bytes, returns everything until the server closes.
    fn exchange(&self, request: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.0).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The server may answer and close before it has read everything.
        let _ = socket.write_all(request);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn http(&self, verb: &str, path: &str, body: &[u8]) -> (u16, String) {
        let mut request = format!(
            "{verb} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let answer = self.exchange(&request);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        (status, body.to_string())
    }

    fn post(&self, body: &str) -> (u16, Value) {
        let (status, body) = self.http("POST", "/", body.as_bytes());
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    pub(super) fn get(&self, path: &str) -> (u16, Value) {
        let path = path
            .replace(' ', "%20")
            .replace('"', "%22")
            .replace('\'', "%27")
            .replace('>', "%3E");
        let (status, body) = self.http("GET", &path, b"");
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn answer(&self, method: &str, params: &Value) -> Value {
        let (status, answer) =
            self.post(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string());
        assert_eq!(
            (status, &answer["id"], &answer["jsonrpc"]),
            (200, &json!(7), &json!("2.0")),
            "{method}: {answer}"
        );
        answer
    }

    pub(super) fn call(&self, method: &str, params: &Value) -> Value {
        let answer = self.answer(method, params);
        answer
            .get("result")
            .unwrap_or_else(|| panic!("{method} {params}: {answer}"))
            .clone()
    }

    pub(super) fn error(&self, method: &str, params: &Value) -> Value {
        let answer = self.answer(method, params);
        answer
            .get("error")
            .unwrap_or_else(|| panic!("{method} {params}: {answer}"))
            .clone()
    }
}

/// A manual chain with RPC.
pub(super) struct Served {
    pub world: World,
    pub node: SoloHandle,
    pub rpc: Rpc,
}

impl Served {
    pub(super) fn new() -> Self {
        let world = World::new();
        let mut config = world.config();
        config.rpc_listener = Some(TcpListener::bind("127.0.0.1:0").unwrap());
        config.moniker = "tester".into();
        let node = start(world.app(), config).unwrap();
        let rpc = Rpc(node.rpc_addr().unwrap());
        Self { world, node, rpc }
    }

    fn block_with(&self, txs: &[&str]) {
        for tx in txs {
            assert_eq!(send(&self.node, tx), 0, "{tx}");
        }
        self.world.tick();
        self.node.produce_block().unwrap();
    }

    /// `broadcast_tx_commit` while a block is made.
    pub(super) fn commit_in_background(&self, tx: &str) -> Value {
        let waiting = self.node.mempool_size().0;
        std::thread::scope(|scope| {
            let call = scope.spawn(|| self.rpc.call("broadcast_tx_commit", &json!({"tx": BASE64.encode(tx)})));
            for _ in 0..500 {
                if self.node.mempool_size().0 > waiting {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            self.node.produce_block().unwrap();
            call.join().unwrap()
        })
    }
}

fn sum(tx: &str) -> [u8; 32] {
    crate::merkle::sha256(tx.as_bytes())
}

#[test]
fn before_the_first_block_everything_answers() {
    let served = Served::new();
    let rpc = &served.rpc;
    let status = rpc.call("status", &json!({}));
    assert_eq!(status["sync_info"]["latest_block_height"], "0");
    assert_eq!(status["sync_info"]["latest_block_time"], "1970-01-01T00:00:00Z");
    assert_eq!(rpc.call("block", &json!({}))["block"], Value::Null);
    assert_eq!(rpc.call("header", &json!({}))["header"], Value::Null);
    assert_eq!(rpc.call("commit", &json!({})), Value::Null);
    assert_eq!(rpc.call("validators", &json!({}))["block_height"], "1");
    assert_eq!(
        rpc.call("tx_search", &json!({"query": "tx.height>0"}))["total_count"],
        "0"
    );
    assert_eq!(rpc.error("block_results", &json!({}))["code"], -32603);
    assert_eq!(rpc.error("blockchain", &json!({}))["code"], -32603);
}

#[test]
fn clients_find_what_they_need() {
    let served = Served::new();
    let rpc = &served.rpc;
    served.block_with(&["name=satoshi", "!fail=1"]);
    served.block_with(&[]);
    served.block_with(&["other=1"]);

    let status = rpc.call("status", &json!({}));
    let node = &status["node_info"];
    assert!(
        node["version"].as_str().unwrap().starts_with("0.38."),
        "CosmJS picks Comet38Client by this"
    );
    assert_eq!(
        (&node["network"], &node["moniker"]),
        (&json!("solo-test"), &json!("tester"))
    );
    assert_eq!(
        (&node["other"]["tx_index"], &node["other"]["engine"]),
        (&json!("on"), &json!("solo"))
    );
    assert_eq!(status["sync_info"]["latest_block_height"], "3");
    assert_eq!(status["sync_info"]["earliest_block_height"], "1");
    assert_eq!(status["validator_info"]["voting_power"], "10");

    let block = rpc.call("block", &json!({"height": "1"}));
    let hash = block["block_id"]["hash"].as_str().unwrap().to_string();
    assert_eq!(block["block"]["data"]["txs"][0], BASE64.encode("name=satoshi"));
    assert_eq!(rpc.call("block", &json!({}))["block"]["header"]["height"], "3");
    assert_eq!(
        rpc.call(
            "block_by_hash",
            &json!({"hash": BASE64.encode(hex::decode(&hash).unwrap())})
        ),
        block
    );
    assert_eq!(
        rpc.call("header_by_hash", &json!({"hash": hash}))["header"],
        block["block"]["header"]
    );
    assert_eq!(
        rpc.call("header", &json!({"height": "1"}))["header"],
        block["block"]["header"]
    );
    let commit = |h: &str| rpc.call("commit", &json!({"height": h}));
    assert_eq!(
        (&commit("1")["canonical"], &commit("3")["canonical"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(commit("1")["signed_header"]["commit"]["block_id"], block["block_id"]);
    // tendermint's types read what CosmJS and cosmrs read.
    let _: SignedHeader = serde_json::from_value(commit("3")["signed_header"].clone()).unwrap();
    let _: tendermint::Block = serde_json::from_value(block["block"].clone()).unwrap();
    let _: tendermint::node::Info = serde_json::from_value(node.clone()).unwrap();
    let _: Vec<validator::Info> =
        serde_json::from_value(rpc.call("validators", &json!({}))["validators"].clone()).unwrap();
    let _: tendermint::consensus::Params =
        serde_json::from_value(rpc.call("consensus_params", &json!({}))["consensus_params"].clone()).unwrap();
    let _: tendermint::Genesis<Value> =
        serde_json::from_value(rpc.call("genesis", &json!({}))["genesis"].clone()).unwrap();

    let results = rpc.call("block_results", &json!({"height": "1"}));
    assert_eq!(
        (&results["txs_results"][0]["code"], &results["txs_results"][1]["code"]),
        (&json!(0), &json!(7))
    );
    assert_eq!(
        rpc.call("block_results", &json!({"height": "2"}))["txs_results"],
        Value::Null
    );
    let chain = rpc.call("blockchain", &json!({}));
    let heights: Vec<&Value> = chain["block_metas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["header"]["height"])
        .collect();
    assert_eq!(heights, ["3", "2", "1"]);
    assert_eq!(chain["block_metas"][2]["num_txs"], "2");

    let query = rpc.call(
        "abci_query",
        &json!({"path": "/store", "data": hex::encode("name"), "prove": false}),
    );
    assert_eq!(query["response"]["value"], BASE64.encode("satoshi"));
    assert_ne!(
        query["response"]["height"], "0",
        "CosmJS refuses a query without a height"
    );
    assert_eq!(rpc.call("abci_info", &json!({}))["response"]["last_block_height"], "3");

    let tx = rpc.call(
        "tx",
        &json!({"hash": BASE64.encode(sum("name=satoshi")), "prove": true}),
    );
    assert_eq!((&tx["height"], &tx["index"]), (&json!("1"), &json!(0)));
    assert_eq!(tx["proof"]["root_hash"], block["block"]["header"]["data_hash"]);
    let proof: tendermint::tx::Proof = serde_json::from_value(tx["proof"].clone()).unwrap();
    assert_eq!(proof.proof.total, 2);
    let chunk = rpc.call("genesis_chunked", &json!({}));
    let text = BASE64.decode(chunk["data"].as_str().unwrap()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&text).unwrap(),
        rpc.call("genesis", &json!({}))["genesis"]
    );
    assert_eq!(rpc.call("net_info", &json!({}))["n_peers"], "0");
}

#[test]
fn searches_use_the_index() {
    let served = Served::new();
    let rpc = &served.rpc;
    for i in 1..=6 {
        let (a, b) = (format!("a{i}=red"), format!("b{i}={i}"));
        served.block_with(&[a.as_str(), b.as_str()]);
    }
    let found = |query: &str| -> Vec<String> {
        let answer = rpc.call("tx_search", &json!({"query": query, "per_page": "100"}));
        let txs = answer["txs"].as_array().unwrap();
        assert_eq!(answer["total_count"], txs.len().to_string(), "{query}");
        txs.iter()
            .map(|t| String::from_utf8(BASE64.decode(t["tx"].as_str().unwrap()).unwrap()).unwrap())
            .collect()
    };
    let hash = hex::encode_upper(sum("a2=red"));
    assert_eq!(found(&format!("tx.hash='{hash}'")), ["a2=red"]);
    assert_eq!(found(&format!("tx.hash='{}'", hex::encode_upper(sum("none")))), [""; 0]);
    assert_eq!(found("tx.height=2"), ["a2=red", "b2=2"]);
    assert_eq!(found("tx.height>=5 AND tx.height<6"), ["a5=red", "b5=5"]);
    assert_eq!(found("app.key='b3'"), ["b3=3"]);
    assert_eq!(found("app.value='red' AND tx.height>4"), ["a5=red", "a6=red"]);
    assert_eq!(found("app.value>=5"), ["b5=5", "b6=6"]);
    assert_eq!(found("app.key CONTAINS 'b' AND app.value<2"), ["b1=1"]);
    assert_eq!(found("app.key='a1' AND app.value='blue'"), [""; 0]);
    assert_eq!(
        found("app.secret='red'"),
        [""; 0],
        "attributes without index are not indexed"
    );
    assert_eq!(found("app.ke='b3'"), [""; 0], "a key is not a prefix");
    assert_eq!(found("app.creator EXISTS").len(), 12);

    let page = |page: &str, order: &str| {
        let params = json!({"query": "app.value='red'", "page": page, "per_page": "4", "order_by": order});
        let answer = rpc.call("tx_search", &params);
        assert_eq!(answer["total_count"], "6");
        answer["txs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["height"].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (page("1", "asc"), page("2", "asc")),
        (
            vec!["1".into(), "2".into(), "3".into(), "4".into()],
            vec!["5".into(), "6".into()]
        )
    );
    assert_eq!(page("1", "desc"), ["6", "5", "4", "3"]);

    let blocks = |query: &str| -> Vec<String> {
        let answer = rpc.call("block_search", &json!({ "query": query }));
        let blocks = answer["blocks"].as_array().unwrap();
        blocks
            .iter()
            .map(|b| b["block"]["header"]["height"].as_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(blocks("block.height>4"), ["6", "5"], "newest first unless told");
    assert_eq!(blocks("fifth.height=5"), ["5"]);
    assert_eq!(blocks("fifth.height=5 AND block.height<5"), [""; 0]);

    for (query, words) in [
        ("", "attribute name"),
        ("tx.height='x'", "whole number"),
        ("tx.hash='zz'", "hash"),
        ("a b", "expected"),
    ] {
        let e = rpc.error("tx_search", &json!({ "query": query }));
        assert!(
            e["code"] == -32603 && e["data"].as_str().unwrap().contains(words),
            "{query}: {e}"
        );
    }
    assert!(
        rpc.error("tx_search", &json!({"query": "tx.height=1", "page": "2"}))["data"]
            .as_str()
            .unwrap()
            .contains("[1, 1]")
    );
    assert!(
        rpc.error("tx_search", &json!({"query": "tx.height=1", "order_by": "up"}))["data"]
            .as_str()
            .unwrap()
            .contains("order_by")
    );
}

#[test]
fn broadcasts_tell_what_happened() {
    let served = Served::new();
    let rpc = &served.rpc;
    let tx = |t: &str| json!({"tx": BASE64.encode(t)});
    let sent = rpc.call("broadcast_tx_sync", &tx("a=1"));
    assert_eq!(
        (&sent["code"], &sent["hash"]),
        (&json!(0), &json!(hex::encode_upper(sum("a=1"))))
    );
    assert_eq!(
        rpc.error("broadcast_tx_sync", &tx("a=1")),
        json!({"code": -32603, "message": "Internal error", "data": "tx already exists in cache"})
    );
    assert_eq!(rpc.call("broadcast_tx_sync", &tx("nonsense"))["code"], 2);
    assert_eq!(rpc.call("broadcast_tx_async", &tx("b=1"))["code"], 0);
    let waiting = rpc.call("unconfirmed_txs", &json!({"limit": "1"}));
    assert_eq!(
        (&waiting["n_txs"], &waiting["total"], &waiting["total_bytes"]),
        (&json!("1"), &json!("2"), &json!("6"))
    );
    assert_eq!(waiting["txs"], json!([BASE64.encode("a=1")]));
    assert_eq!(rpc.call("num_unconfirmed_txs", &json!({}))["n_txs"], "2");
    served.node.produce_block().unwrap();

    let committed = served.commit_in_background("c=1");
    assert_eq!(
        (&committed["height"], &committed["tx_result"]["code"]),
        (&json!("2"), &json!(0))
    );
    // Fails when executed, may be sent again, and the second answer is about the second copy.
    assert_eq!(served.commit_in_background("!fail=1")["height"], "3");
    let again = served.commit_in_background("!fail=1");
    assert_eq!(
        (&again["height"], &again["tx_result"]["code"]),
        (&json!("4"), &json!(7))
    );
    let refused = rpc.call("broadcast_tx_commit", &tx("nonsense"));
    assert_eq!(
        (&refused["check_tx"]["code"], &refused["height"]),
        (&json!(2), &json!("0"))
    );
    assert_eq!(
        rpc.error("broadcast_tx_commit", &tx("c=1"))["data"],
        "error on broadcastTxCommit: tx already exists in cache"
    );
}

#[test]
fn uri_calls_have_cometbfts_conventions() {
    let served = Served::new();
    let rpc = &served.rpc;
    served.block_with(&["name=satoshi"]);
    let hash = hex::encode_upper(sum("name=satoshi"));
    let height = |path: &str| rpc.get(path).1["result"]["block"]["header"]["height"].clone();
    assert_eq!(
        (
            height("/block?height=1"),
            height("/block?height=\"1\""),
            height("/block")
        ),
        (json!("1"), json!("1"), json!("1"))
    );
    let (status, tx) = rpc.get(&format!("/tx?hash=0x{hash}&prove=true"));
    assert_eq!(
        (status, &tx["id"], &tx["result"]["hash"]),
        (200, &json!(-1), &json!(hash))
    );
    let value = |path: &str| rpc.get(path).1["result"]["response"]["value"].clone();
    assert_eq!(
        value("/abci_query?path=\"/store\"&data=\"name\""),
        BASE64.encode("satoshi")
    );
    assert_eq!(value("/abci_query?data=0x6e616d65"), BASE64.encode("satoshi"));
    assert_eq!(
        rpc.get("/tx_search?query=\"tx.height>0\"&per_page=5").1["result"]["total_count"],
        "1"
    );
    assert_eq!(rpc.get("/broadcast_tx_sync?tx=\"u=v\"").1["result"]["code"], 0);
    for (path, code) in [
        ("/block?height=abc", -32602),
        ("/block?height=0x1", -32602),
        ("/block?height=0", -32603),
        ("/block?height=-1", -32603),
        ("/block?height=99", -32603),
        ("/tx?hash=abc", -32602),
        ("/tx?hash=0xzz", -32602),
        ("/tx?hash=0x00", -32603),
        ("/abci_query?path=raw", -32602),
        ("/validators?page=9", -32603),
        ("/genesis_chunked?chunk=-1", -32603),
        ("/tx?hash=%FF", -32602),
    ] {
        let (status, answer) = rpc.get(path);
        assert_eq!(
            (status, &answer["error"]["code"]),
            (500, &json!(code)),
            "{path}: {answer}"
        );
    }
    assert_eq!(rpc.get("/nope").0, 404);
    assert_eq!(rpc.get("/status/x").0, 404);
    let (status, page) = rpc.get("/");
    assert!(status == 200 && page.as_str().unwrap().contains("/tx_search?query=_"));
    let preflight = rpc.exchange(
        b"OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\nAccess-Control-Request-Method: POST\r\n\
          Access-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n",
    );
    assert!(
        preflight
            .to_ascii_lowercase()
            .contains("access-control-allow-origin: *"),
        "{preflight}"
    );
}

#[test]
fn bad_input_is_an_error_and_the_server_stays() {
    let served = Served::new();
    let rpc = &served.rpc;
    served.block_with(&["name=satoshi"]);
    let code = |body: &str| {
        let (status, answer) = rpc.post(body);
        (status, answer["error"]["code"].as_i64())
    };
    assert_eq!(code("{"), (500, Some(-32700)));
    assert_eq!(code("5"), (500, Some(-32700)));
    assert_eq!(code("[1]"), (500, Some(-32700)));
    assert_eq!(code("\u{0}"), (500, Some(-32700)));
    assert_eq!(code(&"[".repeat(5000)), (500, Some(-32700)));
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":true,"method":"status"}"#),
        (500, Some(-32700))
    );
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"nope"}"#), (200, Some(-32601)));
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"block","params":{"height":5}}"#),
        (200, Some(-32602))
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"block","params":["1","2"]}"#),
        (200, Some(-32602))
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"block","params":"x"}"#),
        (200, Some(-32602))
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"tx","params":{"hash":"*"}}"#),
        (200, Some(-32602))
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","id":1,"method":"block","params":{"height":"9223372036854775807"}}"#),
        (200, Some(-32603))
    );
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"health"}"#;
    assert_eq!(code(&format!("[{}]", [call; 11].join(","))), (200, Some(-32600)));
    let (status, answer) = rpc.post(&format!(
        r#"[{call},{{"jsonrpc":"2.0","id":"x","method":"nope"}},{{"method":"health"}}]"#
    ));
    assert_eq!(status, 200);
    assert_eq!(answer[0], json!({"jsonrpc": "2.0", "id": 1, "result": {}}));
    assert_eq!(
        (&answer[1]["id"], answer.as_array().unwrap().len()),
        (&json!("x"), 2),
        "a notification has no answer"
    );
    assert_eq!(rpc.post("[]"), (200, Value::Null));
    assert_eq!(rpc.post(r#"{"jsonrpc":"2.0","id":1.7,"method":"health"}"#).1["id"], 1);
    assert_eq!(
        rpc.post(r#"{"jsonrpc":"2.0","id":1,"method":"block","params":["1"]}"#)
            .1["result"]["block"]["header"]["height"],
        "1"
    );

    let large = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"broadcast_tx_sync","params":{{"tx":"{}"}}}}"#,
        "A".repeat(1_000_001)
    );
    assert_eq!(code(&large), (400, Some(-32600)));
    // A panic of the application is an error of that request.
    let panicking = json!({"data": hex::encode("panic")});
    assert_eq!(rpc.error("abci_query", &panicking)["code"], -32603);
    // Not HTTP at all, a truncated body, and a peer that says nothing.
    rpc.exchange(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n");
    let mut half = TcpStream::connect(rpc.0).unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        .unwrap();
    drop(half);
    let _silent = TcpStream::connect(rpc.0).unwrap();
    assert_eq!(rpc.call("health", &json!({})), json!({}));

    let begun = Instant::now();
    let addr = rpc.0;
    served.node.stop().unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "an idle connection does not hold up stop"
    );
    assert!(TcpStream::connect(addr).is_err(), "the port is free again");
}
