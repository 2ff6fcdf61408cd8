//! Routes, requests and errors.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use proptest::prelude::*;
use serde_json::{json as value, Value};
use tenure_proto::cosmos::bank::v1beta1::{QueryAllBalancesRequest, QueryBalanceRequest, QueryTotalSupplyRequest};
use tenure_proto::cosmos::base::query::v1beta1::PageRequest;
use tenure_rest::HEIGHT;

use crate::support::{call, get, json, seen};

#[tokio::test]
async fn path_and_query_become_the_request() {
    let (status, body) = get("/cosmos/bank/v1beta1/balances/tenure1x/by_denom?denom=uten").await;
    assert_eq!(status, StatusCode::OK);
    let asked: QueryBalanceRequest = seen(&body["balance"]);
    assert_eq!((asked.address.as_str(), asked.denom.as_str()), ("tenure1x", "uten"));

    // The literal route is more exact than `balances/{address}`; escapes are decoded; what is no field is ignored.
    let uri =
        "/cosmos/bank/v1beta1/balances/a%2Fb%20c?pagination.limit=5&pagination.key=AQI%2B&pagination.count_total=true\
               &pagination.reverse=1x&resolveDenom=true&_=1700000000";
    let (status, body) = get(uri).await;
    assert_eq!(
        (status, &body["message"]),
        (
            StatusCode::BAD_REQUEST,
            &value!("pagination.reverse is \"1x\", must be true or false")
        )
    );
    let (status, body) = get(&uri.replace("1x", "true")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let asked: QueryAllBalancesRequest = seen(&body["balances"][0]);
    assert_eq!((asked.address.as_str(), asked.resolve_denom), ("a/b c", true));
    let page = asked.pagination.expect("pagination");
    assert_eq!(
        (page.limit, page.key, page.count_total, page.reverse),
        (5, vec![1, 2, 62], true, true)
    );
    assert_eq!(body["pagination"], value!({ "next_key": null, "total": "0" }));

    let (_, body) = get("/cosmos/bank/v1beta1/send_enabled?denoms=a&denoms=b").await;
    assert_eq!(body["send_enabled"][1], value!({ "denom": "b", "enabled": true }));
    let (_, body) = get("/cosmos/bank/v1beta1/denoms_metadata/ibc/00FF").await;
    assert_eq!(body["metadata"]["base"], "ibc/00FF");
}

#[tokio::test]
async fn bodies_become_the_request() {
    let (status, body) = json(Method::POST, "/tenure/faucet/v1/drip", r#"{"address":"a"}"#).await;
    assert_eq!(
        (status, &body["tx_hash"], &body["amount"]),
        (StatusCode::OK, &value!("a"), &Value::Null)
    );
    for (body, words) in [
        (r#"{"address":5}"#, "address is 5: "),
        (r#"{"addres":"a"}"#, "addres is \"a\": "),
        ("[1]", "not a JSON object"),
        (r#"{"address":"#, "not a JSON object"),
    ] {
        let (status, answer) = json(Method::POST, "/tenure/faucet/v1/drip", body).await;
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::BAD_REQUEST, &value!(3)),
            "{body}: {answer}"
        );
        assert!(
            answer["message"].as_str().expect("text").contains(words),
            "{body}: {answer}"
        );
    }
    let long = format!(r#"{{"address":"{}"}}"#, "a".repeat(2_000));
    let (status, answer) = json(Method::POST, "/tenure/faucet/v1/drip", &long).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    assert!(answer["message"].as_str().expect("text").contains("1024"), "{answer}");
}

#[tokio::test]
async fn errors_have_the_cosmos_shape_and_status() {
    let (status, body) = get("/cosmos/bank/v1beta1/balances/missing/by_denom").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        body,
        value!({ "code": 5, "message": "account missing not found", "details": [] })
    );
    let not_here = value!({ "code": 12, "message": "Not Implemented", "details": [] });
    for uri in [
        "/cosmos/staking/v1beta1/params",
        "/cosmos/bank/v1beta1/supply/",
        "/nothing",
        "//",
        "/cosmos",
    ] {
        assert_eq!(get(uri).await, (StatusCode::NOT_IMPLEMENTED, not_here.clone()), "{uri}");
    }
    let (status, body) = json(Method::PUT, "/tenure/faucet/v1/drip", "{}").await;
    assert_eq!(
        (status, &body["message"]),
        (StatusCode::NOT_IMPLEMENTED, &value!("Method Not Allowed: use POST"))
    );
    let status = |uri| async move { get(uri).await.0 };
    assert_eq!(
        status("/cosmos/bank/v1beta1/denoms_metadata").await,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        status("/cosmos/bank/v1beta1/spendable_balances/a/by_denom").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        status("/cosmos/bank/v1beta1/balances/slow/by_denom").await,
        StatusCode::GATEWAY_TIMEOUT
    );
    let (too_long, body) = get("/cosmos/bank/v1beta1/spendable_balances/a").await;
    assert_eq!(too_long, StatusCode::TOO_MANY_REQUESTS, "{body}");
    assert!(body["message"].as_str().expect("text").contains("65536"), "{body}");
    let uri = "/cosmos/bank/v1beta1/balances/%ff";
    let (bad, body) = get(uri).await;
    assert_eq!(bad, StatusCode::BAD_REQUEST, "{body}");
}

#[tokio::test]
async fn heights_and_hints_travel_in_headers() {
    let ask = |height: &'static str| {
        let request = Request::get("/cosmos/bank/v1beta1/balances/a/by_denom").header(HEIGHT, height);
        call(request.body(Body::empty()).expect("request"))
    };
    let (status, headers, _) = ask("12").await;
    assert_eq!(
        (status, &headers[HEIGHT]),
        (StatusCode::OK, &"12".parse().expect("header"))
    );
    let request = Request::post("/tenure/faucet/v1/drip").body(Body::from(r#"{"address":"again"}"#));
    let (status, headers, _) = call(request.expect("request")).await;
    assert_eq!(
        (status, &headers["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"9".parse().expect("header"))
    );
}

#[tokio::test]
async fn browsers_of_any_origin_are_let_in() {
    let request = Request::options("/tenure/faucet/v1/drip")
        .header("origin", "https://wallet.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-cosmos-block-height");
    let (status, headers, _) = call(request.body(Body::empty()).expect("request")).await;
    assert_eq!(status, StatusCode::OK);
    for name in ["origin", "methods", "headers"] {
        assert_eq!(headers[format!("access-control-allow-{name}").as_str()], "*");
    }
}

fn pages() -> impl Strategy<Value = PageRequest> {
    (
        any::<Vec<u8>>(),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(key, offset, limit, count_total, reverse)| PageRequest {
            key,
            offset,
            limit,
            count_total,
            reverse,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_page_survives_the_query_string(page in pages(), url_safe: bool) {
        use base64::prelude::*;
        let key = if url_safe { BASE64_URL_SAFE_NO_PAD.encode(&page.key) } else { BASE64_STANDARD.encode(&page.key) };
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("pagination.key", &key)
            .append_pair("pagination.offset", &page.offset.to_string())
            .append_pair("pagination.limit", &page.limit.to_string())
            .append_pair("pagination.countTotal", &page.count_total.to_string())
            .append_pair("pagination.reverse", &page.reverse.to_string())
            .finish();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let (status, body) = runtime.block_on(get(&format!("/cosmos/bank/v1beta1/supply?{query}")));
        prop_assert_eq!(status, StatusCode::OK, "{}", body);
        let asked: QueryTotalSupplyRequest = seen(&body["supply"][0]);
        prop_assert_eq!(asked.pagination, Some(page));
    }

    #[test]
    fn no_query_string_and_no_body_breaks_the_gateway(query in "[ -~]{0,80}", body in "\\PC{0,80}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let uri: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let uri = format!("/cosmos/bank/v1beta1/supply?pagination.{}", uri.replace("%3D", "=").replace("%26", "&"));
        let (status, _) = runtime.block_on(get(&uri));
        prop_assert!(status == StatusCode::OK || status == StatusCode::BAD_REQUEST, "{} {}", uri, status);
        let (status, _) = runtime.block_on(json(Method::POST, "/tenure/faucet/v1/drip", &body));
        prop_assert!(status == StatusCode::OK || status == StatusCode::BAD_REQUEST, "{} {}", body, status);
    }
}
