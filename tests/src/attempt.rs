//! One failed attempt of a request, as a scenario describes it.

/// One failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The cause, or several of which any is right.
    pub cause: &'static [&'static str],
    /// nginx's message about it: how it begins, ` … ` and what it goes on with; ` | ` between alternatives; `""` for
    /// silence.
    pub says: &'static str,
    /// Whether a subrequest made it: no access log names its upstream.
    pub part: bool,
    /// Its outcome; several that are all true are joined by `|`.
    pub outcome: &'static str,
    /// Least and most confidence.
    pub confidence: (Confidence, Confidence),
    /// `connection.reused`, where it matters.
    pub reused: Option<bool>,
    /// `connection.preexisting`, where it matters.
    pub preexisting: Option<bool>,
    /// Least `connection.idle_us`, where it matters.
    pub idle_us: Option<u64>,
    /// `root.kind`, where it can be known for certain.
    pub root: Option<&'static str>,
    /// Kinds of root that would be false.
    pub root_never: &'static [&'static str],
    /// `errno`, where it matters; `""` is null.
    pub errno: Option<&'static str>,
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// `unknown`
    Unknown,
    /// `likely`
    Likely,
    /// `proven`
    Proven,
}

impl Confidence {
    /// By its name in the records.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "unknown" => Some(Self::Unknown),
            "likely" => Some(Self::Likely),
            "proven" => Some(Self::Proven),
            _ => None,
        }
    }
}

/// A proven final failure about which nginx says this.
pub const fn attempt(cause: &'static [&'static str], says: &'static str) -> Attempt {
    Attempt {
        cause,
        says,
        part: false,
        outcome: "final",
        confidence: (Confidence::Proven, Confidence::Proven),
        reused: None,
        preexisting: None,
        idle_us: None,
        root: None,
        root_never: &[],
        errno: None,
    }
}

impl Attempt {
    /// Another attempt followed.
    pub const fn retried(self) -> Self {
        Self { outcome: "retried", ..self }
    }

    /// The response had begun.
    pub const fn truncated(self) -> Self {
        Self { outcome: "truncated", ..self }
    }

    /// By a subrequest: what it decided is not what became of the request.
    pub const fn of_a_subrequest(self) -> Self {
        Self { part: true, outcome: "final|truncated|unknown", ..self }
    }

    /// Another outcome.
    pub const fn outcome(self, outcome: &'static str) -> Self {
        Self { outcome, ..self }
    }

    /// Likely is enough.
    pub const fn likely(self) -> Self {
        Self { confidence: (Confidence::Likely, Confidence::Proven), ..self }
    }

    /// Any confidence up to this.
    pub const fn at_most(self, most: Confidence) -> Self {
        Self { confidence: (Confidence::Unknown, most), ..self }
    }

    /// On a connection that had served before, or not.
    pub const fn reused(self, reused: bool) -> Self {
        Self { reused: Some(reused), ..self }
    }

    /// On a connection that had been idle for at least so long.
    pub const fn idle_us(self, least: u64) -> Self {
        Self { idle_us: Some(least), ..self }
    }

    /// On a connection that was there before the tracer.
    pub const fn preexisting(self) -> Self {
        Self { preexisting: Some(true), ..self }
    }

    /// With this reason behind it.
    pub const fn root(self, kind: &'static str) -> Self {
        Self { root: Some(kind), ..self }
    }

    /// Never with these.
    pub const fn root_never(self, kinds: &'static [&'static str]) -> Self {
        Self { root_never: kinds, ..self }
    }

    /// With this errno; `""` is null.
    pub const fn errno(self, errno: &'static str) -> Self {
        Self { errno: Some(errno), ..self }
    }
}
