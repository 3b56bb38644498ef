//! What each cause means, and what to do about it: data, and its two forms (terminal, docs/causes.md).

mod after;
mod connect;
mod host;
mod nearest;
mod none;
mod render;
mod response;
mod tls;
mod unix;
mod wrap;

pub use nearest::nearest;
pub use render::markdown;
use render::{list, text};
pub(crate) use wrap::wrap;

use crate::model::cause::Cause;

/// One cause, for people.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    pub cause: Cause,
    /// What nginx answers.
    pub status: &'static str,
    /// What happened, in a sentence or three.
    pub meaning: &'static str,
    /// What the kernel sees.
    pub kernel: &'static str,
    /// What nginx writes, cut to what identifies it; may be empty.
    pub nginx: &'static [&'static str],
    pub check: &'static [Check],
    pub change: &'static [&'static str],
    /// The shortest advice: one line, no full stop.
    pub hint: &'static str,
}

/// Something to look at, and a command that shows it (empty where there is none).
#[derive(Clone, Copy, Debug)]
pub struct Check {
    pub what: &'static str,
    pub command: &'static str,
}

/// Causes that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub title: &'static str,
    pub about: &'static str,
    pub explanations: &'static [Explanation],
}

/// All groups, in the order of the taxonomy.
pub const GROUPS: &[Group] =
    &[connect::GROUP, unix::GROUP, tls::GROUP, response::GROUP, after::GROUP, none::GROUP, host::GROUP, host::OTHERS];

/// The explanation of a cause.
pub fn explanation(cause: Cause) -> Option<&'static Explanation> {
    GROUPS.iter().flat_map(|group| group.explanations).find(|explanation| explanation.cause == cause)
}

/// What to do, in one line: the default `hint` of records.
pub fn hint(cause: Cause) -> &'static str {
    explanation(cause).map_or("", |explanation| explanation.hint)
}

/// What `why502 explain` prints, in lines of at most so many columns: one cause, or the list of all.
pub fn answer(cause: Option<Cause>, columns: usize) -> String {
    cause.and_then(explanation).map_or_else(|| list(columns), |explanation| text(explanation, columns))
}

/// Shorter way to write a table.
const fn check(what: &'static str, command: &'static str) -> Check {
    Check { what, command }
}

#[cfg(test)]
mod tests;
