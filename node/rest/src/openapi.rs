//! The OpenAPI 3.0 document of a gateway, and a page for people, both from the descriptors and their comments.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{json, Map, Value};

use crate::request::find_path;
use crate::rule::{BodyRule, Route};
use crate::HEIGHT;

/// How deep messages in query parameters are followed.
const MAX_DEPTH: usize = 4;
const STATUS: &str = "google.rpc.Status";

/// Leading comments by file and place in it.
#[derive(Default)]
struct Comments(BTreeMap<String, BTreeMap<Vec<i32>, String>>);

impl Comments {
    /// The comment in front of what stands at `path` of `file`, in one paragraph.
    fn of(&mut self, file: &FileDescriptor, path: &[i32]) -> String {
        let of_file = self.0.entry(file.name().to_owned()).or_insert_with(|| {
            let info = file.file_descriptor_proto().source_code_info.as_ref();
            let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
            let comment = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            locations
                .iter()
                .filter_map(|l| Some((l.path.clone(), comment(l.leading_comments.as_deref()?))))
                .collect()
        });
        of_file.get(path).cloned().unwrap_or_default()
    }
}

/// The document.
pub(crate) fn document(routes: &[Route], title: &str, version: &str) -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut ids: BTreeMap<String, u32> = BTreeMap::new();
    for route in routes {
        let service = route.rpc.parent_service();
        let id = format!("{}.{}", service.full_name(), route.rpc.name());
        let uses = ids.entry(id.clone()).or_default();
        *uses = uses.saturating_add(1);
        let id = if *uses == 1 { id } else { format!("{id}_{uses}") };
        let operation = schemas.operation(route, &id);
        paths
            .entry(route.template.plain())
            .or_default()
            .insert(route.verb.as_str().to_lowercase(), operation);
    }
    let tags: BTreeSet<String> = routes
        .iter()
        .map(|r| r.rpc.parent_service().full_name().to_owned())
        .collect();
    let tags: Vec<Value> = tags.into_iter().map(|name| json!({ "name": name })).collect();
    let components = schemas.all();
    json!({
        "openapi": "3.0.3",
        "info": { "title": title, "version": version },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": components },
    })
}

/// A page that lists the routes.
pub(crate) fn page(routes: &[Route], title: &str, version: &str) -> String {
    let mut comments = Comments::default();
    let mut rows = String::new();
    for route in routes {
        let says = comments.of(&route.rpc.parent_file(), route.rpc.path());
        rows.push_str(&format!(
            "<tr><td>{}<td><code>{}</code><td>{}\n",
            route.verb,
            escaped(&route.template.plain()),
            escaped(&says)
        ));
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title>\n<style>body{{font:15px sans-serif;margin:2em}}\
         td{{padding:.2em .8em .2em 0;vertical-align:top}}</style>\n<h1>{0} {1}</h1>\n\
         <p>REST over the node's gRPC services. The same as a document for programs: <a href=openapi.json>openapi.json</a>.</p>\n\
         <table>\n{rows}</table>\n",
        escaped(title),
        escaped(version)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Schemas of what routes mention.
#[derive(Default)]
struct Schemas {
    comments: Comments,
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
}

impl Schemas {
    fn operation(&mut self, route: &Route, id: &str) -> Value {
        let input = route.rpc.input();
        let mut parameters = Vec::new();
        for path in route.template.fields() {
            if let Some(field) = find_path(&input, path) {
                parameters.push(self.parameter(path, "path", &field));
            }
        }
        if route.body != BodyRule::All {
            let taken: BTreeSet<&str> = route.template.fields().collect();
            self.query(&input, "", &taken, 0, &mut parameters);
            if let BodyRule::Field(body) = &route.body {
                parameters.retain(|p| {
                    let name = p["name"].as_str().unwrap_or_default();
                    name != body && !name.starts_with(&format!("{body}."))
                });
            }
        }
        parameters.push(json!({
            "name": HEIGHT, "in": "header", "required": false, "schema": { "type": "string", "format": "uint64" },
            "description": "Answer from the state after this height; the latest by default.",
        }));
        let body_schema = match &route.body {
            BodyRule::None => None,
            BodyRule::All => Some(self.message(&input)),
            BodyRule::Field(name) => input.get_field_by_name(name).map(|field| self.field(&field)),
        };
        let answer = self.message(&route.rpc.output());
        let mut operation = json!({
            "operationId": id,
            "tags": [route.rpc.parent_service().full_name()],
            "summary": self.comments.of(&route.rpc.parent_file(), route.rpc.path()),
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": "The answer.",
                    "headers": { HEIGHT: { "schema": { "type": "string", "format": "uint64" },
                        "description": "Height of the state it was read from." } },
                    "content": { "application/json": { "schema": answer } },
                },
                "default": {
                    "description": "The request is refused or failed.",
                    "content": { "application/json": { "schema": reference(STATUS) } },
                },
            },
        });
        if let Some(schema) = body_schema {
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        operation
    }

    /// Query parameters of the fields of a message that the path does not hold.
    fn query(
        &mut self,
        message: &MessageDescriptor,
        prefix: &str,
        taken: &BTreeSet<&str>,
        depth: usize,
        out: &mut Vec<Value>,
    ) {
        for field in message.fields() {
            let path = format!("{prefix}{}", field.name());
            if taken.contains(path.as_str()) || field.is_map() {
                continue;
            }
            match field.kind() {
                Kind::Message(_) if field.is_list() => {}
                Kind::Message(inner) if inner.package_name() != "google.protobuf" => {
                    if depth < MAX_DEPTH {
                        self.query(&inner, &format!("{path}."), taken, depth.saturating_add(1), out);
                    }
                }
                Kind::Message(inner) if inner.name() == "Any" => {}
                _ => out.push(self.parameter(&path, "query", &field)),
            }
        }
    }

    fn parameter(&mut self, name: &str, place: &str, field: &FieldDescriptor) -> Value {
        json!({
            "name": name, "in": place, "required": place == "path",
            "description": self.comments.of(&field.parent_file(), field.path()),
            "schema": self.field(field),
        })
    }

    /// Notes a message for the components; a reference to it.
    fn message(&mut self, message: &MessageDescriptor) -> Value {
        self.messages.insert(message.full_name().to_owned(), message.clone());
        reference(message.full_name())
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map() {
            let value = match field.kind() {
                Kind::Message(entry) => self.one(&entry.map_entry_value_field().kind()),
                other => self.one(&other),
            };
            return json!({ "type": "object", "additionalProperties": value });
        }
        let one = self.one(&field.kind());
        if field.is_list() {
            json!({ "type": "array", "items": one })
        } else {
            one
        }
    }

    fn one(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer", "format": "int32" }),
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "int64", "minimum": 0 }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({ "type": "string", "format": "int64" }),
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
            Kind::Float | Kind::Double => json!({ "type": "number" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "format": "byte" }),
            Kind::Enum(kind) => {
                self.enums.insert(kind.full_name().to_owned(), kind.clone());
                reference(kind.full_name())
            }
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => json!({ "type": "string", "format": "date-time" }),
                "google.protobuf.Duration" => json!({ "type": "string" }),
                "google.protobuf.Any" => reference("google.protobuf.Any"),
                _ => self.message(message),
            },
        }
    }

    /// Every schema that is mentioned, directly or by another.
    fn all(mut self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert(
            STATUS.to_owned(),
            json!({
                "type": "object", "description": "An error.", "required": ["code", "message", "details"],
                "properties": {
                    "code": { "type": "integer", "description": "gRPC's code." },
                    "message": { "type": "string" },
                    "details": { "type": "array", "items": { "type": "object" } },
                },
            }),
        );
        out.insert(
            "google.protobuf.Any".to_owned(),
            json!({
                "type": "object", "description": "A message of any kind: its name, then its fields.", "required": ["@type"],
                "properties": { "@type": { "type": "string" } }, "additionalProperties": true,
            }),
        );
        while let Some((name, message)) = self.messages.pop_first() {
            if out.contains_key(&name) {
                continue;
            }
            let description = self.comments.of(&message.parent_file(), message.path());
            let mut properties = Map::new();
            for field in message.fields() {
                let schema = self.field(&field);
                let says = self.comments.of(&field.parent_file(), field.path());
                properties.insert(field.name().to_owned(), described(schema, &field, &says));
            }
            out.insert(
                name,
                json!({ "type": "object", "description": description, "properties": properties }),
            );
        }
        for (name, kind) in std::mem::take(&mut self.enums) {
            let values: Vec<String> = kind.values().map(|v| v.name().to_owned()).collect();
            let description = self.comments.of(&kind.parent_file(), kind.path());
            out.insert(
                name,
                json!({ "type": "string", "description": description, "enum": values }),
            );
        }
        out
    }
}

/// A field's schema with its description. What stands beside a reference is ignored in OpenAPI 3.0, so a reference is wrapped.
fn described(schema: Value, field: &FieldDescriptor, says: &str) -> Value {
    let nullable = !field.is_list() && (field.supports_presence() || matches!(field.kind(), Kind::Bytes));
    let mut schema = if schema.get("$ref").is_some() {
        json!({ "allOf": [schema] })
    } else {
        schema
    };
    if !says.is_empty() {
        schema["description"] = Value::from(says);
    }
    if nullable {
        schema["nullable"] = Value::from(true);
    }
    schema
}
