//! The log: append-only files of entries, each with its checksum.
//!
//! ```text
//! <dir>/0000000001.log        "TNAR" version u8 = 1, then entries:
//!   len u32 │ kind u8 │ height u64 │ crc32 u32 of kind, height, payload │ payload
//! ```
//!
//! All numbers are little-endian. Kind 1 is a record, its payload the module `record`'s; kind 2 withdraws every earlier record above
//! `height`. An entry is written with one call and no sync: it survives the death of the process, not of the machine. What a scan cannot
//! verify it leaves where it is and goes on with the next file: nothing is ever overwritten, and a damaged tail costs only itself.

use crate::error::ArchiveError;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 5] = *b"TNAR\x01";
const HEADER: usize = 4 + 1 + 8 + 4;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The record of a height.
    Record,
    /// Records above the height are withdrawn.
    Withdraw,
}

/// Where an entry begins, and how long its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Location {
    pub segment: u32,
    pub offset: u64,
    pub len: u32,
}

impl Location {
    /// Where the next entry begins.
    pub(crate) fn end(&self) -> (u32, u64) {
        let size = u64::from(self.len).saturating_add(HEADER as u64);
        (self.segment, self.offset.saturating_add(size))
    }
}

/// An entry without its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub height: u64,
    pub at: Location,
}

/// The writing end.
pub(crate) struct Log {
    dir: PathBuf,
    segment: u32,
    file: File,
    offset: u64,
    limit: u64,
    /// Files with entries that were never synced, oldest first.
    unsynced: Vec<u32>,
}

fn store(path: &Path) -> impl FnOnce(std::io::Error) -> ArchiveError + '_ {
    move |e| ArchiveError::Store {
        path: path.to_path_buf(),
        reason: e.to_string(),
    }
}

pub(crate) fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:010}.log"))
}

/// The segments of a directory, in order.
pub(crate) fn segments(dir: &Path) -> Result<Vec<u32>, ArchiveError> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(store(dir))? {
        let name = entry.map_err(store(dir))?.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_suffix(".log"))
            .filter(|n| n.len() == 10);
        out.extend(number.and_then(|n| n.parse::<u32>().ok()));
    }
    out.sort_unstable();
    Ok(out)
}

fn sync_dir(dir: &Path) -> Result<(), ArchiveError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(store(dir))
}

fn checksum(kind: u8, height: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(&height.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn header(kind: Kind, height: u64, payload: &[u8]) -> Option<[u8; HEADER]> {
    let kind = match kind {
        Kind::Record => 1u8,
        Kind::Withdraw => 2,
    };
    let mut out = [0u8; HEADER];
    let (len, rest) = out.split_at_mut(4);
    len.copy_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
    let (k, rest) = rest.split_at_mut(1);
    k.copy_from_slice(&[kind]);
    let (h, crc) = rest.split_at_mut(8);
    h.copy_from_slice(&height.to_le_bytes());
    crc.copy_from_slice(&checksum(kind, height, payload).to_le_bytes());
    Some(out)
}

/// An entry's header as read: length, kind, height, checksum.
fn parse(bytes: &[u8; HEADER]) -> (u32, u8, u64, u32) {
    let word = |at: usize| {
        let mut b = [0u8; 4];
        b.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(b)
    };
    let mut h = [0u8; 8];
    h.copy_from_slice(&bytes[5..13]);
    (word(0), bytes[4], u64::from_le_bytes(h), word(13))
}

impl Log {
    /// Opens the log for appending after `end`, the end of the last entry that a scan found valid. Starts a new file if there is none or
    /// if the last one holds something else behind it.
    pub(crate) fn open(dir: &Path, end: Option<(u32, u64)>, limit: u64) -> Result<Self, ArchiveError> {
        let last = segments(dir)?.last().copied();
        if let (Some(last), Some((segment, offset))) = (last, end) {
            let path = segment_path(dir, last);
            let len = std::fs::metadata(&path).map_err(store(&path))?.len();
            if last == segment && len == offset {
                let mut file = OpenOptions::new().append(true).open(&path).map_err(store(&path))?;
                file.seek(SeekFrom::End(0)).map_err(store(&path))?;
                return Ok(Self {
                    dir: dir.to_path_buf(),
                    segment,
                    file,
                    offset,
                    limit,
                    unsynced: vec![segment],
                });
            }
        }
        let segment = last.unwrap_or(0).checked_add(1).ok_or_else(|| ArchiveError::Store {
            path: dir.to_path_buf(),
            reason: "no segment number is left".into(),
        })?;
        let (file, offset) = Self::create(dir, segment)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            segment,
            file,
            offset,
            limit,
            unsynced: vec![segment],
        })
    }

    fn create(dir: &Path, segment: u32) -> Result<(File, u64), ArchiveError> {
        let path = segment_path(dir, segment);
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(store(&path))?;
        file.write_all(&MAGIC).map_err(store(&path))?;
        Ok((file, MAGIC.len() as u64))
    }

    /// Appends an entry; returns where it is. After an error the log must not be written again: its tail is unknown.
    pub(crate) fn append(&mut self, kind: Kind, height: u64, payload: &[u8]) -> Result<Location, ArchiveError> {
        if self.offset >= self.limit {
            let next = self.segment.checked_add(1).ok_or_else(|| ArchiveError::Store {
                path: self.dir.clone(),
                reason: "no segment number is left".into(),
            })?;
            (self.file, self.offset) = Self::create(&self.dir, next)?;
            self.segment = next;
            self.unsynced.push(next);
        }
        let header = header(kind, height, payload).ok_or_else(|| ArchiveError::Height {
            height: i64::try_from(height).unwrap_or(i64::MAX),
            reason: format!("its record has {} bytes, more than 4 GiB", payload.len()),
        })?;
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(payload);
        let path = segment_path(&self.dir, self.segment);
        self.file.write_all(&bytes).map_err(store(&path))?;
        let at = Location {
            segment: self.segment,
            offset: self.offset,
            len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        };
        self.offset = at.end().1;
        Ok(at)
    }

    /// The file in use.
    pub(crate) fn segment(&self) -> u32 {
        self.segment
    }

    /// Hands out the files that have unsynced entries, for syncing without holding up the writer.
    pub(crate) fn take_unsynced(&mut self) -> Vec<u32> {
        // The file in use gets more entries: it is always among them.
        std::mem::replace(&mut self.unsynced, vec![self.segment])
    }
}

/// Syncs files of the log and its directory.
pub(crate) fn sync(dir: &Path, segments: &[u32]) -> Result<(), ArchiveError> {
    for segment in segments {
        let path = segment_path(dir, *segment);
        match File::open(&path) {
            Ok(file) => file.sync_data().map_err(store(&path))?,
            // Pruned in the meantime.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(store(&path)(e)),
        }
    }
    sync_dir(dir)
}

/// Whether a segment is at least this long. What is behind an offset that it does not reach is lost.
pub(crate) fn reaches(dir: &Path, segment: u32, offset: u64) -> Result<bool, ArchiveError> {
    let path = segment_path(dir, segment);
    match std::fs::metadata(&path) {
        Ok(file) => Ok(file.len() >= offset),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(store(&path)(e)),
    }
}

/// Reads and verifies a record's payload. `None` if its file is gone: pruned.
pub(crate) fn read(dir: &Path, height: u64, at: Location) -> Result<Option<Vec<u8>>, ArchiveError> {
    let path = segment_path(dir, at.segment);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(store(&path)(e)),
    };
    let corrupt = |reason: &str| ArchiveError::Corrupt {
        path: path.clone(),
        offset: at.offset,
        reason: reason.to_owned(),
    };
    let len = usize::try_from(at.len).map_err(|_| corrupt("it does not fit into memory"))?;
    let mut bytes = vec![0u8; HEADER + len];
    file.read_exact_at(&mut bytes, at.offset)
        .map_err(|e| corrupt(&e.to_string()))?;
    let mut head = [0u8; HEADER];
    head.copy_from_slice(&bytes[..HEADER]);
    let (found, kind, of, crc) = parse(&head);
    let payload = bytes.split_off(HEADER);
    if found != at.len || of != height || crc != checksum(kind, of, &payload) {
        return Err(corrupt("its checksum does not match"));
    }
    Ok(Some(payload))
}

/// Calls `f` with every valid entry from `from` on, in order, without payloads. Returns the end of the last valid entry.
pub(crate) fn scan(
    dir: &Path,
    from: Option<(u32, u64)>,
    mut f: impl FnMut(Entry) -> Result<(), ArchiveError>,
) -> Result<Option<(u32, u64)>, ArchiveError> {
    let (first, first_offset) = from.unwrap_or((0, 0));
    let mut end = None;
    for segment in segments(dir)?.into_iter().filter(|s| *s >= first) {
        let offset = if segment == first {
            first_offset.max(MAGIC.len() as u64)
        } else {
            MAGIC.len() as u64
        };
        let (valid, size) = scan_segment(dir, segment, offset, &mut f)?;
        end = valid.map(|offset| (segment, offset));
        if valid != Some(size) {
            tracing::warn!(
                segment = %segment_path(dir, segment).display(),
                valid,
                size,
                "the archive has a torn tail; heights that were in it are made again or are said to be absent"
            );
        }
    }
    Ok(end)
}

/// Reads as much as there is, up to the buffer's length.
fn fill(file: &mut impl Read, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut at = 0;
    while at < buf.len() {
        match file.read(&mut buf[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

/// The end of the valid part (`None` if the file's own header is wrong) and the file's size.
fn scan_segment(
    dir: &Path,
    segment: u32,
    offset: u64,
    f: &mut impl FnMut(Entry) -> Result<(), ArchiveError>,
) -> Result<(Option<u64>, u64), ArchiveError> {
    let path = segment_path(dir, segment);
    let file = File::open(&path).map_err(store(&path))?;
    let size = file.metadata().map_err(store(&path))?.len();
    let mut magic = [0u8; MAGIC.len()];
    if file.read_exact_at(&mut magic, 0).is_err() || magic != MAGIC || offset > size {
        return Ok((None, size));
    }
    let mut file = BufReader::with_capacity(1 << 20, file);
    file.seek(SeekFrom::Start(offset)).map_err(store(&path))?;
    let mut at = offset;
    let mut payload = Vec::new();
    loop {
        let mut head = [0u8; HEADER];
        if fill(&mut file, &mut head).map_err(store(&path))? < HEADER {
            return Ok((Some(at), size));
        }
        let (len, kind, height, crc) = parse(&head);
        let location = Location {
            segment,
            offset: at,
            len,
        };
        // A length beyond the file is a torn or foreign header: no memory is taken for it.
        if location.end().1 > size {
            return Ok((Some(at), size));
        }
        payload.resize(usize::try_from(len).unwrap_or(0), 0);
        let read = fill(&mut file, &mut payload).map_err(store(&path))?;
        let kind_is = match kind {
            1 => Kind::Record,
            2 => Kind::Withdraw,
            _ => return Ok((Some(at), size)),
        };
        if read < payload.len() || crc != checksum(kind, height, &payload) {
            return Ok((Some(at), size));
        }
        f(Entry {
            kind: kind_is,
            height,
            at: location,
        })?;
        at = location.end().1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heights(dir: &Path, from: Option<(u32, u64)>) -> (Vec<u64>, Option<(u32, u64)>) {
        let mut out = Vec::new();
        let end = scan(dir, from, |e| {
            out.push(e.height);
            Ok(())
        });
        (out, end.unwrap())
    }

    #[test]
    fn entries_come_back_across_files_and_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut places = Vec::new();
        for round in 0..3u64 {
            let (_, end) = heights(dir.path(), None);
            let mut log = Log::open(dir.path(), end, 60).unwrap();
            for i in 0..4 {
                let height = round * 4 + i;
                places.push((height, log.append(Kind::Record, height, &[7; 20]).unwrap()));
            }
        }
        assert_eq!(heights(dir.path(), None).0, (0..12).collect::<Vec<_>>());
        assert!(segments(dir.path()).unwrap().len() > 3);
        for (height, at) in &places {
            assert_eq!(read(dir.path(), *height, *at).unwrap().unwrap(), [7; 20]);
            assert!(read(dir.path(), height + 1, *at).is_err(), "a record of another height");
        }
        assert_eq!(
            heights(dir.path(), Some(places[4].1.end())).0,
            (5..12).collect::<Vec<_>>()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_torn_or_damaged_tail_costs_only_itself(cut in 0usize..200, flip in any::<bool>()) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = Log::open(dir.path(), None, 1 << 20).unwrap();
            let mut ends = Vec::new();
            for height in 1..=5 {
                ends.push(log.append(Kind::Record, height, &[height as u8; 15]).unwrap().end().1);
            }
            drop(log);
            let path = segment_path(dir.path(), 1);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = cut.min(bytes.len() - 1);
            if flip { bytes[at] ^= 0x40 } else { bytes.truncate(at) }
            std::fs::write(&path, &bytes).unwrap();
            let (found, end) = heights(dir.path(), None);
            let whole = if at < MAGIC.len() { 0 } else { ends.iter().filter(|e| **e <= at as u64).count() as u64 };
            prop_assert_eq!(&found, &(1..=whole).collect::<Vec<_>>());
            // Appending goes on, and what was valid stays.
            let mut log = Log::open(dir.path(), end, 1 << 20).unwrap();
            log.append(Kind::Record, 99, b"new").unwrap();
            let mut expected: Vec<u64> = (1..=whole).collect();
            expected.push(99);
            prop_assert_eq!(heights(dir.path(), None).0, expected);
        }
    }
}
