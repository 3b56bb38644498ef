//! Records as lines for people: the answer first, then who and where. Pure: text in, text out.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use super::Verbosity;
use super::fold::Folded;
use super::number::{clock, counted, elapsed, grouped};
use super::text::{Ink, Palette, cut, escape, width};
use crate::explain::wrap;
use crate::model::cause::Cause;
use crate::record::{
    Attempt, AttemptResult, Confidence, Exit, Failure, Lost, NginxWord, Origin, Outcome, Overflow, Queue, Response,
    Root, Setting, Timestamp,
};

/// Where further lines of a record begin: under the status.
const INDENT: usize = 14;
/// Narrower than this, lines are left to the terminal.
const NARROW: usize = 40;

/// How lines look.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) palette: Palette,
    /// Columns; None when the output is no terminal.
    pub(super) width: Option<usize>,
    pub(super) zone: TimeZone,
    pub(super) verbosity: Verbosity,
}

impl Look {
    /// A failed attempt.
    pub(super) fn failure(&self, failure: &Failure, out: &mut String) {
        let mut parts = vec![self.cause(failure.cause, failure.confidence)];
        parts.extend(failure.upstream.as_ref().map(|upstream| escape(&upstream.address)));
        parts.push(format!("{} {}", worker_word(&failure.worker.comm), failure.worker.pid).into());
        parts.extend(failure.elapsed_us.map(|micros| elapsed(micros).into()));
        let reason = match (&failure.root, &failure.hint) {
            (Some(root), _) => escape(&root.text),
            (None, Some(hint)) if self.verbosity != Verbosity::Verbose => format!("→ {}", escape(hint)).into(),
            _ => Cow::Borrowed(""),
        };
        self.head(failure.time, label(failure.status, failure.outcome), &parts, &reason, out);
        if let Some(word) = &failure.nginx {
            self.dim(&nginx_line(word), out);
        }
        if self.verbosity == Verbosity::Verbose {
            self.evidence(failure, out);
        }
    }

    fn evidence(&self, failure: &Failure, out: &mut String) {
        for evidence in &failure.evidence {
            let at = format!("{:+} µs", evidence.at_us);
            let line = format!("{at:>12}  {}  ({})", escape(&evidence.text), escape(&evidence.source));
            self.dim(&line, out);
        }
        if let Some(connection) = &failure.connection {
            let fact = |value: Option<u64>, name: &str| value.map(|value| counted(value, name));
            let facts = [
                connection.local.as_deref().map(|local| format!("from {}", escape(local))),
                connection.reused.filter(|reused| *reused).map(|_| "reused".to_owned()),
                connection.idle_us.map(|micros| format!("idle for {} before", elapsed(micros))),
                fact(connection.requests, "request"),
                fact(connection.bytes_sent, "byte").map(|bytes| format!("{bytes} sent")),
                fact(connection.bytes_received, "byte").map(|bytes| format!("{bytes} received")),
                connection.syn_retransmits.filter(|count| *count > 0).map(|n| counted(u64::from(n), "SYN retransmit")),
            ];
            let facts: Vec<_> = facts.into_iter().flatten().collect();
            if !facts.is_empty() {
                self.dim(&format!("connection {}", facts.join(", ")), out);
            }
        }
        for setting in &failure.configuration {
            self.dim(&setting_line(setting), out);
        }
        if let Some(disagreement) = &failure.disagreement {
            self.below(&format!("the witnesses differ: {}", escape(disagreement)), out);
        }
        if let Some(hint) = &failure.hint {
            self.below(&format!("→ {}", escape(hint)), out);
        }
    }

    /// A 502 or 504 without a failed connection of its own.
    pub(super) fn response(&self, response: &Response, out: &mut String) {
        let mut parts = vec![self.palette.paint(Ink::Strong, response.cause.id())];
        parts.extend(response.upstream.as_deref().map(escape));
        parts.push(format!("{} {}", worker_word(&response.worker.comm), response.worker.pid).into());
        let reason = match response.origin {
            Origin::Upstream => format!("the upstream itself answered {}", response.status).into(),
            Origin::Config => "nginx's configuration answers so".into(),
            Origin::Cache => "answered from nginx's cache".into(),
            Origin::Nginx => match (&response.hint, response.related.len() as u64) {
                (Some(hint), _) => Cow::Owned(format!("→ {}", escape(hint))),
                (None, 0) => "".into(),
                (None, related) => format!("after {} before it", counted(related, "failed attempt")).into(),
            },
        };
        self.head(response.time, status_label(response.status), &parts, &reason, out);
        let host = response.host.as_deref().map(|host| format!("host {}", escape(host)));
        let client = response.client.as_deref().map(|client| format!("client {}", escape(client)));
        let about = [
            response.message.as_deref().map(|message| escape(message).into_owned()),
            response.request.as_deref().map(|request| escape(request).into_owned()),
            client,
            host,
        ];
        let about: Vec<_> = about.into_iter().flatten().collect();
        if !about.is_empty() {
            self.dim(&about.join(" · "), out);
        }
    }

    /// A count in place of many failures.
    pub(super) fn folded(&self, folded: &Folded, out: &mut String) {
        let Folded { kind, time, count, micros, tally } = folded;
        let mut parts =
            vec![Cow::Owned(format!("in {}", tenths(*micros))), self.palette.paint(Ink::Strong, kind.cause.id())];
        parts.extend(kind.upstream.as_deref().map(escape));
        let outcomes = [
            (tally.bad_gateway, "× 502"),
            (tally.gateway_timeout, "× 504"),
            (tally.retried, "retried"),
            (tally.other, "otherwise"),
        ];
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{} {name}", grouped(count)))
            .collect();
        let label = (Cow::Owned(format!("×{}", grouped(*count))), Some(Ink::Warning));
        self.head(*time, label, &parts, &outcomes.join(", "), out);
    }

    /// A listener that drops connections.
    pub(super) fn overflow(&self, overflow: &Overflow, out: &mut String) {
        let queue = match overflow.queue {
            Queue::Accept => "accept queue",
            Queue::Syn => "SYN queue",
        };
        let owner = overflow.owner.as_ref().map(|owner| format!(" of {}[{}]", escape(&owner.comm), owner.pid));
        let full = match (overflow.queued, overflow.limit) {
            (Some(queued), Some(limit)) => format!("full ({queued} waiting, limit {limit})"),
            (None, Some(limit)) => format!("full (limit {limit})"),
            _ => "full".to_owned(),
        };
        let dropped = overflow.count.map(|count| format!(", {} dropped", counted(count, "connection")));
        let text = format!("{queue}{} {full}{}", owner.unwrap_or_default(), dropped.unwrap_or_default());
        self.head(overflow.time, ("queue".into(), Some(Ink::Warning)), &[escape(&overflow.address)], &text, out);
    }

    /// A process that served an upstream has ended.
    pub(super) fn exit(&self, exit: &Exit, out: &mut String) {
        let served: Vec<_> = exit.upstreams.iter().map(|address| escape(address)).collect();
        let fate = match (exit.oom, exit.signal.as_deref(), exit.code) {
            (Some(true), ..) => "was killed for memory".to_owned(),
            (_, Some(signal), _) => format!("was killed by {}", escape(signal)),
            (_, None, Some(code)) => format!("exited with code {code}"),
            _ => "ended".to_owned(),
        };
        let who = Cow::Owned(format!("{}[{}] {fate}", escape(&exit.comm), exit.pid));
        let reason = if served.is_empty() { String::new() } else { format!("it served {}", served.join(", ")) };
        self.head(exit.time, ("exit".into(), Some(Ink::Warning)), &[who], &reason, out);
    }

    /// A reason found after the failure was shown.
    pub(super) fn later(&self, time: Timestamp, cause: Cause, upstream: Option<&str>, root: &Root, out: &mut String) {
        let mut parts = vec![self.palette.paint(Ink::Strong, cause.id())];
        parts.extend(upstream.map(escape));
        self.head(time, ("because".into(), Some(Ink::Dim)), &parts, &escape(&root.text), out);
    }

    /// An attempt that did not fail.
    pub(super) fn attempt(&self, attempt: &Attempt, out: &mut String) {
        let text = match attempt.result {
            AttemptResult::Completed => "completed",
            AttemptResult::ClientClosed => "the client went away",
            AttemptResult::Closed => "closed",
        };
        let mut parts = vec![Cow::Borrowed(text)];
        parts.extend(attempt.upstream.as_ref().map(|upstream| escape(&upstream.address)));
        parts.push(format!("{} {}", worker_word(&attempt.worker.comm), attempt.worker.pid).into());
        parts.extend(attempt.elapsed_us.map(|micros| elapsed(micros).into()));
        self.head(attempt.time, ("ok".into(), Some(Ink::Dim)), &parts, "", out);
    }

    fn cause(&self, cause: Cause, confidence: Confidence) -> Cow<'static, str> {
        let id = self.palette.paint(Ink::Strong, cause.id());
        match confidence {
            Confidence::Likely => format!("{id} (likely)").into(),
            Confidence::Proven | Confidence::Unknown => id,
        }
    }

    /// Time, label and parts in one line; the reason behind them, or below where they fill the line.
    fn head(
        &self,
        time: Timestamp,
        label: (Cow<'_, str>, Option<Ink>),
        parts: &[Cow<'_, str>],
        reason: &str,
        out: &mut String,
    ) {
        let (text, ink) = label;
        let padding = " ".repeat(7_usize.saturating_sub(width(&text)));
        let label = ink.map_or_else(|| text.clone(), |ink| self.palette.paint(ink, text.as_ref()));
        let who = parts.join("  ");
        out.push_str(&clock(time, &self.zone));
        out.push_str("  ");
        out.push_str(&label);
        out.push_str(&padding);
        out.push_str("  ");
        out.push_str(&who);
        let used = INDENT + 9 + width(&without_color(&who)) + 2;
        let fits = self.width.is_none_or(|columns| used + width(reason) <= columns);
        if reason.is_empty() || fits {
            if !reason.is_empty() {
                out.push_str("  ");
                out.push_str(reason);
            }
            out.push('\n');
        } else {
            out.push('\n');
            self.below(reason, out);
        }
    }

    /// Text below the first line, wrapped: it is never cut.
    fn below(&self, text: &str, out: &mut String) {
        for line in wrap(text, self.columns().unwrap_or(usize::MAX)) {
            out.extend(std::iter::repeat_n(' ', INDENT));
            out.push_str(&line);
            out.push('\n');
        }
    }

    /// A dim line below the first, cut where the terminal ends.
    fn dim(&self, text: &str, out: &mut String) {
        let text = self.columns().map_or(Cow::Borrowed(text), |columns| cut(text, columns));
        out.extend(std::iter::repeat_n(' ', INDENT));
        out.push_str(&self.palette.paint(Ink::Dim, text));
        out.push('\n');
    }

    /// Columns beside the indent.
    fn columns(&self) -> Option<usize> {
        self.width.filter(|columns| *columns >= NARROW).map(|columns| columns - INDENT)
    }
}

/// Something was lost, as said on standard error.
pub(super) fn lost(lost: &Lost) -> String {
    let what = lost.count.map_or_else(|| "an unknown number of events".to_owned(), |count| counted(count, "event"));
    format!("lost {what} ({}): {}; verdicts may be missing or less certain", escape(&lost.program), lost.reason.text())
}

fn nginx_line(word: &NginxWord) -> String {
    let mut line = escape(&word.message).into_owned();
    let fields = [("", &word.request), ("client ", &word.client), ("host ", &word.host)];
    for (name, value) in fields {
        if let Some(value) = value {
            line.push_str(" · ");
            line.push_str(name);
            line.push_str(&escape(value));
        }
    }
    line
}

/// `configuration proxy_read_timeout 5s (/etc/nginx/conf.d/a.conf:14)`.
fn setting_line(setting: &Setting) -> String {
    let Setting { directive, value, file, line, in_force } = setting;
    let mut text = format!("configuration {}", escape(directive));
    if let Some(value) = value.as_ref().or(in_force.as_ref()) {
        text.push(' ');
        text.push_str(&escape(value));
    }
    let place = match (file, line) {
        (Some(file), Some(line)) => Some(format!("{}:{line}", escape(file))),
        _ => value.as_ref().map(|_| "default".to_owned()),
    };
    let other = in_force.as_ref().filter(|in_force| Some(*in_force) != value.as_ref());
    let in_force = other.map(|in_force| format!("in force: {}", escape(in_force)));
    let about: Vec<_> = [place, in_force].into_iter().flatten().collect();
    if !about.is_empty() {
        text.push_str(&format!(" ({})", about.join(", ")));
    }
    text
}

fn label(status: Option<u16>, outcome: Outcome) -> (Cow<'static, str>, Option<Ink>) {
    match (outcome, status) {
        (Outcome::Retried, _) => ("retried".into(), Some(Ink::Dim)),
        (Outcome::Truncated, _) => ("cut".into(), Some(Ink::Warning)),
        (Outcome::ClientGone, _) => ("gone".into(), Some(Ink::Dim)),
        (Outcome::Final, Some(status)) => status_label(status),
        (Outcome::Unknown, Some(status)) => (format!("{status}?").into(), status_label(status).1),
        (Outcome::Final | Outcome::Unknown, None) => ("?".into(), Some(Ink::Warning)),
    }
}

fn status_label(status: u16) -> (Cow<'static, str>, Option<Ink>) {
    let ink = if status == 504 { Ink::Warning } else { Ink::Error };
    (status.to_string().into(), (status >= 500).then_some(ink))
}

/// Plain `worker` for what everyone traces.
fn worker_word(comm: &str) -> Cow<'_, str> {
    if comm == "nginx" { Cow::Borrowed("worker") } else { escape(comm) }
}

fn tenths(micros: u64) -> String {
    let tenths = (micros + 50_000) / 100_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// Our own colours take no columns; escaped text holds no escape character.
fn without_color(text: &str) -> Cow<'_, str> {
    if !text.contains('\x1b') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split('\x1b');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    Cow::Owned(plain)
}
