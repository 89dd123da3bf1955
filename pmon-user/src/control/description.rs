//! The interface in Varlink's own language, for clients that ask.
//!
//! Made from the JSON Schemas that serde's types derive, because those honour
//! serde's renaming and stand for timestamps as the strings they are; zlink's own
//! derive does neither. Varlink cannot say "array of mixed values", so no view
//! may contain a tuple; a test sees to it.

use std::{collections::BTreeSet, fmt::Write, sync::LazyLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};
use zlink::introspect::ReplyError as _;

use super::{
    error::ControlError,
    interface::{
        BpfLogParameters, BpfShowParameters, EntitiesReply, EntityReply, EventReply,
        EventsParameters, EventsReply, HistoryParameters, HoldParameters, INTERFACE,
        IncidentsReply, NameParameters, NamesParameters, Nothing, OperateParameters,
        RegisterParameters, ReloadParameters, Verb,
    },
};
use crate::view::{
    diagnosis::{BpfLogView, BpfView, DoctorView, ReloadView},
    entity::{ExplainView, ShowView},
    status::StatusView,
};

static MONITOR: LazyLock<String> = LazyLock::new(monitor);
static SERVICE: LazyLock<String> =
    LazyLock::new(|| zlink::varlink_service::DESCRIPTION.to_string());

/// The description of an interface of this service, if it has that interface.
#[must_use]
pub fn of(interface: &str) -> Option<&'static str> {
    if interface == INTERFACE {
        Some(&MONITOR)
    } else if interface == zlink::varlink_service::INTERFACE_NAME.as_str() {
        Some(&SERVICE)
    } else {
        None
    }
}

/// Schemas of a verb's parameters and of its reply.
fn signature(verb: Verb, generator: &mut SchemaGenerator) -> (Schema, Schema) {
    fn both<P: JsonSchema, R: JsonSchema>(generator: &mut SchemaGenerator) -> (Schema, Schema) {
        (
            generator.subschema_for::<P>(),
            generator.subschema_for::<R>(),
        )
    }
    match verb {
        Verb::Status => both::<NamesParameters, StatusView>(generator),
        Verb::List => both::<NamesParameters, EntitiesReply>(generator),
        Verb::Show => both::<NameParameters, ShowView>(generator),
        Verb::Hold => both::<HoldParameters, EntityReply>(generator),
        Verb::Start | Verb::Stop | Verb::Restart | Verb::Resume => {
            both::<OperateParameters, EntityReply>(generator)
        }
        Verb::Register => both::<RegisterParameters, EntityReply>(generator),
        Verb::Unregister => both::<NameParameters, Nothing>(generator),
        Verb::Events => both::<EventsParameters, EventReply>(generator),
        Verb::RecentEvents => both::<EventsParameters, EventsReply>(generator),
        Verb::History => both::<HistoryParameters, IncidentsReply>(generator),
        Verb::Explain => both::<NameParameters, ExplainView>(generator),
        Verb::Reload => both::<ReloadParameters, ReloadView>(generator),
        Verb::Handoff => both::<Nothing, Nothing>(generator),
        Verb::Doctor => both::<Nothing, DoctorView>(generator),
        Verb::BpfShow => both::<BpfShowParameters, BpfView>(generator),
        Verb::BpfLog => both::<BpfLogParameters, BpfLogView>(generator),
    }
}

fn monitor() -> String {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let signatures: Vec<_> = Verb::ALL
        .into_iter()
        .map(|verb| (verb, signature(verb, &mut generator)))
        .collect();
    let definitions = generator.take_definitions(true);
    let definition =
        |schema: &Schema| reference(schema.as_value()).and_then(|name| definitions.get(name));

    let mut used = BTreeSet::new();
    for (_, (parameters, reply)) in &signatures {
        for schema in [parameters, reply].into_iter().filter_map(definition) {
            collect(schema, &definitions, &mut used);
        }
    }

    let mut text = String::new();
    comment(
        &mut text,
        "",
        "The control interface of pmon, the process monitor.",
    );
    comment(
        &mut text,
        "",
        "Times are RFC 3339 in UTC; durations carry their unit in the name.",
    );
    text.push_str("interface ");
    text.push_str(INTERFACE);
    text.push('\n');
    for name in used {
        let Some(schema) = definitions.get(name) else {
            continue;
        };
        text.push('\n');
        documentation(&mut text, "", schema);
        // Writing to a String cannot fail.
        writeln!(text, "type {name} {}", body(schema)).ok();
    }
    for (verb, (parameters, reply)) in &signatures {
        let fields = |schema| definition(schema).map_or_else(|| "()".to_owned(), body);
        text.push('\n');
        comment(&mut text, "", verb.summary());
        writeln!(
            text,
            "method {}{} -> {}",
            verb.name(),
            fields(parameters),
            fields(reply)
        )
        .ok();
    }
    for error in ControlError::VARIANTS {
        writeln!(text, "\n{error}").ok();
    }
    text
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

/// Every definition that `schema` mentions, directly or not.
fn collect<'a>(
    schema: &'a Value,
    definitions: &'a Map<String, Value>,
    used: &mut BTreeSet<&'a str>,
) {
    if let Some(name) = reference(schema)
        && used.insert(name)
        && let Some(definition) = definitions.get(name)
    {
        collect(definition, definitions, used);
    }
    match schema {
        Value::Object(fields) => {
            for value in fields.values() {
                collect(value, definitions, used);
            }
        }
        Value::Array(items) => {
            for value in items {
                collect(value, definitions, used);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The parenthesised part of a type: fields of an object or words of an enum.
fn body(schema: &Value) -> String {
    let mut lines = Vec::new();
    if let Some(words) = words(schema) {
        for (word, variant) in words {
            let mut line = String::new();
            documentation(&mut line, "  ", variant);
            line.push_str("  ");
            line.push_str(word);
            lines.push(line);
        }
    } else if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, property) in properties {
            let mut line = String::new();
            documentation(&mut line, "  ", property);
            line.push_str("  ");
            line.push_str(name);
            line.push_str(": ");
            line.push_str(&type_of(property));
            lines.push(line);
        }
    }
    if lines.is_empty() {
        "()".to_owned()
    } else {
        format!("(\n{}\n)", lines.join(",\n"))
    }
}

/// The words of an enum, each with the schema that documents it.
fn words(schema: &Value) -> Option<Vec<(&str, &Value)>> {
    if let Some(Value::Array(words)) = schema.get("enum") {
        return words
            .iter()
            .map(|word| Some((word.as_str()?, &Value::Null)))
            .collect();
    }
    let Value::Array(variants) = schema.get("oneOf")? else {
        return None;
    };
    let mut all = Vec::new();
    for variant in variants {
        match variant.get("const").and_then(Value::as_str) {
            Some(word) => all.push((word, variant)),
            // A group of variants without documentation.
            None => all.extend(words(variant)?),
        }
    }
    Some(all)
}

fn type_of(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return name.to_owned();
    }
    if let Some(Value::Array(choices)) = schema.get("anyOf") {
        let is_null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
        if let Some(choice) = choices.iter().find(|choice| !is_null(choice))
            && choices.iter().any(|choice| is_null(&choice))
            && choices.len() == 2
        {
            return format!("?{}", type_of(choice));
        }
    }
    let plain = |name: &str| match name {
        "boolean" => "bool".to_owned(),
        "integer" => "int".to_owned(),
        "number" => "float".to_owned(),
        "string" => "string".to_owned(),
        "array" => match schema.get("items") {
            Some(items) => format!("[]{}", type_of(items)),
            None => "object".to_owned(),
        },
        "object" => match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => format!("[string]{}", type_of(values)),
            _ => "object".to_owned(),
        },
        _ => "object".to_owned(),
    };
    match schema.get("type") {
        Some(Value::String(name)) => plain(name),
        Some(Value::Array(names)) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            match names.as_slice() {
                [name, "null"] | ["null", name] => format!("?{}", plain(name)),
                _ => "object".to_owned(),
            }
        }
        _ => "object".to_owned(),
    }
}

fn documentation(text: &mut String, indent: &str, schema: &Value) {
    if let Some(description) = schema.get("description").and_then(Value::as_str) {
        comment(text, indent, description);
    }
}

fn comment(text: &mut String, indent: &str, lines: &str) {
    for line in lines.lines() {
        writeln!(text, "{indent}# {line}").ok();
    }
}

#[cfg(test)]
mod tests;
