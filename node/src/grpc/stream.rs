//! `tenure.stream.v1.Stream`: events from any height on, from the archive.
//!
//! One task a stream reads one record at a time, in height order, and waits until the client has taken what matched: memory is bounded by
//! the record and the channel, however slow the client. Followers of the chain all read the same record, which the archive keeps decoded.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream as FuturesStream;
use tenure_archive::{Archive, Placed, Record};
use tenure_proto::tenure::stream::v1::events_response::Item;
use tenure_proto::tenure::stream::v1::stream_server::Stream;
use tenure_proto::tenure::stream::v1::{Attribute, Cursor, Event, EventsRequest, EventsResponse, Filter, Heartbeat};
use tokio::sync::{mpsc, watch, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::grpc::workers::Workers;

/// Most streams at a time.
const MAX_STREAMS: usize = 256;
/// Messages that wait for a client.
const QUEUE: usize = 64;
/// Filters of a request, and attributes of a filter.
const MAX_FILTERS: usize = 64;
const HEARTBEAT_MS: u32 = 5_000;
const LEAST_HEARTBEAT_MS: u32 = 100;
const MOST_HEARTBEAT_MS: u32 = 60_000;
/// A stream with a filter says where it is after so many heights without a match, so that a client can keep its place in a long search.
const QUIET_HEIGHTS: u64 = 1_000;

/// The service.
pub struct StreamService {
    archive: Archive,
    readers: Workers,
    places: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl StreamService {
    /// Reads `archive` with the workers; streams end when `stop` holds true.
    pub fn new(archive: Archive, readers: Workers, stop: watch::Receiver<bool>) -> Self {
        Self {
            archive,
            readers,
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
            stop,
        }
    }
}

/// A request, checked.
struct Order {
    height: u64,
    index: u32,
    to: u64,
    filters: Vec<Filter>,
    heartbeat: Duration,
}

impl Order {
    fn of(request: EventsRequest, head: u64) -> Result<Self, Status> {
        let EventsRequest {
            from,
            to_height,
            filters,
            heartbeat_ms,
        } = request;
        let from = from.unwrap_or_default();
        let (height, index) = match from.height {
            0 => (head.saturating_add(1), 0),
            height => (height, from.index),
        };
        if from.height == 0 && from.index != 0 {
            return Err(Status::invalid_argument(format!(
                "from.index is {}, but from.height is 0: give the height it belongs to",
                from.index
            )));
        }
        let heartbeat_ms = match heartbeat_ms {
            0 => HEARTBEAT_MS,
            ms if (LEAST_HEARTBEAT_MS..=MOST_HEARTBEAT_MS).contains(&ms) => ms,
            ms => {
                return Err(Status::invalid_argument(format!(
                    "heartbeat_ms is {ms}; it must be 0 or between {LEAST_HEARTBEAT_MS} and {MOST_HEARTBEAT_MS}"
                )))
            }
        };
        if to_height != 0 && to_height < height {
            return Err(Status::invalid_argument(format!(
                "to_height is {to_height}, below the first height {height}"
            )));
        }
        if filters.len() > MAX_FILTERS {
            return Err(Status::invalid_argument(format!(
                "filters has {} entries, the limit is {MAX_FILTERS}",
                filters.len()
            )));
        }
        for (i, filter) in filters.iter().enumerate() {
            if filter.attributes.len() > MAX_FILTERS {
                return Err(Status::invalid_argument(format!(
                    "filters[{i}].attributes has {} entries, the limit is {MAX_FILTERS}",
                    filter.attributes.len()
                )));
            }
            if filter.attributes.iter().any(|a| a.key.is_empty()) {
                return Err(Status::invalid_argument(format!(
                    "filters[{i}].attributes has an empty key"
                )));
            }
        }
        Ok(Self {
            height,
            index,
            to: if to_height == 0 { u64::MAX } else { to_height },
            filters,
            heartbeat: Duration::from_millis(u64::from(heartbeat_ms)),
        })
    }

    fn wants(&self, event: &tendermint_proto::v0_38::abci::Event) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| matches(filter, event))
    }
}

fn matches(filter: &Filter, event: &tendermint_proto::v0_38::abci::Event) -> bool {
    let of_type = match filter.r#type.strip_suffix('*') {
        Some(prefix) => event.r#type.starts_with(prefix),
        None => filter.r#type.is_empty() || filter.r#type == event.r#type,
    };
    let has = |wanted: &Attribute| {
        let mut of_key = event.attributes.iter().filter(|a| a.key == wanted.key);
        of_key.any(|a| wanted.value.is_empty() || a.value == wanted.value)
    };
    of_type && filter.attributes.iter().all(has)
}

fn time_ms(record: &Record) -> u64 {
    let Some(time) = record.time() else { return 0 };
    let ms = time
        .seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(time.nanos) / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// The events of a record from `index` on that are wanted, with the cursor behind each.
fn events(order: &Order, record: &Record, height: u64, index: u32) -> Vec<EventsResponse> {
    let time_ms = time_ms(record);
    // Consecutive events mostly come from one transaction.
    let mut hashed: Option<(u32, Vec<u8>)> = None;
    let mut out = Vec::new();
    for Placed { index: at, tx, event } in record.events() {
        if at < index || !order.wants(event) {
            continue;
        }
        let result = tx.and_then(|i| record.response.tx_results.get(usize::try_from(i).ok()?));
        let tx_hash = match tx {
            None => Vec::new(),
            Some(i) => {
                if hashed.as_ref().is_none_or(|(of, _)| *of != i) {
                    let bytes = usize::try_from(i).ok().and_then(|i| record.request.txs.get(i));
                    let hash = bytes.map(|tx| tenure_archive::tx_hash(tx).to_vec());
                    hashed = Some((i, hash.unwrap_or_default()));
                }
                hashed.as_ref().map(|(_, hash)| hash.clone()).unwrap_or_default()
            }
        };
        let attribute = |a: &tendermint_proto::v0_38::abci::EventAttribute| Attribute {
            key: a.key.clone(),
            value: a.value.clone(),
        };
        out.push(EventsResponse {
            next: Some(Cursor {
                height,
                index: at.saturating_add(1),
            }),
            item: Some(Item::Event(Event {
                height,
                index: at,
                time_ms,
                tx_hash,
                tx_index: tx.unwrap_or(0),
                tx_code: result.map_or(0, |r| r.code),
                r#type: event.r#type.clone(),
                attributes: event.attributes.iter().map(attribute).collect(),
            })),
        });
    }
    out
}

/// Why nothing can be sent from a height on.
fn gone(archive: &Archive, height: u64) -> Status {
    Status::out_of_range(format!(
        "events of height {height} are not kept by this node: the earliest height from which nothing is missing is {}; begin there, or ask \
         a node that keeps more",
        archive.earliest()
    ))
}

type Sender = mpsc::Sender<Result<EventsResponse, Status>>;

/// One stream.
struct Following {
    archive: Archive,
    readers: Workers,
    order: Arc<Order>,
    heads: watch::Receiver<i64>,
    stop: watch::Receiver<bool>,
    out: Sender,
    _place: OwnedSemaphorePermit,
}

/// The stream is over: the client is gone, everything asked for was sent, or the status says why.
enum Over {
    Done,
    Failed(Status),
}

impl Following {
    async fn run(mut self) {
        if let Over::Failed(status) = self.follow().await {
            // Nobody may be left to hear it.
            let _ = self.out.send(Err(status)).await;
        }
    }

    async fn follow(&mut self) -> Over {
        let (mut height, mut index) = (self.order.height, self.order.index);
        let mut last_sent = Instant::now();
        let mut quiet = 0u64;
        loop {
            if height > self.order.to {
                return Over::Done;
            }
            let head = u64::try_from(*self.heads.borrow_and_update()).unwrap_or(0);
            if height > head {
                match self.wait(height, index, head, last_sent).await {
                    Ok(true) => {
                        last_sent = Instant::now();
                        quiet = 0;
                    }
                    Ok(false) => {}
                    Err(over) => return over,
                }
                continue;
            }
            let batch = match self.read(height, index).await {
                Ok(batch) => batch,
                Err(status) => return Over::Failed(status),
            };
            quiet = if batch.is_empty() { quiet.saturating_add(1) } else { 0 };
            for message in batch {
                if let Err(over) = self.send(message).await {
                    return over;
                }
                last_sent = Instant::now();
            }
            (height, index) = (height.saturating_add(1), 0);
            if quiet >= QUIET_HEIGHTS || (quiet > 0 && last_sent.elapsed() >= self.order.heartbeat) {
                if let Err(over) = self.send(heartbeat(height, index, head)).await {
                    return over;
                }
                last_sent = Instant::now();
                quiet = 0;
            }
        }
    }

    async fn send(&mut self, message: EventsResponse) -> Result<(), Over> {
        tokio::select! {
            sent = self.out.send(Ok(message)) => sent.map_err(|_| Over::Done),
            () = stopped(&mut self.stop) => Err(stopping()),
        }
    }

    /// Waits for a height above `head`; true if a heartbeat was sent meanwhile.
    async fn wait(&mut self, height: u64, index: u32, head: u64, last_sent: Instant) -> Result<bool, Over> {
        tokio::select! {
            changed = self.heads.changed() => changed.map(|()| false).map_err(|_| stopping()),
            () = self.out.closed() => Err(Over::Done),
            () = stopped(&mut self.stop) => Err(stopping()),
            () = tokio::time::sleep_until(last_sent + self.order.heartbeat) => {
                self.send(heartbeat(height, index, head)).await.map(|()| true)
            }
        }
    }

    async fn read(&self, height: u64, index: u32) -> Result<Vec<EventsResponse>, Status> {
        let (archive, order) = (self.archive.clone(), self.order.clone());
        let job = move || {
            let at = i64::try_from(height).map_err(|_| Status::invalid_argument("from.height exceeds 63 bits"))?;
            match archive.record(at).map_err(|e| Status::internal(e.to_string()))? {
                Some(record) => Ok(events(&order, &record, height, index)),
                None => Err(gone(&archive, height)),
            }
        };
        self.readers.run(job).await?
    }
}

fn heartbeat(height: u64, index: u32, head: u64) -> EventsResponse {
    EventsResponse {
        next: Some(Cursor { height, index }),
        item: Some(Item::Heartbeat(Heartbeat { height: head })),
    }
}

fn stopping() -> Over {
    Over::Failed(Status::unavailable(
        "the node is stopping; connect again with the last cursor",
    ))
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever stops us is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[tonic::async_trait]
impl Stream for StreamService {
    type EventsStream = Pin<Box<dyn FuturesStream<Item = Result<EventsResponse, Status>> + Send>>;

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let head = u64::try_from(self.archive.head()).unwrap_or(0);
        let order = Order::of(request.into_inner(), head)?;
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!(
                "the node serves {MAX_STREAMS} streams already; try again later"
            ))
        })?;
        // Said at once rather than in the stream; what is pruned while it runs is said there.
        if order.height <= head && order.height < u64::try_from(self.archive.earliest()).unwrap_or(0) {
            return Err(gone(&self.archive, order.height));
        }
        let (out, messages) = mpsc::channel(QUEUE);
        let following = Following {
            archive: self.archive.clone(),
            readers: self.readers.clone(),
            order: Arc::new(order),
            heads: self.archive.heads(),
            stop: self.stop.clone(),
            out,
            _place: place,
        };
        tokio::spawn(following.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn event(kind: &str, pairs: &[(&str, &str)]) -> tendermint_proto::v0_38::abci::Event {
        let attributes = pairs
            .iter()
            .map(|(key, value)| tendermint_proto::v0_38::abci::EventAttribute {
                key: (*key).into(),
                value: (*value).into(),
                index: true,
            });
        tendermint_proto::v0_38::abci::Event {
            r#type: kind.into(),
            attributes: attributes.collect(),
        }
    }

    fn filter(kind: &str, pairs: &[(&str, &str)]) -> Filter {
        let attributes = pairs.iter().map(|(key, value)| Attribute {
            key: (*key).into(),
            value: (*value).into(),
        });
        Filter {
            r#type: kind.into(),
            attributes: attributes.collect(),
        }
    }

    #[test]
    fn a_filter_matches_type_and_every_attribute() {
        let e = event("tenure.market.lease", &[("id", "7"), ("id", "8"), ("owner", "a")]);
        for (filter, expected) in [
            (filter("", &[]), true),
            (filter("tenure.market.lease", &[]), true),
            (filter("tenure.market.*", &[("id", "8")]), true),
            (filter("tenure.market", &[]), false),
            (filter("tenure.escrow.*", &[]), false),
            (filter("*", &[("id", "7"), ("owner", "a")]), true),
            (filter("*", &[("id", "7"), ("owner", "b")]), false),
            (filter("", &[("owner", "")]), true),
            (filter("", &[("absent", "")]), false),
        ] {
            assert_eq!(matches(&filter, &e), expected, "{filter:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refused = |request: EventsRequest, word: &str| {
            let status = Order::of(request, 10).err().unwrap();
            assert!(
                status.code() == Code::InvalidArgument && status.message().contains(word),
                "{status}"
            );
        };
        let from = |height, index| Some(Cursor { height, index });
        refused(
            EventsRequest {
                from: from(0, 3),
                ..Default::default()
            },
            "from.index",
        );
        refused(
            EventsRequest {
                heartbeat_ms: 50,
                ..Default::default()
            },
            "heartbeat_ms",
        );
        refused(
            EventsRequest {
                from: from(9, 0),
                to_height: 8,
                ..Default::default()
            },
            "to_height",
        );
        refused(
            EventsRequest {
                filters: vec![filter("", &[("", "x")])],
                ..Default::default()
            },
            "filters[0]",
        );
        refused(
            EventsRequest {
                filters: vec![Filter::default(); 65],
                ..Default::default()
            },
            "the limit is 64",
        );
        assert_eq!(
            Order::of(EventsRequest::default(), 10).ok().unwrap().height,
            11,
            "the next block"
        );
    }
}
