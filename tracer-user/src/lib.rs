//! why502: says why nginx answered 502 or 504.
//!
//! By direction of flow; a module imports only from those before it (ARCHITECTURE.md).

pub mod model;

pub mod kernel;
pub mod probe;

pub mod collect;
pub mod context;
pub mod diagnose;
pub mod nginx;

pub mod explain;
pub mod record;

pub mod sink;

pub mod settings;

pub mod doctor;
pub mod trace;

pub mod cli;
pub mod exit;
