//! One directive that matters for a failure, and how it is said in a sentence.

use crate::{
    model::configured::Place,
    nginx::config::{
        tree::Directive,
        value,
        view::{Said, View},
    },
};

/// Characters of a value that is shown.
const LONGEST: usize = 200;

/// A directive that has to do with a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub directive: String,
    /// As written, or the default where no file has it. None: not known from any file.
    pub value: Option<String>,
    /// None: the default, or not known.
    pub place: Option<Place>,
    /// What the worker's memory has. None: not read.
    pub in_force: Option<String>,
}

/// A value in force, from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Milliseconds(u64),
    Bytes(u64),
}

impl Measure {
    fn text(self) -> String {
        match self {
            Self::Milliseconds(time) => value::time(time),
            Self::Bytes(size) => value::size(size),
        }
    }

    /// Is this what a file says?
    pub(super) fn is(self, text: &str) -> bool {
        match self {
            Self::Milliseconds(time) => value::milliseconds(text) == Some(time),
            Self::Bytes(size) => value::bytes(text) == Some(size),
        }
    }
}

impl Setting {
    /// From a line of a file.
    pub(super) fn written(view: &View<'_>, directive: &Directive) -> Self {
        Self {
            directive: directive.name.clone(),
            value: Some(shortened(&directive.arguments.join(" "))),
            place: Some(view.place(directive)),
            in_force: None,
        }
    }

    /// From what the files say, or do not say, and what memory has; None: nothing is known, or it has no default.
    pub(super) fn of(
        view: Option<&View<'_>>,
        name: &str,
        said: &Said<'_>,
        default: Option<String>,
        in_force: Option<Measure>,
    ) -> Option<Self> {
        let in_force_text = in_force.map(Measure::text);
        let mut setting = match (said, view) {
            (Said::Set(lines), Some(view)) => Self::written(view, lines.first()?),
            (Said::Unset, _) if default.is_some() => Self::bare(name, default),
            _ if in_force_text.is_some() => Self::bare(name, None),
            _ => return None,
        };
        setting.in_force = in_force_text;
        // The same in other words.
        if let (Some(measure), Some(value)) = (in_force, &setting.value)
            && measure.is(value)
        {
            setting.in_force = Some(value.clone());
        }
        Some(setting)
    }

    fn bare(name: &str, value: Option<String>) -> Self {
        Self { directive: name.to_owned(), value, place: None, in_force: None }
    }

    /// What is in force as far as anything says.
    pub(super) fn value_in_force(&self) -> Option<&str> {
        self.in_force.as_deref().or(self.value.as_deref())
    }

    /// Does memory have something else than the files?
    fn differs(&self) -> bool {
        self.in_force.is_some() && self.value.is_some() && self.in_force != self.value
    }

    /// `proxy_read_timeout is 5s at FILE:14`; `home` is where a directive would stand that is nowhere.
    pub(super) fn sentence(&self, home: Option<&str>) -> String {
        let Self { directive, value, place, .. } = self;
        let is = self.value_in_force().unwrap_or("not set");
        let file_says = value.as_deref().unwrap_or_default();
        let home = home.map(|home| format!("to change it: {home}"));
        match (place, self.differs()) {
            (Some(place), false) => format!("{directive} is {is} at {}", at(place)),
            (Some(place), true) => {
                format!("{directive} in force is {is}, although {} says {file_says}", at(place))
            }
            (None, true) => format!("{directive} in force is {is}, although no file sets it"),
            (None, false) if value.is_some() => match home {
                Some(home) => format!("{directive} is {is} (default; {home})"),
                None => format!("{directive} is {is} (default)"),
            },
            (None, false) => match home {
                Some(home) => format!("{directive} in force is {is} ({home})"),
                None => format!("{directive} in force is {is}"),
            },
        }
    }

    /// `server 127.0.0.1:3001 at FILE:14`.
    pub(super) fn line(&self) -> String {
        let value = self.value.as_deref().unwrap_or_default();
        let place = self.place.as_ref().map(|place| format!(" at {}", at(place))).unwrap_or_default();
        format!("{} {value}{place}", self.directive)
    }
}

/// As nginx writes places, and editors take them.
pub(super) fn at(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

/// Cut where it is longer than anybody reads.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
