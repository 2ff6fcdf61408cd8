//! What `tenured version --long` tells of this build: the commit, the compiler and the libraries. Works without git, in a worktree, in an unpacked
//! archive and offline; what cannot be found is left out.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=TENURED_COMMIT");
    // A packager without the repository says what it builds.
    let commit = env::var("TENURED_COMMIT")
        .ok()
        .filter(|c| !c.is_empty())
        .or_else(|| commit(&root));
    println!("cargo:rustc-env=TENURED_BUILD_COMMIT={}", commit.unwrap_or_default());
    let compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output();
    let compiler = compiler
        .ok()
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .unwrap_or_default();
    println!("cargo:rustc-env=TENURED_BUILD_COMPILER={}", compiler.trim());
    println!(
        "cargo:rustc-env=TENURED_BUILD_TARGET={}",
        env::var("TARGET").unwrap_or_default()
    );
    println!(
        "cargo:rustc-env=TENURED_BUILD_PROFILE={}",
        env::var("PROFILE").unwrap_or_default()
    );

    let libraries = root
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("Cargo.lock"))
        .find(|path| path.exists());
    let list = libraries.and_then(|path| {
        println!("cargo:rerun-if-changed={}", path.display());
        libraries_of(&fs::read_to_string(path).ok()?, "tenure-node")
    });
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("build_deps.txt");
    if let Err(error) = fs::write(&out, list.unwrap_or_default().join("\n")) {
        panic!("cannot write {}: {error}", out.display());
    }
}

/// The commit that HEAD is at, in a clone or in a worktree of one.
fn commit(start: &Path) -> Option<String> {
    let dot_git = start
        .ancestors()
        .map(|dir| dir.join(".git"))
        .find(|path| path.exists())?;
    let dir = if dot_git.is_dir() {
        dot_git
    } else {
        // A worktree: the file says where its directory is.
        let text = fs::read_to_string(&dot_git).ok()?;
        dot_git.parent()?.join(text.strip_prefix("gitdir:")?.trim())
    };
    let head_file = dir.join("HEAD");
    println!("cargo:rerun-if-changed={}", head_file.display());
    let head = fs::read_to_string(&head_file).ok()?;
    let Some(name) = head.strip_prefix("ref:").map(str::trim) else {
        return hash(&head);
    };
    // Branches are shared between worktrees.
    let common = fs::read_to_string(dir.join("commondir")).map_or_else(|_| dir.clone(), |text| dir.join(text.trim()));
    for file in [dir.join(name), common.join(name)] {
        if let Ok(text) = fs::read_to_string(&file) {
            println!("cargo:rerun-if-changed={}", file.display());
            return hash(&text);
        }
    }
    let packed = common.join("packed-refs");
    println!("cargo:rerun-if-changed={}", packed.display());
    let text = fs::read_to_string(packed).ok()?;
    text.lines()
        .find_map(|line| line.strip_suffix(name)?.strip_suffix(' '))
        .and_then(hash)
}

fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    (text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_owned())
}

/// `name version checksum` of everything that a package of a lock file needs, in order; `-` for a checksum that the lock file does not have.
fn libraries_of(lock: &str, package: &str) -> Option<Vec<String>> {
    let lock: toml::Table = lock.parse().ok()?;
    let mut by_name: BTreeMap<&str, Vec<&toml::Value>> = BTreeMap::new();
    for entry in lock.get("package")?.as_array()? {
        by_name.entry(entry.get("name")?.as_str()?).or_default().push(entry);
    }
    let mut found = BTreeMap::new();
    let mut open = vec![package.to_owned()];
    while let Some(wanted) = open.pop() {
        // "name", or "name version" where there are several.
        let mut words = wanted.split(' ');
        let (name, version) = (words.next()?, words.next());
        let all = by_name.get(name)?;
        let entry = all
            .iter()
            .find(|e| version.is_none_or(|v| e.get("version").and_then(|v| v.as_str()) == Some(v)))?;
        let version = entry.get("version")?.as_str()?;
        let sum = entry.get("checksum").and_then(|sum| sum.as_str()).unwrap_or("-");
        if found
            .insert((name.to_owned(), version.to_owned()), sum.to_owned())
            .is_some()
        {
            continue;
        }
        let needs = entry
            .get("dependencies")
            .and_then(|d| d.as_array())
            .into_iter()
            .flatten();
        open.extend(needs.filter_map(|d| d.as_str()).map(str::to_owned));
    }
    found.retain(|(name, _), _| !name.starts_with("tenure-"));
    let lines = found
        .into_iter()
        .map(|((name, version), sum)| format!("{name} {version} {sum}"));
    Some(lines.collect())
}
