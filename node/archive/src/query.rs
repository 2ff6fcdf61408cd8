//! CometBFT's event query language (`libs/pubsub/query/syntax`): conditions joined by `AND`.
//!
//! `key = 'text'`, `key (= | < | <= | > | >=) number`, `key CONTAINS 'text'`, `key EXISTS`. Dates and times, which CometBFT
//! parses but its own index cannot search, are refused by name.

use std::cmp::Ordering;

/// The longest query accepted, bytes (`rpc/core` `maxQueryLength`).
pub const MAX_QUERY_BYTES: usize = 512;

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Equal, as text or as number.
    Eq,
    /// Less than a number.
    Lt,
    /// At most a number.
    Le,
    /// More than a number.
    Gt,
    /// At least a number.
    Ge,
    /// Contains a text.
    Contains,
    /// Is there at all.
    Exists,
}

/// What a condition compares with.
#[derive(Clone, Debug, PartialEq)]
enum Operand {
    None,
    Text(String),
    Number(Decimal),
}

/// One comparison of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The attribute: `<event type>.<attribute key>`.
    pub key: String,
    /// The comparison.
    pub op: Op,
    operand: Operand,
}

/// A non-negative or negative decimal of any length, compared exactly; amounts exceed what floats can hold.
#[derive(Clone, Debug, PartialEq)]
struct Decimal {
    negative: bool,
    /// Without leading zeros.
    whole: String,
    /// Without trailing zeros.
    fraction: String,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (
            whole.trim_start_matches('0').to_string(),
            fraction.trim_end_matches('0').to_string(),
        );
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self {
            negative: negative && !zero,
            whole,
            fraction,
        })
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let size = |a: &Self, b: &Self| {
            // Equal lengths make text order numeric order; a shorter fraction is a prefix and so the smaller one.
            (a.whole.len(), &a.whole, &a.fraction).cmp(&(b.whole.len(), &b.whole, &b.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl Condition {
    /// The text compared with, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.operand {
            Operand::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The operand as a height, if the condition compares with a whole number that fits.
    pub fn height(&self) -> Option<i64> {
        match &self.operand {
            Operand::Number(n) if n.fraction.is_empty() && !n.negative => {
                if n.whole.is_empty() {
                    Some(0)
                } else {
                    n.whole.parse().ok()
                }
            }
            Operand::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Whether an attribute value satisfies the condition.
    pub fn matches(&self, value: &str) -> bool {
        match (&self.op, &self.operand) {
            (Op::Exists, _) => true,
            (Op::Contains, Operand::Text(text)) => value.contains(text.as_str()),
            (Op::Eq, Operand::Text(text)) => value == text,
            (op, Operand::Number(bound)) => match (Decimal::parse(value).map(|v| v.cmp(bound)), op) {
                (Some(order), Op::Eq) => order.is_eq(),
                (Some(order), Op::Lt) => order.is_lt(),
                (Some(order), Op::Le) => order.is_le(),
                (Some(order), Op::Gt) => order.is_gt(),
                (Some(order), Op::Ge) => order.is_ge(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Narrows the inclusive range `from..=to` by a condition on a height. Errors if the operand is no height.
    pub fn narrow(&self, range: &mut (i64, i64)) -> Result<(), String> {
        if self.op == Op::Exists {
            return Ok(());
        }
        let bound = self
            .height()
            .ok_or_else(|| format!("{} must be compared with a whole number of at most 64 bits", self.key))?;
        let (from, to) = match self.op {
            Op::Eq => (bound, bound),
            Op::Lt => (i64::MIN, bound.saturating_sub(1)),
            Op::Le => (i64::MIN, bound),
            Op::Gt => (bound.saturating_add(1), i64::MAX),
            Op::Ge => (bound, i64::MAX),
            Op::Contains | Op::Exists => return Err(format!("{} cannot be searched with CONTAINS", self.key)),
        };
        *range = (range.0.max(from), range.1.min(to));
        Ok(())
    }
}

/// Parses a query. The error says what was expected and where.
pub fn parse(query: &str) -> Result<Vec<Condition>, String> {
    if query.len() > MAX_QUERY_BYTES {
        return Err("maximum query length exceeded".into());
    }
    let mut rest = query;
    let mut out = Vec::new();
    loop {
        out.push(condition(&mut rest).map_err(|e| format!("parse query at byte {}: {e}", query.len() - rest.len()))?);
        skip_space(&mut rest);
        if rest.is_empty() {
            return Ok(out);
        }
        if !keyword(&mut rest, "AND") {
            return Err(format!(
                "parse query at byte {}: expected AND",
                query.len() - rest.len()
            ));
        }
    }
}

fn skip_space(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
}

/// Takes `word` if it comes next and ends there.
fn keyword(rest: &mut &str, word: &str) -> bool {
    skip_space(rest);
    match rest.strip_prefix(word) {
        Some(after) if !after.starts_with(|c: char| c.is_alphanumeric() || c == '_') => {
            *rest = after;
            true
        }
        _ => false,
    }
}

fn condition(rest: &mut &str) -> Result<Condition, String> {
    skip_space(rest);
    let end = rest
        .find(|c: char| c.is_whitespace() || "=<>'\"()".contains(c))
        .unwrap_or(rest.len());
    let (key, after) = rest.split_at(end);
    if key.is_empty() {
        return Err("expected an attribute name".into());
    }
    *rest = after;
    if keyword(rest, "EXISTS") {
        return Ok(Condition {
            key: key.into(),
            op: Op::Exists,
            operand: Operand::None,
        });
    }
    if keyword(rest, "CONTAINS") {
        return Ok(Condition {
            key: key.into(),
            op: Op::Contains,
            operand: Operand::Text(text(rest)?),
        });
    }
    let op = [
        ("<=", Op::Le),
        (">=", Op::Ge),
        ("=", Op::Eq),
        ("<", Op::Lt),
        (">", Op::Gt),
    ]
    .into_iter()
    .find_map(|(sign, op)| rest.strip_prefix(sign).map(|after| (after, op)));
    let Some((after, op)) = op else {
        return Err("expected =, <, <=, >, >=, CONTAINS or EXISTS".into());
    };
    *rest = after;
    skip_space(rest);
    if rest.starts_with('\'') {
        if op != Op::Eq {
            return Err("a text can only be compared with = or CONTAINS".into());
        }
        return Ok(Condition {
            key: key.into(),
            op,
            operand: Operand::Text(text(rest)?),
        });
    }
    if keyword(rest, "TIME") || keyword(rest, "DATE") {
        return Err("TIME and DATE are not searchable".into());
    }
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
        .unwrap_or(rest.len());
    let (number, after) = rest.split_at(end);
    let number = Decimal::parse(number).ok_or("expected a number or a text in single quotes")?;
    *rest = after;
    Ok(Condition {
        key: key.into(),
        op,
        operand: Operand::Number(number),
    })
}

fn text(rest: &mut &str) -> Result<String, String> {
    skip_space(rest);
    let Some(inside) = rest.strip_prefix('\'') else {
        return Err("expected a text in single quotes".into());
    };
    let Some((text, after)) = inside.split_once('\'') else {
        return Err("unterminated text".into());
    };
    *rest = after;
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn conjunctions_parse() {
        let q = parse("tx.height>=5 AND transfer.sender = 'abc' AND a.b EXISTS AND c.d CONTAINS 'x y'").unwrap();
        assert_eq!(
            q.iter().map(|c| c.op).collect::<Vec<_>>(),
            [Op::Ge, Op::Eq, Op::Exists, Op::Contains]
        );
        assert_eq!((q[0].height(), q[1].text()), (Some(5), Some("abc")));
        assert!(q[3].matches("ax yb") && !q[3].matches("axy"));
    }

    #[test]
    fn mistakes_are_named() {
        for (query, word) in [
            ("", "attribute name"),
            ("a.b", "expected ="),
            ("a.b = ", "expected a number"),
            ("a.b = 'x", "unterminated"),
            ("a.b = 'x' OR c = 1", "expected AND"),
            ("a.b < 'x'", "only be compared"),
            ("a.b = TIME 2013-05-03T14:45:00Z", "not searchable"),
            ("a.b = 1 AND", "attribute name"),
        ] {
            let e = parse(query).unwrap_err();
            assert!(e.contains(word), "{query}: {e}");
        }
        assert!(parse(&"a".repeat(MAX_QUERY_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_query_panics(query in ".{0,80}") {
            let _ = parse(&query);
        }

        #[test]
        fn numbers_compare_as_integers_do(a in any::<i64>(), b in any::<i64>()) {
            for (sign, expected) in [("=", a == b), ("<", a < b), ("<=", a <= b), (">", a > b), (">=", a >= b)] {
                let q = parse(&format!("k {sign} {b}")).unwrap();
                prop_assert_eq!(q[0].matches(&a.to_string()), expected);
            }
        }
    }

    #[test]
    fn long_and_fractional_numbers_compare_exactly() {
        let q = parse("k > 100000000000000000000000000000.5").unwrap();
        assert!(q[0].matches("100000000000000000000000000000.51"));
        assert!(!q[0].matches("100000000000000000000000000000.5"));
        assert!(!q[0].matches("12stake"));
    }
}
