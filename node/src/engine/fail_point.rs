//! Places where a test lets this process die as if by SIGKILL. Only builds with debug assertions have them.

use anyhow::{bail, Context, Result};

/// The environment variable: `<point>:<height>`.
pub const ENV: &str = "TENURE_FAIL_POINT";
/// The points, in the order of one block.
pub const POINTS: [&str; 5] = ["prepared", "processed", "finalized", "committing", "committed"];

/// Where to die, if anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailPoints(Option<(String, i64)>);

impl FailPoints {
    /// What the environment says. Error: the variable is malformed, or this build has no fail points.
    pub fn from_env() -> Result<Self> {
        match std::env::var(ENV) {
            Ok(text) if cfg!(debug_assertions) => Self::parse(&text),
            Ok(text) => bail!("{ENV} is {text:?}, but this is a release build, which has no fail points. Unset it"),
            Err(_) => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let parsed = text
            .split_once(':')
            .filter(|(point, _)| POINTS.contains(point))
            .and_then(|(point, height)| Some((point.to_owned(), height.parse().ok()?)));
        let point = parsed.with_context(|| {
            format!(
                "{ENV} is {text:?}, must be <point>:<height> with one of the points {}",
                POINTS.join(", ")
            )
        })?;
        Ok(Self(Some(point)))
    }

    /// Dies if this is the place.
    pub(super) fn reach(&self, point: &str, height: i64) {
        if self.0.as_ref().is_some_and(|(p, h)| p == point && *h == height) {
            tracing::error!("fail point {point} at height {height}: dying");
            // As a power cut would: no destructor, no flush.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_and_mistakes_are_refused() {
        assert_eq!(
            FailPoints::parse("finalized:7").expect("valid"),
            FailPoints(Some(("finalized".to_owned(), 7)))
        );
        for bad in ["finalized", "finalised:7", "finalized:x", ""] {
            let error = FailPoints::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("committing"), "{error}");
        }
    }
}
