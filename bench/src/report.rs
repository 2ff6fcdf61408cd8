//! Tables, what they were measured on, goals beside figures, and the page they are kept in.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{ensure, Context, Result};

/// One table of Markdown.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(heads: impl IntoIterator<Item = S>) -> Self {
        let heads: Vec<String> = heads.into_iter().map(Into::into).collect();
        let rule = vec!["---".to_owned(); heads.len()];
        Self {
            rows: vec![heads, rule],
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn text(&self) -> String {
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | ")).replace("| --- ", "|---");
        self.rows.iter().map(line).collect()
    }
}

/// A figure held against what was aimed at.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    what: String,
    measured: f64,
    bound: Bound,
}

/// Which side of a bound is good.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(crate) fn new(what: impl Into<String>, measured: f64, bound: Bound) -> Self {
        Self {
            what: what.into(),
            measured,
            bound,
        }
    }

    fn reached(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.measured >= bound,
            Bound::AtMost(bound) => self.measured <= bound,
        }
    }

    fn cells(&self) -> [String; 4] {
        let bound = match self.bound {
            Bound::AtLeast(bound) => format!("≥ {bound}"),
            Bound::AtMost(bound) => format!("≤ {bound}"),
        };
        let verdict = if self.reached() { "reached" } else { "**missed**" };
        [
            self.what.clone(),
            bound,
            format!("{:.2}", self.measured),
            verdict.to_owned(),
        ]
    }
}

/// What one part of the measurement has to say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// What was done, one sentence or several, without measured figures.
    pub(crate) method: String,
    pub(crate) tables: Vec<(String, Table)>,
    pub(crate) goals: Vec<Goal>,
    /// What was left out and what went wrong.
    pub(crate) remarks: Vec<String>,
}

impl Section {
    /// As it stands on the page.
    pub(crate) fn text(&self) -> Result<String> {
        let mut text = format!("*{}*\n\n{}\n", Machine::here()?.text(), self.method.trim());
        for (title, table) in &self.tables {
            text += &format!("\n{title}\n\n{}", table.text());
        }
        if !self.goals.is_empty() {
            let mut table = Table::new(["goal", "bound", "measured", ""]);
            self.goals.iter().for_each(|goal| table.row(goal.cells()));
            text += &format!("\n{}", table.text());
        }
        for remark in &self.remarks {
            text += &format!("\n{remark}\n");
        }
        Ok(text)
    }
}

/// What was measured on.
struct Machine {
    date: String,
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    compiler: String,
    revision: String,
    /// Processes that wanted a core, averaged over the last minute and the last fifteen.
    load: String,
}

impl Machine {
    fn here() -> Result<Self> {
        let read = |file: &str| fs::read_to_string(file).with_context(|| file.to_owned());
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':'))
                .map_or("unknown", |(_, value)| value.trim())
                .to_owned()
        };
        let memory = value(&read("/proc/meminfo")?, "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().context("MemTotal")?;
        let load = read("/proc/loadavg")?;
        let load: Vec<&str> = load.split_whitespace().collect();
        Ok(Self {
            date: said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
            cpu: value(&read("/proc/cpuinfo")?, "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            compiler: said("rustc", &["--version"])?,
            revision: said("git", &["describe", "--always", "--dirty"]).unwrap_or_else(|_| "unknown".to_owned()),
            load: format!("{} and {}", load.first().unwrap_or(&"?"), load.get(2).unwrap_or(&"?")),
        })
    }

    fn text(&self) -> String {
        format!(
            "{}, revision {}. {} cores ({}), {} GiB, Linux {}, {}, release profile. Load averages at the end over 1 and 15 minutes: {}.",
            self.date, self.revision, self.cores, self.cpu, self.memory_gib, self.kernel, self.compiler, self.load
        )
    }
}

/// The one line that a program prints.
fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().context(program.to_owned())?;
    ensure!(output.status.success(), "{program} failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A page with a place for each part: `<!-- bench:<part> -->` … `<!-- /bench:<part> -->`.
pub(crate) struct Page {
    path: PathBuf,
}

impl Page {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Puts a part's text in its place. Error: the page has no such place, and is left as it was.
    pub(crate) fn replace(&self, part: &str, text: &str) -> Result<()> {
        let shown = self.path.display();
        let page = fs::read_to_string(&self.path).with_context(|| shown.to_string())?;
        let page = replaced(&page, part, text).with_context(|| format!("{shown} has no place for {part}"))?;
        fs::write(&self.path, page).with_context(|| shown.to_string())
    }
}

fn replaced(page: &str, part: &str, text: &str) -> Option<String> {
    let (open, close) = (format!("<!-- bench:{part} -->\n"), format!("<!-- /bench:{part} -->"));
    let (before, rest) = page.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}{}\n{close}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_is_replaced() {
        let page = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n<!-- bench:y -->\n<!-- /bench:y -->\n";
        let expected = "a\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nb\n<!-- bench:y -->\n<!-- /bench:y -->\n";
        assert_eq!(replaced(page, "x", "new\n").as_deref(), Some(expected));
        assert_eq!(replaced(expected, "x", "new").as_deref(), Some(expected));
        assert_eq!(replaced(page, "z", "new"), None);
    }

    #[test]
    fn a_bound_is_reached_at_the_bound() {
        let reached = |measured, bound| Goal::new("x", measured, bound).reached();
        assert!(reached(2.0, Bound::AtLeast(2.0)) && reached(2.0, Bound::AtMost(2.0)));
        assert!(!reached(1.9, Bound::AtLeast(2.0)) && !reached(2.1, Bound::AtMost(2.0)));
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(["a", "b"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        assert_eq!(table.text(), "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }
}
