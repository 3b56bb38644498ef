//! A line as nginx's word of its own, where no uprobe heard it: the message is found in a closed list of literals.
//!
//! Here nothing else is known, so that only lines count which cannot stand inside another one's text, and which can be read
//! in one way.

use super::{
    pattern::Pattern,
    told::{Known, Told, tell},
};

/// A failed attempt, in nginx's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// `fmt` of `ngx_log_error()`.
    pub literal: &'static str,
    /// Its first argument, where it has one.
    pub text: String,
    /// Its second one, where that is a number.
    pub number: u64,
    pub errno: i32,
    pub action: String,
    pub client: String,
    pub request: String,
    /// `u->peer.name`.
    pub peer: Option<String>,
    pub told: Told,
}

/// Literals of failed attempts (1.18 to 1.30); those with arguments last.
const LITERALS: [&str; 32] = [
    "connect() failed",
    "upstream timed out",
    "upstream prematurely closed connection",
    "recv() failed",
    "readv() failed",
    "writev() failed",
    "send() failed",
    "sendfile() failed",
    "upstream sent too big header",
    "upstream sent invalid header",
    "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
    "upstream sent invalid chunked response",
    "upstream prematurely sent response",
    "upstream prematurely closed FastCGI stdout",
    "upstream prematurely closed FastCGI request",
    "upstream prematurely closed stream",
    "peer closed connection in SSL handshake",
    "handshake rejected",
    "no live upstreams",
    "socket() failed",
    "connect() to %V failed",
    "bind(%V) failed",
    "no resolver defined to resolve %V",
    "%V could not be resolved (%i: %s)",
    "upstream sent unexpected FastCGI record: %d",
    "upstream sent unsupported FastCGI protocol version: %d",
    "upstream sent too large http2 frame: %uz",
    "upstream rejected request with error %ui",
    "upstream sent goaway with error %ui",
    "upstream SSL certificate does not match \"%V\"",
    "upstream SSL certificate verify error: (%l:%s)",
    "%ui worker_connections are not enough",
];
/// OpenSSL's errors are formatted before they are logged.
const SSL: &str = "%*s)";
const SSL_STARTS: [&str; 3] =
    ["SSL_do_handshake() failed (SSL: ", "SSL_read() failed (SSL: ", "SSL_write() failed (SSL: "];
/// What nginx does when it talks to an upstream.
const ACTIONS: [&str; 6] = [
    "connecting to upstream",
    "SSL handshaking to upstream",
    "sending request to upstream",
    "reading response header from upstream",
    "reading upstream",
    "sending to client",
];

/// Understands the text of a line that stands on its own; None: it is about something else, or cannot be trusted.
pub fn understand(text: &str, cut: bool) -> Option<Spoken> {
    const CLIENT: &str = ", client: ";
    let (message, rest) = text.split_once(CLIENT)?;
    let (client, _) = rest.split_once(", server: ")?;
    let (said, action) = match message.rsplit_once(" while ") {
        Some((said, action)) if ACTIONS.contains(&action) => (said, action),
        _ => (message, ""),
    };
    let (literal, errno, said) = literal(said)?;
    let pattern = Pattern::new(literal, false);
    if !pattern.is_fixed() && rest.contains(CLIENT) {
        return None; // Whose words are whose?
    }
    let known = Known {
        literal,
        literal_cut: false,
        errno,
        action,
        client: Some(client),
        request: None,
        request_cut: false,
        peer: None,
    };
    let told = tell(text, cut, &known)?;
    let (_, request) = text.split_once(", request: \"")?;
    let end = request.find("\", ").or_else(|| request.strip_suffix('"').map(str::len))?;
    let peer = told.upstream.as_deref().and_then(peer).map(str::to_owned);
    let (argument, number) = arguments(literal, said);
    Some(Spoken {
        literal,
        text: argument.to_owned(),
        number,
        errno,
        action: action.to_owned(),
        client: client.to_owned(),
        request: request.get(..end)?.to_owned(),
        peer,
        told,
    })
}

/// Literal and errno of a message without its action, and the message without its errno.
fn literal(said: &str) -> Option<(&'static str, i32, &str)> {
    let of_list = |said: &str| {
        if SSL_STARTS.iter().any(|start| said.starts_with(start)) && Pattern::new(SSL, false).fits(said) {
            return Some(SSL);
        }
        LITERALS.into_iter().find(|literal| Pattern::new(literal, false).fits(said))
    };
    if let Some(literal) = of_list(said) {
        return Some((literal, 0, said));
    }
    let (before, number) = said.strip_suffix(')')?.rsplit_once(" (")?;
    let errno = number.split_once(": ")?.0.parse().ok()?;
    Some((of_list(before)?, errno, before))
}

/// The first argument of a literal, and the second where it is the resolver's code.
fn arguments<'a>(literal: &str, said: &'a str) -> (&'a str, u64) {
    if literal == SSL {
        return (said.strip_suffix(')').unwrap_or(said), 0);
    }
    if literal.starts_with("%V could not be resolved") {
        let Some((name, code)) = said.split_once(" could not be resolved (") else { return ("", 0) };
        return (name, code.split_once(':').and_then(|(code, _)| code.parse().ok()).unwrap_or(0));
    }
    let Some((before, after)) = literal.split_once('%') else { return ("", 0) };
    let letters = after.trim_start_matches('u').get(1..).unwrap_or_default();
    let argument = said.strip_prefix(before).and_then(|rest| rest.strip_suffix(letters));
    (argument.unwrap_or_default(), 0)
}

/// The peer in `upstream: "SCHEMA://PEER/URI"`; None: a unix socket's path that cannot be told from the URI.
fn peer(upstream: &str) -> Option<&str> {
    let (_, rest) = upstream.split_once("://")?;
    match rest.strip_prefix("unix:") {
        Some(path) => rest.get(.."unix:".len() + path.find(':')?),
        None => rest.split(['/', '?']).next().filter(|peer| !peer.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::understand;

    fn line(message: &str, upstream: &str) -> String {
        format!("{message}, client: 127.0.0.1, server: s, request: \"GET /x HTTP/1.1\"{upstream}, host: \"h\"")
    }

    #[test]
    fn what_nginx_says_of_failed_attempts() {
        for (message, literal, text, number, errno, action) in [
            (
                "connect() failed (111: Connection refused) while connecting to upstream",
                "connect() failed",
                "",
                0,
                111,
                "connecting to upstream",
            ),
            (
                "connect() to unix:/a failed (2: No such file or directory) while connecting to upstream",
                "connect() to %V failed",
                "unix:/a",
                0,
                2,
                "connecting to upstream",
            ),
            ("no.x could not be resolved (3: Host not found)", "%V could not be resolved (%i: %s)", "no.x", 3, 0, ""),
            (
                "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version) while SSL handshaking to upstream",
                "%*s)",
                "SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version",
                0,
                0,
                "SSL handshaking to upstream",
            ),
            (
                "512 worker_connections are not enough while connecting to upstream",
                "%ui worker_connections are not enough",
                "512",
                0,
                0,
                "connecting to upstream",
            ),
        ] {
            let spoken = understand(&line(message, ", upstream: \"http://127.0.0.1:1/x\""), false).expect(message);
            assert_eq!((spoken.literal, spoken.text.as_str(), spoken.number), (literal, text, number), "{message}");
            assert_eq!((spoken.errno, spoken.action.as_str()), (errno, action), "{message}");
            assert_eq!((spoken.client.as_str(), spoken.request.as_str()), ("127.0.0.1", "GET /x HTTP/1.1"));
            assert_eq!(spoken.peer.as_deref(), Some("127.0.0.1:1"));
            assert_eq!(spoken.told.message, message);
        }
    }

    #[test]
    fn peers_of_upstreams() {
        let peer = |upstream: &str| {
            let text =
                line("upstream timed out (110: x) while reading upstream", &format!(", upstream: \"{upstream}\""));
            understand(&text, false).expect("a line").peer
        };
        assert_eq!(peer("http://[::1]:80/x").as_deref(), Some("[::1]:80"));
        assert_eq!(peer("fastcgi://127.0.0.1:9000").as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(peer("http://unix:/a.sock:/x").as_deref(), Some("unix:/a.sock"));
        assert_eq!(peer("http://unix:/a.sock/x"), None);
    }

    #[test]
    fn others_are_none() {
        for text in [
            line("open() \"/x\" failed (2: No such file or directory)", ""),
            line("FastCGI sent in stderr: \"connect() failed\" while reading upstream", ""),
            line("upstream sent a riddle while reading upstream", ""),
            "connect() failed (111: Connection refused) while connecting to upstream".to_owned(),
            line("connect() to x, client: y failed (1: x) while connecting to upstream", ""),
        ] {
            assert_eq!(understand(&text, false), None, "{text}");
        }
    }
}
