//! docs/schema.json holds for every record that this program can write, and for nothing that it could not.

use jsonschema::Validator;
use serde_json::{Value, json};

use super::{LossReason, Record, RootKind, samples};
use crate::model::cause::Cause;
use crate::model::observation::Name;

fn published() -> Value {
    serde_json::from_str(include_str!("../../../docs/schema.json")).unwrap()
}

/// The published schema lets readers meet fields of later versions; our own output shall have none that it lacks.
fn closed(mut schema: Value) -> Value {
    fn close(value: &mut Value) {
        match value {
            Value::Object(object) => {
                object.values_mut().for_each(close);
                if object.get("type") == Some(&json!("object")) && object.contains_key("properties") {
                    object.insert("additionalProperties".to_owned(), json!(false));
                }
            }
            Value::Array(array) => array.iter_mut().for_each(close),
            _ => {}
        }
    }
    close(&mut schema);
    schema
}

fn validator(schema: &Value) -> Validator {
    jsonschema::validator_for(schema).unwrap()
}

fn as_json(record: &Record) -> Value {
    let mut line = Vec::new();
    record.write_line(&mut line).unwrap();
    serde_json::from_slice(&line).unwrap()
}

#[test]
fn the_schema_is_a_schema() {
    assert!(jsonschema::meta::is_valid(&published()));
}

#[test]
fn every_record_is_valid() {
    let validator = validator(&closed(published()));
    for record in samples::all() {
        let value = as_json(&record);
        let definition = match record.kind() {
            "worker" => "worker_change",
            kind => kind,
        };
        // The branch alone says what is wrong; the whole only that nothing fits.
        let mut branch = closed(published());
        branch["oneOf"] = json!([{ "$ref": format!("#/$defs/{definition}") }]);
        let errors: Vec<_> = self::validator(&branch).iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{value:#}");
        assert!(validator.is_valid(&value));
    }
}

#[test]
fn later_fields_are_allowed_and_missing_ones_are_not() {
    let validator = validator(&published());
    for record in samples::all() {
        let mut value = as_json(&record);
        value["of_a_later_version"] = json!(1);
        assert!(validator.is_valid(&value), "{value:#}");
        let object = value.as_object().unwrap();
        for key in object.keys().filter(|key| *key != "of_a_later_version") {
            let mut without = object.clone();
            without.remove(key);
            let optional = record.kind() == "update" && matches!(key.as_str(), "outcome" | "root" | "hint" | "nginx");
            assert_eq!(validator.is_valid(&Value::Object(without)), optional, "{} without {key}", record.kind());
        }
    }
}

#[test]
fn wrong_values_are_refused() {
    let validator = validator(&published());
    let failure = as_json(&Record::Failure(Box::new(samples::failure())));
    for (key, value) in [
        ("type", json!("telepathy")),
        ("cause", json!("bad_luck")),
        ("time", json!("2026-03-04T05:06:07Z")),
        ("outcome", json!(null)),
        ("evidence", json!(null)),
        ("elapsed_us", json!(-1)),
        ("upstream", json!("127.0.0.1:80")),
    ] {
        let mut wrong = failure.clone();
        wrong[key] = value;
        assert!(!validator.is_valid(&wrong), "{key}");
    }
}

#[test]
fn closed_lists_are_complete() {
    let schema = published();
    let listed = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone();
    let causes: Vec<_> = Cause::ALL.iter().map(|cause| cause.id()).collect();
    assert_eq!(listed("/$defs/cause/enum"), json!(causes));
    let kinds: Vec<_> = RootKind::ALL.iter().map(|kind| kind.id()).collect();
    assert_eq!(listed("/$defs/root/properties/kind/enum"), json!(kinds));
    let names: Vec<_> = Name::ALL.iter().map(|name| name.id()).collect();
    assert_eq!(listed("/$defs/session/properties/observations/items/properties/name/enum"), json!(names));
    let last = serde_json::to_value(LossReason::WriteFailed).unwrap();
    assert_eq!(listed("/$defs/lost/properties/reason/enum").as_array().unwrap().last(), Some(&last));
}
