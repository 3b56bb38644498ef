//! Holds the records of `why502` against what a scenario says must be there: everything expected, and nothing else.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::oracle::{self, Access, Sent};
use crate::scenario::{Attempt, Case, Confidence, Reply, Scenario, Witness};
use crate::tally::{Reported, Tally};
use crate::tracer::of_type;

/// What was expected and seen, and every difference.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Failures that had to be there.
    pub expected: usize,
    /// Failures that were.
    pub seen: usize,
    /// The requests in numbers.
    pub tally: Tally,
    /// What differs.
    pub differences: Vec<String>,
}

/// Compares.
pub fn records(scenario: &Scenario, sent: &[Sent], access: &HashMap<String, Access>, records: &[Value]) -> Verdict {
    let updated = updated(records);
    let failures: Vec<&Value> = of_type(&updated, "failure").collect();
    let responses: Vec<&Value> = of_type(records, "response").collect();
    let mut verdict = Verdict {
        expected: sent.iter().map(|sent| sent.case.attempts.len()).sum(),
        seen: failures.len(),
        tally: Tally::default(),
        differences: Vec::new(),
    };
    frame(scenario, records, &mut verdict.differences);
    if lines_are_taken(records) {
        let without = |failure: &&&Value| !failure["nginx"].is_null() && failure["nginx"]["upstream"].is_null();
        // The program at the write may have been skipped; then that is told.
        let missing: Vec<_> = failures.iter().filter(without).collect();
        if missing.len() as u64 > lost_at(records, &["vfs_write", "__sys_sendto"]) {
            let session = of_type(records, "session").next().map_or(&Value::Null, |session| &session["time"]);
            verdict.differences.extend(missing.iter().map(|failure| {
                let Value::String(time) = &failure["time"] else { return failure.to_string() };
                format!("without the text of its line, at {time} of a session since {session}: {}", failure["nginx"])
            }));
        }
        if !verdict.differences.is_empty() {
            verdict.differences.extend(of_type(records, "lost").map(|lost| format!("it said of losses: {lost}")));
        }
    }
    let failures: Vec<&Value> = failures
        .into_iter()
        .filter(|failure| !scenario.optional.iter().any(|&cause| failure["cause"] == cause))
        .collect();
    for response in responses.iter().filter(|response| response["cause"] == "no_live_upstreams") {
        let hint = response["hint"].as_str().unwrap_or_default();
        if response["related"].as_array().is_some_and(|related| !related.is_empty()) && !hint.contains(" failed last ")
        {
            verdict.differences.push(format!("which servers failed when is not said: {hint:?}"));
        }
    }
    verdict.tally.attempts(&failures);
    let (meant, seen) = totals(sent, &failures);
    let skipped = skipped(records);
    let fewer = meant.iter().all(|(cause, &meant)| seen.get(cause).is_none_or(|&seen| seen <= meant));
    let missing = meant.values().sum::<usize>().saturating_sub(seen.values().sum());
    // The kernel alone sees no failure whose events it skipped; it says so.
    let blind = scenario.witness == Witness::Kernel && fewer && missing as u64 <= skipped;
    if meant != seen && !blind {
        verdict.differences.push(format!("failures {seen:?} instead of {meant:?}"));
    }
    match scenario.witness {
        Witness::Both => by_request(sent, access, &failures, &responses, &mut verdict),
        Witness::Kernel => {
            let quiet = sent.iter().filter(|sent| sent.case.attempts.is_empty()).count();
            verdict.tally.anonymous(&meant, &seen, quiet);
            anonymous(sent, &failures, &mut verdict.differences);
            for response in &responses {
                verdict.differences.push(format!("a response without nginx's word: {response}"));
            }
        }
    }
    if skipped > 0 {
        verdict.differences.retain(|difference| !difference.contains(NO_ROOT) && !difference.ends_with(LESS_SURE));
    }
    verdict
}

/// Of a difference: the reason could have been seen in an event that was skipped.
const NO_ROOT: &str = ": no root instead of ";

/// The same: nginx's word alone is likely.
const LESS_SURE: &str = ": confidence \"likely\" instead of Proven to Proven; disagreement null";

/// What the kernel skips: programs that interrupt themselves, often on an emulated processor, where they take long; returns
/// of more calls than it has room for.
fn is_the_kernels(lost: &Value) -> bool {
    lost["reason"] == "recursion" || lost["reason"] == "kretprobe_missed"
}

/// Lines of nginx's log that were left out: requests that fail at once come faster than a slow machine can tell them.
fn is_text_in_a_burst(lost: &Value) -> bool {
    lost["reason"] == "overload" && lost["count"].is_null()
}

/// How much of that there was, as the records say. No cause may be wrong for it.
pub(crate) fn skipped(records: &[Value]) -> u64 {
    let lost = of_type(records, "lost").filter(|lost| is_the_kernels(lost));
    lost.filter_map(|lost| lost["count"].as_u64()).sum()
}

/// How much was lost at these places, for whatever reason.
pub(crate) fn lost_at(records: &[Value], places: &[&str]) -> u64 {
    let here = |lost: &&Value| lost["program"].as_str().is_some_and(|program| places.contains(&program));
    of_type(records, "lost").filter(here).filter_map(|lost| lost["count"].as_u64()).sum()
}

/// Whether nginx's lines are taken as it writes them, as the session says.
fn lines_are_taken(records: &[Value]) -> bool {
    let observations = of_type(records, "session").filter_map(|session| session["observations"].as_array()).flatten();
    let of_texts = observations.filter(|observation| observation["name"] == "nginx_log_text");
    of_texts.filter_map(|observation| observation["hook"].as_str()).any(|hook| hook.contains("vfs_write"))
}

/// The records, failures with what `update` records said about them later.
pub(crate) fn updated(records: &[Value]) -> Vec<Value> {
    let mut updated = records.to_vec();
    let failures = records.iter().enumerate().filter(|(_, record)| record["type"] == "failure");
    let places: HashMap<u64, usize> =
        failures.filter_map(|(place, failure)| Some((failure["id"].as_u64()?, place))).collect();
    for update in of_type(records, "update").filter_map(Value::as_object) {
        let place = update["failure"].as_u64().and_then(|id| places.get(&id));
        let Some(failure) = place.and_then(|&place| updated.get_mut(place)) else { continue };
        for (name, value) in update.iter().filter(|(name, _)| !["type", "time", "failure"].contains(&name.as_str())) {
            failure[name] = value.clone();
        }
    }
    updated
}

/// First and last record, losses, and the number of events.
fn frame(scenario: &Scenario, records: &[Value], found: &mut Vec<String>) {
    if records.first().is_none_or(|record| record["type"] != "session") {
        found.push("the first record is no session".into());
    }
    match records.last() {
        Some(end) if end["type"] == "end" => {
            if scenario.options.is_empty() {
                for (name, kind) in [("failures", "failure"), ("responses", "response")] {
                    let count = of_type(records, kind).count();
                    if end[name] != count {
                        found.push(format!("end.{name} is {} for {count} records", end[name]));
                    }
                }
                let lost: u64 = of_type(records, "lost").filter_map(|lost| lost["count"].as_u64()).sum();
                if end["lost"] != lost {
                    found.push(format!("end.lost is {} where {lost} were told", end["lost"]));
                }
            }
            if let Some(below) = scenario.events_below {
                match end["events"].as_u64() {
                    Some(events) if events < below => {}
                    other => found.push(format!("end.events is {other:?}, must be below {below}")),
                }
            }
        }
        _ => found.push("the last record is no end".into()),
    }
    // Verdicts must be right all the same.
    for lost in of_type(records, "lost").filter(|lost| !is_the_kernels(lost) && !is_text_in_a_burst(lost)) {
        found.push(format!("loss: {lost}"));
    }
}

/// How often each cause was meant, and how often it was seen.
fn totals<'a>(sent: &[Sent], failures: &[&'a Value]) -> (BTreeMap<&'a str, usize>, BTreeMap<&'a str, usize>) {
    let mut meant: BTreeMap<&str, usize> = BTreeMap::new();
    let attempts = sent.iter().flat_map(|sent| sent.case.attempts);
    // An attempt with several right causes counts for the first; what was seen is counted likewise.
    let mut alias: HashMap<&str, &str> = HashMap::new();
    for attempt in attempts {
        let name = attempt.cause.first().copied().unwrap_or_default();
        *meant.entry(name).or_default() += 1;
        alias.extend(attempt.cause.iter().map(|&other| (other, name)));
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for failure in failures {
        let cause = failure["cause"].as_str().unwrap_or("null");
        *seen.entry(alias.get(cause).copied().unwrap_or(cause)).or_default() += 1;
    }
    (meant, seen)
}

/// Each request's failures, in order, and its response.
fn by_request(
    sent: &[Sent],
    access: &HashMap<String, Access>,
    failures: &[&Value],
    responses: &[&Value],
    verdict: &mut Verdict,
) {
    let path = |request: &Value| {
        request.as_str().and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
    };
    let mut failed: HashMap<String, Vec<&Value>> = HashMap::new();
    for failure in failures {
        // Where nginx said nothing about the attempt, the response that it led to names it.
        let named =
            |response: &&&Value| response["failures"].as_array().is_some_and(|ids| ids.contains(&failure["id"]));
        let request = match &failure["nginx"]["request"] {
            Value::Null => responses.iter().find(named).map_or(&Value::Null, |response| &response["request"]),
            request => request,
        };
        failed.entry(path(request)).or_default().push(failure);
    }
    let mut answered: HashMap<String, Vec<&Value>> = HashMap::new();
    for response in responses {
        answered.entry(path(&response["request"])).or_default().push(response);
    }
    for Sent { uri, case, .. } in sent {
        let mut found = Vec::new();
        let failed = failed.remove(uri).unwrap_or_default();
        let line = access.get(uri);
        if failed.len() == case.attempts.len() {
            for (failure, attempt) in failed.iter().zip(case.attempts) {
                let differs = attempt_differs(failure, attempt, case).or_else(|| word_differs(failure, attempt));
                found.extend(differs.map(|what| format!("{uri}: {what}")));
            }
            let logged = line.map(|line| line.upstream_address.as_str()).unwrap_or_default();
            let own = failed.iter().zip(case.attempts).filter(|(_, attempt)| !attempt.part);
            let own: Vec<&Value> = own.map(|(&failure, _)| failure).collect();
            found.extend(addresses_differ(&own, logged).map(|what| format!("{uri}: {what}")));
        } else {
            let causes: Vec<_> = failed.iter().map(|failure| &failure["cause"]).collect();
            found.push(format!("{uri}: failures {causes:?} instead of {}", case.attempts.len()));
        }
        let answered = answered.remove(uri).unwrap_or_default();
        let said = answered.iter().filter(|response| response["origin"] == "nginx").count();
        if line.is_some_and(Access::made_by_nginx) && said != 1 {
            found.push(format!("{uri}: nginx made this 502 or 504, and {said} response records say so"));
        }
        let differs =
            response_differs(&answered, &failed, case).or_else(|| ending_differs(answered.first()?, line, case));
        found.extend(differs.map(|what| format!("{uri}: {what}")));
        let status = line.map_or(0, |line| line.status);
        let (failures, responses) = (failed.len(), answered.len());
        verdict.tally.request(case, Reported { failures, responses, agree: found.is_empty(), status });
        verdict.differences.append(&mut found);
    }
    for (uri, failed) in failed {
        let shown = failed.first().map(ToString::to_string).unwrap_or_default();
        verdict.tally.spurious += failed.len();
        verdict.differences.push(format!("{} failures of no request of ours ({uri:?}), as {shown}", failed.len()));
    }
    for (uri, answered) in answered {
        verdict.tally.spurious += answered.len();
        verdict.differences.push(format!("{} responses to no request of ours ({uri:?})", answered.len()));
    }
}

/// Without names of requests: every failure must be what some attempt may be.
fn anonymous(sent: &[Sent], failures: &[&Value], found: &mut Vec<String>) {
    let attempts: Vec<(&Attempt, &Case)> =
        sent.iter().flat_map(|sent| sent.case.attempts.iter().map(move |attempt| (attempt, &sent.case))).collect();
    for failure in failures {
        let cause = failure["cause"].as_str().unwrap_or_default();
        let Some((attempt, _)) = attempts.iter().find(|(attempt, _)| attempt.cause.contains(&cause)) else { continue };
        found.extend(confidence_differs(failure, attempt));
        found.extend(connection_differs(failure, attempt));
    }
}

fn attempt_differs(failure: &Value, attempt: &Attempt, case: &Case) -> Option<String> {
    let cause = failure["cause"].as_str().unwrap_or("null");
    if !attempt.cause.contains(&cause) {
        return Some(format!("cause {cause} instead of {:?}", attempt.cause));
    }
    if !attempt.outcome.split('|').any(|outcome| failure["outcome"] == outcome) {
        return Some(format!("{cause}: outcome {} instead of {}", failure["outcome"], attempt.outcome));
    }
    // Where configuration changes the status afterwards, the attempt itself still meant a 502 or 504.
    let statuses = if matches!(case.reply, Reply::Follows) { &[case.status][..] } else { &[502, 504] };
    if attempt.outcome == "final" && !statuses.iter().any(|&status| failure["status"] == status) {
        return Some(format!("{cause}: status {} instead of {statuses:?}", failure["status"]));
    }
    confidence_differs(failure, attempt).or_else(|| connection_differs(failure, attempt))
}

/// nginx's message as the record has it, against the one that the scenario provokes.
fn word_differs(failure: &Value, attempt: &Attempt) -> Option<String> {
    let message = failure["nginx"]["message"].as_str()?;
    let agrees = oracle::matches(message, attempt.says) || attempt.says.is_empty();
    (!agrees).then(|| format!("{}: nginx.message {message:?} instead of {:?}", failure["cause"], attempt.says))
}

/// The addresses of the attempts, against nginx's `$upstream_addr`: each is there, in this order. Attempts that went
/// well stand between them.
fn addresses_differ(failed: &[&Value], logged: &str) -> Option<String> {
    if matches!(logged, "-" | "") {
        return None; // A subrequest's upstream is in no access log, nor one to which there was no socket.
    }
    let mut addresses = logged.split(", ").flat_map(|group| group.split(" : "));
    let missing = failed.iter().find(|failure| {
        let address = failure["upstream"]["address"].as_str();
        !addresses.any(|logged| Some(logged) == address)
    })?;
    Some(format!("{}: upstream {}, logged as {logged:?}", missing["cause"], missing["upstream"]["address"]))
}

fn confidence_differs(failure: &Value, attempt: &Attempt) -> Option<String> {
    let (least, most) = attempt.confidence;
    let confidence = failure["confidence"].as_str().and_then(Confidence::named);
    match confidence {
        Some(confidence) if (least..=most).contains(&confidence) => None,
        _ => Some(format!(
            "{}: confidence {} instead of {least:?} to {most:?}; disagreement {}",
            failure["cause"], failure["confidence"], failure["disagreement"]
        )),
    }
}

fn connection_differs(failure: &Value, attempt: &Attempt) -> Option<String> {
    let connection = &failure["connection"];
    for (name, wanted) in [("reused", attempt.reused), ("preexisting", attempt.preexisting)] {
        if wanted.is_some_and(|wanted| connection[name] != wanted) {
            return Some(format!("{}: connection.{name} is {}", failure["cause"], connection[name]));
        }
    }
    let idle = connection["idle_us"].as_u64();
    if attempt.idle_us.is_some_and(|least| idle.is_none_or(|idle| !(least..least * 10).contains(&idle))) {
        return Some(format!("{}: connection.idle_us is {idle:?}, meant {:?}", failure["cause"], attempt.idle_us));
    }
    let root = failure["root"]["kind"].as_str();
    if attempt.root.is_some() && root != attempt.root {
        let instead = root.map_or_else(|| NO_ROOT.to_owned(), |root| format!(": root {root} instead of "));
        return Some(format!("{}{instead}{:?}", failure["cause"], attempt.root));
    }
    if root.is_some_and(|root| attempt.root_never.contains(&root)) {
        return Some(format!("{}: false root {}", failure["cause"], failure["root"]));
    }
    match (attempt.errno, failure["errno"].as_str()) {
        (Some(""), Some(errno)) => Some(format!("{}: errno {errno} instead of null", failure["cause"])),
        (Some(wanted), errno) if !wanted.is_empty() && errno != Some(wanted) => {
            Some(format!("{}: errno {errno:?} instead of {wanted}", failure["cause"]))
        }
        _ => None,
    }
}

fn response_differs(answered: &[&Value], failed: &[&Value], case: &Case) -> Option<String> {
    let last = case.attempts.last();
    let wanted = match case.reply {
        Reply::Follows => match last {
            Some(attempt) if attempt.outcome == "final" => Some((attempt.cause, case.status, "nginx")),
            _ => None,
        },
        Reply::None => None,
        Reply::Is(ref cause, status, origin) => Some((std::slice::from_ref(cause), status, origin)),
        Reply::Maybe(origin) => {
            let other = answered.iter().find(|response| response["origin"] != origin);
            return other.map(|response| format!("response of origin {} instead of {origin}", response["origin"]));
        }
    };
    let Some((causes, status, origin)) = wanted else {
        return answered.first().map(|response| format!("a response record that must not be: {response}"));
    };
    let [response] = answered else {
        return Some(format!("{} response records instead of one", answered.len()));
    };
    let cause = response["cause"].as_str().unwrap_or("null");
    if !causes.contains(&cause) || response["status"] != status || response["origin"] != origin {
        return Some(format!(
            "response {} {cause} of {} instead of {status} {causes:?} of {origin}",
            response["status"], response["origin"]
        ));
    }
    let ids: Vec<&Value> = response["failures"].as_array().into_iter().flatten().collect();
    let meant: Vec<&Value> = failed.iter().map(|failure| &failure["id"]).collect();
    let known = meant.iter().filter(|id| ids.contains(id)).count();
    (ids != meant)
        .then(|| format!("response names {} failures, {known} of the {} that led to it", ids.len(), meant.len()))
}

/// What became of the response in the end: who handled it, and what the client got, which may be unknown but not wrong.
fn ending_differs(response: &Value, line: Option<&Access>, case: &Case) -> Option<String> {
    let handled = response["handled_by"].as_str().unwrap_or_default();
    if !case.handled.split('|').any(|wanted| wanted == handled) {
        return Some(format!("response handled by {} instead of {:?}", response["handled_by"], case.handled));
    }
    let told = &response["client_status"];
    let wrong = !told.is_null() && line.is_some_and(|line| *told != line.status);
    wrong.then(|| format!("client_status {told} instead of {} or null", line.map_or(0, |line| line.status)))
}
