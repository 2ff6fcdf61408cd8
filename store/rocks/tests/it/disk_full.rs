//! A disk without space: an error, not a wrong answer, and after space is freed the last acknowledged block is there.

use std::path::Path;
use std::process::Command;

use crate::chain::{commit_next, contents, open, Committer, Reference};

fn fills_up(path: &Path, shell: Option<&str>, expected: &str, free: impl FnOnce()) {
    let (acknowledged, failure) = Committer::start(path, shell).wait_for_failure();
    println!("full after block {acknowledged}: {failure}");
    assert!(acknowledged > 0);
    assert!(
        failure.contains(expected) && failure.contains("no committed block is lost"),
        "{failure}"
    );
    assert!(
        failure.contains("the store is stopped because a write failed"),
        "{failure}"
    );
    free();
    let mut reference = Reference::new();
    let store = open(path).unwrap();
    let latest = store.latest();
    assert!(latest.height() >= acknowledged);
    reference.check(&latest);
    let mut state = contents(&latest);
    for _ in 0..20 {
        reference.check(&commit_next(&store, &mut state).unwrap());
    }
}

#[test]
fn a_file_size_limit_stops_the_store_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    // 64 KiB a file, less than a memtable's log; the signal is ignored, so the write returns an error.
    fills_up(
        directory.path(),
        Some("trap '' XFSZ; ulimit -f 128"),
        "File too large",
        || {},
    );
}

struct Mount(tempfile::TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_the_store_with_its_reason() {
    let mount = Mount(tempfile::tempdir().unwrap());
    let path = mount.0.path();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
        .arg(path)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    }
    // The ballast is what the operator deletes.
    std::fs::write(path.join("ballast"), vec![0; 5 << 19]).unwrap();
    fills_up(&path.join("state"), None, "No space left on device", || {
        std::fs::remove_file(path.join("ballast")).unwrap();
        let grown = Command::new("mount")
            .args(["-o", "remount,size=32m"])
            .arg(path)
            .status()
            .unwrap();
        assert!(grown.success());
    });
}
