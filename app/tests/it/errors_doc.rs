//! `docs/errors.md` lists every code of every codespace with its sentence: the sources are the truth, the page follows.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../docs/errors.md");
const SDK: &str = include_str!("../../../types/src/error.rs");
const MODULES: [(&str, &str); 4] = [
    ("bank", include_str!("../../../x-bank/src/errors.rs")),
    ("provider", include_str!("../../../x-provider/src/errors.rs")),
    ("escrow", include_str!("../../../x-escrow/src/errors.rs")),
    ("market", include_str!("../../../x-market/src/errors.rs")),
];

/// Code, and the sentence or name that stands beside it.
type Rows = BTreeSet<(u32, String)>;

/// First and last cell of each row of a section.
fn listed(section: &str) -> Rows {
    let (_, rest) = PAGE
        .split_once(&format!("\n## {section}\n"))
        .unwrap_or_else(|| panic!("no section {section}"));
    let text = rest.split("\n## ").next().unwrap();
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
            let code = cells.next()?.parse().ok()?;
            let (second, third) = (cells.next()?, cells.next()?);
            Some((code, cell(if section == "sdk" { second } else { third })))
        })
        .collect()
}

/// A format string with an ellipsis for each of its values.
fn sentence(format: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in format.chars() {
        match c {
            '{' => inside = true,
            '}' => {
                inside = false;
                out.push('…');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

/// Code and sentence of each variant: its doc comment begins with the code, its `#[error]` is the sentence.
fn module(source: &str) -> Rows {
    let mut rows = Rows::new();
    let mut code = None;
    for line in source.lines().map(str::trim) {
        if let Some(number) = line
            .strip_prefix("/// ")
            .and_then(|l| l.split_once(": ")?.0.parse().ok())
        {
            code = Some(number);
        } else if let Some(text) = line.strip_prefix("#[error(\"").and_then(|l| l.strip_suffix("\")]")) {
            rows.insert((
                code.take().expect("the doc comment begins with the code"),
                sentence(text),
            ));
        }
    }
    let matched = source
        .lines()
        .filter(|l| l.trim().starts_with("Self::") && l.contains(" => "))
        .count();
    assert_eq!(
        rows.len(),
        matched,
        "every arm of `code` has a variant with a doc comment and a sentence"
    );
    rows
}

#[test]
fn the_page_lists_every_code_with_its_sentence() {
    let sdk: Rows = SDK
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("pub const ")?
                .strip_suffix(';')?
                .split_once(": u32 = ")
        })
        .map(|(name, code)| (code.parse().unwrap(), name.to_owned()))
        .collect();
    assert!(sdk.len() > 20, "{sdk:?}");
    assert_eq!(listed("sdk"), sdk);
    for (name, source) in MODULES {
        assert_eq!(listed(name), module(source), "docs/errors.md, section {name}");
    }
}
