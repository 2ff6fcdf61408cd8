//! Commands made from descriptors: every query and every message of the chain has one, with its fields as flags and positional values, without a line
//! written by hand.

use anyhow::{bail, ensure, Context, Result};
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage, Value,
};
use tenure_types::{Coin, Coins};

/// Field that lists use to page; it has flags of its own.
const PAGINATION: &str = "pagination";
const COIN: &str = "cosmos.base.v1beta1.Coin";
/// Where positional values are kept.
pub(super) const VALUES: &str = "values";
/// Methods with another name in simd than their descriptor gives.
const ALIASES: [(&str, &str); 5] = [
    ("cosmos.bank.v1beta1.Query.AllBalances", "balances"),
    ("cosmos.bank.v1beta1.Query.TotalSupply", "total"),
    ("cosmos.bank.v1beta1.Query.SupplyOf", "total-supply-of"),
    ("tenure.escrow.v1.Query.Account", "show"),
    ("cosmos.auth.v1beta1.Query.Account", "acc"),
];

/// A module and its methods in one of its services.
pub(super) struct Module {
    /// For example `bank`.
    pub(super) name: String,
    methods: Vec<MethodDescriptor>,
}

/// Modules that have a service of this name, `Query` or `Msg`, in order of name.
pub(super) fn modules(service: &str) -> Vec<Module> {
    let services = tenure_proto::pool().services().filter(|s| s.name() == service);
    let mut modules: Vec<Module> = services
        .map(|service| Module {
            // cosmos.bank.v1beta1 is bank.
            name: service.package_name().rsplit('.').nth(1).unwrap_or_default().to_owned(),
            methods: service.methods().collect(),
        })
        .collect();
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    modules
}

/// `AllBalances` is `all-balances`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('-');
        }
        out.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
    }
    out
}

/// The comment in the .proto, in one line.
fn comment(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    let file = service.parent_file();
    let path = method.path();
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|l| l.path == path));
    let text = location.and_then(|l| l.leading_comments.as_deref()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Module {
    /// The module's command, with one subcommand for each method: `own` where it gives one, else made from the method's fields.
    pub(super) fn command(&self, skip_signer: bool, own: fn(&MethodDescriptor) -> Option<Command>) -> Command {
        let methods = self.methods.iter();
        let methods = methods.map(|method| own(method).unwrap_or_else(|| command(method, skip_signer)));
        Command::new(self.name.clone())
            .about(format!("The module {}", self.name))
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands(methods)
    }

    /// The method that a subcommand names.
    pub(super) fn method(&self, name: &str) -> Option<&MethodDescriptor> {
        self.methods.iter().find(|method| kebab(method.name()) == name)
    }
}

fn fields(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> + '_ {
    message.fields().filter(|field| field.name() != PAGINATION)
}

/// How many positional values a message takes beside its signer: one for each field that no flag gives.
pub(super) fn room(descriptor: &MessageDescriptor, matches: &ArgMatches) -> usize {
    let others = fields(descriptor).skip(1);
    others.filter(|field| flags(field, matches).next().is_none()).count()
}

/// The positional values of a message in their order, for somebody who mistook it.
pub(super) fn order(descriptor: &MessageDescriptor) -> String {
    let others = fields(descriptor)
        .skip(1)
        .map(|field| format!(" [{}]", kebab(field.name()).to_uppercase()));
    format!(
        "The order is [KEY]{}, the key only where --from does not name it",
        others.collect::<String>()
    )
}

/// What the flags of a field say.
fn flags<'a>(field: &FieldDescriptor, matches: &'a ArgMatches) -> impl Iterator<Item = &'a String> {
    let given = matches.try_get_many::<String>(field.name()).ok().flatten();
    given.into_iter().flatten()
}

fn command(method: &MethodDescriptor, skip_signer: bool) -> Command {
    let input = method.input();
    let about = comment(method);
    let mut command = Command::new(kebab(method.name())).about(if about.is_empty() {
        format!("{}/{}", method.parent_service().full_name(), method.name())
    } else {
        about
    });
    let full = method.full_name().to_owned();
    if let Some((_, alias)) = ALIASES.iter().find(|(name, _)| *name == full) {
        command = command.visible_alias(*alias);
    }
    let mut order = Vec::new();
    for (index, field) in fields(&input).enumerate() {
        if skip_signer && index == 0 {
            order.push("[KEY]".to_owned());
            continue;
        }
        order.push(format!("[{}]", kebab(field.name()).to_uppercase()));
        let mut arg = Arg::new(field.name().to_owned())
            .long(kebab(field.name()))
            .value_name(shape(&field))
            .help(format!("Field {}", field.name()))
            .action(if field.is_list() {
                ArgAction::Append
            } else {
                ArgAction::Set
            })
            .allow_hyphen_values(true);
        if let Kind::Enum(kind) = field.kind() {
            arg = arg.help(format!("One of {}", words(&kind).join(", ")));
        }
        command = command.arg(arg);
    }
    if !order.is_empty() {
        let shown = order.join(" ");
        command = command.arg(
            Arg::new(VALUES)
                .num_args(0..)
                .value_name("VALUE")
                .help(format!("Values in this order: {shown}")),
        );
    }
    if input.get_field_by_name(PAGINATION).is_some() {
        command = command
            .arg(
                Arg::new("page-limit")
                    .long("page-limit")
                    .visible_alias("limit")
                    .value_name("N")
                    .help("Most entries of the answer"),
            )
            .arg(
                Arg::new("page-offset")
                    .long("page-offset")
                    .visible_alias("offset")
                    .value_name("N")
                    .help("How many entries to pass over; --page-key is faster"),
            )
            .arg(
                Arg::new("page-key")
                    .long("page-key")
                    .value_name("BASE64")
                    .help("Where to go on: pagination.next_key of the page before"),
            )
            .arg(
                Arg::new("page-reverse")
                    .long("page-reverse")
                    .visible_alias("reverse")
                    .action(ArgAction::SetTrue)
                    .help("From the end"),
            )
            .arg(
                Arg::new("page-count-total")
                    .long("page-count-total")
                    .visible_alias("count-total")
                    .action(ArgAction::SetTrue)
                    .help("Count all"),
            );
    }
    command
}

/// What a value looks like.
fn shape(field: &FieldDescriptor) -> &'static str {
    match field.kind() {
        Kind::String => "TEXT",
        Kind::Bool => "true|false",
        Kind::Bytes => "HEX|BASE64",
        Kind::Enum(_) => "NAME",
        Kind::Message(m) if m.full_name() == COIN => "COINS",
        Kind::Message(_) => "JSON",
        _ => "NUMBER",
    }
}

/// The positional values of a call.
pub(super) fn values(matches: &ArgMatches) -> Vec<String> {
    let given = matches.try_get_many::<String>(VALUES).ok().flatten();
    given.into_iter().flatten().cloned().collect()
}

/// The message that flags and positional values describe. `signer`, if given, is the first field, which positional values leave out.
pub(super) fn message(
    descriptor: &MessageDescriptor,
    matches: &ArgMatches,
    positional: &[String],
    signer: Option<&str>,
) -> Result<DynamicMessage> {
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut positional = positional.iter();
    for (index, field) in fields(descriptor).enumerate() {
        if let (0, Some(signer)) = (index, signer) {
            ensure!(
                matches!(field.kind(), Kind::String) && !field.is_list(),
                "{} has no single signer; build it with another tool and sign it there",
                descriptor.full_name()
            );
            message.set_field(&field, Value::String(signer.to_owned()));
            continue;
        }
        let mut texts: Vec<&String> = flags(&field, matches).collect();
        if texts.is_empty() {
            texts.extend(positional.next());
        }
        let name = kebab(field.name());
        for text in texts {
            let value = parse(&field, text).with_context(|| format!("{name} is {text:?}"))?;
            match (message.get_field_mut(&field), value) {
                (Value::List(all), Value::List(more)) => all.extend(more),
                (slot, value) => *slot = value,
            }
        }
    }
    if let Some(extra) = positional.next() {
        let order = signer
            .map(|_| order(descriptor))
            .unwrap_or_else(|| "See --help for the order".to_owned());
        bail!("value {extra:?} is one too many. {order}");
    }
    page(&mut message, matches)?;
    Ok(message)
}

fn page(message: &mut DynamicMessage, matches: &ArgMatches) -> Result<()> {
    let Some(field) = message.descriptor().get_field_by_name(PAGINATION) else {
        return Ok(());
    };
    let Kind::Message(kind) = field.kind() else {
        return Ok(());
    };
    let mut page = DynamicMessage::new(kind);
    let text = |name: &str| matches.get_one::<String>(name);
    for (flag, name) in [("page-limit", "limit"), ("page-offset", "offset")] {
        if let Some(given) = text(flag) {
            let number = given.parse();
            let number = number.with_context(|| format!("--{flag} is {given:?}, must be a number"))?;
            page.set_field_by_name(name, Value::U64(number));
        }
    }
    if let Some(key) = text("page-key") {
        let key = BASE64
            .decode(key)
            .with_context(|| format!("--page-key is {key:?}, must be base64"))?;
        page.set_field_by_name("key", Value::Bytes(key.into()));
    }
    for (flag, name) in [("page-reverse", "reverse"), ("page-count-total", "count_total")] {
        if matches.get_flag(flag) {
            page.set_field_by_name(name, Value::Bool(true));
        }
    }
    message.set_field(&field, Value::Message(page));
    Ok(())
}

/// A field's value: lists are separated by commas.
fn parse(field: &FieldDescriptor, text: &str) -> Result<Value> {
    if field.is_map() {
        bail!("maps cannot be given here");
    }
    if !field.is_list() {
        return scalar(&field.kind(), text);
    }
    match field.kind() {
        // In order of denom, as the chain asks.
        Kind::Message(kind) if kind.full_name() == COIN => {
            let coins: Coins = crate::genesis::parse_coins(text)?;
            Ok(Value::List(coins.iter().map(|c| coin(&kind, c)).collect()))
        }
        Kind::Message(_) => Ok(Value::List(vec![scalar(&field.kind(), text)?])),
        kind => Ok(Value::List(
            text.split(',').map(|part| scalar(&kind, part)).collect::<Result<_>>()?,
        )),
    }
}

fn coin(kind: &MessageDescriptor, coin: &Coin) -> Value {
    let mut message = DynamicMessage::new(kind.clone());
    message.set_field_by_name("denom", Value::String(coin.denom.to_string()));
    message.set_field_by_name("amount", Value::String(coin.amount.to_string()));
    Value::Message(message)
}

fn scalar(kind: &Kind, text: &str) -> Result<Value> {
    Ok(match kind {
        Kind::String => Value::String(text.to_owned()),
        Kind::Bool => Value::Bool(text.parse().context("it must be true or false")?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(text.parse().context("it must be a number")?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(text.parse().context("it must be a number")?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(text.parse().context("it must be a number")?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(text.parse().context("it must be a number")?),
        Kind::Double => Value::F64(text.parse().context("it must be a number")?),
        Kind::Float => Value::F32(text.parse().context("it must be a number")?),
        Kind::Bytes => {
            let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(text)).or_else(|_| BASE64.decode(text));
            Value::Bytes(bytes.context("it must be hex or base64")?.into())
        }
        Kind::Enum(kind) => Value::EnumNumber(number(kind, text)?),
        Kind::Message(kind) if kind.full_name() == COIN => {
            let parsed: Coin = text.parse()?;
            coin(kind, &parsed)
        }
        Kind::Message(kind) => {
            let mut json = serde_json::Deserializer::from_str(text);
            let message = DynamicMessage::deserialize(kind.clone(), &mut json)
                .with_context(|| format!("it must be {} as JSON", kind.full_name()))?;
            json.end().context("it must be one JSON object")?;
            Value::Message(message)
        }
    })
}

/// The part of an enum's names that tells its values apart, in lower case.
fn words(kind: &EnumDescriptor) -> Vec<String> {
    let prefix = format!("{}-", kebab(kind.name()));
    let name = |v: prost_reflect::EnumValueDescriptor| v.name().to_lowercase().replace('_', "-");
    kind.values()
        .map(|v| {
            name(v.clone())
                .strip_prefix(&prefix)
                .map_or_else(|| name(v), str::to_owned)
        })
        .collect()
}

fn number(kind: &EnumDescriptor, text: &str) -> Result<i32> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let wanted = text.to_lowercase().replace('_', "-");
    let known = words(kind);
    let values = kind.values().zip(&known);
    let found = values
        .into_iter()
        .find(|(value, word)| **word == wanted || value.name().to_lowercase().replace('_', "-") == wanted);
    found
        .map(|(value, _)| value.number())
        .with_context(|| format!("it must be one of {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(service: &str, module: &str, args: &[&str], signer: Option<&str>) -> Result<serde_json::Value> {
        let modules = modules(service);
        let module = modules.iter().find(|m| m.name == module).context("module")?;
        let matches = module
            .command(signer.is_some(), |_| None)
            .try_get_matches_from([&["x"], args].concat())?;
        let (name, matches) = matches.subcommand().context("subcommand")?;
        let method = module.method(name).context("method")?;
        let message = message(&method.input(), matches, &values(matches), signer)?;
        Ok(serde_json::to_value(&message)?)
    }

    #[test]
    fn positional_values_and_flags_say_the_same() -> Result<()> {
        let expected = serde_json::json!({ "address": "tenure1x", "denom": "uten" });
        assert_eq!(
            built("Query", "bank", &["balance", "tenure1x", "uten"], None)?,
            expected
        );
        assert_eq!(
            built(
                "Query",
                "bank",
                &["balance", "--denom", "uten", "--address", "tenure1x"],
                None
            )?,
            expected
        );
        // simd's name.
        let page = built(
            "Query",
            "bank",
            &[
                "balances",
                "tenure1x",
                "--page-limit",
                "5",
                "--page-offset",
                "7",
                "--page-reverse",
            ],
            None,
        )?;
        assert_eq!(
            page["pagination"],
            serde_json::json!({ "offset": "7", "limit": "5", "reverse": true })
        );
        Ok(())
    }

    #[test]
    fn messages_take_coins_enums_and_json() -> Result<()> {
        let send = built("Msg", "bank", &["send", "tenure1y", "2ten,7abc"], Some("tenure1x"))?;
        assert_eq!(send["fromAddress"], "tenure1x");
        assert_eq!(
            send["amount"],
            serde_json::json!([{"denom":"abc","amount":"7"},{"denom":"uten","amount":"2000000"}])
        );
        let bid = built(
            "Msg",
            "market",
            &[
                "post-bid",
                "--resources",
                "{\"cpu_millis\": 5}",
                "--max-rate",
                "9",
                "--deposit",
                "1ten",
            ],
            Some("t"),
        );
        let bid = bid.or_else(|_| {
            built(
                "Msg",
                "market",
                &["post-bid", "--max-rate", "9", "--deposit", "1ten"],
                Some("t"),
            )
        })?;
        assert_eq!(
            (&bid["maxRate"], &bid["deposit"]["amount"]),
            (&"9".into(), &"1000000".into())
        );
        Ok(())
    }

    #[test]
    fn mistakes_name_the_field() {
        for (args, word) in [
            (vec!["balance", "a", "b", "c"], "one too many"),
            (vec!["balances", "a", "--page-limit", "x"], "--page-limit"),
            (vec!["balances", "a", "--page-offset", "~"], "--page-offset"),
            (vec!["balances", "a", "--page-key", "~"], "base64"),
        ] {
            let error = built("Query", "bank", &args, None).expect_err(word);
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
        let error = built("Msg", "bank", &["send", "x", "ten"], Some("t")).expect_err("coins");
        assert!(format!("{error:#}").contains("amount is \"ten\""), "{error:#}");
        let error = built("Msg", "bank", &["multi-send"], Some("t")).expect_err("no single signer");
        assert!(error.to_string().contains("single signer"), "{error}");
    }

    #[test]
    fn every_module_of_the_chain_has_commands() {
        let names = |service| modules(service).into_iter().map(|m| m.name).collect::<Vec<_>>();
        for module in ["auth", "bank", "market", "provider", "escrow", "chain"] {
            assert!(names("Query").iter().any(|n| n == module), "{module}");
        }
        for module in modules("Query").iter().chain(&modules("Msg")) {
            module.command(false, |_| None).debug_assert();
            module.command(true, |_| None).debug_assert();
        }
    }
}
