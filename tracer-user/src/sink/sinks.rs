//! All chosen sinks together, behind the filters; and what the end of the program is decided by.

use std::io;

use super::filter::Filter;
use super::redact::redact;
use super::{Sink, Totals};
use crate::record::{EndReason, Record, Timestamp};

/// Whether query strings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    Shown,
    Redacted,
}

/// Every record goes through here, once, in order.
pub struct Sinks {
    filter: Filter,
    queries: Queries,
    sinks: Vec<Box<dyn Sink + Send>>,
    totals: Totals,
    shown: u64,
    ending: bool,
    /// The first error since the end began.
    failed: Option<io::Error>,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sinks").field("sinks", &self.sinks.len()).finish_non_exhaustive()
    }
}

impl Sinks {
    pub fn new(filter: Filter, queries: Queries) -> Self {
        Self { filter, queries, sinks: Vec::new(), totals: Totals::default(), shown: 0, ending: false, failed: None }
    }

    pub fn add(&mut self, sink: impl Sink + Send + 'static) {
        self.sinks.push(Box::new(sink));
    }

    /// Counts the record, and hands it to every sink unless it is filtered out.
    pub fn write(&mut self, mut record: Record) -> io::Result<()> {
        self.totals.count(&record);
        if !self.filter.shows(&record) {
            return Ok(());
        }
        self.shown += u64::from(matches!(record, Record::Failure(_)));
        if self.queries == Queries::Redacted {
            redact(&mut record);
        }
        self.each(|sink| sink.write(&record))
    }

    /// Failures that passed the filters (for `--count`).
    pub fn failures_shown(&self) -> u64 {
        self.shown
    }

    /// Responses with status 502 or 504, filters aside (for `--fail`).
    pub fn gateway_errors(&self) -> u64 {
        self.totals.gateway_errors
    }

    /// Counts of everything, filters aside.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// To be called every 100 ms or so: folded lines come out, and buffers are handed on.
    pub fn tick(&mut self, now: Timestamp) -> io::Result<()> {
        self.each(|sink| {
            sink.tick(now)?;
            sink.flush()
        })
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.each(|sink| sink.flush())
    }

    /// SIGHUP: files may have been moved away.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.each(|sink| sink.reopen())
    }

    /// From now on an error of one sink keeps nothing from the others: the last records are on their way, and [`Self::end`] tells of it.
    pub fn begin_end(&mut self) {
        self.ending = true;
    }

    /// Writes the `end` record and everything that is buffered. Nothing may be written afterwards.
    pub fn end(&mut self, time: Timestamp, reason: EndReason) -> io::Result<()> {
        self.begin_end();
        let end = Record::End(self.totals.end(time, reason, None));
        self.each(|sink| {
            sink.write(&end)?;
            sink.flush()
        })?;
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Each sink gets its turn even if one before it failed. One that fails is gone, so that what follows, the end above all,
    /// reaches the others; the first error is returned, once.
    fn each(&mut self, mut action: impl FnMut(&mut (dyn Sink + Send)) -> io::Result<()>) -> io::Result<()> {
        let mut first = Ok(());
        self.sinks.retain_mut(|sink| {
            let result = action(sink.as_mut());
            let stays = result.is_ok();
            if first.is_ok() {
                first = result;
            }
            stays
        });
        match first {
            Err(error) if self.ending => {
                self.failed.get_or_insert(error);
                Ok(())
            }
            first => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::{Queries, Sinks};
    use crate::model::cause::Cause;
    use crate::record::{EndReason, Record, samples};
    use crate::sink::Sink;
    use crate::sink::filter::Filter;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<Record>>>);

    impl Sink for Seen {
        fn write(&mut self, record: &Record) -> io::Result<()> {
            self.0.lock().unwrap().push(record.clone());
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Sink for Closed {
        fn write(&mut self, _: &Record) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn filters_choose_what_is_shown_but_not_what_is_counted() {
        let seen = Seen::default();
        let mut sinks = Sinks::new(Filter::new(vec![], vec![Cause::DnsFailed]), Queries::Shown);
        sinks.add(seen.clone());
        sinks.write(Record::Failure(Box::new(samples::failure()))).unwrap();
        sinks.write(Record::Response(Box::new(samples::response()))).unwrap();
        sinks.write(Record::Stats(samples::stats())).unwrap();
        sinks.end(samples::at(9), EndReason::Signal).unwrap();
        assert_eq!((sinks.failures_shown(), sinks.gateway_errors(), sinks.totals().failures), (0, 1, 1));
        let kinds: Vec<_> = seen.0.lock().unwrap().iter().map(Record::kind).collect();
        assert_eq!(kinds, ["stats", "end"]);
    }

    #[test]
    fn queries_are_redacted_for_every_sink() {
        let seen = Seen::default();
        let mut sinks = Sinks::new(Filter::new(vec![], vec![]), Queries::Redacted);
        sinks.add(seen.clone());
        sinks.write(Record::Failure(Box::new(samples::failure()))).unwrap();
        assert_eq!(sinks.failures_shown(), 1);
        let seen = seen.0.lock().unwrap();
        let Record::Failure(failure) = &seen[0] else { panic!("no failure") };
        assert_eq!(failure.nginx.as_ref().unwrap().request.as_deref(), Some("GET /x?… HTTP/1.1"));
    }

    #[test]
    fn a_closed_pipe_does_not_keep_records_from_the_file() {
        let seen = Seen::default();
        let mut sinks = Sinks::new(Filter::new(vec![], vec![]), Queries::Shown);
        sinks.add(Closed);
        sinks.add(seen.clone());
        let error = sinks.write(Record::Lost(samples::lost())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        sinks.end(samples::at(9), EndReason::Signal).unwrap();
        let kinds: Vec<_> = seen.0.lock().unwrap().iter().map(Record::kind).collect();
        assert_eq!(kinds, ["lost", "end"]);
    }

    #[test]
    fn a_pipe_that_closes_at_the_end_keeps_nothing_from_the_file() {
        let seen = Seen::default();
        let mut sinks = Sinks::new(Filter::new(vec![], vec![]), Queries::Shown);
        sinks.add(Closed);
        sinks.add(seen.clone());
        sinks.begin_end();
        sinks.write(Record::Lost(samples::lost())).unwrap();
        let error = sinks.end(samples::at(9), EndReason::Signal).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let kinds: Vec<_> = seen.0.lock().unwrap().iter().map(Record::kind).collect();
        assert_eq!(kinds, ["lost", "end"]);
    }
}
