//! Failures of the nginx host itself, and what is no failure of an upstream.

use super::{Explanation, Group, check};
use crate::model::cause::Cause;

pub(super) const GROUP: Group = Group {
    title: "On the nginx host itself",
    about: "nginx could not even try. It answers 500, and people look for it among the 502s.",
    explanations: &[FDS, CONNECTIONS, BIND, MISCONFIGURED, TEMPFILE],
};

pub(super) const OTHERS: Group = Group {
    title: "Others",
    about: "Not a failure of an upstream, or not known.",
    explanations: &[CLIENT_CLOSED, UNEXPLAINED],
};

const FDS: Explanation = Explanation {
    cause: Cause::FdsExhausted,
    status: "500",
    meaning: "The worker (24), or the whole system (23), has no file descriptor left for another socket. A proxied request takes \
              two at least: the client's and the upstream's.",
    kernel: "socket(2) fails with EMFILE or ENFILE.",
    nginx: &["socket() failed (24: Too many open files) while connecting to upstream"],
    check: &[
        check("The limit and the use of a worker", "grep 'open files' /proc/PID/limits; ls /proc/PID/fd | wc -l"),
        check("The system's", "cat /proc/sys/fs/file-nr"),
    ],
    change: &[
        "worker_rlimit_nofile above twice worker_connections (and LimitNOFILE= of the service).",
        "More worker processes, or shorter keepalive timeouts for idle clients.",
    ],
    hint: "raise worker_rlimit_nofile above twice worker_connections",
};

const CONNECTIONS: Explanation = Explanation {
    cause: Cause::WorkerConnections,
    status: "500",
    meaning: "The worker has used up worker_connections (512 by default), which counts clients and upstreams together.",
    kernel: "A socket is made and closed again, without connect.",
    nginx: &["… worker_connections are not enough while connecting to upstream"],
    check: &[
        check("The setting", "nginx -T | grep -n worker_connections"),
        check("Connections of each worker", "ss -tnp | grep -o 'nginx\",pid=[0-9]*' | sort | uniq -c"),
    ],
    change: &[
        "Raise worker_connections, and worker_rlimit_nofile with it.",
        "If connections pile up behind a slow upstream, that is the cause to mend.",
    ],
    hint: "raise worker_connections (and worker_rlimit_nofile); it counts clients and upstreams",
};

const BIND: Explanation = Explanation {
    cause: Cause::BindFailed,
    status: "500",
    meaning: "proxy_bind names a local address that cannot be used: it is not (or no longer) this host's, or transparent needs rights \
              that the worker lacks.",
    kernel: "bind(2) fails, mostly with EADDRNOTAVAIL.",
    nginx: &["bind(…) failed (99: Cannot assign requested address) while connecting to upstream"],
    check: &[
        check("This host's addresses", "ip -br addr"),
        check("What is configured", "nginx -T | grep -n proxy_bind"),
    ],
    change: &["Correct proxy_bind, or give the host the address back."],
    hint: "correct proxy_bind: the address is not usable on this host (ip -br addr)",
};

const MISCONFIGURED: Explanation = Explanation {
    cause: Cause::UpstreamMisconfigured,
    status: "500",
    meaning: "nginx could not make an upstream out of what the configuration gave at run time: a bad URL from variables, a missing \
              port, or TLS parameters that OpenSSL refuses.",
    kernel: "No connection.",
    nginx: &[
        "invalid URL prefix in \"…\"",
        "no host in upstream \"…\"",
        "no port in upstream \"…\"",
        "no upstream configuration",
    ],
    check: &[check(
        "Which variables go into proxy_pass, and what they held for this request",
        "nginx -T | grep -n _pass",
    )],
    change: &["Give variables a default (map), with scheme and host."],
    hint: "look at the variables in proxy_pass: the URL they made is unusable",
};

const TEMPFILE: Explanation = Explanation {
    cause: Cause::TempfileFailed,
    status: "500, or a body that is cut",
    meaning: "nginx could not write a temporary file, for a large request body or a response that the client reads slowly: the \
              disk is full, or the directory is not writable.",
    kernel: "pwrite(2) fails with ENOSPC, mostly.",
    nginx: &["pwrite() \"…\" failed (28: No space left on device)"],
    check: &[check("Room where nginx buffers", "df -h /var/lib/nginx /var/cache/nginx; df -i /var/lib/nginx")],
    change: &[
        "Make room; put client_body_temp_path and proxy_temp_path on a file system of their own.",
        "proxy_max_temp_file_size limits what one response may take (0 for none).",
    ],
    hint: "make room where nginx writes temporary files (df -h)",
};

const CLIENT_CLOSED: Explanation = Explanation {
    cause: Cause::ClientClosed,
    status: "499, in the access log only",
    meaning: "The client went away before the answer, and nginx closed the connection to the upstream. Not a failure of the upstream, \
              though slow answers make clients go. Counted, and shown with --all.",
    kernel: "nginx closes the upstream's connection; the client closed its own before.",
    nginx: &[
        "client prematurely closed connection",
        "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too",
    ],
    check: &[check("How long these requests took ($request_time) in the access log, and the client's own timeout", "")],
    change: &["Answer sooner; or proxy_ignore_client_abort on, where the work must be finished anyway."],
    hint: "the client left first: compare its timeout with the time the upstream takes",
};

const UNEXPLAINED: Explanation = Explanation {
    cause: Cause::Unexplained,
    status: "as observed",
    meaning: "Neither the kernel nor nginx said enough for an honest verdict. Mostly an observation is missing on this host, \
              events were lost, or nginx's log level is above error.",
    kernel: "Whatever the record's evidence lists.",
    nginx: &[],
    check: &[
        check("What cannot be observed here", "why502 doctor"),
        check("nginx's log level", "nginx -T | grep -n error_log"),
    ],
    change: &["error_log … error (the default) rather than crit; run why502 as root, with all its observations."],
    hint: "see what cannot be observed here (why502 doctor), and nginx's error log at that second",
};
