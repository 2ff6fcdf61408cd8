//! What this machine has, as the kernel tells.

use std::{fs, io, path::Path};

use tenure_types::Resources;

/// Memory that is kept for the agent and the rest of the machine, bytes.
pub const MEMORY_RESERVE: u64 = 256 << 20;
/// Disk that is kept free, bytes.
pub const DISK_RESERVE: u64 = 512 << 20;

/// What a workload could get now: all cores, available memory and free disk less the reserves.
pub fn measure(home: &Path) -> io::Result<Resources> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let disk = rustix::fs::statvfs(home)?;
    Ok(Resources {
        cpu_milli: u64::try_from(cores).unwrap_or(u64::MAX).saturating_mul(1_000),
        memory_bytes: available_memory(&fs::read_to_string("/proc/meminfo")?)?.saturating_sub(MEMORY_RESERVE),
        storage_bytes: disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(DISK_RESERVE),
    })
}

/// The part-wise smaller of two.
pub fn least(a: Resources, b: Resources) -> Resources {
    Resources {
        cpu_milli: a.cpu_milli.min(b.cpu_milli),
        memory_bytes: a.memory_bytes.min(b.memory_bytes),
        storage_bytes: a.storage_bytes.min(b.storage_bytes),
    }
}

/// `MemAvailable` of /proc/meminfo, bytes.
fn available_memory(meminfo: &str) -> io::Result<u64> {
    meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib.saturating_mul(1_024))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemAvailable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_its_line() {
        assert_eq!(
            available_memory("MemTotal: 9 kB\nMemAvailable:   123 kB\n").expect("line"),
            123 * 1_024
        );
        assert!(available_memory("MemTotal: 9 kB\n").is_err());
        let here = measure(Path::new("/")).expect("this machine");
        assert!(here.cpu_milli >= 1_000);
    }
}
