//! What each cause and each reason means, and what to do about it: data, and its two forms (terminal, docs/causes.md).

mod after;
mod connect;
mod host;
mod nearest;
mod none;
mod reasons;
mod render;
mod response;
mod tls;
mod unix;
mod wrap;

pub use nearest::nearest;
pub use render::markdown;
use render::{list, of_reason, text};
pub(crate) use wrap::wrap;

use crate::model::{cause::Cause, root::RootKind};

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

/// What can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Cause(Cause),
    Reason(RootKind),
}

impl Subject {
    /// The one with this id.
    pub fn from_id(id: &str) -> Option<Self> {
        Cause::from_id(id).map(Self::Cause).or_else(|| RootKind::from_id(id).map(Self::Reason))
    }

    /// Ids of all.
    pub fn ids() -> impl Iterator<Item = &'static str> + Clone {
        let causes = Cause::ALL.iter().map(|cause| cause.id());
        causes.chain(RootKind::ALL.iter().map(|kind| kind.id()))
    }
}

/// What `why502 explain` prints, in lines of at most so many columns: one cause or reason, or the list of all.
pub fn answer(subject: Option<Subject>, columns: usize) -> String {
    let found = match subject {
        Some(Subject::Cause(cause)) => explanation(cause).map(|explanation| text(explanation, columns)),
        Some(Subject::Reason(kind)) => reasons::reason(kind).map(|reason| of_reason(reason, columns)),
        None => None,
    };
    found.unwrap_or_else(|| list(columns))
}

/// Shorter way to write a table.
const fn check(what: &'static str, command: &'static str) -> Check {
    Check { what, command }
}

#[cfg(test)]
mod tests;
