//! Unix sockets in the eyes of a process: the way to the file, who may use it, who listens on it.
//!
//! Reads directories that may be on file systems which never answer, the descriptors of all processes, and the kernel's
//! list of sockets: for threads that do nothing else.

pub mod access;
pub mod diag;
pub mod holders;
pub mod likeness;
pub mod look;
pub mod places;
pub mod view;
pub mod walk;
