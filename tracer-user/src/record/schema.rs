//! docs/schema.json holds for every record that this module can write.
