use std::time::Duration;

use anyhow::Result;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::HealthCheckRequest;

use crate::support::{Net, NetOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_engine() -> Result<()> {
    let mut net = Net::start(NetOptions {
        stall: Duration::from_millis(400),
        ..NetOptions::default()
    })
    .await?;
    let mut client = HealthClient::new(net.channel().await?);
    let check = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut watch = client.watch(check("")).await?.into_inner();
    let mut next = async || -> Result<Option<ServingStatus>> {
        let update = tokio::time::timeout(Duration::from_secs(5), watch.message()).await??;
        Ok(update.map(|u| u.status()))
    };
    assert_eq!(next().await?, Some(ServingStatus::NotServing), "before the first block");
    net.block()?;
    assert_eq!(next().await?, Some(ServingStatus::Serving));
    let status = client.check(check("cosmos.bank.v1beta1.Query")).await?.into_inner();
    assert_eq!(status.status(), ServingStatus::Serving);
    // No block for the stall time.
    assert_eq!(next().await?, Some(ServingStatus::NotServing));
    net.block()?;
    assert_eq!(next().await?, Some(ServingStatus::Serving));
    if let Some(engine) = net.engine.take() {
        engine.stop().map_err(|e| anyhow::anyhow!("{e}"))?;
    }
    assert_eq!(next().await?, Some(ServingStatus::NotServing));
    let unknown = client.check(check("no.Such")).await.expect_err("unknown");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    Ok(())
}
