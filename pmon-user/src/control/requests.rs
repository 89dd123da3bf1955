//! From a message to a request: everything a peer can get wrong about the form
//! of a call is found here and named.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use zlink::{Call, varlink_service};

use super::{
    error::ControlError,
    interface::{INTERFACE, Verb},
};

/// Why a call gets an error reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// One of our own errors.
    Control(ControlError),
    /// One of the errors every Varlink service shares.
    Varlink(varlink_service::Error<'static>),
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

/// A well-formed call.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) what: What,
    /// Not yet looked at, but an object.
    pub(super) parameters: Value,
    /// No reply is wanted.
    pub(super) oneway: bool,
    /// Several replies are welcome.
    pub(super) more: bool,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// `org.varlink.service.GetInfo`.
    Info,
    /// `org.varlink.service.GetInterfaceDescription`.
    Description,
    /// A verb of ours.
    Verb(Verb),
}

#[derive(Debug, Deserialize)]
struct Method {
    method: String,
    #[serde(default)]
    parameters: Option<Value>,
}

/// The call in a message.
///
/// # Errors
///
/// [`ControlError::InvalidRequest`] when it is no call at all, the standard
/// errors of `org.varlink.service` when it calls something that is not there.
pub(super) fn parse(message: &[u8]) -> Result<Request, Failure> {
    let invalid = |reason: String| Failure::Control(ControlError::InvalidRequest { reason });
    let text = std::str::from_utf8(message)
        .map_err(|error| invalid(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) => {}
        Ok(other) => {
            return Err(invalid(format!(
                "expected a JSON object with `method`, got {}",
                kind(&other)
            )));
        }
        Err(error) => return Err(invalid(format!("not JSON: {error}"))),
    }
    let call: Call<Method> =
        serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    if call.upgrade() {
        return Err(invalid("`upgrade` is not offered".to_owned()));
    }
    let (oneway, more) = (call.oneway(), call.more());
    let Method { method, parameters } = call.method();
    let parameters = match parameters {
        None => Value::Object(serde_json::Map::new()),
        Some(object @ Value::Object(_)) => object.clone(),
        Some(other) => {
            return Err(Failure::Control(ControlError::InvalidParameter {
                field: "parameters".to_owned(),
                reason: format!("expected an object, got {}", kind(other)),
            }));
        }
    };
    Ok(Request {
        what: what(method)?,
        parameters,
        oneway,
        more,
    })
}

fn what(method: &str) -> Result<What, Failure> {
    let (interface, name) = method.rsplit_once('.').unwrap_or(("", method));
    let not_found = || varlink_service::Error::MethodNotFound {
        method: method.to_owned().into(),
    };
    if interface == varlink_service::INTERFACE_NAME.as_str() {
        match name {
            "GetInfo" => Ok(What::Info),
            "GetInterfaceDescription" => Ok(What::Description),
            _ => Err(Failure::Varlink(not_found())),
        }
    } else if interface == INTERFACE {
        Verb::from_name(name)
            .map(What::Verb)
            .ok_or_else(|| Failure::Varlink(not_found()))
    } else {
        Err(Failure::Varlink(
            varlink_service::Error::InterfaceNotFound {
                interface: interface.to_owned().into(),
            },
        ))
    }
}

/// Typed parameters.
///
/// # Errors
///
/// [`ControlError::InvalidParameter`] with the parameter's name.
pub(super) fn parameters<T: DeserializeOwned>(value: Value) -> Result<T, ControlError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        let named = reason.split('`').nth(1).map(str::to_owned);
        let field = match path.as_str() {
            // The error is about the whole object: a field that is missing, or one too many.
            "." | "?" => named.unwrap_or_else(|| "parameters".to_owned()),
            _ => path,
        };
        ControlError::InvalidParameter { field, reason }
    })
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

    use super::{
        super::interface::{NameParameters, NamesParameters},
        *,
    };

    fn invalid(message: &[u8]) -> String {
        match parse(message) {
            Err(Failure::Control(ControlError::InvalidRequest { reason })) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_call_is_named() {
        for (message, reason) in [
            (&b""[..], "not JSON: EOF"),
            (b"hello", "not JSON: expected value at line 1 column 1"),
            (b"{\"method\":", "not JSON: EOF"),
            (b"{\"method\":\"\xff\"}", "not UTF-8 at byte 11"),
            (b"[]", "expected a JSON object with `method`, got an array"),
            (b"null", "expected a JSON object with `method`, got null"),
            (b"{}", "missing field `method`"),
            (b"{\"method\":7}", "invalid type: integer `7`"),
            (
                b"{\"method\":\"a.B\",\"more\":1}",
                "invalid type: integer `1`",
            ),
            (b"{\"method\":\"a.B\",\"upgrade\":true}", "`upgrade`"),
        ] {
            let found = invalid(message);
            assert!(found.contains(reason), "{found}");
        }
        let deep = "[".repeat(10_000);
        assert!(invalid(deep.as_bytes()).contains("recursion limit"));
    }

    #[test]
    fn what_is_not_there_has_the_standard_error() {
        for (method, missing) in [
            ("io.pmon.Monitor.Exec", "MethodNotFound"),
            ("io.pmon.Monitor.status", "MethodNotFound"),
            ("org.varlink.service.Exec", "MethodNotFound"),
            ("io.pmon.Other.Status", "InterfaceNotFound"),
            ("Status", "InterfaceNotFound"),
            ("", "InterfaceNotFound"),
        ] {
            let message = serde_json::json!({ "method": method }).to_string();
            match parse(message.as_bytes()) {
                Err(Failure::Varlink(error)) => {
                    let text = serde_json::to_string(&error).unwrap();
                    assert!(text.contains(missing), "{method}: {text}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn every_verb_is_found_under_its_name() {
        for verb in Verb::ALL {
            let message = format!(r#"{{"method":"{INTERFACE}.{}"}}"#, verb.name());
            assert_eq!(parse(message.as_bytes()).unwrap().what, What::Verb(verb));
        }
    }

    #[test]
    fn a_bad_parameter_is_named() {
        fn field<T: DeserializeOwned + std::fmt::Debug>(value: Value) -> (String, String) {
            match parameters::<T>(value).unwrap_err() {
                ControlError::InvalidParameter { field, reason } => (field, reason),
                other => panic!("{other:?}"),
            }
        }
        let json = |text| serde_json::from_str::<Value>(text).unwrap();
        let (name, reason) = field::<NameParameters>(json("{}"));
        assert_eq!(
            (name.as_str(), reason.as_str()),
            ("name", "missing field `name`")
        );
        let (name, reason) = field::<NameParameters>(json(r#"{"name":7}"#));
        assert_eq!(name, "name");
        assert!(reason.contains("expected a string"), "{reason}");
        let (name, reason) = field::<NameParameters>(json(r#"{"name":"a","nmae":"b"}"#));
        assert_eq!(name, "nmae");
        assert!(reason.contains("expected `name`"), "{reason}");
        let (name, _) = field::<NamesParameters>(json(r#"{"names":["a",7]}"#));
        assert_eq!(name, "names[1]");
        match parse(br#"{"method":"io.pmon.Monitor.Status","parameters":[]}"#) {
            Err(Failure::Control(ControlError::InvalidParameter { field, .. })) => {
                assert_eq!(field, "parameters");
            }
            other => panic!("{other:?}"),
        }
    }
}
