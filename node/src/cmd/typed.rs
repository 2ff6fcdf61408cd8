//! What `tenured query` and `tenured tx` have in common: a subcommand for each method of the chain's services, and a few beside them.

use std::marker::PhantomData;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use clap::{ArgMatches, Command, Error, FromArgMatches, Subcommand};
use prost_reflect::MethodDescriptor;

use super::reflect::modules;

/// Which services, and what is beside them.
pub(super) trait Kind {
    /// Their name in every module: `Query` or `Msg`.
    const SERVICE: &'static str;
    /// Whether a signer's key is typed before the values.
    const SIGNED: bool;

    /// The commands that are no module's.
    fn beside() -> Vec<Command>;

    /// The command of a method that is not to be made from its fields.
    fn own(_: &MethodDescriptor) -> Option<Command> {
        None
    }
}

/// What was typed.
pub(super) struct Typed<K> {
    module: String,
    matches: ArgMatches,
    kind: PhantomData<K>,
}

fn is_beside<K: Kind>(name: &str) -> bool {
    K::beside().iter().any(|command| command.get_name() == name)
}

impl<K: Kind> Typed<K> {
    /// Name and values of a command that is no module's, if one was typed.
    pub(super) fn beside(&self) -> Option<(&str, &ArgMatches)> {
        is_beside::<K>(&self.module).then_some((self.module.as_str(), &self.matches))
    }

    /// The method with its values. Error: none was typed.
    pub(super) fn method(&self) -> Result<(MethodDescriptor, &ArgMatches)> {
        let module = modules(K::SERVICE).into_iter().find(|m| m.name == self.module);
        let (module, (name, matches)) = module
            .zip(self.matches.subcommand())
            .with_context(|| format!("no {} is named", K::SERVICE))?;
        let method = module
            .method(name)
            .with_context(|| format!("module {} has no {name}", module.name))?;
        Ok((method.clone(), matches))
    }
}

impl<K: Kind> Subcommand for Typed<K> {
    fn augment_subcommands(command: Command) -> Command {
        let all: Vec<Command> = modules(K::SERVICE)
            .iter()
            .map(|module| module.command(K::SIGNED, K::own))
            .collect();
        command
            .subcommands(all)
            .subcommands(K::beside())
            .subcommand_required(true)
            .arg_required_else_help(true)
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        is_beside::<K>(name) || modules(K::SERVICE).iter().any(|module| module.name == name)
    }
}

impl<K: Kind> FromArgMatches for Typed<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let (module, matches) = matches
            .subcommand()
            .ok_or_else(|| Error::new(ErrorKind::MissingSubcommand))?;
        Ok(Self {
            module: module.to_owned(),
            matches: matches.clone(),
            kind: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
