//! The data: events as values, causes, verdicts. No behaviour beyond constructing and naming.

pub mod address;
pub mod cause;
pub mod configured;
pub mod conversion;
pub mod event;
pub mod host;
pub mod observation;
pub mod root;
pub mod unix;
pub mod verdict;
