//! The published JSON Schema of the native format.

use super::table::NativeFile;

/// The schema (draft 2020-12), generated from the structs that read the files.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(NativeFile).to_value()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_schema_names_every_key_and_refuses_others() {
        let schema = schema();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(schema["additionalProperties"], false);
        let entity = &schema["$defs"]["EntityTable"];
        assert_eq!(entity["additionalProperties"], false);
        assert_eq!(entity["required"], serde_json::json!(["name"]));
        for key in ["command", "pidfile", "stop", "startuptime", "environment"] {
            let property = &entity["properties"][key];
            assert!(property["description"].is_string(), "{key}: {property}");
        }
        for table in [
            "daemon", "control", "defaults", "pmon_d", "override", "entity",
        ] {
            assert!(schema["properties"][table].is_object(), "{table}");
        }
        let severities = &schema["$defs"]["SeverityText"];
        assert!(severities.to_string().contains("critical"), "{severities}");
        // Every reference leads somewhere.
        let text = schema.to_string();
        for reference in text.split("\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schema["$defs"][name].is_object(), "{name}");
        }
    }
}
