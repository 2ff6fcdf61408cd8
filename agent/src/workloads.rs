//! The workloads of this machine: what was handed over, what runs, what ended.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc,
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tenure_client::auth::wall_ms;
use tenure_proto::tenure::market::v1::Manifest;
use tenure_types::Resources;
use tokio::sync::Notify;

use crate::{
    attest::Service,
    disk::{Ended, Home, LeaseRecord, Output, Phase},
    runtime::{log::Log, Handle, Outcome, Program, Runtime, Spec, EXIT_KILLED},
};

/// All workloads. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Workloads(Arc<Inner>);

struct Inner {
    home: Home,
    runtime: Arc<dyn Runtime>,
    max_log_bytes: u64,
    entries: Mutex<BTreeMap<u64, Entry>>,
    live_ms: AtomicU64,
    /// When `live_ms` was last seen to move.
    observed: Mutex<Instant>,
    stopping: AtomicBool,
    changed: Notify,
}

struct Entry {
    record: LeaseRecord,
    manifest: Manifest,
    log: Arc<Log>,
    handle: Option<Handle>,
    service: Option<Service>,
    // A run begun anew counts from the first block seen after it began.
    awaits_block: bool,
    hashes: Hashes,
}

/// What others may see of a workload.
#[derive(Debug, Clone)]
pub struct View {
    /// Its record.
    pub record: LeaseRecord,
    /// Its manifest.
    pub manifest: Manifest,
    /// Whether its program runs in this process.
    pub running: bool,
    /// When it ran.
    pub service: Option<Service>,
    /// Bytes of log.
    pub log_bytes: u64,
}

impl Workloads {
    /// Everything on disk. What ran when the agent stopped stays down until [`Workloads::restart`].
    pub fn open(home: Home, runtime: Arc<dyn Runtime>, max_log_bytes: u64) -> Result<Self> {
        home.clear_incoming()?;
        let mut entries = BTreeMap::new();
        for found in home.scan()? {
            let log = Log::open(&home.lease(found.record.lease_id).join("log"), max_log_bytes)?;
            let mut entry = Entry::new(found.record, found.manifest, log);
            // A run that had ended is known; one that was cut off by the agent's end is not, and counts for nothing that is not signed yet.
            if let Phase::Ended(Ended {
                ran_from_ms: Some(from_ms),
                live_ms,
                ..
            }) = entry.record.phase
            {
                entry.service = Some(Service {
                    from_ms,
                    to_ms: live_ms,
                    ended_ms: Some(live_ms),
                });
            }
            entries.insert(entry.record.lease_id, entry);
        }
        Ok(Self(Arc::new(Inner {
            home,
            runtime,
            max_log_bytes,
            entries: Mutex::new(entries),
            live_ms: AtomicU64::new(0),
            observed: Mutex::new(Instant::now()),
            stopping: AtomicBool::new(false),
            changed: Notify::new(),
        })))
    }

    /// The directory they live in.
    pub fn home(&self) -> &Home {
        &self.0.home
    }

    /// The engine.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.0.runtime
    }

    /// Resolves when a workload was accepted or has ended.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// One workload.
    pub fn view(&self, id: u64) -> Option<View> {
        self.0.entries.lock().get(&id).map(Entry::view)
    }

    /// All workloads in order of lease.
    pub fn views(&self) -> Vec<View> {
        self.0.entries.lock().values().map(Entry::view).collect()
    }

    /// A workload's log.
    pub fn log(&self, id: u64) -> Option<Arc<Log>> {
        self.0.entries.lock().get(&id).map(|entry| entry.log.clone())
    }

    /// Takes note of a block: whatever runs now has run until then.
    pub fn observe(&self, live_ms: u64) {
        let before = self.0.live_ms.fetch_max(live_ms, Ordering::Relaxed);
        if live_ms <= before {
            return;
        }
        *self.0.observed.lock() = Instant::now();
        for entry in self.0.entries.lock().values_mut() {
            let running = entry.handle.as_ref().is_some_and(|handle| handle.outcome().is_none());
            if !running || entry.record.phase != Phase::Running {
                continue;
            }
            if std::mem::take(&mut entry.awaits_block) {
                entry.service = Some(Service {
                    from_ms: live_ms,
                    to_ms: live_ms,
                    ended_ms: None,
                });
            }
            if let Some(service) = &mut entry.service {
                service.to_ms = live_ms;
            }
        }
    }

    /// Takes a complete hand-over in and starts it.
    pub fn accept(
        &self,
        incoming: &Path,
        record: LeaseRecord,
        manifest: Manifest,
        program: &dyn Program,
    ) -> Result<()> {
        let id = record.lease_id;
        self.0.home.accept(incoming, &record, &manifest)?;
        let log = Log::open(&self.0.home.lease(id).join("log"), self.0.max_log_bytes)?;
        let mut entry = Entry::new(record, manifest, log);
        let live_ms = self.0.live_ms.load(Ordering::Relaxed);
        entry.service = Some(Service {
            from_ms: live_ms,
            to_ms: live_ms,
            ended_ms: None,
        });
        self.start(entry, program)
    }

    /// Starts a workload again that ran when the agent stopped, from the beginning. Nothing happens if it runs or has ended.
    pub fn restart(&self, id: u64) -> Result<()> {
        let Some(view) = self.view(id) else { return Ok(()) };
        if view.running || view.record.phase != Phase::Running {
            return Ok(());
        }
        let dir = self.0.home.lease(id);
        let out = dir.join("out");
        fs::remove_dir_all(&out).with_context(|| out.display().to_string())?;
        fs::create_dir(&out).with_context(|| out.display().to_string())?;
        let log = Log::open(&dir.join("log"), self.0.max_log_bytes)?;
        log.append(b"[tenure] the provider's agent was restarted; the program begins anew\n")?;
        let mut entry = Entry::new(view.record, view.manifest, log);
        entry.awaits_block = true;
        let module = fs::read(dir.join("module.wasm")).context("module.wasm")?;
        match self.0.runtime.prepare(&module) {
            Ok(program) => self.start(entry, &*program),
            Err(refused) => {
                self.0.entries.lock().insert(id, entry);
                self.finish(id, &Outcome::Trapped(refused.to_string()), Duration::ZERO)
            }
        }
    }

    fn start(&self, mut entry: Entry, program: &dyn Program) -> Result<()> {
        let id = entry.record.lease_id;
        let dir = self.0.home.lease(id);
        let manifest = &entry.manifest;
        let resources = manifest.resources.unwrap_or_default();
        let inputs: u64 = manifest
            .inputs
            .iter()
            .map(|input| input.size)
            .fold(0, u64::saturating_add);
        let started = program.start(Spec {
            name: manifest.module.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
            args: manifest.args.clone(),
            in_dir: dir.join("in"),
            out_dir: dir.join("out"),
            log: entry.log.clone(),
            resources: Resources {
                cpu_milli: resources.cpu_milli,
                memory_bytes: resources.memory_bytes,
                // The inputs lie on the same rented disk.
                storage_bytes: resources.storage_bytes.saturating_sub(inputs),
            },
        });
        let handle = match started {
            Ok(handle) => handle,
            Err(error) => {
                // Known, but not running: the loop begins it anew.
                self.0.entries.lock().insert(id, entry);
                return Err(error).context("a thread for the workload");
            }
        };
        entry.handle = Some(handle.clone());
        self.0.entries.lock().insert(id, entry);
        self.0.changed.notify_one();
        tracing::info!(lease = id, "workload started");
        let this = self.clone();
        tokio::spawn(async move {
            let outcome = handle.wait().await;
            let since_block = this.0.observed.lock().elapsed();
            let done = tokio::task::spawn_blocking(move || this.finish(id, &outcome, since_block)).await;
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(lease = id, "the end of the workload could not be recorded: {error:#}")
                }
                // The process ends, and with it the task: the record says that it runs, and the next start begins it anew.
                Err(error) if error.is_cancelled() => {}
                Err(error) => tracing::error!(lease = id, "the end of the workload was not recorded: {error}"),
            }
        });
        Ok(())
    }

    /// Records that a workload cannot be run any more, for a reason that is the provider's.
    pub fn give_up(&self, id: u64, why: String) -> Result<()> {
        self.finish(id, &Outcome::Killed(why), Duration::ZERO)
    }

    /// Records the end of a run: hashes the outputs first, then writes the record. The run ended `since_block` after the last block that was
    /// seen. Stopping with the agent is no end.
    fn finish(&self, id: u64, outcome: &Outcome, since_block: Duration) -> Result<()> {
        if self.0.stopping.load(Ordering::SeqCst) {
            return Ok(());
        }
        let Some(manifest) = self.0.entries.lock().get(&id).map(|entry| entry.manifest.clone()) else {
            return Ok(());
        };
        let (outputs, missing) = collect(&self.0.home.lease(id).join("out"), &manifest.outputs)?;
        let mut detail = outcome.detail();
        if !missing.is_empty() {
            detail = format!("{detail}; missing outputs: {}", missing.join(", "));
        }
        let mut entries = self.0.entries.lock();
        let Some(entry) = entries.get_mut(&id) else {
            return Ok(());
        };
        // It ran on after the block that was seen last: an epoch that began in between is its own too. Live time is at most the machine's,
        // so during a halt this is later than the truth by what one block may add.
        let (ran_from_ms, live_ms) = match &mut entry.service {
            Some(service) => {
                let ended_ms = service
                    .to_ms
                    .saturating_add(u64::try_from(since_block.as_millis()).unwrap_or(u64::MAX));
                service.ended_ms = Some(ended_ms);
                (Some(service.from_ms), ended_ms)
            }
            None => (None, self.0.live_ms.load(Ordering::Relaxed)),
        };
        let ended = Ended {
            exit_code: outcome.exit_code(),
            by_itself: !matches!(outcome, Outcome::Killed(_)),
            detail,
            live_ms,
            ran_from_ms,
            outputs,
        };
        tracing::info!(
            lease = id,
            exit_code = ended.exit_code,
            detail = ended.detail,
            "workload ended"
        );
        entry.record.phase = Phase::Ended(ended);
        entry.handle = None;
        let record = entry.record.clone();
        drop(entries);
        self.0.home.save(&record)?;
        self.0.changed.notify_one();
        Ok(())
    }

    /// Ends a workload because its lease did.
    pub fn kill(&self, id: u64, why: &str) {
        if let Some(handle) = self.0.entries.lock().get(&id).and_then(|entry| entry.handle.clone()) {
            handle.kill(why);
        }
    }

    /// Makes a workload stand still while its lease is paused, or go on.
    pub fn suspend(&self, id: u64, suspend: bool) {
        if let Some(handle) = self.0.entries.lock().get(&id).and_then(|entry| entry.handle.clone()) {
            handle.suspend(suspend);
        }
    }

    /// Takes note that the chain closed the lease. What still runs is ended; what had not begun again never will.
    pub fn retire(&self, id: u64, why: &str) -> Result<()> {
        self.kill(id, why);
        let mut entries = self.0.entries.lock();
        let Some(entry) = entries.get_mut(&id) else {
            return Ok(());
        };
        if entry.handle.is_none() && entry.record.phase == Phase::Running {
            entry.record.phase = Phase::Ended(Ended {
                exit_code: EXIT_KILLED,
                by_itself: false,
                detail: why.to_owned(),
                live_ms: self.0.live_ms.load(Ordering::Relaxed),
                ran_from_ms: None,
                outputs: Vec::new(),
            });
        }
        if entry.record.retired_ms.is_none() {
            entry.record.retired_ms = Some(wall_ms());
        }
        let record = entry.record.clone();
        drop(entries);
        self.0.home.save(&record)
    }

    /// Deletes what was retired at least this long ago, milliseconds of wall clock, and runs no more.
    pub fn forget_retired(&self, retention_ms: u64) -> Result<()> {
        let now = wall_ms();
        let old: Vec<u64> = {
            let entries = self.0.entries.lock();
            let is_old = |e: &Entry| {
                e.record
                    .retired_ms
                    .is_some_and(|at| now.saturating_sub(at) >= retention_ms)
            };
            entries
                .values()
                .filter(|e| e.handle.is_none() && is_old(e))
                .map(|e| e.record.lease_id)
                .collect()
        };
        for id in old {
            self.0.entries.lock().remove(&id);
            self.0.home.remove(id)?;
            tracing::info!(lease = id, "deleted after its retention");
        }
        Ok(())
    }

    /// Ends every run because the agent stops. Their records say that they run, so that the next start begins them anew.
    pub async fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        let handles: Vec<Handle> = self
            .0
            .entries
            .lock()
            .values()
            .filter_map(|entry| entry.handle.clone())
            .collect();
        for handle in &handles {
            handle.kill("the agent stops");
        }
        for handle in handles {
            let _ = tokio::time::timeout(Duration::from_secs(5), handle.wait()).await;
        }
    }

    /// SHA-256 over what a workload has written so far: the log's hash, then for each file under `/out` in order of name its length-prefixed
    /// name, its length and its hash. Files that did not change since the last time are not read again.
    pub fn output_head(&self, id: u64) -> Result<Vec<u8>> {
        let dir = self.0.home.lease(id);
        let mut hashes = match self.0.entries.lock().get_mut(&id) {
            Some(entry) => std::mem::take(&mut entry.hashes),
            None => Hashes::default(),
        };
        let mut hasher = Sha256::new();
        hasher.update(hashes.of(&dir.join("log"))?);
        let mut names: Vec<PathBuf> = fs::read_dir(dir.join("out"))?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        names.sort();
        for path in names
            .iter()
            .filter(|path| path.symlink_metadata().is_ok_and(|meta| meta.is_file()))
        {
            let name = path
                .file_name()
                .map(std::os::unix::ffi::OsStrExt::as_bytes)
                .unwrap_or_default();
            // A file that the program just removed is not part of what it has written.
            let Ok(hash) = hashes.of(path) else { continue };
            hasher.update((name.len() as u64).to_be_bytes());
            hasher.update(name);
            hasher.update(hash);
        }
        if let Some(entry) = self.0.entries.lock().get_mut(&id) {
            entry.hashes = hashes;
        }
        Ok(hasher.finalize().to_vec())
    }
}

impl Entry {
    fn new(record: LeaseRecord, manifest: Manifest, log: Log) -> Self {
        let log = Arc::new(log);
        Self {
            record,
            manifest,
            log,
            handle: None,
            service: None,
            awaits_block: false,
            hashes: Hashes::default(),
        }
    }

    fn view(&self) -> View {
        View {
            record: self.record.clone(),
            manifest: self.manifest.clone(),
            running: self.handle.is_some(),
            service: self.service,
            log_bytes: self.log.length(),
        }
    }
}

/// Hashes of files by path, each with the length and time of change it holds for.
#[derive(Debug, Default)]
struct Hashes(BTreeMap<PathBuf, (u64, Option<SystemTime>, [u8; 32])>);

impl Hashes {
    fn of(&mut self, path: &Path) -> std::io::Result<[u8; 32]> {
        let meta = path.symlink_metadata()?;
        let (length, changed) = (meta.len(), meta.modified().ok());
        if let Some((l, c, hash)) = self.0.get(path) {
            if *l == length && *c == changed && changed.is_some() {
                return Ok(*hash);
            }
        }
        let (_, hash) = hash_file(path)?;
        self.0.insert(path.to_owned(), (length, changed, hash));
        Ok(hash)
    }
}

/// Length and SHA-256 of a regular file; a link is not followed.
pub(crate) fn hash_file(path: &Path) -> std::io::Result<(u64, [u8; 32])> {
    let mut file = open_regular(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((length, hasher.finalize().into()));
        }
        length += read as u64;
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

/// Opens a regular file for reading, links not followed: its directory was a stranger's to write.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<fs::File> {
    use rustix::fs::{open, Mode, OFlags};
    let file = fs::File::from(open(
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::InvalidInput,
        "not a regular file",
    ))
}

/// The outputs that are there, in order of name, and the names of those that are not.
fn collect(out: &Path, names: &[String]) -> Result<(Vec<Output>, Vec<String>)> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    let (mut outputs, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match hash_file(&out.join(&name)) {
            Ok((size, hash)) => outputs.push(Output {
                name,
                size,
                sha256: hex::encode(hash),
            }),
            Err(error) => {
                tracing::debug!(output = name, %error, "no output");
                missing.push(name);
            }
        }
    }
    Ok((outputs, missing))
}
