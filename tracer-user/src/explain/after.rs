//! Failures after the response header: the client has its status, and a body that is cut.

use super::{Explanation, Group, check};
use crate::model::cause::Cause;

pub(super) const GROUP: Group = Group {
    title: "After the response header",
    about: "The client has its status already, usually 200, so these are never 502 or 504: the body is cut, and nginx closes \
            the client's connection. They are reported with the outcome `truncated`.",
    explanations: &[CLOSED, RESET, STALLED, INVALID],
};

const CLOSED: Explanation = Explanation {
    cause: Cause::ClosedMidResponse,
    status: "the upstream's own, usually 200; the body is cut",
    meaning: "The upstream closed the connection before the body was complete: it promised more (Content-Length, or the last \
              chunk). Its process died, or a worker timeout ended it.",
    kernel: "A FIN while the response was being read, with bytes of it received.",
    nginx: &["upstream prematurely closed connection while reading upstream"],
    check: &[
        check("The application's log at that time", "journalctl -u SERVICE --since '10 min ago'"),
        check("Kills for memory", "journalctl -k --since '1 hour ago' | grep -i -e oom -e 'out of memory'"),
    ],
    change: &[
        "Mend the crash; let worker timeouts be longer than the longest download.",
        "Let Content-Length agree with what is sent.",
    ],
    hint: "read the upstream's log at that second: it ended in the middle of the body",
};

const RESET: Explanation = Explanation {
    cause: Cause::ResetMidResponse,
    status: "the upstream's own, usually 200; the body is cut",
    meaning: "The connection was reset in the middle of the body: the upstream's process died or closed with request data unread, \
              or something in between cut it.",
    kernel: "A reset while the response was being read.",
    nginx: &[
        "readv() failed (104: Connection reset by peer) while reading upstream",
        "recv() failed (104: Connection reset by peer) while reading upstream",
    ],
    check: &[
        check("The application's log at that time", "journalctl -u SERVICE --since '10 min ago'"),
        check("Firewalls, NAT and load balancers in between, and their idle timeouts", ""),
    ],
    change: &["Mend the crash, or let the application read its requests to the end before it closes."],
    hint: "read the upstream's log at that second; it died or closed with the request unread",
};

const STALLED: Explanation = Explanation {
    cause: Cause::ResponseStalled,
    status: "the upstream's own, usually 200; the body is cut",
    meaning: "The response began, then nothing came for proxy_read_timeout (60 s by default, between two reads). Streams and \
              long polls that are silent for longer end like this.",
    kernel: "Response bytes, silence, then nginx closes (or the kernel gives up: ETIMEDOUT).",
    nginx: &["upstream timed out (110: Connection timed out) while reading upstream"],
    check: &[
        check("What the application was doing in between", ""),
        check("nginx's timeout", "nginx -T | grep -n read_timeout"),
    ],
    change: &[
        "Let streams send something regularly (a comment line, a ping).",
        "A longer proxy_read_timeout for the locations that are meant to be silent for so long.",
    ],
    hint: "the upstream fell silent in the middle of the body: pings, or a longer proxy_read_timeout there",
};

const INVALID: Explanation = Explanation {
    cause: Cause::ResponseInvalid,
    status: "the upstream's own, usually 200; the client may get nothing of the body",
    meaning: "The body breaks the rules of its encoding: chunk sizes that are none, or HTTP/2 frames out of order.",
    kernel: "Response bytes, then nginx closes.",
    nginx: &["upstream sent invalid chunked response while reading upstream"],
    check: &[check("The body as it is sent", "curl -sv --raw http://ADDRESS:PORT/PATH | head -c 2000 | xxd | head")],
    change: &["Mend the encoding in the application: mostly text printed past its web server, or a wrong length."],
    hint: "look at the raw body (curl --raw): its chunks are malformed",
};
