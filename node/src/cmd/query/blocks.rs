//! `query block`, `blocks`, `block-results` and `comet-validator-set`, under the Cosmos SDK's names.

use std::net::SocketAddr;

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Arg, ArgMatches, Command, ValueEnum};
use serde_json::{json, Value};
use tenure_proto::cosmos::base::query::v1beta1::PageRequest;
use tenure_proto::cosmos::base::tendermint::v1beta1::{
    GetBlockByHeightRequest, GetLatestBlockRequest, GetLatestValidatorSetRequest, GetValidatorSetByHeightRequest,
};

use super::ask;
use super::transactions::{search_args, Order, Search, LIMIT, PAGE, QUERY};
use crate::cmd::rpc;

const BLOCK: &str = "block";
const BLOCKS: &str = "blocks";
const BLOCK_RESULTS: &str = "block-results";
const VALIDATORS: &str = "comet-validator-set";
const ID: &str = "id";
const TYPE: &str = "type";
/// Not `height`, which is a flag of every query.
const HEIGHT: &str = "of-height";

const SERVICE: &str = "cosmos.base.tendermint.v1beta1.Service";

/// By what a block is found, under the Cosmos SDK's names.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Its height.
    Height,
    /// Its header's hash: 64 hex digits.
    Hash,
}

/// The commands as they are typed.
pub(super) fn commands() -> Vec<Command> {
    let height = Arg::new(HEIGHT)
        .value_name("HEIGHT")
        .value_parser(clap::value_parser!(i64).range(0..))
        .help("Which block's [default: the latest]");
    let block = Command::new(BLOCK)
        .about("A block by height or hash")
        .arg(
            Arg::new(TYPE)
                .long(TYPE)
                .value_name("TYPE")
                .value_parser(clap::value_parser!(By))
                .help("By what it is found [default: what the value looks like]"),
        )
        .arg(
            Arg::new(ID)
                .value_name("HEIGHT|HASH")
                .help("A height, or 64 hex digits [default: the latest block]"),
        )
        .after_help(
            "\
Examples:
  tenured query block
  tenured query block --type height 12 -o json
  tenured query block --type hash 1F3A09...",
        );
    let blocks = Command::new(BLOCKS)
        .about("Blocks whose events satisfy a query")
        .args(search_args())
        .after_help(
            "\
CometBFT answers this from its own index, which tx_index.indexer of config.toml switches on.

Examples:
  tenured query blocks --query \"block.height > 7\" --limit 30 --order_by desc -o json",
        );
    let results = Command::new(BLOCK_RESULTS)
        .about("What executing a block gave, as CometBFT's JSON-RPC shows it")
        .arg(height.clone())
        .after_help("Examples:\n  tenured query block-results 12 -o json");
    let [_, page, limit, _] = search_args();
    let validators = Command::new(VALIDATORS)
        .about("The validators of a height, with their voting powers")
        .visible_aliases(["cometbft-validator-set", "tendermint-validator-set"])
        .args([height, page, limit])
        .after_help("Examples:\n  tenured query comet-validator-set\n  tenured query comet-validator-set 12 -o json");
    vec![block, blocks, results, validators]
}

/// Whether it is one of [`commands`].
pub(super) fn has(name: &str) -> bool {
    [BLOCK, BLOCKS, BLOCK_RESULTS, VALIDATORS].contains(&name)
}

/// Runs one of [`commands`]. `at` is the height that a flag gave, 0 for none; a value comes first.
pub(super) fn run(address: SocketAddr, name: &str, values: &ArgMatches, at: u64) -> Result<Value> {
    let at = i64::try_from(at).with_context(|| format!("--height is {at}, more than a height can be"))?;
    let height = || values.get_one::<i64>(HEIGHT).copied().unwrap_or(at);
    match name {
        BLOCK => match values.get_one::<String>(ID) {
            Some(id) => block(address, values.get_one::<By>(TYPE).copied(), id),
            None => block_at(address, at),
        },
        BLOCKS => matching(address, &Search::of(values)?),
        BLOCK_RESULTS => {
            let params = match height() {
                0 => json!({}),
                height => json!({ "height": height.to_string() }),
            };
            rpc::call(address, "block_results", &params)
        }
        _ => {
            let number = |name: &str| values.get_one::<u64>(name).copied().context("it has a default");
            let (page, limit) = (number(PAGE)?, number(LIMIT)?);
            let pagination = Some(PageRequest {
                offset: page.saturating_sub(1).saturating_mul(limit),
                limit,
                count_total: true,
                ..Default::default()
            });
            match height() {
                0 => ask(
                    address,
                    SERVICE,
                    "GetLatestValidatorSet",
                    &GetLatestValidatorSetRequest { pagination },
                ),
                height => {
                    let request = GetValidatorSetByHeightRequest { height, pagination };
                    ask(address, SERVICE, "GetValidatorSetByHeight", &request)
                }
            }
        }
    }
}

fn block(address: SocketAddr, by: Option<By>, id: &str) -> Result<Value> {
    let height = id.parse::<i64>().ok().filter(|height| *height >= 0);
    let hash = hex::decode(id).ok().filter(|hash| hash.len() == 32);
    match (by, height, hash) {
        (None | Some(By::Hash), _, Some(hash)) => by_hash(address, id, &hash),
        (None | Some(By::Height), Some(height), None) => block_at(address, height),
        (Some(By::Height), ..) => bail!("--type height takes a height, and not {id:?}"),
        (Some(By::Hash), ..) => bail!("--type hash takes 64 hex digits, and not {id:?}; --type height takes a height"),
        (None, ..) => bail!("{id:?} is neither a height nor a block's hash, 64 hex digits"),
    }
}

/// The block at a height, 0 being the latest.
fn block_at(address: SocketAddr, height: i64) -> Result<Value> {
    Ok(answer_at(address, height)?["block"].take())
}

fn answer_at(address: SocketAddr, height: i64) -> Result<Value> {
    match height {
        0 => ask(address, SERVICE, "GetLatestBlock", &GetLatestBlockRequest {}),
        height => ask(
            address,
            SERVICE,
            "GetBlockByHeight",
            &GetBlockByHeightRequest { height },
        ),
    }
}

fn by_hash(address: SocketAddr, typed: &str, hash: &[u8]) -> Result<Value> {
    let hash = BASE64.encode(hash);
    let found = rpc::call(address, "block_by_hash", &json!({ "hash": hash }))?;
    let missing = || format!("no block has the hash {typed}, or this node does not keep it any more");
    let mut answer = answer_at(address, height_of(&found).with_context(missing)?)?;
    ensure!(answer["block_id"]["hash"] == hash, missing());
    Ok(answer["block"].take())
}

/// The height of a block of CometBFT's JSON-RPC; `None` where it shows none.
fn height_of(shown: &Value) -> Option<i64> {
    shown["block"]["header"]["height"].as_str()?.parse().ok()
}

/// One page of the blocks that satisfy a query, as the Cosmos SDK's `SearchBlocksResult`.
fn matching(address: SocketAddr, search: &Search) -> Result<Value> {
    let params = json!({
        QUERY: search.query,
        "page": search.page.to_string(),
        "per_page": search.limit.to_string(),
        "order_by": match search.order {
            Order::Asc => "asc",
            Order::Desc => "desc",
        },
    });
    let found = rpc::call(address, "block_search", &params)?;
    let total = found["total_count"].as_str().and_then(|total| total.parse().ok());
    let blocks = found["blocks"].as_array().context("the node's answer has no blocks")?;
    let blocks = blocks.iter().map(|shown| {
        let height = height_of(shown).context("the node's answer has a block without a height")?;
        block_at(address, height)
    });
    let total = total.context("the node's answer has no total_count")?;
    Ok(search.result(total, "blocks", blocks.collect::<Result<_>>()?))
}
