//! Taking a hand-over in: files arrive in chunks into a directory of their own, which becomes the lease's when everything is there and right.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tenure_proto::tenure::{gateway::v1::SubmitChunk, market::v1::Manifest};
use tonic::Status;

use super::{internal, manifest::Expected};

/// Longest chunk, bytes.
pub(super) const MAX_CHUNK: usize = 1 << 20;

/// Files on their way in. Dropped before [`Upload::finish`], nothing remains.
pub(super) struct Upload {
    dir: PathBuf,
    expected: BTreeMap<[u8; 32], Expected>,
    received: BTreeMap<[u8; 32], Progress>,
    current: Option<([u8; 32], File)>,
    kept: bool,
}

struct Progress {
    bytes: u64,
    hasher: Sha256,
    complete: bool,
    // Bytes of further copies, which are read and dropped.
    repeated: u64,
}

impl Upload {
    pub(super) fn new(dir: PathBuf, expected: BTreeMap<[u8; 32], Expected>) -> Self {
        Self {
            dir,
            expected,
            received: BTreeMap::new(),
            current: None,
            kept: false,
        }
    }

    fn path(&self, hash: &[u8; 32]) -> PathBuf {
        self.dir.join("files").join(hex::encode(hash))
    }

    /// Takes one chunk. Blocks on the disk.
    pub(super) fn chunk(&mut self, chunk: &SubmitChunk) -> Result<(), Status> {
        let hash: [u8; 32] = chunk.sha256.as_slice().try_into().map_err(|_| {
            Status::invalid_argument(format!("chunk.sha256 has {} bytes, must have 32", chunk.sha256.len()))
        })?;
        if chunk.data.len() > MAX_CHUNK {
            return Err(Status::invalid_argument(format!(
                "chunk.data has {} bytes, limit {MAX_CHUNK}",
                chunk.data.len()
            )));
        }
        let name = hex::encode(hash);
        let Some(expected) = self.expected.get(&hash) else {
            return Err(Status::invalid_argument(format!(
                "chunk.sha256 {name} is no file of the manifest"
            )));
        };
        let length = chunk.data.len() as u64;
        let path = self.path(&hash);
        let progress = self.received.entry(hash).or_insert_with(|| Progress {
            bytes: 0,
            hasher: Sha256::new(),
            complete: false,
            repeated: 0,
        });
        if progress.complete {
            progress.repeated += length;
            let allowed = expected.size.saturating_mul(expected.copies - 1);
            if progress.repeated > allowed {
                return Err(Status::invalid_argument(format!(
                    "file {name} has more than its {} bytes",
                    expected.size
                )));
            }
            return Ok(());
        }
        if progress.bytes + length > expected.size {
            let sent = progress.bytes + length;
            return Err(Status::invalid_argument(format!(
                "file {name} has {sent} bytes or more, the manifest says {}",
                expected.size
            )));
        }
        if self.current.as_ref().is_none_or(|(current, _)| *current != hash) {
            if let Some((open, _)) = &self.current {
                return Err(Status::invalid_argument(format!(
                    "chunk of file {name} came before the end of file {}: a file's chunks must follow each other",
                    hex::encode(open)
                )));
            }
            let file = File::options()
                .create_new(true)
                .write(true)
                .open(&path)
                .map_err(internal("a file of the hand-over"))?;
            self.current = Some((hash, file));
        }
        let Some((_, file)) = &mut self.current else {
            return Err(Status::internal("no file is open"));
        };
        file.write_all(&chunk.data)
            .map_err(internal("a file of the hand-over"))?;
        progress.hasher.update(&chunk.data);
        progress.bytes += length;
        if progress.bytes < expected.size {
            return Ok(());
        }
        let found: [u8; 32] = std::mem::take(&mut progress.hasher).finalize().into();
        if found != hash {
            return Err(Status::invalid_argument(format!(
                "file {name} arrived with SHA-256 {}",
                hex::encode(found)
            )));
        }
        file.sync_all().map_err(internal("a file of the hand-over"))?;
        progress.complete = true;
        self.current = None;
        Ok(())
    }

    /// Everything is there: puts the files in their places. The directory is the caller's from then on if [`Upload::keep`] follows.
    pub(super) fn finish(&mut self, manifest: &Manifest) -> Result<(), Status> {
        for (hash, expected) in &self.expected {
            let bytes = self.received.get(hash).filter(|p| p.complete).map(|p| p.bytes);
            if bytes != Some(expected.size) {
                let bytes = self.received.get(hash).map_or(0, |p| p.bytes);
                let name = hex::encode(hash);
                return Err(Status::invalid_argument(format!(
                    "the hand-over ended before file {name} was complete: {bytes} of {} bytes",
                    expected.size
                )));
            }
        }
        let link = |hash: &[u8], target: PathBuf| {
            let source = self.dir.join("files").join(hex::encode(hash));
            fs::hard_link(source, target).map_err(internal("a file of the hand-over"))
        };
        if let Some(module) = &manifest.module {
            link(&module.sha256, self.dir.join("module.wasm"))?;
        }
        for input in &manifest.inputs {
            link(&input.sha256, self.dir.join("in").join(&input.name))?;
        }
        fs::remove_dir_all(self.dir.join("files")).map_err(internal("a file of the hand-over"))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves the directory where it is: it was moved to its place.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.kept {
            if let Err(error) = fs::remove_dir_all(&self.dir) {
                tracing::warn!(dir = %self.dir.display(), "an incomplete hand-over was not removed: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    fn upload(files: &[(&[u8], u64)]) -> (tempfile::TempDir, Upload) {
        let dir = tempfile::tempdir().expect("tempdir");
        let inner = dir.path().join("u");
        fs::create_dir_all(inner.join("files")).expect("mkdir");
        let expected = files
            .iter()
            .map(|(f, copies)| {
                (
                    sha(f),
                    Expected {
                        size: f.len() as u64,
                        copies: *copies,
                    },
                )
            })
            .collect();
        (dir, Upload::new(inner, expected))
    }

    fn piece(of: &[u8], data: &[u8]) -> SubmitChunk {
        SubmitChunk {
            sha256: sha(of).to_vec(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn chunks_of_one_file_follow_each_other_and_end_with_its_hash() {
        let (_dir, mut u) = upload(&[(b"hello", 1), (b"world", 1), (b"", 1)]);
        u.chunk(&piece(b"hello", b"hel")).expect("fine");
        let refused = |r: Result<(), Status>| r.expect_err("refused").message().to_owned();
        assert!(refused(u.chunk(&piece(b"world", b"w"))).contains("must follow each other"));
        assert!(refused(u.chunk(&piece(b"hello", b"loo"))).contains("6 bytes or more, the manifest says 5"));
        assert!(refused(u.chunk(&piece(b"other", b"x"))).contains("no file of the manifest"));
        u.chunk(&piece(b"hello", b"lo")).expect("fine");
        assert!(refused(u.chunk(&piece(b"hello", b"!"))).contains("more than its 5 bytes"));
        assert!(refused(u.finish(&Manifest::default())).contains("0 of"));
        u.chunk(&piece(b"", b"")).expect("an empty file is one empty chunk");
        assert!(refused(u.chunk(&piece(b"world", b"World"))).contains("arrived with SHA-256"));
    }

    #[test]
    fn a_file_may_come_once_for_each_of_its_names() {
        let (_dir, mut u) = upload(&[(b"hello", 2)]);
        for _ in 0..2 {
            u.chunk(&piece(b"hello", b"hello")).expect("fine");
        }
        assert!(u.chunk(&piece(b"hello", b"h")).is_err());
        u.finish(&Manifest::default()).expect("complete");
    }

    #[test]
    fn what_is_not_kept_is_removed() {
        let (_dir, mut u) = upload(&[(b"hello", 1)]);
        let path = u.dir().to_owned();
        u.chunk(&piece(b"hello", b"hel")).expect("fine");
        drop(u);
        assert!(!path.exists());
    }
}
