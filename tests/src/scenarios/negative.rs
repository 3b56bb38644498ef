//! What is not a failure, though connections end in every way they can: none of this may produce a verdict.

use crate::scenario::{Amount, BASE, Case, Drive, Load, Need, Reply, Scenario, Turn, get, post};
use crate::script::HEALTHY;
use crate::script::Step::{self, Close, Fill, Finish, Head, Hold, Idle, Read, Request, Reset, Respond, Send, When};
use crate::upstream::{Listen, Place};

/// nginx with a pool of kept connections.
const POOL: &str = "upstream pool { server <a> max_fails=0; keepalive 16; }";
const POOLED: &str = "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://pool; }";

/// Answers of every legal shape, and every legal way to end after them.
const SHAPES: &[Step] = &[
    When(
        "/chunked",
        &[Request, Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), Step::Repeat],
    ),
    When("/until_close", &[Request, Send("HTTP/1.0 200 OK\r\n\r\n"), Fill(30_000), Close]),
    When("/204", &[Request, Send("HTTP/1.1 204 No Content\r\n\r\n"), Step::Repeat]),
    When("/304", &[Request, Send("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"), Step::Repeat]),
    When("/head", &[Request, Send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), Step::Repeat]),
    When("/fin", &[Request, Respond, Close]),
    When("/rst", &[Request, Respond, Reset]),
    When("/unread", &[Read(20), Respond, Close]),
    When("/early", &[Head, Respond, Finish, Hold]),
    When("/502", &[Request, Send("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nmine"), Close]),
    When("/504", &[Request, Send("HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"), Close]),
    When("/upgrade", &[Request, Send(UPGRADED), Close]),
    Request,
    Respond,
    Step::Repeat,
];

const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhello";

/// After a complete answer nginx may find the RST and log it, although nothing is missing.
const LATE_RESET: &[&str] = &["readv() failed (104 … while reading upstream", "recv() failed (104 … while"];

const CLIENT_LEFT: &[&str] = &["epoll_wait() reported that client prematurely closed connection"];

/// One server that plays [`SHAPES`] behind a pool.
const SHAPED: Scenario =
    Scenario { upstreams: &[("a", Place::V4, Listen::Accept(SHAPES))], http: POOL, server: POOLED, ..BASE };

/// The upstream's own status, passed on.
const fn passed_on(path: &'static str, status: u16) -> Case {
    get(path).status(status).reply(Reply::Maybe("upstream"))
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "negative/shapes_of_answers",
        cases: &[
            get("/chunked"),
            get("/until_close"),
            get("/204").status(204),
            get("/304").status(304),
            get("/head").method("HEAD"),
            get("/missing"),
        ],
        ..SHAPED
    },
    Scenario {
        name: "negative/shapes_of_requests",
        cases: &[
            post("/continue").body(5000).headers("Expect: 100-continue\r\n"),
            post("/early").body(2 << 20).amount(Amount::AtMost(20)),
            post("/upload").body(2 << 20).amount(Amount::AtMost(20)),
            get("/patch").method("PATCH").body(10),
        ],
        ..SHAPED
    },
    Scenario {
        name: "negative/fin_after_answer",
        cases: &[get("/fin"), post("/fin/post")],
        // Without a pool: in one, the next request would meet the dying connection.
        server: "location / { proxy_pass http://<a>; }",
        ..SHAPED
    },
    Scenario {
        name: "negative/rst_after_answer",
        cases: &[
            get("/rst").may_say(LATE_RESET),
            post("/rst/post").may_say(LATE_RESET),
            post("/unread").may_say(LATE_RESET),
        ],
        server: "location / { proxy_pass http://<a>; }",
        ..SHAPED
    },
    Scenario {
        name: "negative/upgrade_closed_by_upstream",
        cases: &[get("/upgrade").status(101).headers("Upgrade: websocket\r\n")],
        server: "location / { proxy_http_version 1.1; proxy_set_header Upgrade websocket;\n\
                 proxy_set_header Connection upgrade; proxy_pass http://<a>; }",
        ..SHAPED
    },
    Scenario {
        name: "negative/upgraded_timeout",
        upstreams: &[("a", Place::V4, Listen::Accept(&[Request, Send(UPGRADED), Hold]))],
        cases: &[get("/silent")
            .status(101)
            .headers("Upgrade: websocket\r\n")
            .says(&["upstream timed out (110 … while proxying upgraded connection"])
            .amount(Amount::AtMost(50))],
        server: "location / { proxy_http_version 1.1; proxy_set_header Upgrade websocket; proxy_read_timeout 1s;\n\
                 proxy_set_header Connection upgrade; proxy_pass http://<a>; }",
        error_level: "info",
        drive: Drive::Load(Load { clients: 50, keepalive: false }),
        ..SHAPED
    },
    Scenario {
        name: "negative/upgraded_reset",
        upstreams: &[("a", Place::V4, Listen::Accept(&[Request, Send(UPGRADED), Idle(50), Reset]))],
        cases: &[get("/reset")
            .status(101)
            .headers("Upgrade: websocket\r\n")
            .says(&["recv() failed (104 … while proxying upgraded connection"])],
        server: "location / { proxy_http_version 1.1; proxy_set_header Upgrade websocket;\n\
                 proxy_set_header Connection upgrade; proxy_pass http://<a>; }",
        ..SHAPED
    },
    Scenario {
        name: "negative/idle_pool_ends_here",
        http: "upstream pool { server <a> max_fails=0; keepalive 16; keepalive_timeout 1s; }",
        cases: &[get("/ok")],
        drive: Drive::By(super::traffic::until_the_pool_is_empty),
        ..SHAPED
    },
    Scenario {
        name: "negative/idle_pool_ends_there",
        workers: Some(1),
        upstreams: &[(
            "a",
            Place::V4,
            Listen::Accept(&[When("/rst", &[Request, Respond, Idle(50), Reset]), Request, Respond, Idle(50), Close]),
        )],
        cases: &[get("/fin").amount(Amount::AtMost(20)), get("/rst")],
        drive: Drive::Turns(&[Turn::Go("/fin"), Turn::Gone("a"), Turn::Go("/rst"), Turn::Gone("a")]),
        ..SHAPED
    },
    Scenario {
        name: "negative/client_leaves",
        upstreams: &[
            ("a", Place::V4, Listen::Accept(&[Request, Hold])),
            ("drop", Place::V4, Listen::Filtered(crate::filter::Filter::Everything, HEALTHY)),
        ],
        http: "",
        server: "location / { proxy_pass http://<a>; } location /connecting { proxy_pass http://<drop>; }",
        cases: &[get("/waiting").status(499), post("/posted").status(499), get("/connecting").status(499)],
        drive: Drive::By(super::traffic::clients_leave),
        ..BASE
    },
    Scenario {
        name: "negative/status_by_configuration",
        server: "location / { return 502; } location /text { return 504 \"configured\"; }\n\
                 location /files { root <dir>; try_files /nowhere =502; }",
        cases: &[
            get("/return").status(502).reply(Reply::Maybe("config")),
            get("/text").status(504).reply(Reply::Maybe("config")),
            get("/files").status(502).reply(Reply::Maybe("config")),
        ],
        ..BASE
    },
    Scenario {
        name: "negative/status_by_upstream",
        cases: &[passed_on("/502", 502), passed_on("/504", 504)],
        server: "location / { proxy_pass http://<a>; }",
        ..SHAPED
    },
    Scenario {
        name: "negative/status_by_upstream_intercepted",
        cases: &[passed_on("/502", 502).handled("error_page|"), passed_on("/504", 504).handled("error_page|")],
        server: "proxy_intercept_errors on; error_page 502 504 /own.html; location / { proxy_pass http://<a>; }\n\
                 location = /own.html { return 200 own; }",
        ..SHAPED
    },
    Scenario {
        name: "negative/client_leaves_log_info",
        upstreams: &[
            ("a", Place::V4, Listen::Accept(&[Request, Hold])),
            ("drop", Place::V4, Listen::Filtered(crate::filter::Filter::Everything, HEALTHY)),
        ],
        http: "",
        server: "location / { proxy_pass http://<a>; } location /connecting { proxy_pass http://<drop>; }",
        error_level: "info",
        cases: &[
            get("/waiting").status(499).says(CLIENT_LEFT),
            post("/posted").status(499).says(CLIENT_LEFT),
            get("/connecting").status(499).says(CLIENT_LEFT),
        ],
        drive: Drive::By(super::traffic::clients_leave),
        ..BASE
    },
    Scenario {
        name: "negative/stream_module",
        needs: &[Need::Stream],
        upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY)), ("down", Place::V4, Listen::Nobody)],
        main: "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
               stream { server { listen unix:<dir>/stream.sock; proxy_pass <down>; } }",
        http: "",
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/ok")],
        drive: Drive::By(super::traffic::beside_the_stream_module),
        ..BASE
    },
    Scenario {
        name: "negative/other_programs",
        upstreams: &[("a", Place::V4, Listen::Accept(SHAPES)), ("down", Place::V4, Listen::Nobody)],
        cases: &[get("/ok")],
        drive: Drive::By(super::traffic::beside_other_programs),
        ..SHAPED
    },
];
