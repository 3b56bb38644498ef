//! The kernel witness alone (`--no-nginx`): it may know less, and must not claim more.

use super::response::FAULTS;
use crate::scenario::{
    Amount, Attempt, BASE, Confidence, Drive, Load, Need, Net, Scenario, Witness, attempt, get, post,
};
use crate::script::HEALTHY;
use crate::script::Step::{self, Close, Hold, Read, Request, Respond};
use crate::upstream::{Listen, Place};

/// What never becomes a state change of TCP.
const AT_ONCE: Scenario =
    Scenario { needs: &[Need::Observation("connect_result"), Need::Observation("unix_stream")], server: "", ..ALONE };

const fn at_most_likely(cause: &'static [&'static str], says: &'static str) -> Attempt {
    attempt(cause, says).at_most(Confidence::Likely)
}

/// No word from nginx, and one server that fails on request.
const ALONE: Scenario = Scenario {
    upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
    server: "location / { proxy_read_timeout 1s; proxy_pass http://<a>; }",
    witness: Witness::Kernel,
    ..BASE
};

/// Answers in full, and closes with the request unread.
const EARLY: &[Step] = &[Read(20), Respond, Close];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kernel_only/refused",
        upstreams: &[("a", Place::V4, Listen::Nobody)],
        cases: &[get("/refused").fails(502, &[at_most_likely(&["connect_refused"], "connect() failed (111")])],
        ..ALONE
    },
    Scenario {
        name: "kernel_only/closed",
        cases: &[
            get("/closed")
                .fails(502, &[at_most_likely(&["closed_before_response"], "upstream prematurely closed connection")]),
            get("/healthy"),
        ],
        ..ALONE
    },
    Scenario {
        name: "kernel_only/reset",
        cases: &[
            get("/reset").fails(502, &[at_most_likely(&["reset_before_response"], "recv() failed (104")]),
            post("/healthy"),
        ],
        ..ALONE
    },
    Scenario {
        name: "kernel_only/timeout_is_no_timeout",
        // A close by nginx with sk_err 0: a timer, a client, a shutdown. The kernel cannot tell.
        cases: &[get("/silent")
            .status(504)
            .says(&["upstream timed out (110 … while reading response header from upstream"])
            .reply(crate::scenario::Reply::Maybe("nginx"))],
        optional: &["unexplained"],
        drive: Drive::Load(Load { clients: 200, keepalive: false }),
        ..ALONE
    },
    Scenario {
        name: "kernel_only/client_leaves",
        upstreams: &[
            ("a", Place::V4, Listen::Accept(&[Request, Hold])),
            ("drop", Place::V4, Listen::Filtered(crate::filter::Filter::Everything, HEALTHY)),
        ],
        server: "location / { proxy_pass http://<a>; } location /connecting { proxy_pass http://<drop>; }",
        cases: &[get("/waiting").status(499), get("/connecting").status(499)],
        optional: &["unexplained"],
        drive: Drive::By(super::traffic::clients_leave),
        ..ALONE
    },
    Scenario { name: "kernel_only/healthy", cases: &[get("/ok")], ..ALONE },
    Scenario {
        name: "kernel_only/unix_at_once",
        upstreams: &[("refused", Place::Unix, Listen::Nobody), ("full", Place::Unix, Listen::Full)],
        server: "location /missing { proxy_pass http://unix:<dir>/nowhere.sock; }\n\
                 location /refused { proxy_pass http://<refused>; } location /full { proxy_pass http://<full>; }",
        cases: &[
            get("/missing").fails(502, &[at_most_likely(&["socket_missing"], "connect() to unix: … failed (2:")]),
            get("/refused").fails(502, &[at_most_likely(&["socket_refused"], "connect() to unix: … failed (111")]),
            get("/full").fails(502, &[at_most_likely(&["socket_backlog_full"], "connect() to unix: … failed (11:")]),
        ],
        ..AT_ONCE
    },
    Scenario {
        name: "kernel_only/unix_unread",
        upstreams: &[("a", Place::Unix, Listen::Accept(FAULTS)), ("early", Place::Unix, Listen::Accept(EARLY))],
        server: "location / { proxy_pass http://<a>; } location /early { proxy_pass http://<early>; }",
        cases: &[
            post("/early").may_say(&["recv() failed (104", "readv() failed (104"]),
            // The kernel alone cannot tell it from an upstream that answered and then closed.
            get("/unread").status(502).says(&["recv() failed (104"]),
            get("/healthy"),
            post("/healthy"),
        ],
        ..AT_ONCE
    },
    Scenario {
        name: "kernel_only/bound_to_nothing",
        // The 500 is nginx's; the kernel cannot tell this bind(2) from one of a listener.
        upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY))],
        server: "location / { proxy_bind 192.0.2.7; proxy_pass http://<a>; }",
        cases: &[get("/bind").status(500).says(&["bind(192.0.2.7) failed (99"])],
        ..AT_ONCE
    },
    Scenario {
        name: "kernel_only/no_descriptor_left",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY))],
        main: "worker_rlimit_nofile 40;",
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/files")
            .fails(500, &[at_most_likely(&["fds_exhausted"], "socket() failed (24 … while connecting to upstream")])
            .amount(Amount::AtMost(20))],
        drive: Drive::By(super::exhausted::with_every_file_open),
        ..AT_ONCE
    },
    Scenario {
        name: "kernel_only/unreachable_at_once",
        net: Net::Private(&[]),
        server: "location / { proxy_pass http://203.0.113.9:80; }",
        cases: &[get("/route").fails(502, &[at_most_likely(&["connect_unreachable"], "connect() to … failed (101:")])],
        ..AT_ONCE
    },
];
