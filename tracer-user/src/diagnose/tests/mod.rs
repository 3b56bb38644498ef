//! The engine's rules as tables: what nginx says and the kernel sees, and the verdicts that follow.
//!
//! `link` builds connections, `script` plays steps and tells the verdicts as text; the other files are cases. A new case
//! is a list of steps and the lines that are expected.

mod identity;
mod keepalive;
mod kernel_only;
mod link;
mod loss;
mod messages;
mod messages_after;
mod outcome;
mod property;
mod response;
mod script;
mod story;
mod unbound;
mod unix;
mod witnesses;
