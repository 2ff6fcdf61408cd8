//! `job.toml`: what to run, with what, for how much.
//!
//! ```toml
//! name = "digits"
//! module = "digits.wasm"                  # beside job.toml
//! args = ["--rounds", "40"]
//! inputs = ["weights.bin", "digits.bin"]  # appear under /in
//! outputs = ["predictions.csv"]           # fetched from /out
//! cpu_milli = 500
//! memory = "64MiB"
//! storage = "16MiB"
//! max_price_per_hour = "3.6ten"           # ceiling; the provider's own price is paid
//! duration = "10m"
//! deposit = "1ten"
//! claim_window = "5s"                     # optional: collect claims this long and take the cheapest
//! expiry = "2m"                           # optional: how long the bid waits for claims
//! auto_top_up = "5ten"                    # optional: paid in before the money runs out, a deposit at a time, at most this much
//! ```

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tenure_proto::{
    cosmos::base::v1beta1::Coin as CoinProto,
    tenure::{
        base::v1::{Resources, Window},
        escrow::v1::TopUpOrder,
        market::v1::{InputFile, Manifest, MsgPostBid},
    },
};
use tenure_types::Coin;

use crate::{
    auth::manifest_hash,
    gateway::{check_file_name, LocalFile},
    units::{parse_duration, parse_size},
    Error, Result,
};

/// Longest `job.toml`, bytes.
pub const MAX_SPEC: u64 = 1 << 20;
/// Longest name, bytes.
pub const MAX_NAME: usize = 64;
/// Most arguments.
pub const MAX_ARGS: usize = 128;
/// Longest arguments together, bytes.
pub const MAX_ARGS_BYTES: usize = 16 << 10;
/// Most inputs, and most outputs.
pub const MAX_FILES: usize = 64;
/// Longest module, bytes.
pub const MAX_MODULE: u64 = 64 << 20;
/// Longest inputs together, bytes.
pub const MAX_INPUTS: u64 = 4 << 30;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    name: Option<String>,
    module: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    inputs: Vec<String>,
    #[serde(default)]
    outputs: Vec<String>,
    cpu_milli: u64,
    memory: String,
    storage: Option<String>,
    max_price_per_hour: String,
    duration: String,
    deposit: String,
    claim_window: Option<String>,
    expiry: Option<String>,
    auto_top_up: Option<String>,
}

/// A job that is ready to be offered: its files are there and hashed.
#[derive(Debug, Clone)]
pub struct Job {
    /// What the provider is handed.
    pub manifest: Manifest,
    /// The module, then the inputs, each content once.
    pub files: Vec<LocalFile>,
    /// Price ceiling, base units of the deposit's denom per hour.
    pub max_rate: u64,
    /// Longest lease, milliseconds.
    pub duration_ms: u64,
    /// Money for the escrow account.
    pub deposit: Coin,
    /// How long claims are collected, milliseconds; 0: the first claim is matched.
    pub claim_window_ms: u64,
    /// How long the bid waits for claims, milliseconds; none: as long as the chain allows.
    pub expiry_ms: Option<u64>,
    /// What may be paid in by itself before the money runs out, base units of the deposit's denom; 0: nothing.
    pub auto_top_up: u128,
}

/// A mistake in a job: which key, and the value with its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key in `job.toml`.
    pub key: String,
    /// The value and the limit it breaks.
    pub detail: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.detail)
    }
}

/// Collects all mistakes, so that a person mends them at once.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: &str, detail: impl ToString) {
        self.0.push(Problem {
            key: key.to_owned(),
            detail: detail.to_string(),
        });
    }

    fn take<T: Default, E: ToString>(&mut self, key: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|e| {
            self.add(key, e.to_string());
            T::default()
        })
    }

    fn most(&mut self, key: &str, what: &str, found: usize, limit: usize) {
        if found > limit {
            self.add(key, format!("{found} {what}; at most {limit}"));
        }
    }
}

impl Job {
    /// Reads a job and hashes its files, which lie relative to it. Error (usage): every mistake with its key, value and limit.
    pub fn load(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).map_err(Error::file(path))?.len();
        if length > MAX_SPEC {
            return Err(Error::Usage(format!(
                "{}: {length} bytes; at most {MAX_SPEC}",
                path.display()
            )));
        }
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, directory).map_err(|problems| {
            let lines: Vec<_> = problems.iter().map(|p| format!("{}: {p}", path.display())).collect();
            Error::Usage(lines.join("\n"))
        })
    }

    /// Reads a job from its text; files lie relative to `directory`. Error: all mistakes.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<Problem>> {
        let spec: Spec = toml::from_str(text).map_err(|e| {
            let line = e
                .span()
                .map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            vec![Problem {
                key: format!("line {line}"),
                detail: e.message().to_owned(),
            }]
        })?;
        let mut problems = Problems::default();
        let job = spec.build(directory, &mut problems);
        if problems.0.is_empty() {
            Ok(job)
        } else {
            Err(problems.0)
        }
    }

    /// The message that posts and funds the bid.
    pub fn post_bid(&self, tenant: &str) -> MsgPostBid {
        // One block at least, so that a window is never over within the block that opens it.
        let window = |ms| Window {
            blocks: u64::from(ms > 0),
            ms,
        };
        MsgPostBid {
            tenant: tenant.to_owned(),
            resources: self.manifest.resources,
            max_rate: self.max_rate,
            duration_ms: self.duration_ms,
            deposit: Some(CoinProto {
                denom: self.deposit.denom.clone(),
                amount: self.deposit.amount.to_string(),
            }),
            manifest_hash: manifest_hash(&self.manifest).to_vec(),
            claim_window: Some(window(self.claim_window_ms)),
            expiry: self.expiry_ms.map(window),
            auto_top_up: (self.auto_top_up > 0).then(|| TopUpOrder {
                maximum: self.auto_top_up.to_string(),
                amount: self.top_up_part().to_string(),
            }),
        }
    }

    /// What is paid in by itself at a time, base units: the deposit again, or less if less is allowed in all.
    pub fn top_up_part(&self) -> u128 {
        self.deposit.amount.get().min(self.auto_top_up)
    }

    /// The most that can ever be in the account, base units: the deposit and whole parts of what may be paid in by itself.
    pub fn most_deposited(&self) -> u128 {
        let parts = self.auto_top_up.checked_div(self.top_up_part()).unwrap_or(0);
        let topped_up = parts.saturating_mul(self.top_up_part());
        self.deposit.amount.get().saturating_add(topped_up)
    }

    /// What the workload may use.
    pub fn resources(&self) -> Resources {
        self.manifest.resources.unwrap_or_default()
    }
}

impl Spec {
    fn build(self, directory: &Path, problems: &mut Problems) -> Job {
        problems.most("args", "arguments", self.args.len(), MAX_ARGS);
        problems.most(
            "args",
            "bytes together",
            self.args.iter().map(String::len).sum(),
            MAX_ARGS_BYTES,
        );
        if let Some(i) = self.args.iter().position(|a| a.contains('\0')) {
            problems.add(
                "args",
                format!("argument {i} holds a NUL byte; no program can be given one"),
            );
        }
        problems.most("inputs", "files", self.inputs.len(), MAX_FILES);
        problems.most("outputs", "files", self.outputs.len(), MAX_FILES);
        for name in &self.outputs {
            let checked = check_file_name(name);
            problems.take("outputs", checked);
        }
        duplicates("outputs", self.outputs.iter().map(String::as_str), problems);
        if self.cpu_milli == 0 {
            problems.add("cpu_milli", "0; at least 1 (1000 is one core)");
        }
        let memory_bytes = problems.take("memory", parse_size(&self.memory));
        if memory_bytes == 0 && parse_size(&self.memory).is_ok() {
            problems.add("memory", "0; at least 64KiB, one WASM page");
        }
        let storage_bytes = problems.take("storage", self.storage.as_deref().map_or(Ok(0), parse_size));

        let (deposit, max_rate) = self.money(problems);
        let auto_top_up = self.top_up(&deposit, problems);
        let duration_ms = problems.take("duration", positive(parse_duration(&self.duration)));
        let claim_window_ms = problems.take(
            "claim_window",
            self.claim_window.as_deref().map_or(Ok(0), parse_duration),
        );
        let expiry_ms = self
            .expiry
            .as_deref()
            .map(|text| problems.take("expiry", positive(parse_duration(text))));

        let (module, module_file) = hashed("module", directory, &self.module, MAX_MODULE, problems);
        let mut inputs = Vec::new();
        let mut files = vec![module_file];
        let mut room = MAX_INPUTS;
        for path in self.inputs.iter().take(MAX_FILES) {
            let (input, file) = hashed("inputs", directory, path, room, problems);
            room = room.saturating_sub(input.size);
            inputs.push(input);
            files.push(file);
        }
        duplicates("inputs", inputs.iter().map(|i| i.name.as_str()), problems);
        let mut seen = std::collections::BTreeSet::new();
        files.retain(|file| seen.insert(file.sha256));

        let name = self
            .name
            .unwrap_or_else(|| module.name.trim_end_matches(".wasm").to_owned());
        if name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control) {
            problems.add(
                "name",
                format!("{name:?} must be 1 to {MAX_NAME} bytes without control characters"),
            );
        }
        let manifest = Manifest {
            name,
            module: Some(module),
            args: self.args,
            inputs,
            outputs: self.outputs,
            resources: Some(Resources {
                cpu_milli: self.cpu_milli,
                memory_bytes,
                storage_bytes,
            }),
        };
        Job {
            manifest,
            files,
            max_rate,
            duration_ms,
            deposit,
            claim_window_ms,
            expiry_ms,
            auto_top_up,
        }
    }

    fn top_up(&self, deposit: &Coin, problems: &mut Problems) -> u128 {
        let Some(text) = &self.auto_top_up else { return 0 };
        match text.parse::<Coin>() {
            Err(e) => problems.add(
                "auto_top_up",
                format!("{text:?} is not an amount such as 5ten or 250000uten: {e}"),
            ),
            Ok(most) if most.amount.is_zero() => {
                problems.add("auto_top_up", format!("{most}; it must be above zero, or left out"));
            }
            Ok(most) if most.denom != deposit.denom => problems.add(
                "auto_top_up",
                format!(
                    "counted in {}, and the deposit in {}; both must be the same",
                    most.denom, deposit.denom
                ),
            ),
            Ok(most) => return most.amount.get(),
        }
        0
    }

    fn money(&self, problems: &mut Problems) -> (Coin, u64) {
        let none = Coin::base(0);
        let deposit = self.deposit.parse::<Coin>().unwrap_or_else(|e| {
            problems.add(
                "deposit",
                format!("{:?} is not an amount such as 1ten or 250000uten: {e}", self.deposit),
            );
            none.clone()
        });
        let price = self.max_price_per_hour.parse::<Coin>().unwrap_or_else(|e| {
            let text = &self.max_price_per_hour;
            problems.add(
                "max_price_per_hour",
                format!("{text:?} is not an amount such as 3.6ten or 250000uten: {e}"),
            );
            none.clone()
        });
        if problems
            .0
            .iter()
            .any(|p| p.key == "deposit" || p.key == "max_price_per_hour")
        {
            return (deposit, 0);
        }
        if deposit.amount.is_zero() {
            problems.add(
                "deposit",
                format!("{deposit}; it must be above zero: it is what the provider is paid from"),
            );
        }
        if price.amount.is_zero() {
            problems.add("max_price_per_hour", format!("{price}; it must be above zero"));
        }
        if price.denom != deposit.denom {
            let detail = format!(
                "counted in {}, and the deposit in {}; both must be the same",
                price.denom, deposit.denom
            );
            problems.add("max_price_per_hour", detail);
        }
        let rate = u64::try_from(price.amount.get()).map_err(|_| format!("{price}; at most {}", u64::MAX));
        let rate = problems.take("max_price_per_hour", rate);
        (deposit, rate)
    }
}

fn positive(parsed: Result<u64, String>) -> Result<u64, String> {
    match parsed {
        Ok(0) => Err("0; it must be above zero".to_owned()),
        other => other,
    }
}

fn duplicates<'a>(key: &str, names: impl Iterator<Item = &'a str>, problems: &mut Problems) {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !name.is_empty() && !seen.insert(name) {
            problems.add(key, format!("file name {name:?} stands twice; each must be another"));
        }
    }
}

/// A file as the manifest names it and as it lies here.
fn hashed(key: &str, directory: &Path, path: &str, limit: u64, problems: &mut Problems) -> (InputFile, LocalFile) {
    let full = directory.join(path);
    let name = Path::new(path)
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let named = check_file_name(&name);
    problems.take(key, named);
    let (size, sha256) = problems.take(key, hash_file(&full, limit));
    (
        InputFile {
            name,
            size,
            sha256: sha256.to_vec(),
        },
        LocalFile {
            path: full,
            size,
            sha256,
        },
    )
}

/// Length and SHA-256 of a file of at most `limit` bytes.
fn hash_file(path: &PathBuf, limit: u64) -> Result<(u64, [u8; 32]), String> {
    let shown = path.display();
    let failed = |e: std::io::Error| format!("{shown}: {e}");
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let mut reader = file.take(limit.saturating_add(1));
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size = 0;
    loop {
        let read = reader.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
    if size > limit {
        return Err(format!(
            "{shown} is longer than {limit} bytes, which is all that is left of the limit"
        ));
    }
    Ok((size, hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "digits"
        module = "digits.wasm"
        args = ["--rounds", "40"]
        inputs = ["weights.bin"]
        outputs = ["predictions.csv"]
        cpu_milli = 500
        memory = "64MiB"
        storage = "16MiB"
        max_price_per_hour = "3.6ten"
        duration = "10m"
        deposit = "1ten"
    "#;

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("digits.wasm"), b"module").expect("write");
        std::fs::write(directory.path().join("weights.bin"), b"weights").expect("write");
        directory
    }

    fn problems(text: &str) -> Vec<String> {
        let directory = directory();
        let problems = Job::parse(text, directory.path()).expect_err("malformed");
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_job_becomes_a_manifest_and_a_bid() {
        let directory = directory();
        let job = Job::parse(GOOD, directory.path()).expect("well formed");
        assert_eq!(job.max_rate, 3_600_000);
        assert_eq!(job.deposit, Coin::base(1_000_000));
        assert_eq!(
            job.resources(),
            Resources {
                cpu_milli: 500,
                memory_bytes: 64 << 20,
                storage_bytes: 16 << 20
            }
        );
        let module = job.manifest.module.as_ref().expect("present");
        assert_eq!((module.name.as_str(), module.size), ("digits.wasm", 6));
        assert_eq!(module.sha256, Sha256::digest(b"module").to_vec());
        let bid = job.post_bid("tenure1x");
        assert_eq!(bid.duration_ms, 600_000);
        assert_eq!(bid.claim_window, Some(Window { blocks: 0, ms: 0 }));
        assert_eq!(bid.expiry, None);
        assert_eq!(bid.manifest_hash, manifest_hash(&job.manifest));
        let windowed = format!("{GOOD}\nclaim_window = \"5s\"\nexpiry = \"2m\"");
        let bid = Job::parse(&windowed, directory.path())
            .expect("well formed")
            .post_bid("tenure1x");
        assert_eq!(bid.claim_window, Some(Window { blocks: 1, ms: 5_000 }));
        assert_eq!(bid.expiry, Some(Window { blocks: 1, ms: 120_000 }));
    }

    #[test]
    fn a_standing_order_draws_the_deposit_again_and_again() {
        let directory = directory();
        let job = |most: &str| {
            let text = format!("{GOOD}\nauto_top_up = \"{most}\"");
            Job::parse(&text, directory.path()).expect("well formed")
        };
        let order = |maximum: u64, amount: u64| {
            Some(TopUpOrder {
                maximum: maximum.to_string(),
                amount: amount.to_string(),
            })
        };
        let plain = Job::parse(GOOD, directory.path()).expect("well formed");
        assert_eq!(
            (plain.post_bid("x").auto_top_up, plain.most_deposited()),
            (None, 1_000_000)
        );
        let several = job("2.5ten");
        assert_eq!(several.post_bid("x").auto_top_up, order(2_500_000, 1_000_000));
        assert_eq!(several.most_deposited(), 3_000_000, "whole parts only");
        let small = job("0.25ten");
        assert_eq!(small.post_bid("x").auto_top_up, order(250_000, 250_000));
        assert_eq!(small.most_deposited(), 1_250_000);
    }

    #[test]
    fn one_content_travels_once() {
        let directory = directory();
        std::fs::write(directory.path().join("again.bin"), b"weights").expect("write");
        let text = GOOD.replace("[\"weights.bin\"]", "[\"weights.bin\", \"again.bin\"]");
        let job = Job::parse(&text, directory.path()).expect("well formed");
        assert_eq!((job.manifest.inputs.len(), job.files.len()), (2, 2));
    }

    #[test]
    fn every_mistake_is_named_with_its_key_and_value() {
        let found = problems(
            &GOOD
                .replace("\"64MiB\"", "\"64mb\"")
                .replace("500", "0")
                .replace("\"10m\"", "\"0s\"")
                .replace("weights", "absent"),
        );
        assert_eq!(found.len(), 4, "{found:?}");
        for (key, value) in [
            ("cpu_milli: ", "0;"),
            ("memory: ", "64mb"),
            ("duration: ", "0;"),
            ("inputs: ", "absent.bin"),
        ] {
            assert!(
                found.iter().any(|p| p.starts_with(key) && p.contains(value)),
                "{key} {value} in {found:?}"
            );
        }
        let one = |text: &str| problems(text).join("\n");
        assert!(one(&GOOD.replace("cpu_milli", "cpu_mili")).contains("line 7: unknown field `cpu_mili`"));
        assert!(one(&GOOD.replace("deposit = \"1ten\"", "")).contains("missing field `deposit`"));
        assert!(one(&GOOD.replace("\"1ten\"", "\"1.5uten\"")).contains("deposit: \"1.5uten\""));
        assert!(one(&GOOD.replace("\"1ten\"", "\"5usdc\"")).contains("both must be the same"));
        let topped_up = |most: &str| one(&format!("{GOOD}\nauto_top_up = \"{most}\""));
        assert!(topped_up("0ten").contains("auto_top_up: 0uten; it must be above zero"));
        assert!(topped_up("5").contains("auto_top_up: \"5\" is not an amount"));
        assert!(topped_up("5usdc").contains("auto_top_up: counted in usdc, and the deposit in uten"));
        assert!(one(&GOOD.replace("3.6ten", "99999999999999ten")).contains("max_price_per_hour: "));
        assert!(one(&GOOD.replace("predictions.csv", "../x")).contains("outputs: file name"));
        assert!(one(&GOOD.replace("[\"predictions.csv\"]", "[\"a\", \"a\"]")).contains("stands twice"));
        assert!(one(&GOOD.replace("\"digits\"", "\"\"")).contains("name: "));
        assert!(one("=").contains("line 1: "));
    }

    #[test]
    fn files_beyond_the_limit_are_refused_without_reading_them_whole() {
        let directory = directory();
        let path = directory.path().join("digits.wasm");
        assert!(hash_file(&path, 6).is_ok());
        assert!(hash_file(&path, 5)
            .expect_err("too long")
            .contains("longer than 5 bytes"));
        assert!(hash_file(&directory.path().to_path_buf(), 5)
            .expect_err("directory")
            .contains("is not a file"));
    }
}
