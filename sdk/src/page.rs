//! Pages of lists, with the Cosmos pagination messages.

use tenure_proto::cosmos::base::query::v1beta1::{PageRequest, PageResponse};
use tenure_types::{sdk, Error, Result};

use crate::{derived::prefix_end, Ctx};

/// Entries of a page if the request does not say.
const DEFAULT_LIMIT: u64 = 100;
/// Most entries of a page.
const MAX_LIMIT: u64 = 1_000;
/// Most entries that an offset may skip: an offset is a scan; a key is not.
const MAX_OFFSET: u64 = 10_000;

/// Where the entries of a list are.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Records of a module's store with this prefix.
    Records(&'static str, &'a [u8]),
    /// Derived entries with this prefix.
    Derived(&'a [u8]),
}

/// Entries with their keys.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// One page of a list and where the next begins. `next_key` is the rest of the key after the prefix. Error (invalid request): key and
/// offset together, or an offset above 10,000.
pub fn page(ctx: &mut Ctx, source: Source<'_>, request: Option<&PageRequest>) -> Result<(Entries, PageResponse)> {
    let default = PageRequest::default();
    let request = request.unwrap_or(&default);
    if !request.key.is_empty() && request.offset > 0 {
        return Err(Error::sdk(
            sdk::INVALID_REQUEST,
            "pagination: key and offset exclude each other",
        ));
    }
    if request.offset > MAX_OFFSET {
        let message = format!(
            "pagination.offset {} exceeds {MAX_OFFSET}: use pagination.key",
            request.offset
        );
        return Err(Error::sdk(sdk::INVALID_REQUEST, message));
    }
    let limit = if request.limit == 0 {
        DEFAULT_LIMIT
    } else {
        request.limit.min(MAX_LIMIT)
    };
    let prefix = match source {
        Source::Records(_, prefix) | Source::Derived(prefix) => prefix,
    };
    let whole_end = prefix_end(prefix);
    let start = [prefix, &request.key].concat();
    // In reverse, the given key is the last one wanted: the range ends just after it.
    let (from, to) = match (request.reverse, request.key.is_empty()) {
        (false, _) => (start, whole_end),
        (true, true) => (prefix.to_vec(), whole_end),
        (true, false) => (prefix.to_vec(), Some([start.as_slice(), &[0]].concat())),
    };
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let wanted = count(request.offset.saturating_add(limit).saturating_add(1));
    let mut entries = match source {
        Source::Records(store, _) => ctx.range(store, &from, to.as_deref(), request.reverse, wanted)?,
        Source::Derived(_) => ctx.derived_range(&from, to.as_deref(), request.reverse, wanted)?,
    };
    entries.drain(..entries.len().min(count(request.offset)));
    let next_key = entries
        .get(count(limit))
        .and_then(|(key, _)| key.get(prefix.len()..))
        .map(<[u8]>::to_vec)
        .unwrap_or_default();
    entries.truncate(count(limit));
    let total = if request.count_total && request.key.is_empty() {
        let all = match source {
            Source::Records(store, _) => {
                ctx.range(store, prefix, prefix_end(prefix).as_deref(), false, count(MAX_OFFSET))?
            }
            Source::Derived(_) => ctx.derived_range(prefix, prefix_end(prefix).as_deref(), false, count(MAX_OFFSET))?,
        };
        u64::try_from(all.len()).unwrap_or(u64::MAX)
    } else {
        0
    };
    Ok((entries, PageResponse { next_key, total }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{derived, testing, DeriveTable};

    #[test]
    fn pages_in_both_directions_visit_every_entry_once() -> Result<()> {
        let mut ctx = testing::ctx(DeriveTable::new([("a", derived::nothing as _)]));
        for i in 0..25_u8 {
            ctx.set("a", &[1, i], vec![i])?;
        }
        ctx.set("a", &[2, 0], vec![99])?;
        for reverse in [false, true] {
            let (mut seen, mut key) = (Vec::new(), Vec::new());
            loop {
                let request = PageRequest {
                    key,
                    limit: 10,
                    reverse,
                    ..Default::default()
                };
                let (entries, response) = page(&mut ctx, Source::Records("a", &[1]), Some(&request))?;
                seen.extend(entries.iter().map(|(_, v)| v[0]));
                key = response.next_key;
                if key.is_empty() {
                    break;
                }
            }
            let mut want: Vec<u8> = (0..25).collect();
            if reverse {
                want.reverse();
            }
            assert_eq!(seen, want);
        }
        Ok(())
    }
}
