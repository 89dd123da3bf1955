//! The interface description is complete, parses, and tells the truth about
//! what is sent.

#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

use serde::Serialize;
use zlink::idl::{CustomType, Interface, Type};

use super::*;
use crate::view::{entity::StateWord, samples};

fn parsed() -> Interface<'static> {
    Interface::try_from(of(INTERFACE).unwrap()).unwrap()
}

#[test]
fn both_descriptions_parse() {
    let interface = parsed();
    assert_eq!(interface.name().as_str(), INTERFACE);
    assert_eq!(interface.errors().count(), 6);
    let service = of("org.varlink.service").unwrap();
    let service = Interface::try_from(service).unwrap();
    assert_eq!(service.methods().count(), 2);
    assert_eq!(of("io.pmon.Other"), None);
}

#[test]
fn every_verb_is_described_and_nothing_else() {
    let interface = parsed();
    let mut described: Vec<_> = interface
        .methods()
        .map(|method| method.name().as_str().to_owned())
        .collect();
    let mut verbs: Vec<_> = Verb::ALL
        .iter()
        .map(|verb| verb.name().to_owned())
        .collect();
    described.sort();
    verbs.sort();
    assert_eq!(described, verbs);
}

#[test]
fn nothing_is_left_untyped_and_every_type_is_defined() {
    fn check(ty: &Type<'_>, defined: &BTreeSet<String>, within: &str) {
        match ty {
            Type::Bool | Type::Int | Type::Float | Type::String => {}
            Type::Optional(inner) | Type::Array(inner) | Type::Map(inner) => {
                check(inner.inner(), defined, within);
            }
            Type::Custom(name) => assert!(defined.contains(name.as_str()), "{within}: {name:?}"),
            other => panic!("{within}: {other:?} says less than it could"),
        }
    }
    let interface = parsed();
    let defined: BTreeSet<_> = interface
        .custom_types()
        .map(|ty| ty.name().as_str().to_owned())
        .collect();
    for ty in interface.custom_types() {
        if let CustomType::Object(object) = ty {
            for field in object.fields() {
                check(field.ty(), &defined, object.name().as_str());
            }
        }
    }
    for method in interface.methods() {
        for field in method.inputs().chain(method.outputs()) {
            check(field.ty(), &defined, method.name().as_str());
        }
    }
}

/// Whether a value is what its type says, field by field.
fn conforms(value: &Value, ty: &Type<'_>, interface: &Interface<'_>) -> Result<(), String> {
    let wrong = || Err(format!("{value} is not {ty}"));
    match (ty, value) {
        (Type::Bool, Value::Bool(_))
        | (Type::String, Value::String(_))
        | (Type::Float, Value::Number(_))
        | (Type::Optional(_), Value::Null) => Ok(()),
        (Type::Int, Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(()),
        (Type::Optional(inner), value) => conforms(value, inner.inner(), interface),
        (Type::Array(inner), Value::Array(items)) => items
            .iter()
            .try_for_each(|item| conforms(item, inner.inner(), interface)),
        (Type::Map(inner), Value::Object(entries)) => entries
            .values()
            .try_for_each(|item| conforms(item, inner.inner(), interface)),
        (Type::Custom(name), value) => {
            let Some(custom) = interface.custom_types().find(|ty| ty.name() == name) else {
                return Err(format!("no type {name:?}"));
            };
            match (custom, value) {
                (CustomType::Enum(words), Value::String(word)) => words
                    .variants()
                    .any(|variant| variant.name().as_str() == word)
                    .then_some(())
                    .ok_or_else(|| format!("{word} is not in {name:?}")),
                (CustomType::Object(object), Value::Object(_)) => {
                    let fields: Vec<_> = object.fields().collect();
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|field| (field.name().as_str(), field.ty()))
                        .collect();
                    fields_conform(value, &fields, interface)
                        .map_err(|error| format!("{name:?}: {error}"))
                }
                _ => wrong(),
            }
        }
        _ => wrong(),
    }
}

fn fields_conform(
    value: &Value,
    fields: &[(&str, &Type<'_>)],
    interface: &Interface<'_>,
) -> Result<(), String> {
    let object = value.as_object().ok_or("not an object")?;
    for key in object.keys() {
        if !fields.iter().any(|(name, _)| name == key) {
            return Err(format!("`{key}` is not described"));
        }
    }
    for (name, ty) in fields {
        let value = object.get(*name).ok_or(format!("`{name}` is not sent"))?;
        conforms(value, ty, interface).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn reply_conforms<T: Serialize>(verb: Verb, reply: &T) -> Result<(), String> {
    let interface = parsed();
    let method = interface
        .methods()
        .find(|method| method.name().as_str() == verb.name())
        .unwrap();
    let fields: Vec<_> = method
        .outputs()
        .map(|field| (field.name().as_str(), field.ty()))
        .collect();
    fields_conform(&serde_json::to_value(reply).unwrap(), &fields, &interface)
}

#[test]
fn what_is_sent_is_what_is_described() {
    let web = || {
        let mut web = samples::entity("web", StateWord::Recovering);
        web.last_death = Some(samples::death());
        web
    };
    reply_conforms(Verb::Status, &samples::status(vec![web()])).unwrap();
    reply_conforms(
        Verb::List,
        &EntitiesReply {
            entities: vec![web()],
        },
    )
    .unwrap();
    reply_conforms(Verb::Show, &samples::show(web())).unwrap();
    reply_conforms(Verb::Start, &EntityReply { entity: web() }).unwrap();
    reply_conforms(Verb::Unregister, &Nothing {}).unwrap();
    let event = samples::event(1, "web", "Killed (4700)");
    reply_conforms(
        Verb::Events,
        &EventReply {
            event: Some(event.clone()),
            lost: Some(3),
        },
    )
    .unwrap();
    reply_conforms(
        Verb::RecentEvents,
        &EventsReply {
            events: vec![event],
        },
    )
    .unwrap();
    let incidents = vec![samples::incident()];
    reply_conforms(Verb::History, &IncidentsReply { incidents }).unwrap();
    reply_conforms(Verb::Explain, &samples::explain(web())).unwrap();
    reply_conforms(Verb::Doctor, &samples::doctor()).unwrap();
    reply_conforms(Verb::BpfShow, &samples::bpf()).unwrap();
}

#[test]
fn the_comparison_can_fail() {
    let error = reply_conforms(Verb::Show, &Nothing {}).unwrap_err();
    assert!(error.contains("not sent"), "{error}");
    let error = reply_conforms(Verb::Unregister, &samples::doctor()).unwrap_err();
    assert!(error.contains("not described"), "{error}");
    let mut value = serde_json::to_value(samples::bpf()).unwrap();
    value["programs"][0]["id"] = "x".into();
    let error = reply_conforms(Verb::BpfShow, &value).unwrap_err();
    assert!(error.contains("\"x\" is not int"), "{error}");
}

#[test]
fn the_text_reads_like_an_interface() {
    let text = of(INTERFACE).unwrap();
    for part in [
        "interface io.pmon.Monitor\n",
        "type StateWord (\n  # Running, verified, registered.\n  up,\n",
        "  alarm: ?string,\n",
        "method Start(\n  # The entity.\n  name: string,\n  # Why, for the history.\n  reason: ?string\n) -> (\n",
        "method Reload(\n  # Only say what it would change; it is put into force when absent.\n  plan: ?bool\n) -> (\n",
        "  offsets: [string]int,\n",
        "error UnknownEntity (",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}
