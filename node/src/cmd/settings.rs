//! `tenured config`: the settings files, under confix' verbs.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use serde_json::Value as Json;
use toml_edit::Item;

use super::out;
use crate::client_config::{ClientConfig, Output};
use crate::config::{AppConfig, CometConfig, Env, APP_TOML, CLIENT_TOML, CONFIG_TOML};
use crate::home::Home;
use crate::settings_file::SettingsFile;

/// A settings file.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum File {
    /// This node: config/app.toml
    App,
    /// Commands that speak to a node: config/client.toml
    Client,
    /// CometBFT: config/config.toml
    #[value(aliases = ["comet", "cometbft", "cmt"])]
    Config,
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print a value
    #[command(after_help = "Examples:\n  tenured config get app grpc.address\n  tenured config get client chain-id")]
    Get {
        /// app, client or config
        file: File,
        /// For example grpc.address
        key: String,
    },
    /// Change a value; comments stay, and what a start would refuse is refused here
    #[command(
        after_help = "Examples:\n  tenured config set app telemetry.enabled true\n  tenured config set config p2p.persistent_peers id@host:26656"
    )]
    Set {
        /// app, client or config
        file: File,
        /// For example grpc.address
        key: String,
        /// The value, without quotes
        value: String,
    },
    /// Print a file
    #[command(after_help = "Examples:\n  tenured config view app\n  tenured config view config -o json")]
    View {
        /// app, client or config
        file: File,
        /// What is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print what differs from a new home's file, and unknown keys
    #[command(after_help = "Example:\n  tenured config diff app")]
    Diff {
        /// app, client or config
        file: File,
    },
    /// Print the home's path
    Home,
}

impl File {
    fn path(self, home: &Home) -> PathBuf {
        home.config(match self {
            Self::App => "app.toml",
            Self::Client => "client.toml",
            Self::Config => "config.toml",
        })
    }

    /// What a new home has.
    fn template(self) -> Result<SettingsFile> {
        SettingsFile::parse(match self {
            Self::App => APP_TOML,
            Self::Client => CLIENT_TOML,
            Self::Config => CONFIG_TOML,
        })
    }

    /// Error: a start would refuse this text.
    fn check(self, text: &str) -> Result<()> {
        let env = Env::new();
        match self {
            Self::App => AppConfig::parse(text, &env).map(|_| ()),
            Self::Client => ClientConfig::parse(text, &env).map(|_| ()),
            Self::Config => CometConfig::parse(text, &env).map(|_| ()),
        }
    }
}

pub(super) fn run(home: &Home, command: ConfigCommand) -> Result<()> {
    if let ConfigCommand::Home = command {
        out(home.root().display());
        return Ok(());
    }
    home.require_initialised()?;
    match command {
        ConfigCommand::Home => Ok(()),
        ConfigCommand::Get { file, key } => {
            let (there, template) = (SettingsFile::read(&file.path(home))?, file.template()?);
            let item = there.get(&key).or_else(|| template.get(&key));
            let item = item.with_context(|| unknown(file, &key, home))?;
            match item.as_str() {
                Some(text) => out(text),
                None => out(item.to_string().trim()),
            }
            Ok(())
        }
        ConfigCommand::Set { file, key, value } => {
            let path = file.path(home);
            let mut there = SettingsFile::read(&path)?;
            if there.get(&key).is_none() {
                // Left out, so that it has its default: the template knows its type.
                let template = file.template()?;
                let default = template.get(&key).and_then(Item::as_value);
                let default = default.with_context(|| unknown(file, &key, home))?;
                there.set(&key, default.clone())?;
            }
            there.set_text(&key, &value)?;
            file.check(&there.to_string())
                .with_context(|| format!("{key} was not changed"))?;
            there.write(&path)?;
            eprintln!(
                "{key} = {} in {}; a running node takes it at its next start",
                value,
                path.display()
            );
            Ok(())
        }
        ConfigCommand::View { file, output } => {
            let text = SettingsFile::read(&file.path(home))?.to_string();
            match output {
                Output::Text => out(text.trim_end()),
                Output::Json => out(format!("{:#}", serde_json::to_value(text.parse::<toml::Table>()?)?)),
            }
            Ok(())
        }
        ConfigCommand::Diff { file } => diff(home, file),
    }
}

fn unknown(file: File, key: &str, home: &Home) -> String {
    format!(
        "there is no key {key} in {}; `tenured config view` shows those that are there",
        file.path(home).display()
    )
}

fn diff(home: &Home, file: File) -> Result<()> {
    let json = |settings: &SettingsFile| -> Result<Json> {
        Ok(serde_json::to_value(settings.to_string().parse::<toml::Table>()?)?)
    };
    let (there, template) = (json(&SettingsFile::read(&file.path(home))?)?, json(&file.template()?)?);
    let mut lines = Vec::new();
    compare("", &template, &there, &mut lines);
    if lines.is_empty() {
        eprintln!("{} is that of a new home", file.path(home).display());
    }
    lines.iter().for_each(out);
    Ok(())
}

/// `-` lines are a new home's values, `+` lines this one's. A key that is left out has its default and is not a difference.
fn compare(prefix: &str, template: &Json, there: &Json, lines: &mut Vec<String>) {
    for (key, value) in there.as_object().into_iter().flatten() {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        let default = template.get(key);
        // Filled in by `init`.
        let filled = default
            .and_then(Json::as_str)
            .is_some_and(|d| d.starts_with('{') && d.ends_with('}'));
        match default {
            Some(default) if default.is_object() && value.is_object() => compare(&name, default, value, lines),
            Some(default) if default == value || filled => {}
            default => {
                lines.extend(default.map(|default| format!("-{name} = {default}")));
                lines.push(format!("+{name} = {value}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_both_values() -> Result<()> {
        let json = |text: &str| -> Result<Json> { Ok(serde_json::to_value(text.parse::<toml::Table>()?)?) };
        let mut lines = Vec::new();
        compare(
            "",
            &json("m = \"{moniker}\"\na = 1\nb = 2\n[s]\nc = 3\n")?,
            &json("m = \"x\"\na = 1\n[s]\nc = 4\nd = 5\n")?,
            &mut lines,
        );
        assert_eq!(lines, ["-s.c = 3", "+s.c = 4", "+s.d = 5"]);
        Ok(())
    }
}
