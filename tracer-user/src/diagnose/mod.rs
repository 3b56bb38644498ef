//! The diagnosis: events and ticks in, verdicts out. Pure: no IO, no clock, no globals; imports only `model`.
//!
//! `engine` orders what belongs together (attempt, word, status), `word` understands nginx's messages, `rules` decide
//! the cause from both witnesses, `evidence` tells what was seen.

pub mod engine;
pub mod evidence;
pub mod request;
pub mod rules;
pub mod word;

#[cfg(test)]
mod tests;
