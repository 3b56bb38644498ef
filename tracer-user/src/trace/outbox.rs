//! Verdicts on their way out: one that waits for the text of nginx's line is held for a moment, and the order is kept.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
};

use super::{
    convert::{self, Converter},
    fallback::ERROR_LOG,
    roots,
    texts::{ComplaintId, LET_GO_NS, Texts},
};
use crate::{
    model::verdict::{Failure, Response, Verdict, VerdictId},
    nginx::log::told::Told,
    record::{self, NginxWord, Record},
};

/// How long after nginx's complaint a verdict waits for its text, and for what its reason is seen by.
const HOLD_NS: u64 = 20_000_000;
/// Failures whose server and host are remembered for the response.
const REMEMBERED: usize = 4096;
const COMPLAINT: &str = "uprobe/ngx_log_error_core";

/// A failure told without its text, and when that was.
#[derive(Debug)]
struct Late {
    failure: u64,
    word: NginxWord,
    told_ns: u64,
}

/// Verdicts that are still to be told, and what was told without its text.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) texts: Texts,
    pending: VecDeque<Verdict>,
    /// Told without their text, which may still come.
    late: HashMap<ComplaintId, Late>,
    /// Server and host of a failure's request.
    places: HashMap<VerdictId, (Option<String>, Option<String>)>,
    places_order: VecDeque<VerdictId>,
}

impl Outbox {
    /// Takes verdicts in, in their order.
    pub(super) fn take(&mut self, verdicts: impl Iterator<Item = Verdict>) {
        self.pending.extend(verdicts);
    }

    /// The next record, if it need not wait.
    pub(super) fn next(&mut self, now_ns: u64, converter: &mut Converter) -> Option<Record> {
        if let Some(Verdict::Failure(failure)) = self.pending.front()
            && let Some((id, connection)) = complaint_of(failure)
            && now_ns.saturating_sub(id.time_ns) < HOLD_NS
            && self.texts.waits(connection, id)
        {
            return None;
        }
        if let Some(Verdict::Failure(failure)) = self.pending.front()
            && now_ns.saturating_sub(failure.time_ns) < HOLD_NS
            && roots::waits(failure, &mut converter.host)
        {
            return None;
        }
        Some(match self.pending.pop_front()? {
            Verdict::Failure(failure) => Record::Failure(Box::new(self.failure(failure, now_ns, converter))),
            Verdict::Response(response) => Record::Response(Box::new(self.response(response, converter))),
            Verdict::Update(update) => Record::Update(Box::new(converter.update(&update))),
        })
    }

    fn failure(&mut self, failure: Failure, now_ns: u64, converter: &mut Converter) -> record::Failure {
        let complaint = complaint_of(&failure);
        let id = failure.id;
        let told = complaint.and_then(|(complaint, _)| self.texts.told(complaint)).cloned();
        if let Some(told) = &told {
            self.remember(id, told);
        }
        let read = failure.evidence.iter().any(|fact| fact.source == ERROR_LOG);
        let mut record = converter.failure(failure);
        if read {
            // Its second, and no place among the events of its thread.
            record.confidence = record.confidence.max(record::Confidence::Likely);
            record.nginx.iter_mut().for_each(|word| word.source = record::NginxSource::Log);
        }
        match (told, complaint, &mut record.nginx) {
            (Some(told), _, Some(word)) => convert::tell(word, &told),
            (None, Some((complaint, connection)), Some(word)) if self.texts.waits(connection, complaint) => {
                self.late.insert(complaint, Late { failure: record.id, word: word.clone(), told_ns: now_ns });
            }
            _ => {}
        }
        record
    }

    fn response(&mut self, response: Response, converter: &mut Converter) -> record::Response {
        let (worker, connection) = (response.worker, response.request_key.connection);
        let wordless = response.message.as_deref();
        let wordless =
            wordless.and_then(|said| self.texts.wordless(worker, connection, said, response.time_ns)).cloned();
        let place = response.failures.iter().rev().find_map(|id| self.places.get(id)).cloned();
        let mut record = converter.response(response);
        if let Some(told) = wordless {
            record.message = Some(told.message.clone());
            record.server = record.server.or_else(|| told.server.clone());
            record.host = record.host.or_else(|| told.host.clone());
        } else if let Some((server, host)) = place {
            record.server = record.server.or(server);
            record.host = record.host.or(host);
        }
        record
    }

    /// Reads the logs. Tells what is still to be said about failures that went out without their text, and what was missed.
    pub(super) fn read(&mut self, now_ns: u64, converter: &Converter) -> Vec<Record> {
        let (found, gaps) = self.texts.read(now_ns);
        let time = converter.time(now_ns);
        let mut records = Vec::new();
        for path in gaps {
            let program = Cow::Owned(path.to_string_lossy().into_owned());
            let reason = record::LossReason::TailGap;
            records.push(Record::Lost(record::Lost { time, program, reason, count: Some(1), counted: None }));
        }
        let count = self.texts.fallback.take_left_out();
        if count > 0 {
            let (program, reason) = (Cow::Borrowed(ERROR_LOG), record::LossReason::Overload);
            records.push(Record::Lost(record::Lost { time, program, reason, count: Some(count), counted: None }));
        }
        if self.late.is_empty() {
            return records;
        }
        for id in found {
            let Some(told) = self.texts.told(id) else { continue };
            let Some(Late { failure, mut word, .. }) = self.late.remove(&id) else { continue };
            convert::tell(&mut word, told);
            let update = record::Update { time, failure, outcome: None, root: None, hint: None, nginx: Some(word) };
            records.push(Record::Update(Box::new(update)));
        }
        self.late.retain(|_, late| now_ns.saturating_sub(late.told_ns) < 2 * LET_GO_NS);
        records
    }

    fn remember(&mut self, id: VerdictId, told: &Told) {
        self.places.insert(id, (told.server.clone(), told.host.clone()));
        self.places_order.push_back(id);
        if self.places_order.len() > REMEMBERED
            && let Some(old) = self.places_order.pop_front()
        {
            self.places.remove(&old);
        }
    }
}

/// The complaint that a failure was decided by, and the connection it is about.
fn complaint_of(failure: &Failure) -> Option<(ComplaintId, u64)> {
    let word = failure.word.as_ref()?;
    let complaint = failure.evidence.iter().rev().find(|fact| fact.source == COMPLAINT || fact.source == ERROR_LOG)?;
    Some((ComplaintId { worker: failure.worker, time_ns: complaint.time_ns }, word.connection))
}
