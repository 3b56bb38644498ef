//! The summary as text.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{Group, Key, Summary};
use crate::explain::wrap;
use crate::record::{End, EndReason, LossReason, Origin};
use crate::sink::terminal::number::{counted, day_and_clock, duration, grouped};
use crate::sink::terminal::text::{Ink, Palette, escape, width};

/// Where reasons and advice stand under their row.
const INDENT: usize = 4;

impl Summary {
    /// Several lines, each with its newline.
    pub fn text(&self, end: &End, palette: Palette, columns: Option<usize>, zone: &TimeZone) -> String {
        let span = duration(Duration::try_from_secs_f64(end.duration_s).unwrap_or_default());
        let mut out = String::new();
        if self.attempts == 0 && self.responses == 0 {
            out.push_str(&palette.paint(Ink::Strong, self.nothing(end, &span)));
            out.push('\n');
        } else {
            out.push_str(&palette.paint(Ink::Strong, self.headline(&span)));
            out.push('\n');
            if self.mended > 0 {
                out.push_str(&format!("of these, {} reached the client as another status\n", grouped(self.mended)));
            }
            self.origins(&mut out);
            out.push('\n');
            self.table(palette, columns, zone, &mut out);
        }
        for line in self.losses() {
            out.push_str(&palette.paint(Ink::Warning, line));
            out.push('\n');
        }
        if end.reason == EndReason::Error {
            out.push_str("tracing ended early: see standard error\n");
        }
        out
    }

    fn nothing(&self, end: &End, span: &str) -> String {
        if end.failures > 0 || end.responses > 0 {
            return format!(
                "nothing of that failed in {span}; hidden by --cause or --upstream: {}, {} (502 or 504)",
                counted(end.failures, "failed attempt"),
                counted(end.responses, "response")
            );
        }
        let upstreams = self.connections.as_ref().map_or(0, |all| all.values().filter(|n| **n > 0).count() as u64);
        let counted_here = self.connections.as_ref().map(|all| all.values().sum::<u64>());
        match counted_here.or(end.connections) {
            None => format!("nothing failed in {span}: no failed upstream attempt, no 502, no 504"),
            Some(0) => format!(
                "nothing failed in {span}, but no new connection to an upstream was seen either \
                 (connections that were open before are not counted)"
            ),
            Some(connections) => {
                let whose = if upstreams > 0 { counted(upstreams, "upstream") } else { "upstreams".to_owned() };
                let were = if connections == 1 { "was" } else { "were" };
                format!(
                    "nothing failed in {span}: {} to {whose} {were} healthy",
                    counted(connections, "new connection")
                )
            }
        }
    }

    fn headline(&self, span: &str) -> String {
        let mut ends: Vec<_> =
            self.by_status.iter().map(|(status, count)| format!("{} × {status}", grouped(*count))).collect();
        let saved = self.retried.saturating_sub(self.retried_in_vain);
        if saved > 0 {
            ends.push(format!("{} retried and saved", grouped(saved)));
        }
        if self.retried_in_vain > 0 {
            ends.push(format!("{} retried in vain", grouped(self.retried_in_vain)));
        }
        if self.cut > 0 {
            ends.push(format!("{} cut short", counted(self.cut, "response")));
        }
        if self.unanswered > 0 {
            ends.push(format!("{} final without an answer seen", grouped(self.unanswered)));
        }
        let mut headline = format!("{} failed in {span}", counted(self.attempts, "attempt"));
        if !ends.is_empty() {
            headline.push_str(" → ");
            headline.push_str(&ends.join(", "));
        }
        if self.responses > 0 {
            let explained = self.responses - self.unexplained;
            headline.push_str(&format!("; {} of {} explained", grouped(explained), grouped(self.responses)));
        }
        headline
    }

    fn origins(&self, out: &mut String) {
        for (origin, count) in &self.by_origin {
            let made = match origin {
                Origin::Nginx => continue,
                Origin::Upstream => "sent by the upstream itself, and passed on",
                Origin::Config => "ordered by nginx's configuration (return, try_files)",
                Origin::Cache => "answered from nginx's cache",
            };
            out.push_str(&format!("of these, {} {made}\n", grouped(*count)));
        }
    }

    fn table(&self, palette: Palette, columns: Option<usize>, zone: &TimeZone, out: &mut String) {
        let rows = self.rows();
        let mut cells = vec![["attempts", "errors", "cause", "upstream", "first", "last"].map(str::to_owned)];
        cells.extend(rows.iter().map(|(key, group)| row(key, group, zone)));
        let mut widths = [0; 6];
        for row in &cells {
            for (column, cell) in row.iter().enumerate() {
                widths[column] = widths[column].max(width(cell));
            }
        }
        for (index, row) in cells.iter().enumerate() {
            let line = aligned(row, &widths);
            out.push_str(&if index == 0 { palette.paint(Ink::Dim, line) } else { line.into() });
            out.push('\n');
            if let Some((key, group)) = index.checked_sub(1).and_then(|at| rows.get(at)) {
                if let Some(reason) = &group.reason {
                    below(&escape(reason), columns, out);
                }
                below(&format!("→ {}", escape(group.advice(key.0))), columns, out);
            }
        }
    }

    fn losses(&self) -> Vec<String> {
        let line = |((program, reason), count): (&(String, LossReason), &Option<u64>)| {
            let what = count.map_or_else(|| "unknown".to_owned(), grouped);
            format!("lost: {what} ({}: {})", escape(program), reason.text())
        };
        let mut lines: Vec<_> = self.lost.iter().map(line).collect();
        if !lines.is_empty() {
            lines.push("counts above may be too low, and what was lost has no verdict".to_owned());
        }
        if self.counted > 0 {
            lines.push(format!(
                "{} of these failures and responses came too fast to be told one by one: counted, by what nginx said of them",
                grouped(self.counted)
            ));
        }
        lines
    }
}

fn row((cause, upstream): &Key, group: &Group, zone: &TimeZone) -> [String; 6] {
    let number = |number: u64| if number == 0 { "–".to_owned() } else { grouped(number) };
    let first = day_and_clock(group.first, zone);
    let last = day_and_clock(group.last, zone);
    // The day once, unless it changed in between.
    let last = match (first.split_once(' '), last.split_once(' ')) {
        (Some((first_day, _)), Some((last_day, time))) if first_day == last_day => time.to_owned(),
        _ => last,
    };
    let upstream = upstream.as_deref().map_or_else(|| "–".to_owned(), |name| escape(name).into_owned());
    [number(group.attempts), number(group.errors), cause.id().to_owned(), upstream, first, last]
}

/// Numbers to the right, the rest to the left.
fn aligned(row: &[String; 6], widths: &[usize; 6]) -> String {
    let mut line = String::new();
    for (column, cell) in row.iter().enumerate() {
        let padding = " ".repeat(widths[column] - width(cell));
        let (before, after) = if column < 2 { (padding.as_str(), "") } else { ("", padding.as_str()) };
        line.push_str(before);
        line.push_str(cell);
        line.push_str(after);
        line.push_str("  ");
    }
    line.trim_end().to_owned()
}

fn below(text: &str, columns: Option<usize>, out: &mut String) {
    let columns = columns.filter(|columns| *columns >= 40).map_or(usize::MAX, |columns| columns - INDENT);
    for line in wrap(text, columns) {
        out.extend(std::iter::repeat_n(' ', INDENT));
        out.push_str(&line);
        out.push('\n');
    }
}
