//! A log file's bytes as lines, and which of them may stand inside another line's text.
//!
//! nginx writes a line with one `write()`, and a file does not keep where a write began. Most messages hold no line feed;
//! what an application says on FastCGI's standard error does, and so may some others (NUL, CR and LF are what nginx objects
//! to in an HTTP/2 header). Within a write's length from the start of such a line every line may be forged.

use super::line::{Line, MAX_LINE};

/// What is longer is no line of nginx, nor several of one write.
const LONGEST: usize = 2 * MAX_LINE;

/// Messages whose text from outside may hold line feeds.
const SPANNING: [&[u8]; 5] = [b"FastCGI sent in stderr", b"upstream sent invalid header", b"[lua]", b"js: ", b"perl: "];

/// Messages that hold none: their arguments are numbers, addresses and what OpenSSL says.
const SINGLE: [&[u8]; 30] = [
    b"connect() failed",
    b"connect() to ",
    b"upstream timed out",
    b"upstream prematurely ",
    b"recv() failed",
    b"readv() failed",
    b"writev() failed",
    b"send() failed",
    b"sendfile() failed",
    b"upstream sent too big header",
    b"upstream sent \"Content-Length\" and",
    b"upstream sent invalid chunked",
    b"upstream sent no valid HTTP",
    b"upstream sent more data than",
    b"upstream sent data after",
    b"upstream sent unexpected FastCGI record",
    b"upstream server temporarily disabled",
    b"peer closed connection in SSL handshake",
    b"SSL_do_handshake() failed",
    b"no live upstreams",
    b"no resolver defined",
    b"socket() failed",
    b"bind(",
    b"client ",
    b"epoll_wait() reported",
    b"signal ",
    b"start worker",
    b"gracefully shutting down",
    b"exit",
    b"worker process ",
];

/// Can a line be what it seems?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As far as the lines before it tell, nginx began to write here.
    Own,
    /// The same, if none of the messages before it that are not known here holds a line feed: a client's percent-encoded
    /// path may, in one about a missing file.
    AfterUnknown,
    /// It may be part of a message before it: of this process (as lines name it) and connection, where only one can be.
    PerhapsInside(Option<(u32, u64)>),
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Framer {
    /// The beginning of a line whose end is still to come.
    carried: Vec<u8>,
    /// The rest of the running line is not wanted.
    skipping: bool,
    /// So many bytes from here may belong to a write that began before.
    doubtful: usize,
    /// Whose write: process and connection.
    doubt_of: Option<(u32, u64)>,
    /// So many bytes from here may belong to a write with a message that is not known here.
    unknown: usize,
}

impl Framer {
    /// What was carried, and what comes before the next line feed, belongs to no whole line.
    pub fn skip(&mut self) {
        self.carried.clear();
        self.skipping = true;
        self.doubtful = MAX_LINE;
        self.doubt_of = None;
        self.unknown = 0;
    }

    /// A new file, or an emptied one, begins.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Hands each line that ends in `bytes` to `each`, without its line feed.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], Standing)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if std::mem::take(&mut self.skipping) {
                self.doubtful = self.doubtful.saturating_sub(end + 1);
                continue;
            }
            if self.carried.is_empty() {
                self.line(line, &mut each);
            } else {
                let mut whole = std::mem::take(&mut self.carried);
                whole.extend_from_slice(line);
                self.line(&whole, &mut each);
                whole.clear();
                self.carried = whole;
            }
        }
        if self.skipping {
            self.doubtful = self.doubtful.saturating_sub(rest.len());
        } else if self.carried.len() + rest.len() > LONGEST {
            self.skip();
        } else {
            self.carried.extend_from_slice(rest);
        }
    }

    fn line(&mut self, line: &[u8], each: &mut impl FnMut(&[u8], Standing)) {
        let doubtful = self.doubtful > 0;
        let standing = match (doubtful, self.unknown) {
            (true, _) => Standing::PerhapsInside(self.doubt_of),
            (false, 0) => Standing::Own,
            (false, _) => Standing::AfterUnknown,
        };
        match Line::parse(line) {
            Some(own) if SPANNING.iter().any(|start| own.text.starts_with(start)) => {
                let writer = own.connection.map(|connection| (own.pid, connection));
                self.doubt_of = writer.filter(|_| !doubtful || self.doubt_of == writer);
                self.doubtful = MAX_LINE;
            }
            // The rest of something that began like a line of its own.
            None if !doubtful => (self.doubtful, self.doubt_of) = (MAX_LINE, None),
            Some(own) if !is_single(own.text) => self.unknown = MAX_LINE,
            _ => {}
        }
        self.doubtful = self.doubtful.saturating_sub(line.len() + 1);
        self.unknown = self.unknown.saturating_sub(line.len() + 1);
        each(line, standing);
    }
}

fn is_single(text: &[u8]) -> bool {
    // The name that was not resolved stands before it: it held no line feed.
    const NOT_RESOLVED: &[u8] = b" could not be resolved (";
    SINGLE.iter().any(|start| text.starts_with(start))
        || text.windows(NOT_RESOLVED.len()).any(|part| part == NOT_RESOLVED)
}

#[cfg(test)]
mod tests {
    use super::{Framer, LONGEST, Standing};

    fn lines(framer: &mut Framer, chunks: &[&[u8]]) -> Vec<(String, Standing)> {
        let mut found = Vec::new();
        for chunk in chunks {
            framer.feed(chunk, |line, standing| found.push((String::from_utf8_lossy(line).into_owned(), standing)));
        }
        found
    }

    fn standing(text: &str) -> Vec<Standing> {
        lines(&mut Framer::default(), &[text.as_bytes()]).into_iter().map(|(_, standing)| standing).collect()
    }

    const START: &str = "2026/03/04 05:06:07 [error] 1#1: *2 connect() failed ";

    #[test]
    fn lines_come_whole_however_they_are_read() {
        let text = format!("{START}one\n{START}two\nthree");
        for size in 1..text.len() {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            let found = lines(&mut Framer::default(), &chunks);
            let own = |message: &str| (format!("{START}{message}"), Standing::Own);
            assert_eq!(found, [own("one"), own("two")], "{size}");
        }
    }

    #[test]
    fn what_an_application_says_may_hold_lines() {
        use Standing::Own;
        let inside = Standing::PerhapsInside(Some((1, 2)));
        let speaks = START.replace("connect() failed ", "");
        let forged = format!("{speaks}FastCGI sent in stderr: \"oops\n{START}connect() failed\n\" while reading\n");
        assert_eq!(standing(&forged), [Own, inside, inside]);
        // A write ends after 2048 bytes: what begins there is nginx's again.
        let filler = format!("{START}{}\n", "x".repeat(2048));
        assert_eq!(standing(&format!("{forged}{filler}{START}own\n")).last(), Some(&Own));
        assert_eq!(standing(&format!("{forged}{START}own?\n")).last(), Some(&inside));
        // It writes in another's name, too.
        let other = speaks.replace("*2", "*3");
        let forged = format!("{forged}{other}FastCGI sent in stderr: \"\n{other}x\n{START}x\n");
        assert_eq!(standing(&forged)[4..], [Standing::PerhapsInside(None); 2]);
    }

    #[test]
    fn a_message_that_is_not_known_may_hold_anything() {
        let open = START.replace("connect() failed ", "open() \"/x");
        assert_eq!(standing(&format!("{open}\n{START}x\n")), [Standing::Own, Standing::AfterUnknown]);
        assert_eq!(standing(&format!("{START}x\n{START}y\n")), [Standing::Own; 2]);
    }

    #[test]
    fn after_a_line_of_unknown_origin_nothing_is_sure() {
        let inside = Standing::PerhapsInside(None);
        assert_eq!(standing(&format!("a trace\n{START}x\n")), [Standing::Own, inside]);
        let mut framer = Framer::default();
        framer.skip();
        let text = format!("end of a line\n{START}x\n");
        assert_eq!(lines(&mut framer, &[text.as_bytes()]), [(format!("{START}x"), inside)]);
        framer.restart();
        assert_eq!(lines(&mut framer, &[text.as_bytes()])[0].1, Standing::Own);
    }

    #[test]
    fn endless_lines_are_let_go() {
        let mut framer = Framer::default();
        let endless = vec![b'x'; LONGEST + 1];
        assert_eq!(lines(&mut framer, &[&endless, &endless]), []);
        assert!(framer.carried.is_empty());
        let found = lines(&mut framer, &[b"still it\n", START.as_bytes(), b"x\n"]);
        assert_eq!(found.len(), 1);
    }
}
