//! Settings files as an operator edits them: comments, order and unknown keys stay where they are.

use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use toml_edit::{DocumentMut, Item, Table, Value};

use crate::files;

/// A settings file that is being edited.
pub struct SettingsFile {
    document: DocumentMut,
}

impl SettingsFile {
    /// Parses a file's text. Error: it is not TOML; says where.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self {
            document: text.parse()?,
        })
    }

    /// Reads a file. Error: names it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// The value or section at a dotted key.
    pub fn get(&self, key: &str) -> Option<&Item> {
        key.split('.')
            .try_fold(self.document.as_item(), |item, part| item.get(part))
    }

    /// Puts a value at a dotted key, making sections as needed. A comment behind the value stays.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> Result<()> {
        let mut parts: Vec<&str> = key.split('.').collect();
        let last = parts
            .pop()
            .filter(|part| !part.is_empty())
            .context("the key is empty")?;
        let mut table: &mut Table = self.document.as_table_mut();
        for part in parts {
            let item = table.entry(part).or_insert_with(|| Item::Table(Table::new()));
            let Some(inner) = item.as_table_mut() else {
                bail!("{key}: {part} is a value, not a section");
            };
            table = inner;
        }
        let mut value = value.into();
        match table.get_mut(last) {
            Some(Item::Value(there)) => {
                *value.decor_mut() = there.decor().clone();
                *there = value;
            }
            Some(Item::Table(_) | Item::ArrayOfTables(_)) => bail!("{key} is a section, not a value"),
            _ => {
                table.insert(last, Item::Value(value));
            }
        }
        Ok(())
    }

    /// Puts a value given as text at a key that exists, with the type that the key has.
    pub fn set_text(&mut self, key: &str, text: &str) -> Result<()> {
        let there = self
            .get(key)
            .with_context(|| format!("there is no key {key}; `tenured config view` shows those that are there"))?;
        let value: Value = match there.as_value() {
            Some(Value::String(_)) => text.into(),
            Some(Value::Datetime(_)) | None => bail!("{key} is a section, not a value"),
            Some(old) => {
                let new: Value = text.parse().map_err(|_| {
                    anyhow::anyhow!(
                        "{key} is {text:?}, must be {}, as {} is",
                        article(old),
                        old.to_string().trim()
                    )
                })?;
                ensure!(
                    new.type_name() == old.type_name() || (old.is_float() && new.is_integer()),
                    "{key} is {text:?}, must be {}",
                    article(old)
                );
                new
            }
        };
        self.set(key, value)
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::replace(path, self.to_string().as_bytes())
    }
}

impl std::fmt::Display for SettingsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.document.fmt(f)
    }
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "an integer",
        Value::Boolean(_) => "true or false",
        Value::Float(_) => "a number",
        Value::Array(_) => "a list like [\"a\", \"b\"]",
        _ => "a table",
    }
}

/// Changes a file in one step. Error: names it.
pub fn edit(path: &Path, change: impl FnOnce(&mut SettingsFile) -> Result<()>) -> Result<()> {
    let mut file = SettingsFile::read(path)?;
    change(&mut file).with_context(|| path.display().to_string())?;
    file.write(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# top\na = 1 # one\n\n[s]\n# inner\nb = \"x\"\nc = true\nd = []\n";

    #[test]
    fn comments_and_order_survive_an_edit() -> Result<()> {
        let mut file = SettingsFile::parse(TEXT)?;
        file.set_text("a", "22")?;
        file.set_text("s.b", "y z")?;
        file.set_text("s.d", "[\"*\"]")?;
        file.set("t.e", "new")?;
        assert_eq!(
            file.to_string(),
            "# top\na = 22 # one\n\n[s]\n# inner\nb = \"y z\"\nc = true\nd = [\"*\"]\n\n[t]\ne = \"new\"\n"
        );
        Ok(())
    }

    #[test]
    fn a_value_keeps_its_type_and_a_key_must_exist() -> Result<()> {
        let mut file = SettingsFile::parse(TEXT)?;
        for (key, text, word) in [
            ("a", "x", "an integer"),
            ("a", "true", "an integer"),
            ("s.c", "1", "true or false"),
            ("s", "1", "a section"),
            ("s.nothing", "1", "no key s.nothing"),
            ("", "1", "no key"),
            ("a.b", "1", "no key"),
        ] {
            let error = file.set_text(key, text).expect_err(key).to_string();
            assert!(error.contains(word), "{key}: {error}");
        }
        assert_eq!(file.to_string(), TEXT);
        Ok(())
    }
}
