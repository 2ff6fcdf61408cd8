//! What can be said about a job before anything is sent: mistakes that no provider could run, and hints.

use tenure_types::{coin::display_base, BASE_DENOM};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, Validator};

use crate::{
    job::{Job, Problem},
    units::{cost, show_duration, show_rate, show_size},
    Error, Result,
};

/// The only module that a workload may import from.
pub const IMPORTS: &str = "wasi_snapshot_preview1";
/// Bytes in a page of WASM memory.
const PAGE: u64 = 65_536;

/// What a look at a job found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// No provider can run it so.
    pub errors: Vec<Problem>,
    /// It runs, and may not be what was meant.
    pub hints: Vec<Problem>,
}

/// Looks at a job and its module. Error: the module cannot be read.
pub fn lint(job: &Job) -> Result<Findings> {
    let mut findings = Findings::default();
    if let Some(module) = job.files.first() {
        let bytes = std::fs::read(&module.path).map_err(Error::file(&module.path))?;
        if let Err(problem) = module_findings(&bytes, job.resources().memory_bytes, &mut findings) {
            findings.errors.push(Problem {
                key: "module".to_owned(),
                detail: problem,
            });
        }
    }
    money_hints(job, &mut findings);
    if job.manifest.outputs.is_empty() {
        hint(
            &mut findings,
            "outputs",
            "none: what the workload writes under /out is not fetched; its log is all that comes back",
        );
    } else if job.resources().storage_bytes == 0 {
        hint(
            &mut findings,
            "storage",
            "0, and outputs are expected: a provider may give no room to write them",
        );
    }
    Ok(findings)
}

fn hint(findings: &mut Findings, key: &str, detail: impl Into<String>) {
    findings.hints.push(Problem {
        key: key.to_owned(),
        detail: detail.into(),
    });
}

fn money_hints(job: &Job, findings: &mut Findings) {
    let worst = cost(job.max_rate, job.duration_ms);
    let (deposit, most) = (job.deposit.amount.get(), job.most_deposited());
    let show = |units| {
        if job.deposit.denom == BASE_DENOM {
            display_base(units)
        } else {
            format!("{units} {}", job.deposit.denom)
        }
    };
    let topped_up = most.saturating_sub(deposit);
    if topped_up < job.auto_top_up {
        let detail = format!(
            "{} is not a whole number of deposits of {}: only {} of it is ever paid in",
            show(job.auto_top_up),
            show(job.top_up_part()),
            show(topped_up)
        );
        hint(findings, "auto_top_up", detail);
    }
    let duration = show_duration(job.duration_ms);
    let ceiling = show_rate(job.max_rate, &job.deposit.denom);
    if most < worst {
        let lasts = most.saturating_mul(u128::from(tenure_types::MS_PER_HOUR)) / u128::from(job.max_rate.max(1));
        let lasts = show_duration(u64::try_from(lasts).unwrap_or(u64::MAX));
        hint(
            findings,
            "deposit",
            format!(
                "{}{} lasts {lasts} at the ceiling of {ceiling}; the whole duration of {duration} may cost {}. When the money runs out the lease \
                 pauses, and closes if nobody tops it up",
                show(most),
                if topped_up > 0 { ", auto_top_up included," } else { "" },
                show(worst)
            ),
        );
    } else if deposit > worst.saturating_mul(10) {
        hint(
            findings,
            "deposit",
            format!(
                "{} is over ten times what {duration} at {ceiling} can cost ({}); the rest comes back, but is held until the lease closes",
                show(deposit),
                show(worst)
            ),
        );
    }
}

fn module_findings(bytes: &[u8], memory: u64, findings: &mut Findings) -> Result<(), String> {
    if !bytes.starts_with(b"\0asm") {
        return Err(
            "it is not a WASM binary (it does not begin with \\0asm); compile with --target=wasm32-wasip1".to_owned(),
        );
    }
    Validator::new()
        .validate_all(bytes)
        .map_err(|e| format!("it is not a valid WASM module: {e}"))?;
    let mut start = false;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|e| e.to_string())? {
            Payload::Version { encoding, .. } if encoding != wasmparser::Encoding::Module => {
                return Err("it is a WASM component; providers run core modules (wasm32-wasip1)".to_owned());
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|e| e.to_string())?;
                    if import.module != IMPORTS {
                        let (module, name) = (import.module, import.name);
                        return Err(format!("it imports {module}.{name}; providers offer {IMPORTS} only"));
                    }
                    if !matches!(import.ty, TypeRef::Func(_)) {
                        return Err(format!(
                            "it imports {}, which is no function; {IMPORTS} has functions only",
                            import.name
                        ));
                    }
                }
            }
            Payload::MemorySection(section) => {
                for entry in section {
                    let entry = entry.map_err(|e| e.to_string())?;
                    let least = entry.initial.saturating_mul(PAGE);
                    if least > memory {
                        let detail = format!("{}; the module needs {} to start", show_size(memory), show_size(least));
                        findings.errors.push(Problem {
                            key: "memory".to_owned(),
                            detail,
                        });
                    }
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(|e| e.to_string())?;
                    start |= export.name == "_start" && export.kind == ExternalKind::Func;
                }
            }
            _ => {}
        }
    }
    if !start {
        return Err("it exports no function _start: it is a library, not a command".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"\0asm\x01\0\0\0";

    fn section(id: u8, body: &[u8]) -> Vec<u8> {
        [&[id, body.len() as u8], body].concat()
    }

    fn module(sections: &[Vec<u8>]) -> Vec<u8> {
        [HEADER.to_vec(), sections.concat()].concat()
    }

    /// type () -> (), one function, `pages` of memory, exported under `name`.
    fn command(name: &str, pages: u8) -> Vec<u8> {
        let export = [&[1, name.len() as u8], name.as_bytes(), &[0, 0]].concat();
        module(&[
            section(1, &[1, 0x60, 0, 0]),
            section(3, &[1, 0]),
            section(5, &[1, 0, pages]),
            section(7, &export),
            section(10, &[1, 2, 0, 0x0b]),
        ])
    }

    fn verdict(bytes: &[u8]) -> (Result<(), String>, Findings) {
        let mut findings = Findings::default();
        (module_findings(bytes, 2 * PAGE, &mut findings), findings)
    }

    #[test]
    fn commands_pass_and_everything_else_is_refused_with_the_reason() {
        assert_eq!(verdict(&command("_start", 2)), (Ok(()), Findings::default()));
        let refused = |bytes: &[u8]| verdict(bytes).0.expect_err("refused");
        assert!(refused(b"\x7fELF").contains("not a WASM binary"));
        assert!(refused(&command("_start", 2)[..30]).contains("not a valid WASM module"));
        assert!(refused(&command("main", 2)).contains("_start"));
        let import = [&[1, 3], b"env".as_slice(), &[1], b"f", &[0, 0]].concat();
        assert!(refused(&module(&[section(1, &[1, 0x60, 0, 0]), section(2, &import)])).contains("env.f"));
        let (result, findings) = verdict(&command("_start", 3));
        assert_eq!(result, Ok(()));
        assert_eq!(findings.errors.len(), 1, "{findings:?}");
        assert!(findings.errors[0].detail.contains("192 KiB"), "{findings:?}");
    }
}
