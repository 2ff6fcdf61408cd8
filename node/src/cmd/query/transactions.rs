//! `query tx`, `txs` and `wait-tx`: committed transactions, as the Cosmos SDK's `TxResponse`.

use std::io::{IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Arg, ArgMatches, Command, ValueEnum};
use serde_json::{json, Value};
use tenure_proto::cosmos::tx::v1beta1::{GetTxRequest, GetTxsEventRequest, OrderBy};
use tenure_types::Address;

use super::ask;
use crate::cmd::rpc;
use crate::config::Span;

const TX: &str = "tx";
const TXS: &str = "txs";
const WAIT_TX: &str = "wait-tx";
const ID: &str = "id";
const TYPE: &str = "type";
const TIMEOUT: &str = "timeout";
pub(super) const QUERY: &str = "query";
pub(super) const PAGE: &str = "page";
pub(super) const LIMIT: &str = "limit";
const ORDER_BY: &str = "order_by";

const SERVICE: &str = "cosmos.tx.v1beta1.Service";
/// Most entries of a page of a search, CometBFT's limit.
pub(super) const MAX_FOUND: u64 = 100;
/// How long `wait-tx` waits unless told otherwise, the Cosmos SDK's.
const WAIT: &str = "15s";
/// Pause between two looks for a transaction that is awaited.
const POLL: Duration = Duration::from_millis(250);
/// Longest standard input that a hash is looked for in, bytes: a `TxResponse` with all events.
const MAX_INPUT: u64 = 16 << 20;

/// By what a transaction is found, under the Cosmos SDK's names.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum By {
    /// Its hash: 64 hex digits.
    Hash,
    /// A signer and the sequence it signed with: <address>/<sequence>.
    AccSeq,
    /// Its signatures in base64, separated by commas.
    Signature,
}

/// Where a search begins, as both engines know it.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[value(alias = "dsc")]
    Desc,
}

/// One page of a search.
pub(super) struct Search {
    pub(super) query: String,
    pub(super) page: u64,
    pub(super) limit: u64,
    pub(super) order: Order,
}

/// The arguments of a search.
pub(super) fn search_args() -> [Arg; 4] {
    let number = |name: &'static str| Arg::new(name).long(name).value_name("N");
    [
        Arg::new(QUERY)
            .long(QUERY)
            .value_name("QUERY")
            .required(true)
            .help("Conditions on events in CometBFT's query language"),
        number(PAGE)
            .default_value("1")
            .value_parser(clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))
            .help("Which page, from 1"),
        number(LIMIT)
            .default_value("100")
            .value_parser(clap::value_parser!(u64).range(1..=MAX_FOUND))
            .help("Most entries of a page"),
        Arg::new(ORDER_BY)
            .long(ORDER_BY)
            .visible_alias("order-by")
            .value_name("ORDER")
            .default_value("asc")
            .ignore_case(true)
            .value_parser(clap::value_parser!(Order))
            .help("Which come first"),
    ]
}

impl Search {
    /// As it was typed.
    pub(super) fn of(values: &ArgMatches) -> Result<Self> {
        let number = |name: &str| values.get_one::<u64>(name).copied().context("it has a default");
        Ok(Self {
            query: values.get_one::<String>(QUERY).context("--query is missing")?.clone(),
            page: number(PAGE)?,
            limit: number(LIMIT)?,
            order: values.get_one(ORDER_BY).copied().unwrap_or(Order::Asc),
        })
    }

    /// What was found as the Cosmos SDK's `SearchTxsResult` and `SearchBlocksResult`, which differ in the name of the entries.
    pub(super) fn result(&self, total: u64, name: &str, found: Vec<Value>) -> Value {
        json!({
            "total_count": total.to_string(),
            "count": found.len().to_string(),
            "page_number": self.page.to_string(),
            "page_total": total.div_ceil(self.limit).to_string(),
            "limit": self.limit.to_string(),
            name: found,
        })
    }
}

/// The commands as they are typed.
pub(super) fn commands() -> Vec<Command> {
    let tx = Command::new(TX)
        .about("A transaction in a block")
        .arg(
            Arg::new(TYPE)
                .long(TYPE)
                .value_name("TYPE")
                .default_value("hash")
                .value_parser(clap::value_parser!(By))
                .help("By what it is found"),
        )
        .arg(
            Arg::new(ID)
                .required(true)
                .value_name("HASH|ADDRESS/SEQUENCE|SIGNATURE")
                .help("What --type says"),
        )
        .after_help(
            "\
Examples:
  tenured query tx 9F5CB2... -o json
  tenured query tx --type acc_seq tenure1.../3
  tenured query tx --type signature Vd3k...==",
        );
    let txs = Command::new(TXS)
        .about("Transactions in blocks whose events satisfy a query")
        .args(search_args())
        .after_help(
            "\
Examples:
  tenured query txs --query \"message.sender='tenure1...' AND tx.height>7\"
  tenured query txs --query \"transfer.recipient='tenure1...'\" --page 2 --limit 30 --order_by desc -o json",
        );
    let wait = Command::new(WAIT_TX)
        .about("Waits until a transaction is in a block, and shows it")
        .visible_alias("event-query-tx-for")
        .arg(
            Arg::new(ID)
                .value_name("HASH")
                .help("64 hex digits [default: txhash of what `tenured tx` printed, from standard input]"),
        )
        .arg(
            Arg::new(TIMEOUT)
                .long(TIMEOUT)
                .value_name("DURATION")
                .default_value(WAIT)
                .value_parser(clap::value_parser!(Span))
                .help("How long, for example 500ms, 15s or 2m"),
        )
        .after_help(
            "\
Exit code 1 if it is in no block by then. A transaction that failed in its block is shown too: look at its code.

Examples:
  tenured query wait-tx 9F5CB2... --timeout 1m
  tenured tx bank send me tenure1... 5ten -y | tenured query wait-tx",
        );
    vec![tx, txs, wait]
}

/// Runs one of [`commands`].
pub(super) fn run(address: SocketAddr, name: &str, values: &ArgMatches) -> Result<Value> {
    let id = || values.get_one::<String>(ID);
    match name {
        TX => {
            let by = values.get_one::<By>(TYPE).copied().unwrap_or(By::Hash);
            found_by(address, by, id().context("which transaction?")?)
        }
        TXS => {
            let search = Search::of(values)?;
            let (total, found) = matching(address, &search)?;
            Ok(search.result(total, "txs", found))
        }
        _ => {
            let hash = match id() {
                Some(hash) => hash.clone(),
                None => piped_hash()?,
            };
            let limit = values.get_one::<Span>(TIMEOUT).context("it has a default")?;
            let found = included(address, &hash, limit.0)?;
            found.with_context(|| {
                format!(
                    "timed out waiting for transaction {hash} to be included in a block: it is in none after {limit}. --timeout waits longer; a \
                     transaction that a full mempool or a restart has dropped must be sent again"
                )
            })
        }
    }
}

/// A transaction by hash, as a `TxResponse`. Error: there is none ([`rpc::is_not_found`]), among others.
pub(in crate::cmd) fn transaction(address: SocketAddr, hash: &str) -> Result<Value> {
    check_hash(hash)?;
    let request = GetTxRequest { hash: hash.to_owned() };
    Ok(ask(address, SERVICE, "GetTx", &request)?["tx_response"].take())
}

fn check_hash(hash: &str) -> Result<()> {
    let bytes = hex::decode(hash).ok().filter(|bytes| bytes.len() == 32);
    ensure!(bytes.is_some(), "{hash:?} is not a transaction's hash: 64 hex digits");
    Ok(())
}

/// Waits until a transaction is in a block: its `TxResponse`; `None` if it is in none within the limit. A node that stops answering may be one that is
/// restarted, so it is asked again. Error: it does not answer when the limit has passed.
pub(in crate::cmd) fn included(address: SocketAddr, hash: &str, limit: Duration) -> Result<Option<Value>> {
    check_hash(hash)?;
    let begun = Instant::now();
    loop {
        let missing = match transaction(address, hash) {
            Ok(found) => return Ok(Some(found)),
            Err(error) if rpc::is_not_found(&error) => Ok(None),
            Err(error) => Err(error.context(format!("whether transaction {hash} is in a block is not known"))),
        };
        let Some(left) = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
            return missing;
        };
        std::thread::sleep(POLL.min(left));
    }
}

fn found_by(address: SocketAddr, by: By, id: &str) -> Result<Value> {
    let query = match by {
        By::Hash => return transaction(address, id),
        By::AccSeq => {
            let parts = id.split_once('/');
            let parts =
                parts.filter(|(owner, sequence)| owner.parse::<Address>().is_ok() && sequence.parse::<u64>().is_ok());
            let (owner, sequence) = parts.with_context(|| {
                format!("--type acc_seq takes <address>/<sequence>, for example tenure1.../3, and not {id:?}")
            })?;
            format!("tx.acc_seq='{owner}/{sequence}'")
        }
        By::Signature => {
            let each = id.split(',').map(|signature| {
                let bytes = BASE64.decode(signature).ok().filter(|bytes| !bytes.is_empty());
                bytes.with_context(|| format!("--type signature takes signatures in base64, and not {signature:?}"))?;
                Ok(format!("tx.signature='{signature}'"))
            });
            each.collect::<Result<Vec<_>>>()?.join(" AND ")
        }
    };
    let search = Search {
        query,
        page: 1,
        limit: 2,
        order: Order::Asc,
    };
    let (total, found) = matching(address, &search)?;
    match (total, found.into_iter().next()) {
        (1, Some(found)) => Ok(found),
        (0, _) => bail!("no transaction in a block has {id}"),
        _ => bail!(
            "{total} transactions have {id}: `tenured query txs --query \"{}\"` shows them",
            search.query
        ),
    }
}

/// One page of the transactions that satisfy a query, each as a `TxResponse`, and how many there are in all.
fn matching(address: SocketAddr, search: &Search) -> Result<(u64, Vec<Value>)> {
    let order = match search.order {
        Order::Asc => OrderBy::Asc,
        Order::Desc => OrderBy::Desc,
    };
    let request = GetTxsEventRequest {
        query: search.query.clone(),
        page: search.page,
        limit: search.limit,
        order_by: order.into(),
        ..Default::default()
    };
    let mut answer = ask(address, SERVICE, "GetTxsEvent", &request)?;
    let total = answer["total"].as_str().and_then(|total| total.parse().ok());
    let Value::Array(found) = answer["tx_responses"].take() else {
        bail!("the node's answer has no tx_responses");
    };
    Ok((total.context("the node's answer has no total")?, found))
}

/// The hash in what `tenured tx` printed, JSON or text.
fn piped_hash() -> Result<String> {
    let (mut text, input) = (String::new(), std::io::stdin().lock());
    // Nobody types a `TxResponse`.
    if !input.is_terminal() {
        let read = input.take(MAX_INPUT).read_to_string(&mut text);
        read.context("cannot read standard input")?;
    }
    hash_of(&text).context(
        "standard input has no txhash, so which transaction? `tenured query wait-tx <hash>`, or `tenured tx ... -y | tenured query wait-tx`",
    )
}

fn hash_of(printed: &str) -> Option<String> {
    if let Ok(record) = serde_json::from_str::<Value>(printed) {
        return record["txhash"].as_str().map(str::to_owned);
    }
    let line = printed.lines().find_map(|line| line.strip_prefix("txhash:"))?;
    // A hash of digits alone is quoted.
    Some(line.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use std::io::Write as _;
    use std::net::TcpListener;
    use tenure_proto::cosmos::base::abci::v1beta1::TxResponse;
    use tenure_proto::cosmos::tx::v1beta1::GetTxResponse;

    #[test]
    fn a_node_that_is_restarted_is_asked_again() -> Result<()> {
        let hash = "AB".repeat(32);
        let value = GetTxResponse {
            tx: None,
            tx_response: Some(TxResponse {
                height: 7,
                ..Default::default()
            }),
        };
        let body = json!({ "result": { "response": { "code": 0, "value": BASE64.encode(value.encode_to_vec()) } } });
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.to_string().len()
        );
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        // Nobody answers the first wait, nor the first second of the second one.
        let error = included(address_of_nobody()?, &hash, Duration::from_millis(300)).expect_err("silence");
        assert!(
            format!("{error:#}").contains("not known") && format!("{error:#}").contains("no answer"),
            "{error:#}"
        );
        let up = Instant::now() + Duration::from_secs(1);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                if Instant::now() > up {
                    let mut request = [0; 4096];
                    let _ = stream
                        .read(&mut request)
                        .and_then(|_| stream.write_all(answer.as_bytes()));
                }
            }
        });
        let found = included(address, &hash, Duration::from_secs(20))?.context("it is there")?;
        assert_eq!(found["height"], "7");
        Ok(())
    }

    /// An address at which nothing listens.
    fn address_of_nobody() -> Result<SocketAddr> {
        Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
    }

    #[test]
    fn a_hash_is_found_in_what_tx_prints() {
        for text in [
            "{\"height\":\"0\",\"txhash\":\"AB\"}",
            "height: \"0\"\ntxhash: AB\ncode: 0\n",
            "txhash: \"AB\"",
        ] {
            assert_eq!(hash_of(text).as_deref(), Some("AB"), "{text}");
        }
        for text in ["", "{}", "txhash", "code: 0"] {
            assert_eq!(hash_of(text), None, "{text}");
        }
    }

    #[test]
    fn pages_are_counted_as_the_sdk_does() {
        let search = Search {
            query: String::new(),
            page: 2,
            limit: 30,
            order: Order::Asc,
        };
        let shown = search.result(61, "txs", vec![json!(1)]);
        assert_eq!(
            shown,
            json!({ "total_count": "61", "count": "1", "page_number": "2", "page_total": "3", "limit": "30", "txs": [1] })
        );
        assert_eq!(search.result(0, "txs", Vec::new())["page_total"], "0");
    }
}
