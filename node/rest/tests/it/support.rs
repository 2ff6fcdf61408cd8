//! A gRPC router whose answers tell what was asked.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::{to_bytes, Body};
use axum::Router;
use http::{HeaderMap, Method, Request, StatusCode};
use prost::Message;
use serde_json::Value;
use tenure_proto::cosmos::bank::v1beta1::query_server::{Query, QueryServer};
use tenure_proto::cosmos::bank::v1beta1::*;
use tenure_proto::cosmos::base::query::v1beta1::PageResponse;
use tenure_proto::cosmos::base::v1beta1::Coin;
use tenure_proto::tenure::faucet::v1::faucet_server::{Faucet, FaucetServer};
use tenure_proto::tenure::faucet::v1::{DripRequest, DripResponse};
use tenure_rest::{Gateway, Options, HEIGHT};
use tonic::service::Routes;
use tonic::{Response, Status};
use tower::ServiceExt;

/// Answers with what it was asked: the request, encoded and in hex, is the denom.
struct Echo;

fn echo<M: Message>(message: &M) -> Coin {
    Coin {
        denom: message.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect(),
        amount: "7".to_owned(),
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Query for Echo {
    async fn balance(&self, request: tonic::Request<QueryBalanceRequest>) -> Answer<QueryBalanceResponse> {
        let height = request.metadata().get(HEIGHT).cloned();
        let asked = request.into_inner();
        match asked.address.as_str() {
            "missing" => return Err(Status::not_found("account missing not found")),
            "slow" => tokio::time::sleep(Duration::from_secs(30)).await,
            _ => {}
        }
        let mut response = Response::new(QueryBalanceResponse {
            balance: Some(echo(&asked)),
        });
        if let Some(height) = height {
            response.metadata_mut().insert(HEIGHT, height);
        }
        Ok(response)
    }

    async fn all_balances(&self, request: tonic::Request<QueryAllBalancesRequest>) -> Answer<QueryAllBalancesResponse> {
        Ok(Response::new(QueryAllBalancesResponse {
            balances: vec![echo(&request.into_inner())],
            pagination: Some(PageResponse::default()),
        }))
    }

    async fn spendable_balances(
        &self,
        _: tonic::Request<QuerySpendableBalancesRequest>,
    ) -> Answer<QuerySpendableBalancesResponse> {
        let many = Coin {
            denom: "x".repeat(1_000),
            amount: String::new(),
        };
        Ok(Response::new(QuerySpendableBalancesResponse {
            balances: vec![many; 100],
            pagination: None,
        }))
    }

    async fn spendable_balance_by_denom(
        &self,
        _: tonic::Request<QuerySpendableBalanceByDenomRequest>,
    ) -> Answer<QuerySpendableBalanceByDenomResponse> {
        Err(Status::unavailable("not here"))
    }

    async fn total_supply(&self, request: tonic::Request<QueryTotalSupplyRequest>) -> Answer<QueryTotalSupplyResponse> {
        Ok(Response::new(QueryTotalSupplyResponse {
            supply: vec![echo(&request.into_inner())],
            pagination: None,
        }))
    }

    async fn supply_of(&self, request: tonic::Request<QuerySupplyOfRequest>) -> Answer<QuerySupplyOfResponse> {
        Ok(Response::new(QuerySupplyOfResponse {
            amount: Some(echo(&request.into_inner())),
        }))
    }

    async fn params(&self, _: tonic::Request<QueryParamsRequest>) -> Answer<QueryParamsResponse> {
        Ok(Response::new(QueryParamsResponse { params: None }))
    }

    async fn denoms_metadata(
        &self,
        _: tonic::Request<QueryDenomsMetadataRequest>,
    ) -> Answer<QueryDenomsMetadataResponse> {
        Err(Status::internal("broken"))
    }

    async fn denom_metadata(
        &self,
        request: tonic::Request<QueryDenomMetadataRequest>,
    ) -> Answer<QueryDenomMetadataResponse> {
        Ok(Response::new(QueryDenomMetadataResponse {
            metadata: Some(Metadata {
                base: request.into_inner().denom,
                ..Metadata::default()
            }),
        }))
    }

    async fn denom_metadata_by_query_string(
        &self,
        request: tonic::Request<QueryDenomMetadataByQueryStringRequest>,
    ) -> Answer<QueryDenomMetadataByQueryStringResponse> {
        Ok(Response::new(QueryDenomMetadataByQueryStringResponse {
            metadata: Some(Metadata {
                base: request.into_inner().denom,
                ..Metadata::default()
            }),
        }))
    }

    async fn send_enabled(&self, request: tonic::Request<QuerySendEnabledRequest>) -> Answer<QuerySendEnabledResponse> {
        let entry = |denom| SendEnabled { denom, enabled: true };
        Ok(Response::new(QuerySendEnabledResponse {
            send_enabled: request.into_inner().denoms.into_iter().map(entry).collect(),
            pagination: None,
        }))
    }
}

#[tonic::async_trait]
impl Faucet for Echo {
    async fn drip(&self, request: tonic::Request<DripRequest>) -> Answer<DripResponse> {
        let address = request.into_inner().address;
        if address == "again" {
            let mut status = Status::resource_exhausted("try again in 9 s");
            status.metadata_mut().insert("retry-after", 9.into());
            return Err(status);
        }
        Ok(Response::new(DripResponse {
            tx_hash: address,
            amount: None,
        }))
    }
}

pub fn options() -> Options {
    Options {
        max_body_bytes: 1 << 10,
        max_message_bytes: 1 << 20,
        max_json_bytes: 64 << 10,
        timeout: Duration::from_millis(500),
        title: "Test <chain>".to_owned(),
        version: "1.2.3".to_owned(),
    }
}

pub fn gateway() -> Gateway {
    let services: BTreeSet<String> = ["cosmos.bank.v1beta1.Query", "tenure.faucet.v1.Faucet"]
        .map(str::to_owned)
        .into();
    Gateway::new(tenure_proto::pool(), &services, options()).expect("the chain's rules can be served")
}

pub fn router() -> Router {
    let routes = Routes::new(QueryServer::new(Echo)).add_service(FaucetServer::new(Echo));
    gateway().into_router(routes.prepare().into_axum_router())
}

/// One request: status, headers, body.
pub async fn call(request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = router().oneshot(request).await.expect("infallible");
    let (head, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("body");
    (head.status, head.headers, body.to_vec())
}

/// One request whose answer is JSON.
pub async fn json(verb: Method, uri: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(verb)
        .uri(uri)
        .body(Body::from(body.to_owned()))
        .expect("request");
    let (status, headers, body) = call(request).await;
    assert_eq!(headers["content-type"], "application/json", "{uri}");
    assert_eq!(headers["access-control-allow-origin"], "*", "{uri}");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

pub async fn get(uri: &str) -> (StatusCode, Value) {
    json(Method::GET, uri, "").await
}

/// The request that a service saw, from its answer.
pub fn seen<M: Message + Default>(coin: &Value) -> M {
    let hex = coin["denom"].as_str().expect("denom");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    M::decode(bytes.as_slice()).expect("request")
}
