//! Routes of services, from the `google.api.http` option of their methods.

use http::uri::PathAndQuery;
use http::Method;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

use crate::gateway::GatewayError;
use crate::request::find_path;
use crate::template::Template;

/// What of a request is in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// Nothing: what the path does not hold is in the query.
    None,
    /// All that the path does not hold.
    All,
    /// This field; the rest is in the query.
    Field(String),
}

/// One way to reach one RPC.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub verb: Method,
    pub template: Template,
    pub body: BodyRule,
    pub rpc: MethodDescriptor,
    /// `/package.Service/Method`.
    pub grpc: PathAndQuery,
}

/// The routes of every unary RPC of a service, and of those without a rule `POST /package.Service/Method`. Error: the service is not in the
/// pool, or a rule cannot be served; names them.
pub(crate) fn routes(pool: &DescriptorPool, service: &str) -> Result<Vec<Route>, GatewayError> {
    let service = pool
        .get_service_by_name(service)
        .ok_or_else(|| GatewayError(format!("service {service} is not in the descriptors")))?;
    let mut routes = Vec::new();
    for rpc in service.methods() {
        if rpc.is_client_streaming() || rpc.is_server_streaming() {
            continue;
        }
        let path = format!("/{}/{}", service.full_name(), rpc.name());
        let grpc =
            PathAndQuery::try_from(path.as_str()).map_err(|e| GatewayError(format!("{path} is not a path: {e}")))?;
        let fail = |reason: String| GatewayError(format!("google.api.http of {}: {reason}", rpc.full_name()));
        let mut bindings = bindings(pool, &rpc).map_err(fail)?;
        if bindings.is_empty() {
            let template = Template::parse(&path).map_err(fail)?;
            bindings.push((Method::POST, template, BodyRule::All));
        }
        for (verb, template, body) in bindings {
            check(&rpc, &template, &body).map_err(fail)?;
            routes.push(Route {
                verb,
                template,
                body,
                rpc: rpc.clone(),
                grpc: grpc.clone(),
            });
        }
    }
    Ok(routes)
}

type Binding = (Method, Template, BodyRule);

fn bindings(pool: &DescriptorPool, rpc: &MethodDescriptor) -> Result<Vec<Binding>, String> {
    let options = rpc.options();
    let Some(extension) = pool.get_extension_by_name("google.api.http") else {
        return Ok(Vec::new());
    };
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    let rule = options.get_extension(&extension);
    let rule = rule.as_message().ok_or("it is not a message")?;
    let mut bindings = vec![binding(rule)?];
    if let Some(more) = rule.get_field_by_name("additional_bindings") {
        for rule in more.as_list().unwrap_or_default() {
            bindings.push(binding(rule.as_message().ok_or("a binding is not a message")?)?);
        }
    }
    Ok(bindings)
}

fn text(rule: &DynamicMessage, field: &str) -> String {
    let value = rule.get_field_by_name(field);
    value.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn binding(rule: &DynamicMessage) -> Result<Binding, String> {
    let verbs = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let (field, verb) = verbs
        .into_iter()
        .find(|(field, _)| rule.has_field_by_name(field))
        .ok_or("it names none of get, put, post, delete, patch")?;
    if !text(rule, "response_body").is_empty() {
        return Err("response_body is not supported".to_owned());
    }
    let body = match text(rule, "body").as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::All,
        field => BodyRule::Field(field.to_owned()),
    };
    Ok((verb, Template::parse(&text(rule, field))?, body))
}

/// Every field that a route names must be there, and be one that a path or a body can hold.
fn check(rpc: &MethodDescriptor, template: &Template, body: &BodyRule) -> Result<(), String> {
    let input = rpc.input();
    for path in template.fields() {
        let field = find_path(&input, path).ok_or_else(|| format!("{} has no field {path}", input.full_name()))?;
        if field.is_list() || field.is_map() || field.kind().as_message().is_some() {
            return Err(format!("field {path} is not a plain value, a path cannot hold it"));
        }
    }
    match body {
        BodyRule::Field(name) if input.get_field_by_name(name).is_none() => {
            Err(format!("{} has no field {name} for the body", input.full_name()))
        }
        _ => Ok(()),
    }
}
