use anyhow::{Context, Result};
use tenure_proto::tenure::faucet::v1::faucet_client::FaucetClient;
use tenure_proto::tenure::faucet::v1::DripRequest;
use tenure_types::Address;
use tonic::Code;

use crate::support::{account, balance, transfer, Net, NetOptions, CHAIN_ID};

fn to(n: u8) -> Address {
    Address::new([n; 20])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_addresses_are_served_in_one_block_and_each_once() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let channel = net.channel().await?;
    let drip = |n: u8| {
        let mut client = FaucetClient::new(channel.clone());
        async move {
            client
                .drip(DripRequest {
                    address: to(n).to_string(),
                })
                .await
        }
    };
    let drips = (1..=8).map(|n| tokio::spawn(drip(n)));
    let drips: Vec<_> = drips.collect();
    for drip in drips {
        let answer = drip.await??.into_inner();
        assert_eq!(answer.amount.context("amount")?.amount, "1000");
        assert_eq!(answer.tx_hash.len(), 64);
    }
    net.block()?;
    for n in 1..=8 {
        assert_eq!(balance(&channel, &to(n)).await?, 1_000, "address {n}");
    }
    let status = drip(3).await.expect_err("too early");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let seconds: u64 = status
        .metadata()
        .get("retry-after")
        .context("retry-after")?
        .to_str()?
        .parse()?;
    assert!(
        (1..=61).contains(&seconds) && status.message().contains(&format!("{seconds} s")),
        "{status}"
    );

    let mut client = FaucetClient::new(channel.clone());
    let status = client
        .drip(DripRequest {
            address: "nobody".to_owned(),
        })
        .await
        .expect_err("address");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("nobody"), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_faucet_recovers_when_somebody_else_uses_its_key() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let channel = net.channel().await?;
    let mut client = FaucetClient::new(channel.clone());
    client
        .drip(DripRequest {
            address: to(1).to_string(),
        })
        .await?;
    net.block()?;
    let (number, sequence) = account(&channel, &net.faucet_key.address()).await?;
    assert_eq!(sequence, 1);
    let other = transfer(&net.faucet_key, CHAIN_ID, number, sequence, &to(2), 3);
    let engine = net.engine.as_ref().context("engine")?;
    assert_eq!(engine.broadcast_tx_sync(&other)?.check_tx.code, 0);
    // Its own count says 1; the mempool's says 2.
    client
        .drip(DripRequest {
            address: to(3).to_string(),
        })
        .await?;
    net.block()?;
    assert_eq!(
        (balance(&channel, &to(2)).await?, balance(&channel, &to(3)).await?),
        (3, 1_000)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gift_that_was_not_sent_does_not_make_its_address_wait() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    // No block yet: the account cannot be read.
    let channel = net.channel().await?;
    let mut client = FaucetClient::new(channel.clone());
    let ask = DripRequest {
        address: to(1).to_string(),
    };
    let status = client.drip(ask.clone()).await.expect_err("no chain yet");
    assert_ne!(status.code(), Code::ResourceExhausted, "{status}");
    net.block()?;
    client.drip(ask).await?;
    Ok(())
}
