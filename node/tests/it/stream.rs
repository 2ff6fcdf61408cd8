//! The event stream: exactly once across interruptions, filters, pruning, slow readers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use rand_core::{OsRng, RngCore};
use tenure_proto::tenure::stream::v1::events_response::Item;
use tenure_proto::tenure::stream::v1::stream_client::StreamClient;
use tenure_proto::tenure::stream::v1::{Attribute, Cursor, Event, EventsRequest, Filter};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::Code;

use crate::support::{account, Net, NetOptions};

const LIMIT: Duration = Duration::from_secs(20);

fn cursor(height: u64, index: u32) -> Option<Cursor> {
    Some(Cursor { height, index })
}

/// Everything from a cursor up to a height.
async fn collect(channel: &Channel, request: EventsRequest) -> Result<Vec<Event>> {
    let mut stream = StreamClient::new(channel.clone()).events(request).await?.into_inner();
    let mut out = Vec::new();
    while let Some(message) = timeout(LIMIT, stream.message()).await?? {
        if let Some(Item::Event(event)) = message.item {
            out.push(event);
        }
    }
    Ok(out)
}

/// Blocks with transfers of alice's; the heights.
async fn transfers(net: &Net, channel: &Channel, blocks: u64) -> Result<()> {
    let (number, mut sequence) = account(channel, &net.alice.address()).await?;
    let engine = net.engine.as_ref().context("stopped")?;
    for i in 0..blocks {
        for _ in 0..i % 3 {
            let tx = net.transfer(number, sequence, &net.faucet_key.address(), 1 + i);
            let sent = engine.broadcast_tx_sync(&tx)?;
            ensure!(sent.check_tx.code == 0, "{}", sent.check_tx.log);
            sequence += 1;
        }
        net.block()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_killed_and_resumed_at_random_sees_each_event_once() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    let channel = net.channel().await?;
    net.block()?;
    let blocks = 40u64;
    let reader = {
        let channel = channel.clone();
        tokio::spawn(async move {
            let mut seen: Vec<(u64, u32)> = Vec::new();
            let mut next = cursor(1, 0);
            let mut lives = 0;
            loop {
                let request = EventsRequest {
                    from: next,
                    to_height: blocks + 1,
                    heartbeat_ms: 100,
                    ..Default::default()
                };
                let mut stream = StreamClient::new(channel.clone()).events(request).await?.into_inner();
                lives += 1;
                // Dies after a random number of messages, in the middle of blocks too.
                let mut left = OsRng.next_u32() % 7;
                loop {
                    let Some(message) = timeout(LIMIT, stream.message()).await?? else {
                        return Ok::<_, anyhow::Error>((seen, lives));
                    };
                    if let Some(Item::Event(event)) = message.item {
                        seen.push((event.height, event.index));
                    }
                    next = message.next;
                    if left == 0 {
                        break;
                    }
                    left -= 1;
                }
                if next.is_some_and(|n| n.height > blocks + 1) {
                    return Ok((seen, lives));
                }
            }
        })
    };
    transfers(&net, &channel, blocks).await?;
    let (seen, lives) = timeout(LIMIT, reader).await???;
    ensure!(lives > 20, "only {lives} lives");
    let archive = net.engine.as_ref().context("stopped")?.archive();
    let mut expected = Vec::new();
    for height in 1..=i64::try_from(blocks)? + 1 {
        let record = archive.record(height)?.context("archived")?;
        expected.extend(record.events().map(|p| (u64::try_from(height).unwrap_or(0), p.index)));
    }
    ensure!(
        seen == expected,
        "saw {} events, there are {}",
        seen.len(),
        expected.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_say_where_they_come_from_and_filters_choose() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    let channel = net.channel().await?;
    net.block()?;
    transfers(&net, &channel, 6).await?;
    let all = collect(
        &channel,
        EventsRequest {
            from: cursor(1, 0),
            to_height: 7,
            ..Default::default()
        },
    )
    .await?;
    ensure!(
        all.last().map(|e| e.height) == Some(7),
        "the last height asked for is part of the answer"
    );
    let transfer = all
        .iter()
        .find(|e| e.r#type == "transfer" && !e.tx_hash.is_empty())
        .context("a transfer")?;
    let engine = net.engine.as_ref().context("stopped")?;
    let tx = engine.tx(&transfer.tx_hash)?.context("its transaction")?;
    ensure!((u64::try_from(tx.height)?, tx.index) == (transfer.height, transfer.tx_index) && transfer.tx_code == 0);
    let time = engine
        .block(tx.height)?
        .context("block")?
        .block
        .header
        .context("header")?
        .time
        .context("time")?;
    ensure!(u64::try_from(time.seconds)? == transfer.time_ms / 1000);

    let recipient = net.faucet_key.address().to_string();
    let filter = |kind: &str, key: &str, value: &str| Filter {
        r#type: kind.into(),
        attributes: vec![Attribute {
            key: key.into(),
            value: value.into(),
        }],
    };
    let request = |filters| EventsRequest {
        from: cursor(1, 0),
        to_height: 7,
        filters,
        ..Default::default()
    };
    let chosen = collect(&channel, request(vec![filter("transfer", "recipient", &recipient)])).await?;
    let expected: Vec<Event> = all
        .iter()
        .filter(|e| {
            e.r#type == "transfer"
                && e.attributes
                    .iter()
                    .any(|a| a.key == "recipient" && a.value == recipient)
        })
        .cloned()
        .collect();
    ensure!(
        !expected.is_empty() && chosen == expected,
        "{} of {}",
        chosen.len(),
        expected.len()
    );
    let either = vec![
        filter("transfer", "recipient", &recipient),
        filter("message", "action", ""),
    ];
    ensure!(collect(&channel, request(either)).await?.len() > expected.len());
    ensure!(collect(&channel, request(vec![filter("trans", "recipient", "")]))
        .await?
        .is_empty());
    // From the middle of a block.
    let second = all.get(1).context("two events")?;
    let rest = collect(
        &channel,
        EventsRequest {
            from: cursor(second.height, second.index),
            to_height: 7,
            ..Default::default()
        },
    )
    .await?;
    ensure!(rest.first() == Some(second) && rest.len() == all.len() - 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_chain_beats_and_a_follower_gets_what_comes() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    let channel = net.channel().await?;
    net.block()?;
    let request = EventsRequest {
        filters: vec![Filter {
            r#type: "transfer".into(),
            attributes: Vec::new(),
        }],
        heartbeat_ms: 100,
        ..Default::default()
    };
    let mut stream = StreamClient::new(channel.clone()).events(request).await?.into_inner();
    let beat = timeout(LIMIT, stream.message()).await??.context("a heartbeat")?;
    ensure!(
        matches!(beat.item, Some(Item::Heartbeat(ref b)) if b.height == 1) && beat.next == cursor(2, 0),
        "{beat:?}"
    );
    transfers(&net, &channel, 2).await?;
    let mut got = BTreeMap::new();
    while got.is_empty() {
        let message = timeout(LIMIT, stream.message()).await??.context("an event")?;
        if let Some(Item::Event(event)) = message.item {
            ensure!(message.next == cursor(event.height, event.index + 1));
            got.insert(event.height, event.r#type);
        }
    }
    ensure!(got == BTreeMap::from([(3, "transfer".to_owned())]), "{got:?}");
    let refused = StreamClient::new(channel)
        .events(EventsRequest {
            heartbeat_ms: 1,
            ..Default::default()
        })
        .await;
    ensure!(refused.err().context("refused")?.code() == Code::InvalidArgument);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pruned_is_said_with_the_earliest_height() -> Result<()> {
    let net = Net::start(NetOptions {
        keep_heights: Some(10),
        ..NetOptions::default()
    })
    .await?;
    let channel = net.channel().await?;
    for _ in 0..30 {
        net.block()?;
    }
    net.engine.as_ref().context("stopped")?.archive().sync()?;
    let status = StreamClient::new(channel.clone())
        .events(EventsRequest {
            from: cursor(5, 0),
            ..Default::default()
        })
        .await
        .err()
        .context("refused")?;
    ensure!(
        status.code() == Code::OutOfRange && status.message().contains("is 21;"),
        "{status}"
    );
    ensure!(collect(
        &channel,
        EventsRequest {
            from: cursor(21, 0),
            to_height: 30,
            ..Default::default()
        }
    )
    .await
    .is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_loses_nothing_and_holds_up_nobody() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    let channel = net.channel().await?;
    net.block()?;
    let request = EventsRequest {
        from: cursor(1, 0),
        to_height: 121,
        ..Default::default()
    };
    let mut slow = StreamClient::new(net.channel().await?)
        .events(request.clone())
        .await?
        .into_inner();
    transfers(&net, &channel, 120).await?;
    let mut got = Vec::new();
    while let Some(message) = timeout(LIMIT, slow.message()).await?? {
        if let Some(Item::Event(event)) = message.item {
            got.push((event.height, event.index));
            if got.len() % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    let all: Vec<_> = collect(&channel, request)
        .await?
        .iter()
        .map(|e| (e.height, e.index))
        .collect();
    ensure!(got == all && got.len() > 300, "{} of {}", got.len(), all.len());
    Ok(())
}

/// A client whose filter matches nothing in a long history hears how far the node has looked, and need not begin again after an interruption.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_without_matches_moves_the_cursor_through_history() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    let channel = net.channel().await?;
    for _ in 0..1_050 {
        net.block()?;
    }
    let nothing = Filter {
        r#type: "no.such.Event".to_owned(),
        attributes: Vec::new(),
    };
    let request = EventsRequest {
        from: cursor(1, 0),
        to_height: 1_050,
        filters: vec![nothing],
        heartbeat_ms: 60_000,
    };
    let mut stream = StreamClient::new(channel).events(request).await?.into_inner();
    let mut cursors = Vec::new();
    while let Some(message) = timeout(LIMIT, stream.message()).await?? {
        ensure!(matches!(message.item, Some(Item::Heartbeat(_))), "{message:?}");
        cursors.push(message.next);
    }
    ensure!(cursors == [cursor(1_001, 0)], "{cursors:?}");
    Ok(())
}

/// A node that stops says so: an end without a reason would look like the end of what was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_tells_followers_to_come_back() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    let channel = net.channel().await?;
    net.block()?;
    let mut stream = StreamClient::new(channel)
        .events(EventsRequest::default())
        .await?
        .into_inner();
    net.stop_serving();
    let ended = timeout(LIMIT, stream.message()).await?;
    let status = ended.err().context("it ended as if all had been sent")?;
    ensure!(
        status.code() == Code::Unavailable && status.message().contains("last cursor"),
        "{status}"
    );
    Ok(())
}
