use anyhow::{Context, Result};
use tenure_proto::cosmos::tx::v1beta1::service_client::ServiceClient;
use tenure_proto::cosmos::tx::v1beta1::{BroadcastMode, BroadcastTxRequest, GetTxRequest, SimulateRequest};
use tenure_types::Address;
use tonic::Code;

use crate::support::{account, balance, Net, NetOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_from_estimate_to_receipt() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let channel = net.channel().await?;
    let mut client = ServiceClient::new(channel.clone());
    let bob = Address::new([9; 20]);
    let (number, sequence) = account(&channel, &net.alice.address()).await?;
    let tx_bytes = net.transfer(number, sequence, &bob, 7);

    #[allow(deprecated, reason = "the field is there for old clients")]
    let ask = SimulateRequest {
        tx: None,
        tx_bytes: tx_bytes.clone(),
    };
    let gas = client.simulate(ask).await?.into_inner().gas_info.context("gas")?;
    assert!(gas.gas_used > 0, "{gas:?}");

    let send = |tx_bytes: Vec<u8>, mode: BroadcastMode| BroadcastTxRequest {
        tx_bytes,
        mode: mode as i32,
    };
    let sent = client
        .broadcast_tx(send(tx_bytes.clone(), BroadcastMode::Sync))
        .await?
        .into_inner();
    let sent = sent.tx_response.context("response")?;
    assert_eq!((sent.code, sent.height), (0, 0), "{}", sent.raw_log);
    let again = client
        .broadcast_tx(send(tx_bytes.clone(), BroadcastMode::Sync))
        .await?
        .into_inner();
    let again = again.tx_response.context("response")?;
    assert_eq!(
        (again.codespace.as_str(), again.code, &again.txhash),
        ("sdk", 19, &sent.txhash)
    );

    let ask = GetTxRequest {
        hash: sent.txhash.clone(),
    };
    let status = client.get_tx(ask.clone()).await.expect_err("it waits");
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, format!("tx not found: {}", sent.txhash).as_str())
    );
    let height = net.block()?;
    let found = client.get_tx(ask).await?.into_inner();
    let response = found.tx_response.context("response")?;
    assert_eq!(
        (response.height, response.code, response.txhash),
        (height, 0, sent.txhash)
    );
    assert!(
        response.timestamp.ends_with('Z') && response.gas_used > 0,
        "{}",
        response.timestamp
    );
    assert!(response.events.iter().any(|e| e.r#type == "transfer"));
    assert_eq!(response.tx.context("tx")?.value, tx_bytes);
    assert_eq!(found.tx.context("tx")?.signatures.len(), 1);
    assert_eq!(balance(&channel, &bob).await?, 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_that_cannot_work_say_why() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let channel = net.channel().await?;
    let mut client = ServiceClient::new(channel.clone());
    let (number, sequence) = account(&channel, &net.alice.address()).await?;
    let bob = Address::new([9; 20]);
    let mut send =
        async |tx_bytes: Vec<u8>, mode: i32| client.broadcast_tx(BroadcastTxRequest { tx_bytes, mode }).await;
    for (bytes, mode, word) in [
        (vec![], 2, "empty"),
        (vec![1], 1, "BROADCAST_MODE_SYNC"),
        (vec![1], 99, "99"),
    ] {
        let status = send(bytes, mode).await.expect_err(word);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(word), "{status}");
    }
    // Refusals of CheckTx are answers, not statuses.
    let garbage = send(vec![0xff; 50], 2)
        .await?
        .into_inner()
        .tx_response
        .context("response")?;
    assert_eq!(
        (garbage.codespace.as_str(), garbage.code),
        ("sdk", 2),
        "{}",
        garbage.raw_log
    );
    let early = net.transfer(number, sequence + 5, &bob, 1);
    let early = send(early, 2).await?.into_inner().tx_response.context("response")?;
    assert_eq!(early.code, 32);
    assert!(
        early.raw_log.contains("account sequence mismatch, expected 0, got 5"),
        "{}",
        early.raw_log
    );
    // Asynchronous: the hash, whatever CheckTx says.
    let blind = send(vec![0xff; 50], 3)
        .await?
        .into_inner()
        .tx_response
        .context("response")?;
    assert_eq!((blind.code, blind.txhash), (0, garbage.txhash));

    let mut client = ServiceClient::new(channel.clone());
    for hash in ["", "xy", "ABCD"] {
        let status = client
            .get_tx(GetTxRequest { hash: hash.to_owned() })
            .await
            .expect_err(hash);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("64 hexadecimal"), "{status}");
    }
    Ok(())
}
