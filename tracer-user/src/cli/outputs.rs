//! From settings to sinks.

use jiff::tz::TimeZone;

use crate::exit::say;
use crate::settings::{Format, RecordSettings, TraceSettings, WatchSettings};
use crate::sink::filter::Filter;
use crate::sink::json::JsonLines;
use crate::sink::log::{CaptureFile, CaptureOptions, OpenError};
use crate::sink::stdout::Stdout;
use crate::sink::terminal::{Screen, Terminal};
use crate::sink::{Queries, Sinks, Talk};

impl TraceSettings {
    /// The display that was asked for, and the capture beside it.
    pub fn sinks(&self) -> Result<Sinks, OpenError> {
        let mut sinks = self.watch.empty_sinks();
        if let Some(log) = &self.log {
            sinks.add(capture(log)?);
        }
        match self.format {
            Format::Json => sinks.add(JsonLines::new(Stdout::new())),
            Format::Text => {
                let screen = Screen::of_process(self.color);
                sinks.add(Terminal::new(Stdout::new(), screen, self.verbosity, TimeZone::system(), on_stderr()));
            }
        }
        Ok(sinks)
    }
}

impl RecordSettings {
    /// The capture.
    pub fn sinks(&self) -> Result<Sinks, OpenError> {
        let mut sinks = self.watch.empty_sinks();
        sinks.add(capture(&self.log)?);
        Ok(sinks)
    }
}

impl WatchSettings {
    fn empty_sinks(&self) -> Sinks {
        let queries = if self.redact_query { Queries::Redacted } else { Queries::Shown };
        Sinks::new(Filter::new(self.upstreams.clone(), self.causes.clone()), queries)
    }
}

fn capture(options: &CaptureOptions) -> Result<CaptureFile, OpenError> {
    CaptureFile::open(options.clone(), on_stderr())
}

fn on_stderr() -> Talk {
    Box::new(say)
}

#[cfg(test)]
mod tests {
    use crate::cli::parse_from;
    use crate::record::{Record, samples};
    use crate::settings::Command;

    #[test]
    fn settings_become_sinks() {
        let path = std::env::temp_dir().join(format!("why502-outputs-{}.jsonl", std::process::id()));
        let arguments = ["why502", "record", "--cause", "dns_failed", "--log"].map(Into::into);
        let command = parse_from(arguments.into_iter().chain([path.clone().into_os_string()])).unwrap();
        let Command::Record(settings) = command else { panic!("not record") };
        let mut sinks = settings.sinks().unwrap();
        for record in samples::all() {
            sinks.write(record).unwrap();
        }
        sinks.flush().unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let kinds: Vec<_> = written.lines().map(|line| Record::read(line).unwrap().kind()).collect();
        assert!(kinds.contains(&"session") && kinds.contains(&"lost") && !kinds.contains(&"failure"), "{kinds:?}");
        assert_eq!(sinks.totals().failures, 2);
    }
}
