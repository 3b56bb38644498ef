//! Failures while nginx waited for the response header.

use super::{Check, Explanation, Group, check};
use crate::model::cause::Cause;

pub(super) const GROUP: Group = Group {
    title: "Waiting for the response header",
    about: "The request was on its way. nginx passes it on to the next server only if that cannot do harm: not POST, LOCK \
            or PATCH (unless `proxy_next_upstream … non_idempotent`), and not with `proxy_request_buffering off`.",
    explanations: &[CLOSED, RESET, STALE, TIMEOUT, TIMEOUT_KERNEL, SEND_TIMEOUT, SEND_FAILED, TOO_BIG, INVALID],
};

const MEMORY: Check =
    check("Kills for memory", "journalctl -k --since '1 hour ago' | grep -i -e oom -e 'out of memory'");
const SERVICE: Check = check("The application's log at that time", "journalctl -u SERVICE --since '10 min ago'");

const CLOSED: Explanation = Explanation {
    cause: Cause::ClosedBeforeResponse,
    status: "502",
    meaning: "The upstream took the request and closed the connection without one byte of an answer. Either its process \
              died (crash, kill, out of memory, a supervisor's timeout), or the application closed the connection by itself.",
    kernel: "A FIN with a request outstanding and no byte of response. On the same host why502 also sees who closed it, \
             and whether that process was ending, by which signal.",
    nginx: &["upstream prematurely closed connection while reading response header from upstream"],
    check: &[
        SERVICE,
        MEMORY,
        check("Crashes", "coredumpctl list --since '1 hour ago'"),
        check("A supervisor that kills slow workers (gunicorn --timeout, php-fpm request_terminate_timeout)", ""),
    ],
    change: &[
        "Mend the crash; give the application the memory it needs, or let it use less.",
        "Let the supervisor's timeout be longer than the slowest request that is meant to succeed.",
        "On deployment: stop accepting, finish what is running, then exit.",
    ],
    hint: "read the upstream's log at that second: a crash, a kill for memory, or a worker timeout",
};

const RESET: Explanation = Explanation {
    cause: Cause::ResetBeforeResponse,
    status: "502",
    meaning: "The upstream's side reset the connection while nginx waited. A process that closes, or dies, with request data \
              unread resets instead of closing; so does a host that no longer knows the connection (restart, a NAT or \
              firewall that forgot it).",
    kernel: "A reset with a request outstanding and no byte of response.",
    nginx: &[
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "upstream prematurely closed connection while reading response header from upstream (TLS: nginx does not say that it was a reset)",
    ],
    check: &[
        SERVICE,
        MEMORY,
        check("Limits on the size of requests, in the application", ""),
        check("Firewalls, NAT and load balancers in between, and their idle timeouts", ""),
    ],
    change: &[
        "Mend the crash, or the early close: an application that refuses a request should read it, or answer first.",
        "Raise limits of the application that cut long headers or bodies.",
    ],
    hint: "read the upstream's log at that second; it closed with the request unread, or died",
};

const STALE: Explanation = Explanation {
    cause: Cause::StaleKeepalive,
    status: "502 for POST, LOCK and PATCH that were already written; others are tried again, unseen",
    meaning: "nginx sent the request on an idle connection from its pool just as the upstream closed it: its keep-alive timeout \
              is shorter than nginx's. The application never saw the request, and logs nothing; only where the verdict is not \
              proven, it may have seen it and died of it. Since nginx 1.29.7 the pool is on by default in upstream blocks.",
    kernel: "A reused connection, idle before this request; a FIN or reset was there already or answers the first bytes; \
             no byte of response.",
    nginx: &[
        "upstream prematurely closed connection while reading response header from upstream",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "writev() failed (104: Connection reset by peer) while sending request to upstream",
        "connect() failed (104: Connection reset by peer) while connecting to upstream (with no connect at all)",
    ],
    check: &[
        check(
            "How long it lay idle: idle_us in the record, against both timeouts",
            "why502 --cause stale_keepalive -v",
        ),
        check(
            "nginx's side (keepalive_timeout in the upstream block, 60 s by default)",
            "nginx -T | grep -n -A12 'upstream '",
        ),
        check(
            "The upstream's side: Node.js server.keepAliveTimeout, gunicorn --keep-alive (2 s by default), uvicorn --timeout-keep-alive (5 s by default)",
            "",
        ),
    ],
    change: &[
        "Let the upstream wait longer than nginx: its keep-alive timeout above nginx's keepalive_timeout, by some seconds.",
        "Or let nginx give up first: keepalive_timeout in the upstream block below the upstream's.",
        "If the upstream closes after a number of requests, keepalive_requests below that number.",
        "proxy_next_upstream … non_idempotent only where sending a POST twice does no harm.",
    ],
    hint: "make the upstream's keep-alive timeout longer than nginx's keepalive_timeout (60 s by default)",
};

const TIMEOUT: Explanation = Explanation {
    cause: Cause::ResponseTimeout,
    status: "504",
    meaning: "The request was sent, and no answer began within proxy_read_timeout (60 s by default, between two reads, not for \
              the whole). Either the application is slow or stuck, or it never accepted the connection: the kernel completes \
              TCP for it, and the request lies in the accept queue.",
    kernel: "The request is written, nothing comes back, and nginx closes. On the same host why502 also looks who has the \
             other end a moment later: a process that is silent, one that was stopped (by a signal, a debugger, or with its \
             control group) before nginx gave up, or nobody yet, and what those who should accept it are at.",
    nginx: &["upstream timed out (110: Connection timed out) while reading response header from upstream"],
    check: &[
        check("Connections that nobody has accepted (Recv-Q of the listener)", "ss -ltn"),
        check("What the application's threads do", "cat /proc/PID/stack; py-spy dump -p PID; jstack PID"),
        check("Slow queries, exhausted pools, locks behind it", ""),
        check("Whether it was stopped (state T)", "ps -o pid,stat,wchan:20,cmd -C NAME"),
    ],
    change: &[
        "Make the request faster, or do the long part in the background and answer at once.",
        "More workers, where all were busy; timeouts for the application's own calls, where one was stuck.",
        "A longer proxy_read_timeout only for the locations that are meant to take so long.",
    ],
    hint: "find out what the upstream was doing: stuck, slow, or all workers busy (ss -ltn, its log)",
};

const TIMEOUT_KERNEL: Explanation = Explanation {
    cause: Cause::ResponseTimeoutKernel,
    status: "502",
    meaning: "The other side vanished from the network with the connection open, and the kernel gave up on it: packets were sent \
              again and again (or keepalive probes), without acknowledgement. The host is gone, or something on the way drops \
              packets of known connections.",
    kernel: "ETIMEDOUT (or EHOSTUNREACH) on an established connection.",
    nginx: &["recv() failed (110: Connection timed out) while reading response header from upstream"],
    check: &[
        check("Retransmissions and timers of open connections", "ss -tino dst ADDRESS"),
        check("Whether the host is up and reachable", "ping ADDRESS"),
    ],
    change: &[
        "Take the host out of the configuration, or bring it back.",
        "Idle timeouts of NAT and firewalls must be longer than connections lie idle (proxy_socket_keepalive on helps).",
    ],
    hint: "the upstream's host or the network path is gone: check it (ping, ss -tino)",
};

const SEND_TIMEOUT: Explanation = Explanation {
    cause: Cause::SendTimeout,
    status: "504",
    meaning: "The upstream stopped reading the request: its receive window closed, nginx's send buffer filled, and \
              proxy_send_timeout (60 s by default, between two writes) ran out. Typical for uploads to an application that is \
              stuck, or that accepted and does not read.",
    kernel: "A full send buffer and a closed window, then nginx closes.",
    nginx: &["upstream timed out (110: Connection timed out) while sending request to upstream"],
    check: &[
        check("Unsent bytes (Send-Q) towards the upstream", "ss -tn dst ADDRESS"),
        check("Unread bytes (Recv-Q) at the application", "ss -tnp sport = :PORT"),
    ],
    change: &[
        "Let the application read bodies as they come, in a thread that is not blocked by other work.",
        "More workers, where all were busy.",
    ],
    hint: "the upstream stopped reading the request: see what blocks it (Recv-Q in ss -tnp)",
};

const SEND_FAILED: Explanation = Explanation {
    cause: Cause::SendFailed,
    status: "502",
    meaning: "The upstream closed or reset the connection while nginx was still sending the request. Often it had answered \
              early (413, 401, a redirect) and hung up with the body unread: nginx does not read that answer.",
    kernel: "EPIPE or ECONNRESET while writing.",
    nginx: &[
        "writev() failed (104: Connection reset by peer) while sending request to upstream",
        "sendfile() failed (32: Broken pipe) while sending request to upstream",
        "SSL_write() failed (SSL: …) while sending request to upstream",
    ],
    check: &[
        check("Whether the application limits bodies, and to how much", ""),
        check(
            "What it answers to the same upload directly",
            "curl -v --data-binary @FILE http://ADDRESS:PORT/PATH -o /dev/null",
        ),
        SERVICE,
    ],
    change: &[
        "Let client_max_body_size in nginx be no more than what the application accepts: then nginx answers 413 itself.",
        "Let the application read the body, or keep the connection open a moment, after an early answer.",
    ],
    hint: "the upstream hung up during the upload: compare its body limit with client_max_body_size",
};

const TOO_BIG: Explanation = Explanation {
    cause: Cause::HeaderTooBig,
    status: "502, and never passed on",
    meaning: "The response header (status line and header fields, cookies above all) does not fit into proxy_buffer_size: one \
              memory page, 4k or 8k, by default.",
    kernel: "At least a buffer of response bytes, then nginx closes with data unread.",
    nginx: &["upstream sent too big header while reading response header from upstream"],
    check: &[
        check("The size of the header", "curl -s -o /dev/null -D - http://ADDRESS:PORT/PATH | wc -c"),
        check("The buffer", "nginx -T | grep -n buffer_size"),
    ],
    change: &[
        "Send less: fewer or smaller cookies, no debug fields, sessions kept on the server.",
        "proxy_buffer_size 16k (fastcgi_buffer_size for FastCGI). proxy_busy_buffers_size must be at least as large, and \
         smaller than proxy_buffers without one buffer: proxy_buffers 8 16k goes with it.",
    ],
    hint: "raise proxy_buffer_size (fastcgi_buffer_size) above the header's size, or send fewer cookies",
};

const INVALID: Explanation = Explanation {
    cause: Cause::HeaderInvalid,
    status: "502, and never passed on",
    meaning: "What came back is not a response that nginx accepts: a malformed or contradictory header, or another protocol than \
              configured (HTTP/1 behind grpc_pass, HTTP behind fastcgi_pass, an HTTP/2 error). A PHP script that dies before its \
              header looks like this too.",
    kernel: "Response bytes, then nginx closes.",
    nginx: &[
        "upstream sent invalid header: …",
        "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        "upstream sent duplicate header line: …",
        "upstream sent unexpected FastCGI record: …",
        "upstream sent unsupported FastCGI protocol version: 72 (an HTTP server behind fastcgi_pass)",
        "upstream sent too large http2 frame: 4740180 (an HTTP/1 server behind grpc_pass)",
        "upstream rejected request with error …",
    ],
    check: &[
        check("What the upstream sends, raw", "curl -sv --raw http://ADDRESS:PORT/PATH -o /dev/null"),
        check("Whether scheme and protocol match the upstream", "nginx -T | grep -n _pass"),
        check("PHP: the fatal error in php-fpm's or nginx's log (FastCGI sent in stderr)", ""),
    ],
    change: &[
        "Use the directive of the protocol that the upstream speaks: proxy_pass, fastcgi_pass, uwsgi_pass, grpc_pass.",
        "Mend the header in the application. nginx 1.23 and later reject duplicates and contradictions of \
         Content-Length and Transfer-Encoding that older versions let pass.",
    ],
    hint: "look at what the upstream sends (curl -v --raw), and whether …_pass matches its protocol",
};
