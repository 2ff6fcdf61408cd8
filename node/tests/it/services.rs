//! The Cosmos services in what the faces alone do not show: heights, pages, orders and proofs that are asked for.

use anyhow::{ensure, Context, Result};
use prost::Message;
use tenure_proto::cosmos::bank::v1beta1::{QueryBalanceRequest, QueryBalanceResponse};
use tenure_proto::cosmos::base::node::v1beta1::service_client::ServiceClient as NodeClient;
use tenure_proto::cosmos::base::node::v1beta1::StatusRequest;
use tenure_proto::cosmos::base::query::v1beta1::PageRequest;
use tenure_proto::cosmos::base::tendermint::v1beta1::service_client::ServiceClient as BlockClient;
use tenure_proto::cosmos::base::tendermint::v1beta1::{
    AbciQueryRequest, GetBlockByHeightRequest, GetValidatorSetByHeightRequest,
};
use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient as TxClient;
use tenure_proto::cosmos::tx::v1beta1::{
    BroadcastMode, BroadcastTxRequest, GetBlockWithTxsRequest, GetTxRequest, GetTxsEventRequest, OrderBy,
};
use tenure_types::Address;
use tonic::transport::Channel;

use crate::support::{account, Net, NetOptions};

/// Who is paid here.
const RECEIVER: Address = Address::new([9; 20]);

/// A chain with transfers of 1, 2, … in these many blocks of so many, from block 2 on; their hashes.
async fn chain(blocks: u64, of: u64) -> Result<(Net, Channel, Vec<String>)> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let channel = net.channel().await?;
    let (number, mut sequence) = account(&channel, &net.alice.address()).await?;
    let mut hashes = Vec::new();
    for _ in 0..blocks {
        for _ in 0..of {
            let tx = net.transfer(number, sequence, &RECEIVER, sequence + 1);
            let sent = net.engine.as_ref().context("engine")?.broadcast_tx_sync(&tx)?;
            ensure!(sent.check_tx.code == 0, "{}", sent.check_tx.log);
            hashes.push(hex::encode_upper(sent.hash));
            sequence += 1;
        }
        net.block()?;
    }
    Ok((net, channel, hashes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_come_in_the_order_and_the_pages_asked_for() -> Result<()> {
    let (net, channel, hashes) = chain(5, 1).await?;
    let sender = net.alice.address();
    let find = |order: OrderBy, page: u64, old: Option<PageRequest>| {
        let mut client = TxClient::new(channel.clone());
        #[allow(deprecated, reason = "old clients use the old fields")]
        let request = GetTxsEventRequest {
            query: format!("message.sender='{sender}'"),
            order_by: order as i32,
            page,
            limit: if page > 0 { 2 } else { 0 },
            pagination: old,
            events: Vec::new(),
        };
        async move {
            let found = client.get_txs_event(request).await?.into_inner();
            ensure!(found.total == 5, "{}", found.total);
            anyhow::Ok(found.tx_responses.into_iter().map(|tx| tx.txhash).collect::<Vec<_>>())
        }
    };
    let newest_first: Vec<String> = hashes.iter().rev().cloned().collect();
    assert_eq!(find(OrderBy::Unspecified, 0, None).await?, hashes);
    assert_eq!(find(OrderBy::Asc, 1, None).await?, hashes[..2]);
    assert_eq!(find(OrderBy::Asc, 3, None).await?, hashes[4..]);
    assert_eq!(find(OrderBy::Desc, 2, None).await?, newest_first[2..4]);
    // As clients of before SDK 0.47 ask.
    let old = |offset, reverse| {
        Some(PageRequest {
            offset,
            limit: 2,
            reverse,
            ..Default::default()
        })
    };
    assert_eq!(find(OrderBy::Unspecified, 0, old(2, false)).await?, hashes[2..4]);
    assert_eq!(find(OrderBy::Unspecified, 0, old(4, true)).await?, newest_first[4..]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocks_transactions_come_in_pages_and_tell_its_time() -> Result<()> {
    let (_net, channel, hashes) = chain(1, 3).await?;
    let mut txs = TxClient::new(channel.clone());
    let page = |offset| GetBlockWithTxsRequest {
        height: 2,
        pagination: Some(PageRequest {
            offset,
            limit: 2,
            ..Default::default()
        }),
    };
    let first = txs.get_block_with_txs(page(0)).await?.into_inner();
    let second = txs.get_block_with_txs(page(2)).await?.into_inner();
    assert_eq!((first.txs.len(), second.txs.len()), (2, 1));
    assert_eq!(first.pagination.context("pagination")?.total, 3);
    let sequence =
        |tx: &tenure_proto::cosmos::tx::v1beta1::Tx| tx.auth_info.as_ref().map(|a| a.signer_infos[0].sequence);
    assert_eq!((sequence(&first.txs[1]), sequence(&second.txs[0])), (Some(1), Some(2)));
    let ask = GetTxRequest {
        hash: hashes[0].clone(),
    };
    let found = txs.get_tx(ask).await?.into_inner().tx_response.context("tx_response")?;
    let request = GetBlockByHeightRequest { height: 2 };
    let block = BlockClient::new(channel)
        .get_block_by_height(request)
        .await?
        .into_inner();
    let time = block
        .sdk_block
        .and_then(|b| b.header)
        .and_then(|h| h.time)
        .context("time")?;
    let told = tendermint::Time::parse_from_rfc3339(&found.timestamp)?;
    assert_eq!(told.unix_timestamp(), time.seconds);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_broadcast_tells_the_hash_and_nothing_else() -> Result<()> {
    let (net, channel, _) = chain(0, 0).await?;
    let (number, sequence) = account(&channel, &net.alice.address()).await?;
    let mut txs = TxClient::new(channel);
    for (sequence, arrives) in [(sequence, true), (sequence + 7, false)] {
        let request = BroadcastTxRequest {
            tx_bytes: net.transfer(number, sequence, &RECEIVER, 1),
            mode: BroadcastMode::Async as i32,
        };
        let sent = txs
            .broadcast_tx(request)
            .await?
            .into_inner()
            .tx_response
            .context("tx_response")?;
        assert_eq!((sent.code, sent.raw_log.as_str(), sent.txhash.len()), (0, "", 64));
        net.block()?;
        let found = txs.get_tx(GetTxRequest { hash: sent.txhash }).await;
        assert_eq!(found.is_ok(), arrives);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heights_and_proofs_that_are_asked_for_are_given() -> Result<()> {
    let (_net, channel, _) = chain(3, 1).await?;
    let mut blocks = BlockClient::new(channel.clone());
    let request = GetValidatorSetByHeightRequest {
        height: 3,
        ..Default::default()
    };
    assert_eq!(
        blocks
            .get_validator_set_by_height(request)
            .await?
            .into_inner()
            .block_height,
        3
    );

    let balance = QueryBalanceRequest {
        address: RECEIVER.to_string(),
        denom: "uten".to_owned(),
    };
    for (height, amount) in [(2, "1"), (3, "3"), (0, "6")] {
        let request = AbciQueryRequest {
            path: "/cosmos.bank.v1beta1.Query/Balance".to_owned(),
            data: balance.encode_to_vec(),
            height,
            prove: false,
        };
        let answer = blocks.abci_query(request).await?.into_inner();
        let found = QueryBalanceResponse::decode(answer.value.as_slice())?;
        assert_eq!(found.balance.context("balance")?.amount, amount, "height {height}");
    }
    for prove in [false, true] {
        let request = AbciQueryRequest {
            path: "/store/bank/key".to_owned(),
            data: b"nothing is here".to_vec(),
            height: 3,
            prove,
        };
        let answer = blocks.abci_query(request).await?.into_inner();
        let ops = answer.proof_ops.map_or(0, |ops| ops.ops.len());
        assert_eq!((answer.code, ops), (0, if prove { 2 } else { 0 }), "{}", answer.log);
    }
    Ok(())
}

/// State is kept for `query-heights` heights, and the node says from which on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_from_which_height_on_it_answers() -> Result<()> {
    let (_net, channel, _) = chain(29, 0).await?;
    let status = NodeClient::new(channel.clone())
        .status(StatusRequest {})
        .await?
        .into_inner();
    assert_eq!((status.height, status.earliest_store_height), (30, 15));
    let ask = |height| AbciQueryRequest {
        path: "/cosmos.bank.v1beta1.Query/Params".to_owned(),
        height,
        ..Default::default()
    };
    let mut blocks = BlockClient::new(channel);
    assert_eq!(blocks.abci_query(ask(15)).await?.into_inner().code, 0);
    assert_ne!(blocks.abci_query(ask(14)).await?.into_inner().code, 0);
    Ok(())
}
