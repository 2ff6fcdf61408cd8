//! Whether a manifest can be taken in: pure checks before the first byte of a file is accepted.

use std::collections::BTreeMap;

use tenure_client::{auth::manifest_hash, gateway::check_file_name};
use tenure_proto::tenure::market::v1::{InputFile, Lease, Manifest};

/// Most input files.
pub const MOST_INPUTS: usize = 256;
/// Most output files.
pub const MOST_OUTPUTS: usize = 256;
/// Most arguments.
pub const MOST_ARGS: usize = 256;
/// Longest arguments and program name together, bytes.
pub const MOST_ARG_BYTES: usize = 64 * 1024;

/// A file that the hand-over must bring, by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its length, bytes.
    pub size: u64,
    /// How many of the manifest's files have this content: it may be sent as often.
    pub copies: u64,
}

fn need(ok: bool, sentence: impl FnOnce() -> String) -> Result<(), String> {
    ok.then_some(()).ok_or_else(sentence)
}

/// Checks a manifest against its lease and this provider's limits and gives the files to expect. Error: a sentence that names field, value and
/// limit.
pub fn check(
    manifest: &Manifest,
    lease: &Lease,
    max_module_bytes: usize,
) -> Result<BTreeMap<[u8; 32], Expected>, String> {
    let hash = manifest_hash(manifest);
    need(hash.as_slice() == lease.manifest_hash, || {
        format!(
            "manifest: its SHA-256 is {}, lease {} has {}",
            hex::encode(hash),
            lease.id,
            hex::encode(&lease.manifest_hash)
        )
    })?;
    need(manifest.resources == lease.resources, || {
        format!(
            "manifest.resources: {:?}, lease {} has {:?}",
            manifest.resources, lease.id, lease.resources
        )
    })?;
    let Some(module) = &manifest.module else {
        return Err("manifest.module: missing".into());
    };
    need(module.size > 0 && module.size <= max_module_bytes as u64, || {
        format!(
            "manifest.module.size: {} bytes, must be from 1 to {max_module_bytes}",
            module.size
        )
    })?;
    need(manifest.inputs.len() <= MOST_INPUTS, || {
        format!("manifest.inputs: {} files, limit {MOST_INPUTS}", manifest.inputs.len())
    })?;
    need(manifest.outputs.len() <= MOST_OUTPUTS, || {
        format!(
            "manifest.outputs: {} files, limit {MOST_OUTPUTS}",
            manifest.outputs.len()
        )
    })?;
    let arg_bytes = manifest.args.iter().map(String::len).sum::<usize>() + module.name.len();
    need(manifest.args.len() <= MOST_ARGS && arg_bytes <= MOST_ARG_BYTES, || {
        format!(
            "manifest.args: {} arguments of {arg_bytes} bytes, limits {MOST_ARGS} and {MOST_ARG_BYTES} bytes",
            manifest.args.len()
        )
    })?;
    // WASI hands arguments over as C strings.
    need(!manifest.args.iter().any(|arg| arg.contains('\0')), || {
        "manifest.args: an argument holds a zero byte".into()
    })?;
    check_file_name(&module.name).map_err(|e| format!("manifest.module: {e}"))?;
    check_names("inputs", manifest.inputs.iter().map(|input| input.name.as_str()))?;
    check_names("outputs", manifest.outputs.iter().map(String::as_str))?;
    let storage = lease.resources.map_or(0, |r| r.storage_bytes);
    let total = manifest
        .inputs
        .iter()
        .try_fold(0_u64, |sum, input| sum.checked_add(input.size))
        .unwrap_or(u64::MAX);
    need(total <= storage, || {
        format!("manifest.inputs: {total} bytes together, the lease's storage is {storage}")
    })?;

    let mut expected = BTreeMap::new();
    add(&mut expected, "module", module)?;
    for input in &manifest.inputs {
        add(&mut expected, "inputs", input)?;
    }
    Ok(expected)
}

fn check_names<'a>(field: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        check_file_name(name).map_err(|e| format!("manifest.{field}: {e}"))?;
        need(seen.insert(name), || format!("manifest.{field}: {name:?} occurs twice"))?;
    }
    Ok(())
}

fn add(expected: &mut BTreeMap<[u8; 32], Expected>, field: &str, file: &InputFile) -> Result<(), String> {
    let hash: [u8; 32] = file.sha256.as_slice().try_into().map_err(|_| {
        format!(
            "manifest.{field}: the SHA-256 of {:?} has {} bytes, must have 32",
            file.name,
            file.sha256.len()
        )
    })?;
    let entry = expected.entry(hash).or_insert(Expected {
        size: file.size,
        copies: 0,
    });
    need(entry.size == file.size, || {
        format!(
            "manifest.{field}: {:?} has {} bytes and the hash of a file of {}",
            file.name, file.size, entry.size
        )
    })?;
    entry.copies += 1;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenure_proto::tenure::base::v1::Resources;

    fn file(name: &str, size: u64, byte: u8) -> InputFile {
        InputFile {
            name: name.into(),
            size,
            sha256: vec![byte; 32],
        }
    }

    fn manifest() -> Manifest {
        Manifest {
            name: "job".into(),
            module: Some(file("a.wasm", 10, 1)),
            args: vec!["x".into()],
            inputs: vec![file("a", 40, 2), file("b", 40, 2)],
            outputs: vec!["o".into()],
            resources: Some(Resources {
                cpu_milli: 1,
                memory_bytes: 1,
                storage_bytes: 100,
            }),
        }
    }

    fn judged(manifest: &Manifest) -> Result<BTreeMap<[u8; 32], Expected>, String> {
        let lease = Lease {
            id: 7,
            manifest_hash: manifest_hash(manifest).to_vec(),
            resources: Some(Resources {
                cpu_milli: 1,
                memory_bytes: 1,
                storage_bytes: 100,
            }),
            ..Default::default()
        };
        check(manifest, &lease, 1_000)
    }

    #[test]
    fn files_of_the_same_content_are_one_file() {
        let expected = judged(&manifest()).expect("fine");
        assert_eq!(expected.get(&[2; 32]), Some(&Expected { size: 40, copies: 2 }));
        assert_eq!(expected.get(&[1; 32]), Some(&Expected { size: 10, copies: 1 }));
    }

    #[test]
    fn every_refusal_names_its_field() {
        let refused = |change: &dyn Fn(&mut Manifest), field: &str| {
            let mut m = manifest();
            change(&mut m);
            let sentence = judged(&m).expect_err(field);
            assert!(sentence.contains(field), "{sentence}");
        };
        refused(&|m| m.module = None, "manifest.module");
        refused(&|m| m.module = Some(file("a", 1_001, 1)), "must be from 1 to 1000");
        refused(&|m| m.module = Some(file("a", 0, 1)), "must be from 1");
        refused(&|m| m.module = Some(file("../a", 1, 1)), "manifest.module");
        refused(&|m| m.inputs = vec![file("a", 101, 2)], "storage is 100");
        refused(
            &|m| m.inputs = vec![file("a", u64::MAX, 2), file("b", 2, 3)],
            "storage is 100",
        );
        refused(&|m| m.inputs = vec![file("a", 1, 2), file("a", 1, 3)], "occurs twice");
        refused(
            &|m| m.inputs = vec![file("a", 1, 2), file("b", 2, 2)],
            "hash of a file of 1",
        );
        refused(&|m| m.inputs = vec![file("..", 1, 2)], "manifest.inputs");
        refused(&|m| m.inputs = vec![file("a/b", 1, 2)], "manifest.inputs");
        refused(&|m| m.outputs = vec!["/etc/passwd".into()], "manifest.outputs");
        refused(&|m| m.inputs[0].sha256 = vec![1; 31], "must have 32");
        refused(&|m| m.args = vec![String::new(); 257], "manifest.args");
        refused(&|m| m.args = vec!["a\0b".into()], "zero byte");
        refused(&|m| m.resources = None, "manifest.resources");
        let mut other = manifest();
        other.name = "other".into();
        let lease = Lease {
            manifest_hash: manifest_hash(&manifest()).to_vec(),
            ..Default::default()
        };
        assert!(check(&other, &lease, 1_000).is_err_and(|e| e.contains("its SHA-256 is")));
    }
}
