//! The log files that workers have open, read along.
//!
//! Lines are outside input: `line` reads what nginx alone writes, `told` what a line adds to a message that is known
//! otherwise, and `frame` says which lines may stand inside another one's text. `opened` finds the files through the
//! workers' descriptors, `tail` reads one of them, `logs` all. Where no uprobe hears nginx, `spoken` takes lines for its word and
//! `access` the rows of the access log for its answers.

pub mod access;
pub mod frame;
pub mod line;
pub mod logs;
pub mod opened;
pub mod pattern;
pub mod spoken;
pub mod tail;
pub mod told;
