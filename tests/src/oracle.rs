//! nginx's logs as the oracle: did each request end as the scenario intends?

use std::collections::HashMap;

use crate::scenario::Case;

/// A request that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its URI, unique in the scenario.
    pub uri: String,
    /// What must become of it.
    pub case: Case,
    /// The status that the client was told, where one waited for it.
    pub answer: Option<u16>,
}

/// A line of the access log.
#[derive(Clone, Debug)]
pub struct Access {
    /// Status that nginx logged.
    pub status: u16,
    /// `$upstream_status`.
    pub upstream_status: String,
    /// `$upstream_addr`.
    pub upstream_address: String,
    /// `$upstream_header_time`: `-` in the last place where nginx made the answer itself.
    pub header_time: String,
}

impl Access {
    /// Whether nginx made a 502 or 504 of what its last upstream did: the log alone says so, whatever was intended.
    pub fn made_by_nginx(&self) -> bool {
        let last = |list: &str| list.rsplit([',', ':']).next().unwrap_or_default().trim().to_owned();
        [502, 504].contains(&self.status)
            && ["502", "504"].contains(&last(&self.upstream_status).as_str())
            && last(&self.header_time) == "-"
    }
}

/// The access log by URI. A URI that is there twice is an error of the lab.
pub fn access(log: &str) -> HashMap<String, Access> {
    let parse = |line: &str| {
        let mut fields = line.split('|');
        let uri = fields.next()?.to_owned();
        let status = fields.next()?.parse().ok()?;
        let upstream_status = fields.next()?.to_owned();
        let upstream_address = fields.next()?.to_owned();
        let header_time = fields.nth(1)?.to_owned();
        Some((uri, Access { status, upstream_status, upstream_address, header_time }))
    };
    log.lines().filter_map(parse).collect()
}

/// An access log made of what the clients were told, in the lab's format; nothing about upstreams is known.
pub fn told(sent: &[Sent]) -> String {
    let line = |sent: &Sent| Some(format!("{}|{}|-|-|0|-\n", sent.uri, sent.answer?));
    sent.iter().filter_map(line).collect()
}

/// The error log's messages about each URI, in order; `""` holds those about no request.
pub fn errors(log: &str) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for line in log.lines() {
        // 2026/01/02 03:04:05 [error] 12#12: *34 MESSAGE
        let Some((_, rest)) = line.split_once("#") else { continue };
        let Some((_, text)) = rest.split_once(": ") else { continue };
        let text = match text.split_once(' ') {
            Some((connection, text)) if connection.starts_with('*') => text,
            _ => text,
        };
        let request = text.split_once(", request: \"").and_then(|(_, rest)| rest.split_whitespace().nth(1));
        found.entry(request.unwrap_or_default().to_owned()).or_default().push(text.to_owned());
    }
    found
}

/// Every way in which nginx's logs differ from what the requests were meant to meet. Without an error log nothing is
/// said about messages.
pub fn differences(sent: &[Sent], access_log: &str, error_log: Option<&str>) -> Vec<String> {
    let access = access(access_log);
    let mut errors = errors(error_log.unwrap_or_default());
    let mut found = Vec::new();
    if access.len() != sent.len() {
        found.push(format!("{} requests were sent and {} logged", sent.len(), access.len()));
    }
    for Sent { uri, case, .. } in sent {
        match access.get(uri) {
            Some(line) if line.status != case.status => {
                let said = errors.get(uri).map(|lines| lines.join(" / ")).unwrap_or_default();
                found.push(format!("{uri}: status {} instead of {} ({said})", line.status, case.status));
            }
            Some(_) => {}
            None => found.push(format!("{uri}: not in the access log")),
        }
        if error_log.is_none() {
            continue;
        }
        let mut said = errors.remove(uri).unwrap_or_default();
        said.retain(|said| !case.may_say.iter().any(|may| matches(said, may)));
        let meant: Vec<&str> = case
            .attempts
            .iter()
            .map(|attempt| attempt.says)
            .chain(case.says.iter().copied())
            .filter(|says| !says.is_empty())
            .collect();
        let agrees = said.len() == meant.len() && said.iter().zip(&meant).all(|(said, meant)| matches(said, meant));
        if !agrees {
            found.push(format!("{uri}: nginx logged {said:?} instead of {meant:?}"));
        }
    }
    for (uri, lines) in errors.iter().filter(|(uri, _)| !uri.is_empty()) {
        found.push(format!("{uri}: nginx logged {lines:?} about a request that was not sent"));
    }
    found
}

/// Whether a message is meant by one of the patterns between ` | `: `begin … middle`, in this order.
pub(crate) fn matches(said: &str, meant: &str) -> bool {
    meant.split(" | ").any(|meant| matches_one(said, meant))
}

fn matches_one(said: &str, meant: &str) -> bool {
    let mut rest = said;
    for (index, part) in meant.split(" … ").enumerate() {
        match rest.find(part) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{access, errors, matches};

    #[test]
    fn reads_what_nginx_writes() {
        let lines = access("/a/1|502|502|127.0.0.1:1|0.001|-\n/a/2|200|502, 200|1:1, 2:2|0.1|-, 0.1\n");
        assert_eq!(lines["/a/1"].status, 502);
        assert_eq!(lines["/a/2"].upstream_status, "502, 200");
        assert!(lines["/a/1"].made_by_nginx() && !lines["/a/2"].made_by_nginx());
        let own = access("/own|502|502|1:1|0.1|0.1\n/none|502|-|-|0.0|-\n/both|504|502 : 504|1:1 : 2:2|1.0|- : -\n");
        assert!(!own["/own"].made_by_nginx() && !own["/none"].made_by_nginx() && own["/both"].made_by_nginx());
        let text = "2026/01/02 03:04:05 [error] 12#12: *3 connect() failed (111: Connection refused) while connecting \
                    to upstream, client: 127.0.0.1, server: lab, request: \"GET /a/1 HTTP/1.1\", upstream: \"http://x/\"";
        let found = errors(text);
        assert_eq!(found["/a/1"].len(), 1);
        assert!(matches(&found["/a/1"][0], "connect() failed (111 … while connecting to upstream"));
        assert!(!matches(&found["/a/1"][0], "failed (111"));
    }
}
