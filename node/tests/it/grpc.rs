use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use tendermint_proto::v0_38::abci::{RequestQuery, ResponseQuery};
use tenure_node::chain::{Answer, Chain};
use tenure_node::config::{GrpcConfig, Span};
use tenure_node::grpc::registry::{BytesCodec, HEIGHT};
use tenure_node::grpc::status::{CODE, CODESPACE};
use tenure_proto::cosmos::auth::v1beta1::query_client::QueryClient as AuthClient;
use tenure_proto::cosmos::auth::v1beta1::QueryAccountRequest;
use tenure_proto::cosmos::bank::v1beta1::query_client::QueryClient as BankClient;
use tenure_proto::cosmos::bank::v1beta1::QueryBalanceRequest;
use tenure_types::Address;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::{balance, connect, Net, NetOptions, START};

/// Any bytes to any path.
async fn raw(channel: &Channel, path: &'static str, bytes: Vec<u8>) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|e| Status::unknown(e.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(path);
    grpc.unary(Request::new(Bytes::from(bytes)), path, BytesCodec)
        .await
        .map(|r| r.into_inner())
}

const BALANCE: &str = "/cosmos.bank.v1beta1.Query/Balance";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_answer_with_the_height_they_were_read_at() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    let (first, bob) = (net.block()?, Address::new([9; 20]));
    let channel = net.channel().await?;
    let (number, sequence) = crate::support::account(&channel, &net.alice.address()).await?;
    let engine = net.engine.as_ref().context("engine")?;
    let sent = engine.broadcast_tx_sync(&net.transfer(number, sequence, &bob, 5))?;
    assert_eq!(sent.check_tx.code, 0, "{}", sent.check_tx.log);
    net.block()?;
    assert_eq!(balance(&channel, &bob).await?, 5);
    let ask = |height: &str| {
        let mut request = Request::new(QueryBalanceRequest {
            address: bob.to_string(),
            denom: "uten".to_owned(),
        });
        request.metadata_mut().insert(HEIGHT, height.parse().expect("ascii"));
        let mut client = BankClient::new(channel.clone());
        async move { client.balance(request).await }
    };
    let then = ask(&first.to_string()).await?;
    assert_eq!(
        then.metadata().get(HEIGHT).and_then(|v| v.to_str().ok()),
        Some(first.to_string().as_str())
    );
    assert_eq!(then.into_inner().balance.context("coin")?.amount, "0");
    let now = ask("0").await?;
    assert_eq!(
        now.metadata().get(HEIGHT).and_then(|v| v.to_str().ok()),
        Some((first + 1).to_string().as_str())
    );
    for (height, words) in [("soon", "\"soon\""), ("-1", "\"-1\""), ("999", "999")] {
        let status = ask(height).await.expect_err(height);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_told_apart_by_code_text_and_metadata() -> Result<()> {
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    let channel = net.channel().await?;
    assert_eq!(balance(&channel, &net.alice.address()).await?, START);
    let address = Address::new([9; 20]).to_string();
    let status = AuthClient::new(channel.clone())
        .account(QueryAccountRequest { address })
        .await
        .expect_err("missing");
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let metadata = |key| status.metadata().get(key).and_then(|v| v.to_str().ok());
    assert_eq!((metadata(CODESPACE), metadata(CODE)), (Some("sdk"), Some("38")));
    assert!(status.message().contains("sdk/38"), "{status}");

    let bad = QueryAccountRequest {
        address: "cosmos1nonsense".to_owned(),
    };
    let status = AuthClient::new(channel.clone())
        .account(bad)
        .await
        .expect_err("address");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("cosmos1nonsense"), "{status}");

    for path in [
        "/cosmos.bank.v1beta1.Query/Nothing",
        "/no.Such/Service",
        "/x",
        "/cosmos.tx.v1beta1.Service/Nothing",
    ] {
        let status = raw(&channel, path, Vec::new()).await.expect_err(path);
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status}");
    }
    let status = raw(&channel, BALANCE, vec![0xff; 64]).await.expect_err("garbage");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("QueryBalanceRequest"), "{status}");

    let status = raw(&channel, BALANCE, vec![0; 5 << 20]).await.expect_err("oversized");
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    assert!(status.message().contains("4194304"), "{status}");
    // The connection and the node are as before.
    assert_eq!(balance(&channel, &net.alice.address()).await?, START);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_grpc_close_their_connection_only() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let net = Net::start(NetOptions::default()).await?;
    net.block()?;
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff".to_vec(),
    ] {
        let mut stream = tokio::net::TcpStream::connect(net.address).await?;
        stream.write_all(&garbage).await?;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer))
            .await
            .ok();
    }
    assert_eq!(balance(&net.channel().await?, &net.alice.address()).await?, START);
    Ok(())
}

/// Queries that misbehave.
struct Misbehaving;

impl Chain for Misbehaving {
    fn query(&self, path: &str, _: &[u8], _: Option<u64>) -> tenure_types::Result<Answer> {
        match path {
            "/t.T/Panic" => panic!("on purpose"),
            "/t.T/Slow" => std::thread::sleep(Duration::from_millis(1_500)),
            _ => {}
        }
        Ok(Answer {
            value: vec![1, 2, 3],
            height: 1,
        })
    }

    fn abci_query(&self, _: RequestQuery) -> ResponseQuery {
        ResponseQuery::default()
    }

    fn query_paths(&self) -> Vec<String> {
        ["/t.T/Panic", "/t.T/Slow", "/t.T/Fine"].map(str::to_owned).to_vec()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_or_a_slow_query_is_one_requests_trouble() -> Result<()> {
    let grpc = GrpcConfig {
        request_timeout: Span::ms(400),
        max_concurrent_requests: 2,
        ..GrpcConfig::default()
    };
    let chain = Some(std::sync::Arc::new(Misbehaving) as _);
    let net = Net::start(NetOptions {
        grpc,
        chain,
        ..NetOptions::default()
    })
    .await?;
    let channel = net.channel().await?;
    let status = raw(&channel, "/t.T/Panic", Vec::new()).await.expect_err("panics");
    assert_eq!(status.code(), Code::Internal, "{status}");
    let started = Instant::now();
    let (slow, fine) = tokio::join!(
        raw(&channel, "/t.T/Slow", Vec::new()),
        raw(&channel, "/t.T/Fine", Vec::new())
    );
    assert_eq!(fine?, Bytes::from_static(&[1, 2, 3]));
    let status = slow.expect_err("slow");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(
        started.elapsed() < Duration::from_millis(1_200),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait_for_their_turn() -> Result<()> {
    let grpc = GrpcConfig {
        max_connections: 1,
        ..GrpcConfig::default()
    };
    let net = Net::start(NetOptions {
        grpc,
        ..NetOptions::default()
    })
    .await?;
    net.block()?;
    let first = net.channel().await?;
    assert_eq!(balance(&first, &net.alice.address()).await?, START);
    let second = async {
        let channel = connect(net.address).await?;
        balance(&channel, &net.alice.address()).await
    };
    let mut second = std::pin::pin!(second);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), &mut second)
            .await
            .is_err(),
        "served at once"
    );
    drop(first);
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), second).await??, START);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_says_nothing_is_closed() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let grpc = GrpcConfig {
        max_connections: 1,
        request_timeout: Span::ms(500),
        ..GrpcConfig::default()
    };
    let net = Net::start(NetOptions {
        grpc,
        ..NetOptions::default()
    })
    .await?;
    net.block()?;
    // Takes the only place, with less than a preface.
    let mut silent = tokio::net::TcpStream::connect(net.address).await?;
    silent.write_all(b"PRI *").await?;
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), silent.read_to_end(&mut rest))
        .await?
        .ok();
    assert_eq!(balance(&net.channel().await?, &net.alice.address()).await?, START);
    Ok(())
}

macro_rules! reflection_test {
    ($name:ident, $version:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest as Ask;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse as Tell;
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            let net = Net::start(NetOptions::default()).await?;
            let mut client = ServerReflectionClient::new(net.channel().await?);
            let ask = |ask| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(ask),
            };
            let requests = [
                ask(Ask::ListServices(String::new())),
                ask(Ask::FileContainingSymbol("cosmos.bank.v1beta1.Query".to_owned())),
                ask(Ask::FileContainingSymbol("no.Such".to_owned())),
            ];
            let mut answers = client
                .server_reflection_info(tokio_stream::iter(requests))
                .await?
                .into_inner();
            let services = match answers.message().await?.and_then(|a| a.message_response) {
                Some(Tell::ListServicesResponse(list)) => list.service,
                other => anyhow::bail!("{other:?}"),
            };
            let names: Vec<&str> = services.iter().map(|s| s.name.as_str()).collect();
            for name in [
                "cosmos.auth.v1beta1.Query",
                "cosmos.bank.v1beta1.Query",
                "cosmos.tx.v1beta1.Service",
                "tenure.chain.v1.Query",
                "tenure.faucet.v1.Faucet",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            ] {
                assert!(names.contains(&name), "{name} is not in {names:?}");
            }
            let file = answers.message().await?.and_then(|a| a.message_response);
            assert!(matches!(file, Some(Tell::FileDescriptorResponse(_))), "{file:?}");
            // Unknown symbols end the stream with NOT_FOUND.
            let status = answers.message().await.expect_err("unknown");
            assert_eq!(status.code(), Code::NotFound, "{status}");
            Ok(())
        }
    };
}
reflection_test!(reflection_v1_lists_every_service, v1);
reflection_test!(reflection_v1alpha_lists_every_service, v1alpha);
