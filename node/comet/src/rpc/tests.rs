//! Answers that CometBFT does not give every day: refusals, garbage, silence.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// A client of a server that gives one answer to everything.
fn answering(status: &str, body: &str) -> std::io::Result<Rpc> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming().take(4) {
            let mut stream = stream?;
            // One read has the whole of so short a request.
            let _ = stream.read(&mut [0; 4096])?;
            stream.write_all(answer.as_bytes())?;
        }
        Ok::<_, std::io::Error>(())
    });
    Ok(Rpc::new(address))
}

#[test]
fn a_refusal_keeps_cometbfts_reason() -> std::io::Result<()> {
    let body =
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Internal error","data":"mempool is full"}}"#;
    let rpc = answering("500 Internal Server Error", body)?;
    assert_eq!(
        rpc.broadcast_tx_sync(b"x"),
        Err(RpcError::Refused {
            code: -32603,
            text: "mempool is full".to_owned()
        })
    );
    let body = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"Invalid Request"}}"#;
    let error = answering("200 OK", body)?.status().expect_err("refused");
    assert_eq!(error.to_string(), "Invalid Request");
    Ok(())
}

#[test]
fn an_answer_that_is_none_is_malformed_and_names_the_question() -> std::io::Result<()> {
    for body in ["", "{}", "<html>", r#"{"result":{}}"#, r#"{"result":{"node_info":7}}"#] {
        let error = answering("200 OK", body)?.status().expect_err(body);
        assert!(
            matches!(error, RpcError::Malformed { method: "status", .. }),
            "{body}: {error}"
        );
    }
    Ok(())
}

#[test]
fn nobody_there_is_unreachable() -> std::io::Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let error = Rpc::new(address).status().expect_err("nobody");
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()));
    Ok(())
}

#[test]
fn updates_of_validators_and_parameters_are_read() {
    let body = r#"{"height":"5","txs_results":null,"finalize_block_events":[{"type":"e"}],
        "validator_updates":[{"pub_key":{"Sum":{"type":"tendermint.crypto.PublicKey_Ed25519","value":{"ed25519":"AQI="}}},"power":"7"},
            {"pub_key":{"Sum":{"type":"tendermint.crypto.PublicKey_Ed25519","value":{"ed25519":"Aw=="}}}}],
        "consensus_param_updates":{"block":{"max_bytes":"100"},"evidence":{"max_age_duration":"1500000000"}},
        "app_hash":null}"#;
    let results = serde_json::from_str::<json::BlockResults>(body)
        .expect("valid")
        .decode();
    let powers: Vec<i64> = results.validator_updates.iter().map(|u| u.power).collect();
    assert_eq!(powers, [7, 0]);
    let params = results.consensus_param_updates.expect("params");
    assert_eq!(params.block.expect("block").max_bytes, 100);
    let age = params.evidence.and_then(|e| e.max_age_duration).expect("age");
    assert_eq!((age.seconds, age.nanos), (1, 500_000_000));
    assert_eq!((results.events.len(), results.tx_results.len()), (1, 0));
}
