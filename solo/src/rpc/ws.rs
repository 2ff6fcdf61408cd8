//! The websocket: every method, and subscriptions (CometBFT `rpc/jsonrpc/server/ws_handler.go`, `rpc/core/events.go`).
//!
//! ```text
//!   reader ── one call after another ──► answers ─┐
//!   feeder ── follows the archive, height by height ──► what subscriptions match ─┴─► queue (bounded) ─► writer ─► socket
//! ```
//!
//! A block waits for nobody: the feeder reads what is stored, so a slow client only falls behind. One that takes nothing for [`PATIENCE`]
//! loses its subscriptions and is told so, with CometBFT's words.

use super::events::Height;
use super::methods;
use super::wire::{self, Call, Error};
use super::{args, Rpc};
use crate::core::Life;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::State;
use axum::response::Response;
use futures::stream::SplitSink;
use futures::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde_json::{json, Value};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tenure_archive::query::{self, Condition};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Connections with subscriptions at once (CometBFT's `max_subscription_clients`).
pub(super) const MAX_CLIENTS: usize = 100;
/// Subscriptions of one connection (`max_subscriptions_per_client`).
const MAX_SUBSCRIPTIONS: usize = 5;
/// Messages that wait for the socket. Fewer than CometBFT's 200: what does not fit waits in the archive, not in memory.
const QUEUE: usize = 32;
/// How long the queue may stay full before subscriptions are cancelled.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long one message may take to leave.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// A connection from which nothing came for so long, not even a pong, is closed.
const READ_WAIT: Duration = Duration::from_secs(30);
const PING_PERIOD: Duration = Duration::from_secs(27);

struct Subscription {
    id: Value,
    text: String,
    query: Vec<Condition>,
    /// The first height it sees.
    from: i64,
}

/// What reader and feeder share.
struct Connection {
    rpc: Rpc,
    subscriptions: Mutex<Vec<Subscription>>,
    /// Wakes the feeder after a change of subscriptions.
    changed: watch::Sender<u64>,
    queue: mpsc::Sender<Value>,
}

/// Connections that have subscriptions, counted.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<AtomicUsize>);

/// `GET /websocket`.
pub(super) async fn upgrade(State(rpc): State<Rpc>, request: WebSocketUpgrade) -> Response {
    request
        .max_message_size(super::MAX_BODY_BYTES)
        .max_frame_size(super::MAX_BODY_BYTES)
        .on_upgrade(|socket| serve(rpc, socket))
}

async fn serve(rpc: Rpc, socket: WebSocket) {
    let (sink, mut stream) = socket.split();
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let connection = Arc::new(Connection {
        rpc,
        subscriptions: Mutex::new(Vec::new()),
        changed: watch::Sender::new(0),
        queue,
    });
    let mut writer = tokio::spawn(write(sink, outgoing));
    let feeder = tokio::spawn(feed(connection.clone()));
    let reader = async {
        while let Ok(Some(Ok(message))) = timeout(READ_WAIT, stream.next()).await {
            let answer = match &message {
                Message::Text(text) => connection.answer(text.as_bytes()).await,
                Message::Binary(bytes) => connection.answer(bytes).await,
                Message::Close(_) => break,
                // The library answers pings; anything at all keeps the connection.
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            let Some((answer, subscription)) = answer else { continue };
            if connection.queue.send(answer).await.is_err() {
                if subscription.is_some() && connection.subscriptions.lock().is_empty() {
                    connection.rpc.clients.leave();
                }
                break;
            }
            // Only now: no event of it may overtake the answer.
            if let Some(subscription) = subscription {
                connection.subscriptions.lock().push(subscription);
                connection.changed.send_modify(|n| *n = n.wrapping_add(1));
            }
        }
    };
    let written = tokio::select! {
        () = reader => false,
        _ = &mut writer => true,
    };
    feeder.abort();
    // A cancelled feeder has let go of the connection when this returns.
    let _ = feeder.await;
    connection.cancel_all();
    drop(connection);
    // What is in the queue still leaves, within the write limit.
    if !written {
        let _ = timeout(WRITE_WAIT, writer).await;
    }
}

async fn write(mut sink: SplitSink<WebSocket, Message>, mut outgoing: mpsc::Receiver<Value>) {
    let mut ping = tokio::time::interval(PING_PERIOD);
    ping.reset();
    loop {
        let message = tokio::select! {
            message = outgoing.recv() => match message {
                Some(value) => Message::Text(value.to_string().into()),
                None => break,
            },
            _ = ping.tick() => Message::Ping(Default::default()),
        };
        match timeout(WRITE_WAIT, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::info!(
                    "a websocket client took nothing for {} s; closing it",
                    WRITE_WAIT.as_secs()
                );
                return;
            }
        }
    }
    let _ = timeout(WRITE_WAIT, sink.close()).await;
}

type Answer = (Value, Option<Subscription>);

impl Connection {
    /// The answer to one message; `None` to a notification.
    async fn answer(&self, bytes: &[u8]) -> Option<Answer> {
        let Call { id, method, params } = match wire::parse_one(bytes) {
            Ok(call) => call,
            Err(e) => return Some((wire::failure(None, &e), None)),
        };
        let id = id?;
        let outcome = match method.as_str() {
            "subscribe" => match self.subscribe(&id, &params) {
                Ok(subscription) => return Some((wire::response(Some(&id), Ok(json!({}))), Some(subscription))),
                Err(e) => Err(e),
            },
            "unsubscribe" => self.unsubscribe(&params),
            "unsubscribe_all" => self.unsubscribe_all(),
            name => match methods::find(name) {
                None => Err(Error::method_not_found()),
                Some(method) => match args::from_json(method.args, &params) {
                    // Over the websocket CometBFT calls this an internal error.
                    Err(e) => Err(Error::internal(e.data)),
                    Ok(args) => methods::call(self.rpc.client.clone(), method, args).await,
                },
            },
        };
        Some((wire::response(Some(&id), outcome), None))
    }

    fn query(params: &Value) -> Result<(String, Vec<Condition>), Error> {
        let spec: args::Spec = &[("query", args::Kind::Text)];
        let args = args::from_json(spec, params).map_err(|e| Error::internal(e.data))?;
        let text = args.text("query");
        if text.len() > query::MAX_QUERY_BYTES {
            return Err(Error::internal("maximum query length exceeded"));
        }
        let conditions = query::parse(text).map_err(|e| Error::internal(format!("failed to parse query: {e}")))?;
        Ok((text.to_owned(), conditions))
    }

    fn subscribe(&self, id: &Value, params: &Value) -> Result<Subscription, Error> {
        let subscriptions = self.subscriptions.lock();
        if subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(Error::internal(format!(
                "max_subscriptions_per_client {MAX_SUBSCRIPTIONS} reached"
            )));
        }
        let (text, query) = Self::query(params)?;
        if subscriptions.iter().any(|s| s.query == query) {
            return Err(Error::internal("already subscribed"));
        }
        if subscriptions.is_empty() && !self.rpc.clients.enter() {
            return Err(Error::internal(format!(
                "max_subscription_clients {MAX_CLIENTS} reached"
            )));
        }
        Ok(Subscription {
            id: id.clone(),
            text,
            query,
            from: self.rpc.client.latest_height().saturating_add(1),
        })
    }

    fn unsubscribe(&self, params: &Value) -> Result<Value, Error> {
        let (_, query) = Self::query(params)?;
        let mut subscriptions = self.subscriptions.lock();
        let at = subscriptions.iter().position(|s| s.query == query);
        subscriptions.remove(at.ok_or_else(|| Error::internal("subscription not found"))?);
        if subscriptions.is_empty() {
            self.rpc.clients.leave();
        }
        Ok(json!({}))
    }

    fn unsubscribe_all(&self) -> Result<Value, Error> {
        if self.cancel_all().is_empty() {
            return Err(Error::internal("subscription not found"));
        }
        Ok(json!({}))
    }

    /// Takes out every subscription; their ids.
    fn cancel_all(&self) -> Vec<Value> {
        let gone = std::mem::take(&mut *self.subscriptions.lock());
        if !gone.is_empty() {
            self.rpc.clients.leave();
        }
        gone.into_iter().map(|s| s.id).collect()
    }

    /// Takes out every subscription and tells why, if the client listens at all.
    async fn cancel(&self, reason: &str) {
        for id in self.cancel_all() {
            let e = Error::server(format!("subscription was canceled (reason: {reason})"));
            if timeout(PATIENCE, self.queue.send(wire::failure(Some(&id), &e)))
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// The lowest height that some subscription waits for.
    fn wanted(&self) -> Option<i64> {
        self.subscriptions.lock().iter().map(|s| s.from).min()
    }

    /// What subscriptions get of a height, in order.
    fn messages(&self, height: i64, of: &Height) -> Vec<Value> {
        let mut subscriptions = self.subscriptions.lock();
        let mut out = Vec::new();
        for publication in of.publications() {
            for s in subscriptions.iter().filter(|s| s.from <= height) {
                if publication.matches(&s.query) {
                    out.push(wire::response(Some(&s.id), Ok(publication.result(&s.text))));
                }
            }
        }
        for s in subscriptions.iter_mut() {
            s.from = s.from.max(height.saturating_add(1));
        }
        out
    }
}

impl Clients {
    fn enter(&self) -> bool {
        let more = |n: usize| (n < MAX_CLIENTS).then_some(n + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn leave(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Follows the chain for one connection.
async fn feed(connection: Arc<Connection>) {
    let client = connection.rpc.client.clone();
    let (mut heads, mut life, mut changed) = (client.heads(), client.life(), connection.changed.subscribe());
    loop {
        let head = heads.borrow_and_update().as_ref().map_or(0, |h| h.height);
        changed.borrow_and_update();
        let next = connection.wanted().filter(|from| *from <= head);
        let Some(height) = next else {
            if !matches!(&*life.borrow_and_update(), Life::Running) {
                return connection.cancel("CometBFT exited").await;
            }
            tokio::select! {
                _ = heads.changed() => {}
                _ = changed.changed() => {}
                _ = life.changed() => {}
            }
            continue;
        };
        let feeder = connection.clone();
        let messages = methods::blocking(move || {
            let of = Height::load(&feeder.rpc.client, height).map_err(Error::internal)?;
            Ok(of.map(|of| feeder.messages(height, &of)))
        });
        let messages = match messages.await {
            Ok(Some(messages)) => messages,
            Ok(None) => {
                connection
                    .cancel("the client fell behind the blocks that are kept")
                    .await;
                continue;
            }
            Err(e) => {
                connection.cancel(&e.data).await;
                continue;
            }
        };
        for message in messages {
            match timeout(PATIENCE, connection.queue.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    tracing::info!(
                        "a websocket client is not pulling messages fast enough; its subscriptions are cancelled"
                    );
                    connection.cancel("client is not pulling messages fast enough").await;
                    break;
                }
            }
        }
    }
}
