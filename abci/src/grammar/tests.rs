//! The state machine against the specification's own text: every sequence of up to seven calls, recognised by both.

use std::collections::BTreeMap;

use regex::Regex;

use super::*;

/// The productions of `spec/abci/abci++_comet_expected_behavior.md` in CometBFT v0.38.25, word for word.
const ABNF: &str = include_str!("abci++.abnf");

/// Letters of the calls. `n` is an Info that the grammar does not count, `s` one that it does.
const LETTERS: &[(&str, &str)] = &[
    ("init-chain", "i"),
    ("offer-snapshot", "o"),
    ("apply-chunk", "a"),
    ("info", "s"),
    ("prepare-proposal", "p"),
    ("process-proposal", "x"),
    ("extend-vote", "e"),
    ("got-vote", "g"),
    ("decide", "d"),
    ("commit", "c"),
];

/// Productions as regular expressions over the letters; `(inf)` becomes any finite number.
struct Translation {
    productions: BTreeMap<String, String>,
}

impl Translation {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let productions = lines.map(|(name, body)| (name.trim().to_owned(), body.trim().to_owned()));
        Self {
            productions: productions.collect(),
        }
    }

    fn rule(&self, name: &str) -> String {
        if let Some((_, letter)) = LETTERS.iter().find(|(terminal, _)| *terminal == name) {
            assert!(self.productions[name].starts_with("%s\"<"), "{name} is no terminal");
            return (*letter).to_owned();
        }
        let body = self
            .productions
            .get(name)
            .unwrap_or_else(|| panic!("no production {name}"));
        self.expression(body)
    }

    /// Alternatives of concatenations of `[optional]`, `*element`, `1*element`, `(inf)element` and names.
    fn expression(&self, body: &str) -> String {
        let mut out = String::new();
        let mut rest = body.trim();
        while !rest.is_empty() {
            let (repeat, after) = if let Some(after) = rest.strip_prefix("1*") {
                ("+", after)
            } else if let Some(after) = rest.strip_prefix("(inf)").or_else(|| rest.strip_prefix('*')) {
                ("*", after)
            } else {
                ("", rest)
            };
            let (element, after) = if let Some(inner) = after.strip_prefix('[') {
                let mut depth = 1;
                let end = inner.find(|c| {
                    depth += match c {
                        '[' => 1,
                        ']' => -1,
                        _ => 0,
                    };
                    depth == 0
                });
                let end = end.expect("brackets match");
                (format!("(?:{})?", self.expression(&inner[..end])), &inner[end + 1..])
            } else if let Some(after) = after.strip_prefix('/') {
                ("|".to_owned(), after)
            } else {
                let end = after.find([' ', ']', '/']).unwrap_or(after.len());
                (format!("(?:{})", self.rule(&after[..end])), &after[end..])
            };
            out.push_str(&element);
            out.push_str(repeat);
            rest = after.trim_start();
        }
        out
    }
}

/// Recognises prefixes of legal sequences, by the text and the deviation that the module names.
struct Oracle(Regex);

impl Oracle {
    fn new() -> Self {
        let text = Translation::parse(ABNF);
        let start = text.rule("start");
        let without_init_chain = text.expression("state-sync consensus-exec");
        Self(Regex::new(&format!("^(?:{start}|{without_init_chain})$")).unwrap())
    }

    /// Any legal prefix is completed by one of a few words.
    fn accepts_prefix(&self, word: &str) -> bool {
        let word: String = word.chars().filter(|c| *c != 'n').collect();
        let completions = ["", "dc", "c", "s", "as", "oas"];
        word.is_empty() || completions.iter().any(|end| self.0.is_match(&format!("{word}{end}")))
    }
}

/// Plays a word of letters as calls, with the heights that a correct engine and application would have. Gives the word with the
/// Infos that count marked, and whether the grammar took all of it.
fn play(word: &[u8], committed: i64) -> (String, bool) {
    const SNAPSHOT: u64 = 7;
    let mut grammar = Grammar::new();
    let mut app = committed;
    let mut marked = String::new();
    for letter in word {
        let next = app + 1;
        let mut mark = char::from(*letter);
        let call = match letter {
            b'i' => Call::InitChain { initial_height: 1 },
            b'o' => Call::OfferSnapshot {
                height: SNAPSHOT,
                accepted: true,
            },
            b'a' => Call::ApplySnapshotChunk,
            b'p' => Call::PrepareProposal { height: next },
            b'x' => Call::ProcessProposal { height: next },
            b'd' => Call::FinalizeBlock { height: next },
            b'c' => Call::Commit,
            _ => {
                match grammar.state() {
                    State::Start if app > 0 => mark = 's',
                    State::Restoring { chunks: true, .. } => {
                        mark = 's';
                        app = i64::try_from(SNAPSHOT).unwrap();
                    }
                    _ => {}
                }
                Call::Info { height: app }
            }
        };
        marked.push(mark);
        if grammar.observe(call).is_err() {
            return (marked, false);
        }
        match call {
            Call::InitChain { .. } => app = 0,
            Call::Commit => app += 1,
            _ => {}
        }
    }
    (marked, true)
}

#[test]
fn agrees_with_the_specification_on_every_short_sequence() {
    const ALPHABET: &[u8] = b"ionapxdc";
    let oracle = Oracle::new();
    let longest = if std::env::var_os("TENURE_TEST_LONG").is_some() {
        8
    } else {
        6
    };
    for committed in [0, 5] {
        // Only legal prefixes are extended: what is illegal stays so.
        let mut legal: Vec<Vec<u8>> = vec![Vec::new()];
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..longest {
            let mut longer = Vec::new();
            for prefix in &legal {
                for letter in ALPHABET {
                    let word = [prefix.as_slice(), &[*letter]].concat();
                    let (marked, taken) = play(&word, committed);
                    assert_eq!(
                        taken,
                        oracle.accepts_prefix(&marked),
                        "{marked} from height {committed}"
                    );
                    if taken {
                        accepted += 1;
                        longer.push(word);
                    } else {
                        refused += 1;
                    }
                }
            }
            legal = longer;
        }
        assert!(
            accepted > 500 && refused > 500,
            "{accepted} accepted, {refused} refused"
        );
    }
}

#[test]
fn the_text_is_that_of_the_specification_where_it_is_at_hand() {
    // Go keeps the sources of what it installed; the specification is part of them.
    let roots = [
        std::env::var("GOMODCACHE").ok(),
        std::env::var("HOME").ok().map(|home| home + "/go/pkg/mod"),
    ];
    let path = "github.com/cometbft/cometbft@v0.38.25/spec/abci/abci++_comet_expected_behavior.md";
    let found = roots
        .into_iter()
        .flatten()
        .find_map(|root| std::fs::read_to_string(format!("{root}/{path}")).ok());
    let Some(specification) = found else {
        eprintln!("SKIPPED: CometBFT's sources are not on this machine, so its grammar is not compared with ours");
        return;
    };
    let (_, after) = specification.split_once("```abnf\n").unwrap();
    let (block, _) = after.split_once("```").unwrap();
    let productions = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains('='));
        lines
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    };
    assert_eq!(productions(block), productions(ABNF));
}

/// Calls of one validator's first block, with rounds.
fn first_block() -> Vec<Call> {
    vec![
        Call::Info { height: 0 },
        Call::InitChain { initial_height: 1 },
        Call::PrepareProposal { height: 1 },
        Call::ProcessProposal { height: 1 },
        Call::ProcessProposal { height: 1 },
        Call::FinalizeBlock { height: 1 },
        Call::Info { height: 0 },
        Call::Commit,
    ]
}

fn grammar_after(calls: &[Call]) -> Grammar {
    let mut grammar = Grammar::new();
    for call in calls {
        grammar.observe(*call).unwrap();
    }
    grammar
}

#[test]
fn heights_follow_each_other() {
    let mut grammar = grammar_after(&first_block());
    for height in [0, 1, 3, i64::MAX] {
        for call in [
            Call::PrepareProposal { height },
            Call::ProcessProposal { height },
            Call::FinalizeBlock { height },
        ] {
            let violation = grammar.observe(call).unwrap_err();
            assert_eq!(violation.state, State::Running { next: 2 });
        }
    }
    grammar.observe(Call::FinalizeBlock { height: 2 }).unwrap();
}

#[test]
fn a_chain_may_begin_at_any_height() {
    for (initial_height, first) in [(0, 1), (1, 1), (1000, 1000)] {
        let mut grammar = grammar_after(&[Call::InitChain { initial_height }]);
        assert!(grammar.observe(Call::FinalizeBlock { height: first + 1 }).is_err());
        grammar.observe(Call::FinalizeBlock { height: first }).unwrap();
        grammar.observe(Call::Commit).unwrap();
        assert_eq!(grammar.committed(), Some(first));
    }
    assert!(Grammar::new().observe(Call::InitChain { initial_height: -1 }).is_err());
}

#[test]
fn vote_extensions_are_off() {
    let mut grammar = grammar_after(&first_block());
    assert!(grammar.observe(Call::ExtendVote { height: 2 }).is_err());
    assert!(grammar.observe(Call::VerifyVoteExtension { height: 2 }).is_err());
}

#[test]
fn a_snapshot_is_restored_whole_or_not_at_all() {
    let offer = |height, accepted| Call::OfferSnapshot { height, accepted };
    // A refused offer takes no chunks.
    let mut grammar = grammar_after(&[offer(9, false)]);
    assert!(grammar.observe(Call::ApplySnapshotChunk).is_err());
    // The application must report the snapshot's height before blocks follow.
    grammar.observe(offer(5, true)).unwrap();
    grammar.observe(Call::ApplySnapshotChunk).unwrap();
    grammar.observe(Call::Info { height: 0 }).unwrap();
    assert!(grammar.observe(Call::FinalizeBlock { height: 6 }).is_err());
    grammar.observe(Call::Info { height: 5 }).unwrap();
    assert_eq!(grammar.committed(), Some(5));
    grammar.observe(Call::FinalizeBlock { height: 6 }).unwrap();
    // A node with state is offered none.
    grammar.observe(Call::Commit).unwrap();
    grammar.restart();
    assert!(grammar.observe(offer(20, true)).is_err());
}

#[test]
fn a_new_engine_repeats_what_was_not_committed() {
    // Before the first commit: InitChain again.
    let mut grammar = grammar_after(&first_block()[..6]);
    assert!(grammar.observe(Call::InitChain { initial_height: 1 }).is_err());
    grammar.restart();
    grammar.observe(Call::InitChain { initial_height: 1 }).unwrap();
    // After it: the block that was executed and not committed again, and no InitChain.
    let mut grammar = grammar_after(&first_block());
    grammar.observe(Call::FinalizeBlock { height: 2 }).unwrap();
    grammar.restart();
    assert!(grammar.observe(Call::InitChain { initial_height: 1 }).is_err());
    assert!(grammar.observe(Call::Commit).is_err());
    grammar.observe(Call::FinalizeBlock { height: 2 }).unwrap();
    grammar.observe(Call::Commit).unwrap();
}

#[test]
fn a_violation_says_what_happened_and_what_may() {
    let mut grammar = grammar_after(&first_block());
    grammar.observe(Call::FinalizeBlock { height: 2 }).unwrap();
    let violation = grammar.observe(Call::PrepareProposal { height: 3 }).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "ABCI grammar: PrepareProposal of height 3 after FinalizeBlock of height 2; legal is Commit of height 2"
    );
}
