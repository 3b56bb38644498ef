//! What a line adds to a message that is known already: nothing is taken from it that a client or an upstream could have
//! written in nginx's name.
//!
//! `ngx_http_log_error()` and `ngx_http_log_error_handler()` (src/http/ngx_http_request.c, 1.18 to 1.30) append
//! ` while ACTION, client: A, server: N, request: "LINE"`, then `subrequest`, `upstream`, `host` and `referrer` in quotes,
//! each where there is one. Action, client and server are nginx's; the message may hold text of the upstream, and what is
//! in quotes is the client's, unescaped. The message is found by its literal and by what stands behind it, the rest by the
//! request line that nginx's memory holds; what can be read in two ways is not read.

use super::pattern::Pattern;

/// What is known of a message before its line is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// `fmt` of `ngx_log_error()`.
    pub literal: &'a str,
    /// It was read only so far.
    pub literal_cut: bool,
    /// The errno argument; 0: none.
    pub errno: i32,
    /// `log->action`; empty: none.
    pub action: &'a str,
    pub client: Option<&'a str>,
    pub request: Option<&'a str>,
    /// The request line was read only so far.
    pub request_cut: bool,
    /// `u->peer.name`, if all of it is known.
    pub peer: Option<&'a str>,
}

/// The text of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The message with its errno and what nginx was doing.
    pub message: String,
    /// `server_name` of the server block.
    pub server: Option<String>,
    pub subrequest: Option<String>,
    pub upstream: Option<String>,
    pub host: Option<String>,
    pub referrer: Option<String>,
}

/// Reads the text (all that follows the connection number) of a line; None: it is not about this message, or it can be
/// read in more than one way. `cut`: its end means nothing.
pub fn tell(text: &str, cut: bool, known: &Known<'_>) -> Option<Told> {
    let pattern = Pattern::new(known.literal, known.literal_cut);
    let action = if known.action.is_empty() { String::new() } else { format!(" while {}", known.action) };
    let anchor = format!("{action}, client: {}", known.client.unwrap_or_default());
    let mut found = None;
    for (at, _) in text.match_indices(&anchor) {
        let (message, rest) = text.split_at(at);
        let Some(said) = without_errno(message, known.errno) else { continue };
        if !pattern.fits(said) {
            continue;
        }
        let Some(mut told) = after_client(&rest[anchor.len()..], cut, known) else { continue };
        if found.is_some() {
            return None;
        }
        told.message = format!("{message}{action}");
        found = Some(told);
        if pattern.is_fixed() {
            break; // What follows is in quotes: the first place is the one.
        }
    }
    found
}

/// ` (111: Connection refused)` (`ngx_log_errno()`): the number counts, its text depends on the C library.
fn without_errno(message: &str, errno: i32) -> Option<&str> {
    if errno == 0 {
        return Some(message);
    }
    let (said, name) = message.strip_suffix(')')?.rsplit_once(&format!(" ({errno}: "))?;
    (!name.contains(['(', ')'])).then_some(said)
}

fn after_client(rest: &str, cut: bool, known: &Known<'_>) -> Option<Told> {
    const REQUEST: &str = ", request: \"";
    let mut rest = rest;
    if known.client.is_none() {
        rest = &rest[rest.find(", server: ")?..];
    }
    let rest = rest.strip_prefix(", server: ")?;
    let line = known.request.unwrap_or_default().trim_end_matches(char::REPLACEMENT_CHARACTER);
    let (server, rest) = rest.split_once(&format!("{REQUEST}{line}"))?;
    if server.contains(['"', '\n']) {
        return None;
    }
    let exact = known.request.is_some_and(|request| request == line) && !known.request_cut;
    let fields = if exact {
        fields(rest.strip_prefix('"')?, cut)?
    } else {
        // The line's end is the first thing that looks like it, if nothing else does.
        let end = rest.find("\", ").or_else(|| rest.strip_suffix('"').map(str::len))?;
        fields(&rest[end + 1..], cut)?
    };
    if let (Some(upstream), Some(peer)) = (&fields.upstream, known.peer) {
        let (_, address) = upstream.split_once("://")?;
        let after = address.strip_prefix(peer)?;
        if !(after.is_empty() || after.starts_with(['/', ':', '?'])) {
            return None; // Another attempt's.
        }
    }
    Some(Told { server: Some(server.to_owned()).filter(|name| !name.is_empty()), ..fields })
}

/// The quoted fields behind the request line. Where two of a name, or another order than nginx's, show that somebody wrote
/// such text himself, none is taken; None: there is something else.
fn fields(rest: &str, cut: bool) -> Option<Told> {
    const NAMES: [&str; 4] = [", subrequest: \"", ", upstream: \"", ", host: \"", ", referrer: \""];
    let mut told = Told::default();
    if rest.is_empty() || (cut && NAMES.iter().any(|name| name.starts_with(rest))) {
        return Some(told);
    }
    if !NAMES.iter().any(|name| rest.starts_with(name)) {
        return None;
    }
    let mut places = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        let quoted = rest.match_indices(name).filter(|(at, _)| *at == 0 || rest[..*at].ends_with('"'));
        places.extend(quoted.map(|(at, _)| (index, at)));
    }
    if places.windows(2).any(|pair| pair[0].0 == pair[1].0 || pair[0].1 >= pair[1].1) {
        return Some(told);
    }
    for (position, (index, at)) in places.iter().enumerate() {
        let start = at + NAMES[*index].len();
        let value = match places.get(position + 1) {
            // One quote may be both: an opening one is no closing one.
            Some((_, next)) => rest.get(start..next.checked_sub(1)?),
            None if cut => None,
            None => rest.get(start..).and_then(|value| value.strip_suffix('"')),
        };
        let value = value.map(str::to_owned);
        match index {
            0 => told.subrequest = value,
            1 => told.upstream = value,
            2 => told.host = value,
            _ => told.referrer = value,
        }
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::{Known, Told, tell};

    const REFUSED: Known<'_> = Known {
        literal: "connect() failed",
        literal_cut: false,
        errno: 111,
        action: "connecting to upstream",
        client: Some("127.0.0.1"),
        request: Some("GET /x HTTP/1.1"),
        request_cut: false,
        peer: Some("127.0.0.1:3001"),
    };

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// A line with this message, these fields behind the request line.
    fn line(message: &str, fields: &str) -> String {
        format!("{message}, client: 127.0.0.1, server: example.com, request: \"GET /x HTTP/1.1\"{fields}")
    }

    const MESSAGE: &str = "connect() failed (111: Connection refused) while connecting to upstream";
    const UPSTREAM: &str = ", upstream: \"http://127.0.0.1:3001/x\"";

    #[test]
    fn all_fields() {
        let fields = format!(", subrequest: \"/_auth\"{UPSTREAM}, host: \"example.com\", referrer: \"http://a/\"");
        assert_eq!(
            tell(&line(MESSAGE, &fields), false, &REFUSED),
            Some(Told {
                message: MESSAGE.to_owned(),
                server: some("example.com"),
                subrequest: some("/_auth"),
                upstream: some("http://127.0.0.1:3001/x"),
                host: some("example.com"),
                referrer: some("http://a/"),
            })
        );
    }

    #[test]
    fn absent_fields_are_none() {
        let told = tell(&line(MESSAGE, UPSTREAM), false, &REFUSED).expect("told");
        assert_eq!((told.host, told.referrer, told.subrequest), (None, None, None));
        let told = tell(&line(MESSAGE, "").replace("example.com", ""), false, &REFUSED).expect("told");
        assert_eq!((told.server, told.upstream), (None, None));
    }

    #[test]
    fn the_errno_is_a_number() {
        // 1.18 with glibc 2.32 and later does not know the names.
        let unknown = MESSAGE.replace("Connection refused", "Unknown error");
        assert!(tell(&line(&unknown, UPSTREAM), false, &REFUSED).is_some());
        let other = MESSAGE.replace("111", "113");
        assert_eq!(tell(&line(&other, UPSTREAM), false, &REFUSED), None);
    }

    #[test]
    fn another_message_or_peer_or_request_is_another_line() {
        for line in [
            line(&MESSAGE.replace("connect()", "recv()"), UPSTREAM),
            line(&MESSAGE.replace("connecting", "shouting"), UPSTREAM),
            line(MESSAGE, ", upstream: \"http://127.0.0.1:3002/x\""),
            line(MESSAGE, ", upstream: \"http://127.0.0.1:30011/x\""),
            line(MESSAGE, UPSTREAM).replace("client: 127.0.0.1", "client: 127.0.0.9"),
            line(MESSAGE, UPSTREAM).replace("/x HTTP", "/xy HTTP"),
            line(MESSAGE, ", something: else"),
            String::new(),
        ] {
            assert_eq!(tell(&line, false, &REFUSED), None, "{line}");
        }
    }

    #[test]
    fn arguments_of_the_literal_are_told() {
        let known = Known { literal: "connect() to %V failed", errno: 2, peer: Some("unix:/run/a.sock"), ..REFUSED };
        let message =
            "connect() to unix:/run/a.sock failed (2: No such file or directory) while connecting to upstream";
        let told = tell(&line(message, ", upstream: \"http://unix:/run/a.sock:/x\""), false, &known).expect("told");
        assert_eq!(told.message, message);
        let known = Known { literal: "%V could not be resolved (%i: %s)", errno: 0, action: "", peer: None, ..REFUSED };
        let told = tell(&line("no.example could not be resolved (3: Host not found)", ""), false, &known);
        assert_eq!(told.expect("told").message, "no.example could not be resolved (3: Host not found)");
    }

    #[test]
    fn a_unix_peer_lacks_its_separator_after_a_timeout() {
        let known = Known { literal: "upstream timed out", errno: 110, peer: Some("unix:/run/a.sock"), ..REFUSED };
        let message = "upstream timed out (110: Connection timed out) while connecting to upstream";
        assert!(tell(&line(message, ", upstream: \"http://unix:/run/a.sock/x\""), false, &known).is_some());
    }

    #[test]
    fn what_a_client_writes_in_quotes_stays_in_quotes() {
        let request = "GET /?\", upstream:-\"http://1.2.3.4:5/ HTTP/1.1";
        let known = Known { request: Some(request), ..REFUSED };
        let text = line(MESSAGE, UPSTREAM).replace("GET /x HTTP/1.1", request);
        let told = tell(&text, false, &known).expect("told");
        assert_eq!(told.upstream, some("http://127.0.0.1:3001/x"));
        assert_eq!(told.server, some("example.com"));
        // Fields that he writes himself: what is whose cannot be told.
        for fields in [
            format!("{UPSTREAM}, host: \"a\", referrer: \"x\", host: \"b\""),
            format!("{UPSTREAM}, referrer: \"x\", host: \"b\""),
            format!("{UPSTREAM}, host: \"a\", referrer: \"x\", upstream: \"http://127.0.0.1:3001/\""),
        ] {
            let told = tell(&line(MESSAGE, &fields), false, &REFUSED).expect("told");
            assert_eq!((told.upstream, told.host, told.referrer), (None, None, None), "{fields}");
            assert_eq!(told.server, some("example.com"));
        }
        // A quote alone changes nothing.
        let told = tell(&line(MESSAGE, &format!("{UPSTREAM}, host: \"a\", referrer: \"x\" y\"z\"")), false, &REFUSED);
        assert_eq!(told.expect("told").referrer, some("x\" y\"z"));
    }

    #[test]
    fn what_an_upstream_writes_into_the_message_moves_nothing() {
        let known = Known {
            literal: "upstream sent invalid header: \"%*s\\x%02xd...\"",
            errno: 0,
            action: "reading response header from upstream",
            ..REFUSED
        };
        let end = "\\x20...\" while reading response header from upstream";
        let plain = line(&format!("upstream sent invalid header: \"Bad{end}"), UPSTREAM);
        let told = tell(&plain, false, &known).expect("told");
        assert_eq!(told.message, format!("upstream sent invalid header: \"Bad{end}"));
        // It knows nginx's lines by heart: nobody can say which part is its.
        let forged = line(&format!("upstream sent invalid header: \"{}", line(&format!("x{end}"), UPSTREAM)), "");
        let doubled = format!("{forged}{}", &plain["upstream sent invalid header: \"Bad".len()..]);
        assert_eq!(tell(&doubled, false, &known), None);
    }

    #[test]
    fn a_cut_line_tells_what_is_whole() {
        let whole = line(MESSAGE, &format!("{UPSTREAM}, host: \"example.com\", referrer: \"http://a/bcd\""));
        let at = whole.find("/bcd").expect("there");
        let told = tell(&whole[..at], true, &REFUSED).expect("told");
        assert_eq!((told.host.as_deref(), told.referrer), (Some("example.com"), None));
        let at = whole.find(", referrer").expect("there") + 4;
        let told = tell(&whole[..at], true, &REFUSED).expect("told");
        assert_eq!((told.upstream, told.host), (some("http://127.0.0.1:3001/x"), None));
        let at = whole.find(", server").expect("there") + 4;
        assert_eq!(tell(&whole[..at], true, &REFUSED), None);
    }

    #[test]
    fn a_request_line_known_in_part() {
        let known = Known { request: Some("GET /x"), request_cut: true, ..REFUSED };
        let told = tell(&line(MESSAGE, UPSTREAM), false, &known).expect("told");
        assert_eq!(told.upstream, some("http://127.0.0.1:3001/x"));
        let known = Known { request: None, ..REFUSED };
        assert_eq!(tell(&line(MESSAGE, UPSTREAM), false, &known).expect("told").server, some("example.com"));
    }

    #[test]
    fn no_text_makes_it_panic() {
        let whole = line(MESSAGE, &format!("{UPSTREAM}, host: \"é\u{fffd}\", referrer: \"\u{1b}[31m\""));
        let pieces =
            [", host: \"", "\"", ", client: 127.0.0.1", " while connecting to upstream", "(111: ", ")", "é", ", "];
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap_or(0) % below
        };
        for _ in 0..20_000 {
            let letters: Vec<char> = whole.chars().collect();
            let mut text: String = letters[..random(letters.len())].iter().collect();
            for _ in 0..random(4) {
                text.push_str(pieces[random(pieces.len())]);
            }
            text.extend(&letters[random(letters.len())..]);
            let request = Some(pieces[random(pieces.len())]).filter(|_| random(2) == 0);
            let known = Known { request, request_cut: random(2) == 0, ..REFUSED };
            let _ = tell(&text, random(2) == 0, &known);
            if let Some(told) = tell(&text, random(2) == 0, &REFUSED) {
                // Whatever else is in the line, these are as nginx wrote them.
                assert!(told.message.starts_with("connect() failed (111: "));
                assert!(told.upstream.is_none_or(|upstream| upstream.contains("://127.0.0.1:3001")));
            }
        }
    }
}
