//! The configuration files of a running master, as on disk.
