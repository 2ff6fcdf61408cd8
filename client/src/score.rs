//! Scores predictions against labels, so that a person sees that the work was done and not only paid for.
//!
//! Labels are `index,label,split`, predictions `index,<anything>`, each with a header line.

use std::collections::BTreeMap;

use serde::Serialize;

/// The split that the model never saw.
pub const HELD_OUT: &str = "held_out";

/// How many of a split's labels were predicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Hits {
    /// Right predictions.
    pub right: u64,
    /// Labels. One without a prediction counts as wrong.
    pub labels: u64,
}

impl Hits {
    /// Share that is right in hundredths of a percent, rounded to the nearest.
    pub fn basis_points(&self) -> u64 {
        (self.right * 10_000 + self.labels / 2)
            .checked_div(self.labels)
            .unwrap_or(0)
    }
}

impl std::fmt::Display for Hits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = self.basis_points();
        write!(
            f,
            "{}.{:02} % ({} of {})",
            share / 100,
            share % 100,
            self.right,
            self.labels
        )
    }
}

/// Hits for each split. Error: file, line and what is wrong with it; no label is held out.
pub fn score(labels: &str, predictions: &str) -> Result<BTreeMap<String, Hits>, String> {
    let mut predicted = BTreeMap::new();
    for (line, fields) in rows("predictions", predictions, 2)? {
        if predicted
            .insert(index("predictions", line, fields[0])?, fields[1])
            .is_some()
        {
            return Err(format!("predictions, line {line}: index {} stands twice", fields[0]));
        }
    }
    let mut splits: BTreeMap<String, Hits> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for (line, fields) in rows("labels", labels, 3)? {
        let index = index("labels", line, fields[0])?;
        if !seen.insert(index) {
            return Err(format!("labels, line {line}: index {index} stands twice"));
        }
        let hits = splits.entry(fields[2].to_owned()).or_default();
        hits.labels += 1;
        hits.right += u64::from(predicted.get(&index) == Some(&fields[1]));
    }
    if splits.contains_key(HELD_OUT) {
        Ok(splits)
    } else {
        Err(format!("labels: no line has the split {HELD_OUT:?}"))
    }
}

fn rows<'a>(file: &str, text: &'a str, columns: usize) -> Result<Vec<(usize, Vec<&'a str>)>, String> {
    let mut rows = Vec::new();
    for (i, line) in text
        .lines()
        .enumerate()
        .skip(1)
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        if fields.len() != columns {
            return Err(format!(
                "{file}, line {}: {} columns, expected {columns}",
                i + 1,
                fields.len()
            ));
        }
        rows.push((i + 1, fields));
    }
    Ok(rows)
}

fn index(file: &str, line: usize, text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{file}, line {line}: index {text:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: &str = "index,label,split\n0,7,held_out\n1,3,train\n2,4,held_out\n3,5,held_out\n";

    #[test]
    fn hits_are_counted_by_index_and_a_missing_prediction_is_wrong() {
        let splits = score(LABELS, "index,digit\n2,4\n0,7\n1,9\n").expect("well formed");
        assert_eq!(splits[HELD_OUT], Hits { right: 2, labels: 3 });
        assert_eq!(splits["train"], Hits { right: 0, labels: 1 });
        assert_eq!(splits[HELD_OUT].to_string(), "66.67 % (2 of 3)");
    }

    #[test]
    fn malformed_lines_are_named() {
        let message = |labels, predictions| score(labels, predictions).expect_err("malformed");
        assert!(message(LABELS, "index,digit\n0\n").contains("predictions, line 2: 1 columns"));
        assert!(message(LABELS, "index,digit\nx,1\n").contains("\"x\""));
        assert!(message(LABELS, "index,digit\n0,1\n0,2\n").contains("line 3: index 0 stands twice"));
        assert!(message("h\n0,1,a\n0,1,a\n", "h\n").contains("labels, line 3"));
        assert!(message("index,label,split\n0,1,train\n", "h\n").contains("held_out"));
    }
}
