//! How each message is written, worked out once from the descriptors and their amino options.

use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::{
    Cardinality, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

/// How a message is written.
pub(super) struct Plan {
    /// Its amino name: only such messages stand in a transaction.
    pub(super) name: Option<String>,
    pub(super) descriptor: MessageDescriptor,
    /// In order of their names.
    pub(super) fields: Vec<Field>,
}

/// How a field is written.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) descriptor: FieldDescriptor,
    /// Left out if it is absent or has its default value.
    pub(super) omit_empty: bool,
    /// An empty list is `[]`, not `null`.
    pub(super) empty_list_is_array: bool,
    /// Full name of its message type, if it is of one.
    pub(super) message: Option<String>,
}

impl Field {
    /// Whether it is one message, not a list of them.
    pub(super) fn is_single_message(&self) -> bool {
        self.message.is_some() && self.descriptor.cardinality() != Cardinality::Repeated
    }
}

/// How the message with this full name is written; `None` if it cannot be without loss.
pub(super) fn of(full_name: &str) -> Option<&'static Plan> {
    static PLANS: LazyLock<BTreeMap<String, Plan>> = LazyLock::new(plans);
    PLANS.get(full_name)
}

/// Plans of the named messages and of all that lies in them. A message with a field that has no plan has none either.
fn plans() -> BTreeMap<String, Plan> {
    let mut plans = BTreeMap::new();
    let Some(options) = Options::load() else { return plans };
    for message in crate::pool().all_messages() {
        if options.text(&message.options(), &options.name).is_some() {
            visit(&options, message, &mut plans, 0);
        }
    }
    plans
}

/// Deepest nesting of message types that is followed: a type that contains itself has no plan.
const MAX_DEPTH: u32 = 16;

fn visit(options: &Options, message: MessageDescriptor, plans: &mut BTreeMap<String, Plan>, depth: u32) -> bool {
    if plans.contains_key(message.full_name()) {
        return true;
    }
    let own = message.options();
    let special = message.full_name().starts_with("google.protobuf.");
    if depth > MAX_DEPTH || special || options.text(&own, &options.message_encoding).is_some() {
        return false;
    }
    let mut fields = Vec::new();
    for field in message.fields() {
        let set = field.options();
        let encoding = options.text(&set, &options.encoding);
        let legacy_coins = encoding.as_deref() == Some("legacy_coins");
        let inner = match field.kind() {
            Kind::Float | Kind::Double => return false,
            Kind::Message(inner) if !visit(options, inner.clone(), plans, depth.saturating_add(1)) => return false,
            Kind::Message(inner) => Some(inner.full_name().to_owned()),
            _ => None,
        };
        if field.is_map() || field.containing_oneof().is_some() || (encoding.is_some() && !legacy_coins) {
            return false;
        }
        fields.push(Field {
            name: options
                .text(&set, &options.field_name)
                .unwrap_or_else(|| field.name().to_owned()),
            omit_empty: !options.flag(&set, &options.dont_omitempty),
            // protobuf-go hands out an invalid list for an empty field: without the option it is written as null.
            empty_list_is_array: legacy_coins,
            message: inner,
            descriptor: field,
        });
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    if fields.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return false;
    }
    let plan = Plan {
        name: options.text(&own, &options.name),
        fields,
        descriptor: message,
    };
    plans.insert(plan.descriptor.full_name().to_owned(), plan);
    true
}

/// The options of `amino/amino.proto`.
struct Options {
    name: ExtensionDescriptor,
    message_encoding: ExtensionDescriptor,
    encoding: ExtensionDescriptor,
    field_name: ExtensionDescriptor,
    dont_omitempty: ExtensionDescriptor,
}

impl Options {
    fn load() -> Option<Self> {
        let extension = |name| crate::pool().get_extension_by_name(name);
        Some(Self {
            name: extension("amino.name")?,
            message_encoding: extension("amino.message_encoding")?,
            encoding: extension("amino.encoding")?,
            field_name: extension("amino.field_name")?,
            dont_omitempty: extension("amino.dont_omitempty")?,
        })
    }

    fn text(&self, options: &DynamicMessage, extension: &ExtensionDescriptor) -> Option<String> {
        if !options.has_extension(extension) {
            return None;
        }
        options.get_extension(extension).as_str().map(str::to_owned)
    }

    fn flag(&self, options: &DynamicMessage, extension: &ExtensionDescriptor) -> bool {
        matches!(*options.get_extension(extension), Value::Bool(true))
    }
}
