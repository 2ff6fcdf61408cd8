//! Subscriptions over a real websocket.

use super::http::Served;
use super::{send, start, World};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{connect_async, MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

struct Client(Socket);

impl Client {
    async fn connect(served: &Served) -> Self {
        let url = format!("ws://{}/websocket", served.node.rpc_addr().unwrap());
        Self(connect_async(url).await.unwrap().0)
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text.to_owned())).await.unwrap();
    }

    /// The next message, `None` if none comes within `limit`.
    async fn hear(&mut self, limit: Duration) -> Option<Value> {
        loop {
            match tokio::time::timeout(limit, self.0.next()).await.ok()?? {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(text.as_str()).unwrap()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    async fn next(&mut self) -> Value {
        self.hear(Duration::from_secs(10)).await.expect("a message")
    }

    async fn ask(&mut self, id: Value, method: &str, params: Value) -> Value {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string())
            .await;
        let answer = self.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    async fn subscribe(&mut self, id: impl Into<Value>, query: &str) -> Value {
        self.ask(id.into(), "subscribe", json!({ "query": query })).await
    }
}

fn block(served: &Served, txs: &[&str]) {
    for tx in txs {
        assert_eq!(send(&served.node, tx), 0, "{tx}");
    }
    served.world.tick();
    served.node.produce_block().unwrap();
}

const NONE: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_get_what_they_asked_for_under_their_ids() {
    let served = Served::new();
    let mut ws = Client::connect(&served).await;
    assert_eq!(
        ws.subscribe(1, "tm.event='Tx' AND app.key='name'").await,
        json!({"jsonrpc": "2.0", "id": 1, "result": {}})
    );
    ws.subscribe("header", "tm.event = 'NewBlockHeader'").await;
    let by_position = json!(["tm.event='NewBlock'"]);
    assert_eq!(ws.ask(json!(3), "subscribe", by_position).await["result"], json!({}));
    block(&served, &["other=1", "name=satoshi"]);
    let mut got = BTreeMap::new();
    for _ in 0..3 {
        let message = ws.next().await;
        got.insert(message["id"].to_string(), message["result"].clone());
    }
    let tx = &got["1"];
    assert_eq!(tx["query"], "tm.event='Tx' AND app.key='name'");
    assert_eq!(tx["data"]["type"], "tendermint/event/Tx");
    let result = &tx["data"]["value"]["TxResult"];
    assert_eq!((&result["height"], &result["index"]), (&json!("1"), &json!(1)));
    assert_eq!(result["result"]["gas_used"], "1");
    assert!(
        result["result"].get("code").is_none(),
        "what is empty is left out: {result}"
    );
    assert_eq!(tx["events"]["tx.height"], json!(["1"]));
    // Upper case, as clients that wait for one transaction ask for it.
    let hash = hex::encode_upper(crate::merkle::sha256(b"name=satoshi"));
    assert_eq!(tx["events"]["tx.hash"], json!([hash]));
    assert_eq!(
        tx["events"]["app.secret"],
        json!(["satoshi"]),
        "attributes without index too"
    );
    assert_eq!(got["\"header\""]["data"]["value"]["header"]["height"], "1");
    let new = &got["3"]["data"]["value"];
    assert_eq!(new["block"]["header"]["height"], "1");
    assert_eq!(new["result_finalize_block"]["tx_results"].as_array().unwrap().len(), 2);

    assert_eq!(
        ws.ask(json!(9), "unsubscribe", json!({"query": "tm.event='NewBlock'"}))
            .await["result"],
        json!({})
    );
    assert_eq!(
        ws.ask(json!(10), "unsubscribe", json!({"query": "tm.event='NewBlock'"}))
            .await["error"]["data"],
        "subscription not found"
    );
    block(&served, &[]);
    assert_eq!(ws.next().await["id"], "header");
    assert_eq!(
        ws.ask(json!(11), "unsubscribe_all", json!({})).await["result"],
        json!({})
    );
    assert_eq!(
        ws.ask(json!(12), "unsubscribe_all", json!({})).await["error"]["code"],
        -32603
    );
    block(&served, &[]);
    assert_eq!(ws.hear(NONE).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_answers_and_mistakes_are_cometbfts() {
    let served = Served::new();
    block(&served, &["name=satoshi"]);
    let mut ws = Client::connect(&served).await;
    assert_eq!(
        ws.ask(json!(1), "status", json!({})).await["result"]["sync_info"]["latest_block_height"],
        "1"
    );
    assert_eq!(
        ws.ask(json!("x"), "block", json!({"height": "1"})).await["result"]["block"]["header"]["height"],
        "1"
    );
    assert_eq!(
        ws.ask(json!(2), "nope", json!({})).await["error"],
        json!({"code": -32601, "message": "Method not found"})
    );
    let number = ws.ask(json!(3), "block", json!({"height": 1})).await;
    assert_eq!(
        number["error"]["code"], -32603,
        "over the websocket this is an internal error: {number}"
    );
    assert!(ws.subscribe(4, "tm.event=").await["error"]["data"]
        .as_str()
        .unwrap()
        .starts_with("failed to parse query: "));
    assert_eq!(
        ws.subscribe(4, &format!("tx.height={}", "1".repeat(600))).await["error"]["data"],
        "maximum query length exceeded"
    );
    ws.subscribe(5, "tm.event='Tx'").await;
    assert_eq!(
        ws.subscribe(6, "tm.event = 'Tx'").await["error"]["data"],
        "already subscribed"
    );
    for i in 0..4 {
        assert_eq!(
            ws.subscribe(7 + i, &format!("tx.height={}", 100 + i)).await["result"],
            json!({})
        );
    }
    assert_eq!(
        ws.subscribe(20, "tx.height=7").await["error"]["data"],
        "max_subscriptions_per_client 5 reached"
    );
    for garbage in ["garbage", "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\"}]", "5"] {
        ws.say(garbage).await;
        let answer = ws.next().await;
        assert_eq!(
            (&answer["error"]["code"], answer.get("id")),
            (&json!(-32700), None),
            "{garbage}"
        );
    }
    ws.say(r#"{"jsonrpc":"2.0","method":"health"}"#).await;
    assert_eq!(ws.hear(NONE).await, None, "a notification has no answer");
    // A ping is answered, and an oversized message ends only this connection.
    ws.0.send(Message::Ping("hello".into())).await.unwrap();
    let pong = tokio::time::timeout(Duration::from_secs(5), ws.0.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(pong, Message::Pong("hello".into()));
    let _ = ws.0.send(Message::text("x".repeat(1_100_000))).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(Ok(_)) = ws.0.next().await {}
    })
    .await;
    assert!(ended.is_ok());
    let mut other = Client::connect(&served).await;
    assert_eq!(other.ask(json!(1), "health", json!({})).await["result"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_loses_its_subscriptions_and_delays_nobody() {
    let served = Served::new();
    let mut slow = Client::connect(&served).await;
    slow.subscribe(1, "tm.event='Tx'").await;
    let mut quick = Client::connect(&served).await;
    quick.subscribe(2, "tm.event='NewBlockHeader'").await;
    // More than sockets and queue can hold: a quarter of a megabyte, several times in each message.
    let filler = "x".repeat(250_000);
    for height in 1..=2 {
        let txs: Vec<String> = (0..50).map(|i| format!("k{height}.{i}={filler}")).collect();
        let txs: Vec<&str> = txs.iter().map(String::as_str).collect();
        block(&served, &txs);
        assert_eq!(
            quick.next().await["result"]["data"]["value"]["header"]["height"],
            height.to_string()
        );
    }
    tokio::time::sleep(crate::rpc::WS_PATIENCE + Duration::from_secs(2)).await;
    let mut last = Value::Null;
    let mut got = 0u64;
    while let Some(message) = slow.hear(Duration::from_secs(5)).await {
        if message.get("result").is_some() {
            let index = message["result"]["data"]["value"]["TxResult"]["index"]
                .as_u64()
                .unwrap_or(0);
            assert_eq!(index, got % 50, "in order and without gaps");
            got += 1;
        }
        last = message;
    }
    assert!(
        (1..100).contains(&got),
        "{got} came: it was cancelled, not served in full"
    );
    assert_eq!(
        last["error"],
        json!({
            "code": -32000,
            "message": "Server error",
            "data": "subscription was canceled (reason: client is not pulling messages fast enough)",
        })
    );
    assert_eq!(last["id"], 1);
}

/// A client that has fallen behind subscribes to something else: it begins with the next block, not where the client is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_begins_with_the_block_after_it() {
    let served = Served::new();
    let mut ws = Client::connect(&served).await;
    ws.subscribe(1, "tm.event='Tx'").await;
    // More than sockets and queue can hold, so that what follows waits in the archive.
    let filler = "x".repeat(250_000);
    let txs: Vec<String> = (0..50).map(|i| format!("k{i}={filler}")).collect();
    block(&served, &txs.iter().map(String::as_str).collect::<Vec<_>>());
    block(&served, &["second=1"]);
    block(&served, &["third=1"]);
    let params = json!({ "query": "tm.event='NewBlockHeader'" });
    ws.say(&json!({"jsonrpc": "2.0", "id": 2, "method": "subscribe", "params": params}).to_string())
        .await;
    // It arrives while the feeder still has the first block to send.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (mut txs, mut headers) = (0, Vec::new());
    while let Some(message) = ws.hear(Duration::from_secs(1)).await {
        match (&message["id"], &message["result"]["data"]["value"]) {
            (id, _) if *id == 1 => txs += 1,
            (_, value) if value.is_null() => {}
            (_, value) => headers.push(value["header"]["height"].clone()),
        }
    }
    assert_eq!(
        (txs, &headers),
        (52, &Vec::<Value>::new()),
        "what was before the subscription is not sent"
    );
    block(&served, &[]);
    assert_eq!(ws.next().await["result"]["data"]["value"]["header"]["height"], "4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_of_subscribers_are_given_back_however_they_leave() {
    let served = Served::new();
    let refused = format!("max_subscription_clients {} reached", crate::rpc::WS_MAX_CLIENTS);
    let mut clients = Vec::new();
    for _ in 0..crate::rpc::WS_MAX_CLIENTS {
        let mut client = Client::connect(&served).await;
        assert_eq!(client.subscribe(1, "tm.event='Tx'").await["result"], json!({}));
        clients.push(client);
    }
    let mut late = Client::connect(&served).await;
    assert_eq!(late.subscribe(1, "tm.event='Tx'").await["error"]["data"], refused);
    // One of its subscriptions is not its place.
    clients[0].subscribe(2, "tm.event='NewBlock'").await;
    clients[0]
        .ask(json!(3), "unsubscribe", json!({ "query": "tm.event='Tx'" }))
        .await;
    assert_eq!(late.subscribe(2, "tm.event='Tx'").await["error"]["data"], refused);
    // Three ways to leave.
    clients[0]
        .ask(json!(4), "unsubscribe", json!({ "query": "tm.event='NewBlock'" }))
        .await;
    clients[1].ask(json!(2), "unsubscribe_all", json!({})).await;
    drop(clients.remove(2));
    let mut newcomers = vec![late];
    for _ in 0..2 {
        newcomers.push(Client::connect(&served).await);
    }
    for (i, client) in newcomers.iter_mut().enumerate() {
        // The server notices a closed connection a moment later.
        let mut answer = client.subscribe(10, "tm.event='Tx'").await;
        for _ in 0..50 {
            if answer.get("result").is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = client.subscribe(11, "tm.event='Tx'").await;
        }
        assert_eq!(answer["result"], json!({}), "newcomer {i}");
    }
    let mut last = Client::connect(&served).await;
    assert_eq!(last.subscribe(1, "tm.event='Tx'").await["error"]["data"], refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_hear_that_the_engine_ended() {
    let world = World::new();
    let mut config = world.config();
    config.rpc_listener = Some(TcpListener::bind("127.0.0.1:0").unwrap());
    let node = start(world.app(), config).unwrap();
    let url = format!("ws://{}/websocket", node.rpc_addr().unwrap());
    let mut ws = Client(connect_async(url).await.unwrap().0);
    ws.subscribe(1, "tm.event='Tx'").await;
    send(&node, "!panic=1");
    assert!(node.produce_block().is_err());
    assert_eq!(
        ws.next().await["error"]["data"],
        "subscription was canceled (reason: CometBFT exited)"
    );
}
