//! What a program may leave under `/out`: so many bytes in so many files, enforced while it runs.
//!
//! wasmtime-wasi has no quota, so the functions of preview 1 that can make a directory grow are wrapped: before each the program's demand is
//! compared with what is left, and it gets the errno a full disk gives (`nospc`). What cannot be known beforehand (a hole made by seeking past
//! the end) the periodic [`Quota::measure`] finds, and the run is ended. Links are refused: the agent reads `/out` afterwards.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::p1::{
    wasi_snapshot_preview1::{self as abi, WasiSnapshotPreview1},
    WasiP1Ctx,
};
use wiggle::GuestMemory;

use super::wasm::Host;

const WASI: &str = "wasi_snapshot_preview1";
// Numbers of `errno` in wasi_snapshot_preview1.witx.
const ERRNO_NOSPC: i32 = 51;
const ERRNO_PERM: i32 = 63;
// `oflags.creat` of path_open.
const OFLAG_CREAT: i32 = 1;
// Longest vector of buffers that is looked at; the implementation writes the first that is not empty.
const MOST_BUFFERS: u32 = 1_024;

/// Most files and directories under `/out`, at any depth.
pub const MOST_ENTRIES: usize = 1_024;

/// The account of one `/out`.
#[derive(Debug)]
pub struct Quota {
    dir: PathBuf,
    limit: u64,
    measured: u64,
    // Upper bound of the growth since `measured`: overwriting counts too, until the next measurement corrects it.
    since: u64,
}

impl Quota {
    /// For a directory and a limit, bytes.
    pub fn new(dir: &Path, limit: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            limit,
            measured: 0,
            since: 0,
        }
    }

    /// The limit, bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes under the directory now, by the files' lengths.
    pub fn measure(&mut self) -> io::Result<u64> {
        (self.measured, _) = usage(&self.dir)?;
        self.since = 0;
        Ok(self.measured)
    }

    /// Whether `bytes` more may be written; they count as written then. Near the limit the directory is measured anew. A write over existing
    /// bytes is refused too if it would not fit beside them.
    pub fn take(&mut self, bytes: u64) -> io::Result<bool> {
        let fits = |quota: &Self| quota.measured.saturating_add(quota.since).saturating_add(bytes) <= quota.limit;
        if !fits(self) {
            self.measure()?;
        }
        let ok = fits(self);
        if ok {
            self.since = self.since.saturating_add(bytes);
        }
        Ok(ok)
    }

    /// Whether one more file or directory may be made.
    pub fn take_entry(&self) -> io::Result<bool> {
        Ok(usage(&self.dir)?.1 < MOST_ENTRIES)
    }
}

/// Bytes and entries under a directory, links not followed. More than [`MOST_ENTRIES`] are not counted on.
pub fn usage(dir: &Path) -> io::Result<(u64, usize)> {
    let (mut bytes, mut entries) = (0_u64, 0);
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            entries += 1;
            if entries > MOST_ENTRIES {
                return Ok((bytes, entries));
            }
            // A file that was just removed is no longer there to count.
            let Ok(meta) = entry.path().symlink_metadata() else {
                continue;
            };
            if meta.is_dir() {
                pending.push(entry.path());
            } else {
                bytes = bytes.saturating_add(meta.len());
            }
        }
    }
    Ok((bytes, entries))
}

/// The caller's memory and state, as the wrapped functions want them.
fn parts<'a>(caller: &'a mut Caller<'_, Host>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Host)> {
    let fuel = wasmtime::AsContextMut::as_context_mut(caller).hostcall_fuel();
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("the module's memory is not exported"));
    };
    let (bytes, host) = memory.data_and_store_mut(caller);
    host.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(bytes), host))
}

/// Length of the first buffer in the vector that is not empty: what a write will write at most.
fn demand(memory: &GuestMemory<'_>, iovs: i32, count: i32) -> u64 {
    let GuestMemory::Unshared(bytes) = memory else { return 0 };
    let word = |at: u64| -> Option<u32> {
        let at = usize::try_from(at).ok()?;
        Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    let start = u64::from(iovs.cast_unsigned());
    let lengths = (0..count.cast_unsigned().min(MOST_BUFFERS)).map_while(|i| word(start + u64::from(i) * 8 + 4));
    lengths.into_iter().find(|length| *length > 0).unwrap_or(0).into()
}

/// Standard output and error go to the log, which has its own limit.
fn is_stdio(fd: i32) -> bool {
    (0..=2).contains(&fd)
}

/// Puts the wrapped functions over those of wasmtime-wasi. The linker must allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        WASI,
        "fd_write",
        |mut caller, (fd, iovs, count, written): (i32, i32, i32, i32)| {
            Box::new(async move {
                let (mut memory, host) = parts(&mut caller)?;
                if !is_stdio(fd) && !host.quota.take(demand(&memory, iovs, count))? {
                    return Ok(ERRNO_NOSPC);
                }
                abi::fd_write(&mut host.wasi, &mut memory, fd, iovs, count, written).await
            })
        },
    )?;
    linker.func_wrap_async(
        WASI,
        "fd_pwrite",
        |mut caller, (fd, iovs, count, offset, written): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let (mut memory, host) = parts(&mut caller)?;
                if !host.quota.take(demand(&memory, iovs, count))? {
                    return Ok(ERRNO_NOSPC);
                }
                abi::fd_pwrite(&mut host.wasi, &mut memory, fd, iovs, count, offset, written).await
            })
        },
    )?;
    linker.func_wrap_async(WASI, "fd_filestat_set_size", |mut caller, (fd, size): (i32, i64)| {
        Box::new(async move {
            let (mut memory, host) = parts(&mut caller)?;
            if size.cast_unsigned() > host.quota.limit() {
                return Ok(ERRNO_NOSPC);
            }
            let errno = abi::fd_filestat_set_size(&mut host.wasi, &mut memory, fd, size).await?;
            host.quota.measure()?;
            Ok(errno)
        })
    })?;
    linker.func_wrap_async(
        WASI,
        "path_open",
        |mut caller,
         (dir, lookup, path, length, oflags, rights, inheriting, fdflags, fd): (
            i32,
            i32,
            i32,
            i32,
            i32,
            i64,
            i64,
            i32,
            i32,
        )| {
            Box::new(async move {
                let (mut memory, host) = parts(&mut caller)?;
                if oflags & OFLAG_CREAT != 0 && !host.quota.take_entry()? {
                    return Ok(ERRNO_NOSPC);
                }
                let wasi: &mut WasiP1Ctx = &mut host.wasi;
                abi::path_open(
                    wasi,
                    &mut memory,
                    dir,
                    lookup,
                    path,
                    length,
                    oflags,
                    rights,
                    inheriting,
                    fdflags,
                    fd,
                )
                .await
            })
        },
    )?;
    linker.func_wrap_async(
        WASI,
        "path_create_directory",
        |mut caller, (dir, path, length): (i32, i32, i32)| {
            Box::new(async move {
                let (mut memory, host) = parts(&mut caller)?;
                if !host.quota.take_entry()? {
                    return Ok(ERRNO_NOSPC);
                }
                abi::path_create_directory(&mut host.wasi, &mut memory, dir, path, length).await
            })
        },
    )?;
    linker.func_wrap(WASI, "path_symlink", |_: i32, _: i32, _: i32, _: i32, _: i32| {
        ERRNO_PERM
    })?;
    linker.func_wrap(
        WASI,
        "path_link",
        |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32| ERRNO_PERM,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_may_be_written_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut quota = Quota::new(dir.path(), 100);
        let file = dir.path().join("a");
        assert!(quota.take(60).expect("take"));
        fs::write(&file, [0; 60]).expect("write");
        assert!(!quota.take(60).expect("take"));
        fs::remove_file(&file).expect("remove");
        assert!(quota.take(60).expect("take"));
    }

    #[test]
    fn usage_counts_files_at_any_depth_and_follows_no_link() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("d")).expect("mkdir");
        fs::write(dir.path().join("d/a"), [0; 7]).expect("write");
        fs::write(dir.path().join("b"), [0; 5]).expect("write");
        std::os::unix::fs::symlink("/", dir.path().join("root")).expect("link");
        let (bytes, entries) = usage(dir.path()).expect("usage");
        assert_eq!(
            (bytes, entries),
            (7 + 5 + 1, 4),
            "a link counts as long as its target's name"
        );
    }
}
