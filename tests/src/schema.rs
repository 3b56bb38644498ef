//! Holds records against the published JSON Schema, where it exists.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What is wrong with each kind of record, the first example of each.
pub fn differences(schema: &Path, records: &[Value]) -> Result<Vec<String>> {
    let text = fs::read_to_string(schema).with_context(|| format!("reading {}", schema.display()))?;
    let schema = serde_json::from_str(&text).context("the schema is no JSON")?;
    let validator = jsonschema::validator_for(&schema).context("the schema is no schema")?;
    let mut found = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for record in records {
        let kind = record["type"].as_str().unwrap_or_default();
        if seen.iter().any(|other| other == kind) {
            continue;
        }
        if let Some(error) = validator.iter_errors(record).next() {
            seen.push(kind.to_owned());
            found.push(format!("schema: {kind}{}: {error}", error.instance_path));
        }
    }
    Ok(found)
}
