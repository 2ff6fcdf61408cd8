//! The program `cometbft`: where it is, and whether its version is one that was tested.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use semver::Version;

/// The version that `scripts/cometbft` installs and the tests run.
pub const PINNED: Version = Version::new(0, 38, 25);
/// The first version that is accepted: older ones verify commits wrongly (CSA-2026-001).
pub const FIRST: Version = Version::new(0, 38, 21);
/// The first version that is not: 0.39 checks transactions beside the next proposal and was not tested.
pub const END: Version = Version::new(0, 39, 0);
/// Names the program; comes after `--comet-bin`, before PATH.
pub const ENV: &str = "TENURE_COMETBFT";

/// The program says its version at once, or something is wrong with it.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// The longest version that is read, bytes.
const MAX_VERSION: u64 = 4 << 10;

/// Why there is no program to run.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// None of the places has one.
    #[error(
        "CometBFT is not installed: looked at {places}. Install it with scripts/cometbft, or name it with --comet-bin or {ENV}"
    )]
    Missing {
        /// Where it was looked for.
        places: String,
    },
    /// It cannot be run, or does not say its version.
    #[error("{} is not a CometBFT that runs here: {reason}", path.display())]
    Unusable {
        /// The program.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Its version was never tested with this program.
    #[error(
        "{} is CometBFT {version}; {FIRST} up to but without {END} work with this node. scripts/cometbft installs {PINNED}",
        path.display()
    )]
    Untested {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
}

/// A CometBFT program whose version was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CometBft {
    /// The program.
    pub path: PathBuf,
    /// What it says it is.
    pub version: Version,
}

impl CometBft {
    /// The program at `given`, else the one that [`ENV`] names, else `cometbft` on PATH, else the one that `scripts/cometbft` put into the
    /// cache. Error: there is none, or it is not fit.
    pub fn find(given: Option<&Path>) -> Result<Self, BinaryError> {
        let named = given
            .map(Path::to_owned)
            .or_else(|| std::env::var_os(ENV).filter(|v| !v.is_empty()).map(PathBuf::from));
        if let Some(path) = named {
            return Self::at(&path);
        }
        let mut places = String::from("PATH");
        if let Some(path) = on_path(std::env::var_os("PATH").as_deref()) {
            return Self::at(&path);
        }
        if let Some(path) = in_cache() {
            if path.is_file() {
                return Self::at(&path);
            }
            // Writing to a string cannot fail.
            let _ = write!(places, " and {}", path.display());
        }
        Err(BinaryError::Missing { places })
    }

    /// The program at `path`. Error: it does not run, or its version is not accepted.
    pub fn at(path: &Path) -> Result<Self, BinaryError> {
        let unusable = |reason: String| BinaryError::Unusable {
            path: path.to_owned(),
            reason,
        };
        let text = version_text(path).map_err(|e| unusable(e.to_string()))?;
        let version = parse(&text).ok_or_else(|| unusable(format!("`cometbft version` printed {:?}", text.trim())))?;
        if !accepted(&version) {
            return Err(BinaryError::Untested {
                path: path.to_owned(),
                version,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            version,
        })
    }
}

/// Whether a CometBFT of this version, as it introduces itself in `Info`, is accepted.
pub fn accepted_text(version: &str) -> bool {
    parse(version).is_some_and(|v| accepted(&v))
}

/// Pre-releases and builds with patches count as their release: forks carry suffixes.
fn accepted(version: &Version) -> bool {
    let release = Version::new(version.major, version.minor, version.patch);
    FIRST <= release && release < END
}

fn parse(text: &str) -> Option<Version> {
    let text = text.trim();
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

fn on_path(path: Option<&OsStr>) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let runs = |file: &PathBuf| {
        file.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path?).map(|dir| dir.join("cometbft")).find(runs)
}

/// Where `scripts/cometbft` puts it.
fn in_cache() -> Option<PathBuf> {
    let dir = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = dir("TENURE_CACHE")
        .or_else(|| dir("XDG_CACHE_HOME").map(|d| d.join("tenure")))
        .or_else(|| dir("HOME").map(|d| d.join(".cache/tenure")))?;
    Some(cache.join(format!("cometbft-{PINNED}/cometbft")))
}

fn version_text(path: &Path) -> io::Result<String> {
    let mut child = Command::new(path)
        .arg("version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + VERSION_LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!(
                "`cometbft version` did not end within {VERSION_LIMIT:?}"
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("`cometbft version` ended with {status}")));
    }
    let mut text = String::new();
    if let Some(out) = child.stdout.take() {
        out.take(MAX_VERSION).read_to_string(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(dir: &Path, script: &str) -> PathBuf {
        let path = dir.join("cometbft");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    #[test]
    fn only_tested_versions_run() {
        for (text, yes) in [
            ("0.38.20", false),
            ("0.38.21", true),
            ("0.38.25\n", true),
            ("v0.38.25", true),
            ("0.38.21-akash.1", true),
            ("0.38.99", true),
            ("0.39.0-alpha.1", false),
            ("0.39.0", false),
            ("1.0.1", false),
            ("0.37.18", false),
            ("", false),
            ("0.38", false),
        ] {
            assert_eq!(accepted_text(text), yes, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_program_is_said() {
        let dir = tempfile::tempdir().expect("dir");
        for (script, words) in [
            ("echo 0.39.1", vec!["0.39.1", "0.38.21", "scripts/cometbft"]),
            ("echo hello", vec!["hello"]),
            ("exit 3", vec!["exit status: 3"]),
        ] {
            let path = program(dir.path(), script);
            let error = CometBft::at(&path).expect_err(script).to_string();
            for word in words {
                assert!(error.contains(word), "{error}");
            }
        }
        let path = program(dir.path(), "echo 0.38.25");
        assert_eq!(CometBft::at(&path).expect("fit").version, PINNED);
        let error = CometBft::at(&dir.path().join("none")).expect_err("none").to_string();
        assert!(error.contains("none"), "{error}");
        assert_eq!(on_path(Some(dir.path().as_os_str())), Some(path));
    }
}
