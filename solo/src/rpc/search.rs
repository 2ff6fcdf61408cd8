//! `tx_search` and `block_search`.

use super::args::Args;
use super::methods::{block_result, page, per_page, tx_result, Outcome};
use super::wire::Error;
use crate::core::SoloClient;
use serde_json::{json, Value};
use tenure_archive::Page;

/// The page the arguments ask for; `newest_first` is what an empty `order_by` means. Whether the page exists is known only after
/// the search: the caller checks it with [`page`].
fn paged(args: &Args, newest_first: bool) -> Result<Page, Error> {
    let descending = match args.text("order_by") {
        "" => newest_first,
        "asc" => false,
        "desc" => true,
        _ => {
            return Err(Error::internal(
                "expected order_by to be either `asc` or `desc` or empty",
            ))
        }
    };
    let limit = per_page(args);
    let number = usize::try_from(args.int("page").unwrap_or(1)).unwrap_or(1).max(1);
    Ok(Page {
        skip: (number - 1).saturating_mul(limit),
        limit,
        descending,
    })
}

pub(crate) fn txs(client: &SoloClient, args: &Args) -> Outcome {
    let (records, total) = client
        .search_txs(args.text("query"), paged(args, false)?)
        .map_err(Error::internal)?;
    page(args.int("page"), per_page(args), total)?;
    let txs: Vec<Value> = records
        .iter()
        .map(|r| tx_result(client, r, args.flag("prove")))
        .collect::<Result<_, _>>()?;
    Ok(json!({"txs": txs, "total_count": total.to_string()}))
}

pub(crate) fn blocks(client: &SoloClient, args: &Args) -> Outcome {
    let (heights, total) = client
        .search_blocks(args.text("query"), paged(args, true)?)
        .map_err(Error::internal)?;
    page(args.int("page"), per_page(args), total)?;
    let mut blocks: Vec<Value> = Vec::new();
    for height in heights {
        blocks.push(block_result(client.block(height).map_err(Error::internal)?));
    }
    Ok(json!({"blocks": blocks, "total_count": total.to_string()}))
}
