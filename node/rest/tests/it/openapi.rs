//! The OpenAPI document, structurally: every reference leads somewhere, every route and every field is described.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::gateway;

fn references<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                out.insert(reference);
            }
            map.values().for_each(|v| references(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

#[test]
fn the_document_is_whole() {
    let gateway = gateway();
    let document: Value = serde_json::from_slice(gateway.openapi()).expect("JSON");
    assert_eq!(document["openapi"], "3.0.3");
    let mut wanted = BTreeSet::new();
    references(&document, &mut wanted);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for reference in wanted {
        let name = reference.strip_prefix("#/components/schemas/").expect("local");
        assert!(schemas.contains_key(name), "{reference}");
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(name.chars().all(allowed), "{name}");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (verb, operation) in item.as_object().expect("item") {
            assert!(["get", "post"].contains(&verb.as_str()), "{verb} {path}");
            assert!(ids.insert(operation["operationId"].as_str().expect("id")), "{path}");
            assert!(!operation["summary"].as_str().expect("summary").is_empty(), "{path}");
            assert!(operation["responses"]["200"].is_object() && operation["responses"]["default"].is_object());
            let parameters = operation["parameters"].as_array().expect("parameters");
            let mut named = BTreeSet::new();
            for parameter in parameters {
                let (name, place) = (
                    parameter["name"].as_str().expect("name"),
                    parameter["in"].as_str().expect("in"),
                );
                assert!(named.insert((name, place)), "{path}: {name} twice");
                assert_eq!(parameter["required"], place == "path", "{path}: {name}");
                assert_eq!(place == "path", path.contains(&format!("{{{name}}}")), "{path}: {name}");
            }
            assert_eq!(
                path.matches('{').count(),
                parameters.iter().filter(|p| p["in"] == "path").count(),
                "{path}"
            );
        }
    }
    let parameters = &document["paths"]["/cosmos/bank/v1beta1/balances/{address}"]["get"]["parameters"];
    let names: Vec<&str> = parameters
        .as_array()
        .expect("parameters")
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert!(
        names.contains(&"pagination.limit") && names.contains(&"address"),
        "{names:?}"
    );
    assert!(document["paths"]["/tenure/faucet/v1/drip"]["post"]["requestBody"].is_object());
    for (name, schema) in schemas {
        assert!(
            !schema["description"].as_str().unwrap_or_default().is_empty(),
            "{name} says nothing"
        );
    }
}
