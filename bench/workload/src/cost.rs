//! What work costs: CPU time of all threads, wall time, bytes written, memory.

use std::time::Instant;

use anyhow::{Context, Result};
use rustix::time::{clock_gettime, ClockId};
use serde::{Deserialize, Serialize};

/// An instant on the wall and on this process's CPU clock.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    wall: Instant,
    cpu_ns: u64,
}

/// What passed between two instants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// CPU time of all threads of the process, nanoseconds.
    pub cpu_ns: u64,
    /// Time on the wall, nanoseconds.
    pub wall_ns: u64,
}

impl Stamp {
    /// Now.
    pub fn now() -> Self {
        Self {
            wall: Instant::now(),
            cpu_ns: clock(ClockId::ProcessCPUTime),
        }
    }

    /// What has passed since an earlier instant.
    pub fn since(self, earlier: Stamp) -> Cost {
        let wall = self.wall.saturating_duration_since(earlier.wall);
        Cost {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// What has passed until now.
    pub fn elapsed(self) -> Cost {
        Self::now().since(self)
    }
}

impl Cost {
    /// CPU time in microseconds for each of `count`.
    pub fn cpu_us_each(self, count: usize) -> f64 {
        self.cpu_ns as f64 / 1e3 / count as f64
    }

    /// Wall time in microseconds for each of `count`.
    pub fn wall_us_each(self, count: usize) -> f64 {
        self.wall_ns as f64 / 1e3 / count as f64
    }
}

/// What some work costs.
pub fn of<T>(work: impl FnOnce() -> T) -> (Cost, T) {
    let before = Stamp::now();
    let result = work();
    (before.elapsed(), result)
}

/// CPU time of the calling thread alone, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock(ClockId::ThreadCPUTime)
}

fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default() * 1_000_000_000 + nanos.unwrap_or_default()
}

/// Bytes that this process has caused to be written to disks so far.
pub fn written_bytes() -> Result<u64> {
    figure("/proc/self/io", "write_bytes:")
}

/// Memory of this process that is in use (RSS), bytes.
pub fn resident_bytes() -> Result<u64> {
    Ok(figure("/proc/self/status", "VmRSS:")? * 1024)
}

/// A number of one of the kernel's tables.
fn figure(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).context(file.to_owned())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.and_then(|number| number.parse().ok());
    number.with_context(|| format!("{file} has no number {name}"))
}

/// The middle value; of an even number the upper of the two. `None` of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_work_and_not_sleep() {
        let (slept, ()) = of(|| std::thread::sleep(std::time::Duration::from_millis(50)));
        assert!(slept.wall_ns >= 50_000_000 && slept.cpu_ns < slept.wall_ns, "{slept:?}");
        let before = thread_cpu_ns();
        let (worked, _) = of(|| (0..5_000_000_u64).fold(1, |a: u64, b| std::hint::black_box(a.wrapping_mul(b | 1))));
        assert!(worked.cpu_ns > 0 && thread_cpu_ns() > before);
    }

    #[test]
    fn the_kernel_has_these_figures() -> Result<()> {
        written_bytes()?;
        assert!(resident_bytes()? > 1 << 20);
        assert!(figure("/proc/self/status", "NoSuchThing:").is_err());
        Ok(())
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(3.0));
        assert_eq!(median([]), None);
    }
}
