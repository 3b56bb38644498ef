//! Requests within requests: includes, mirrors, slices, redirects inside of nginx. A subrequest that fails is a failure
//! of an upstream; it is no response to a client.

use anyhow::Result;

use crate::scenario::{Attempt, BASE, Drive, Load, Need, Reply, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::script::Step::{self, Close, Fill, Hold, Idle, Request, Reset, Respond, Send, When};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");
const CLOSED: Attempt =
    attempt(&["closed_before_response"], "upstream prematurely closed connection while reading response header");
const SILENT: Attempt = attempt(&["response_timeout"], "upstream timed out (110 … while reading response header");

/// Pages that include others, parts that fail one after the other, and slices of which the second fails.
const PARTS: &[Step] = &[
    When(
        "/page",
        &[
            Request,
            Send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n\
                 <!--# include virtual=\"/part/refused\" --> <!--# include virtual=\"/part/closed\" -->\
                 <!--# include virtual=\"/part/silent\" --> <!--# include virtual=\"/part/fine\" -->",
            ),
            Close,
        ],
    ),
    When(
        "/plain",
        &[Request, Send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok"), Close],
    ),
    When("/part/closed", &[Request, Idle(200), Close]),
    When("/part/silent", &[Request, Hold]),
    When(
        "/bytes=0-",
        &[
            Request,
            Send("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1023/3000\r\nContent-Length: 1024\r\n\r\n"),
            Fill(1024),
            Close,
        ],
    ),
    When("/bytes=1024-", &[Request, Close]),
    When(
        "/accel",
        &[Request, Send("HTTP/1.1 200 OK\r\nX-Accel-Redirect: /inside\r\nContent-Length: 0\r\n\r\n"), Close],
    ),
    When("/reset", &[Request, Reset]),
    Request,
    Respond,
    Step::Repeat,
];

/// A server with pages and parts, and one that is down.
const WHOLE: Scenario = Scenario {
    upstreams: &[
        ("a", Place::V4, Listen::Accept(PARTS)),
        ("b", Place::V4, Listen::Accept(HEALTHY)),
        ("down", Place::V4, Listen::Nobody),
    ],
    drive: Drive::Load(Load { clients: 100, keepalive: true }),
    ..BASE
};

/// Over a kept connection, which nginx 1.30 has unasked, a retry makes no event; and a module may swallow a subrequest's page.
const SAVED: Attempt = REFUSED.outcome("retried|unknown");

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "subrequests/includes",
        server: "proxy_read_timeout 1s; location / { ssi on; proxy_pass http://<a>; }\n\
                 location /part/refused { proxy_pass http://<down>; }",
        cases: &[get("/page")
            .fails(200, &[REFUSED.of_a_subrequest(), CLOSED.of_a_subrequest(), SILENT.of_a_subrequest()])
            .reply(Reply::None)],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/include_saved_by_the_reserve",
        http: "upstream pair { server <down> max_fails=0 weight=1000000; server <b> backup; }",
        server: "ssi on; location /page { default_type text/html;\n\
                 return 200 '<!--# include virtual=\"/part\" --><!--# include virtual=\"/part\" -->'; }\n\
                 location /part { proxy_pass http://pair; }",
        cases: &[get("/page").fails(200, &[SAVED, SAVED])],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/added_after_the_body",
        server: "location / { add_after_body /after; proxy_pass http://<a>; }\n\
                 location = /after { proxy_pass http://<down>; }",
        cases: &[get("/plain").fails(200, &[REFUSED.of_a_subrequest()]).reply(Reply::None)],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/mirror_refused",
        server: "location / { mirror /copy; proxy_pass http://<b>; }\n\
                 location = /copy { internal; proxy_pass http://<down>; }",
        cases: &[get("/mirrored").fails(200, &[REFUSED.of_a_subrequest()]).reply(Reply::None)],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/mirror_times_out",
        server: "proxy_read_timeout 1s; location / { mirror /copy; proxy_pass http://<b>; }\n\
                 location = /copy { internal; proxy_pass http://<a>/part/silent; }",
        cases: &[get("/mirrored").fails(200, &[SILENT.of_a_subrequest()]).reply(Reply::None)],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/mirror_of_a_failure",
        // Both fail, and only one of them is the client's.
        server: "location / { mirror /copy; proxy_pass http://<a>; }\n\
                 location = /copy { internal; proxy_pass http://<down>; }",
        cases: &[get("/reset")
            .fails(502, &[REFUSED.of_a_subrequest(), attempt(&["reset_before_response"], "recv() failed (104")])
            .reply(Reply::Is("reset_before_response", 502, "nginx"))],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/second_slice_closed",
        server: "location / { slice 1k; proxy_set_header Range $slice_range; proxy_pass http://<a>/$slice_range/; }",
        cases: &[get("/sliced")
            .fails(200, &[CLOSED.of_a_subrequest()])
            .may_say(&["unexpected status code 502 in slice response"])
            .reply(Reply::None)],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/first_slice_refused",
        server: "location / { slice 1k; proxy_set_header Range $slice_range; proxy_pass http://<down>; }",
        cases: &[get("/sliced").fails(502, &[REFUSED]).may_say(&["unexpected status code 502 in slice response"])],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/x_accel_redirect",
        server: "location / { proxy_pass http://<a>; } location = /inside { internal; proxy_pass http://<down>; }",
        cases: &[get("/accel").fails(502, &[REFUSED])],
        ..WHOLE
    },
    Scenario {
        name: "subrequests/image_filter",
        needs: &[Need::Module("ngx_http_image_filter_module.so")],
        main: "load_module /usr/lib/nginx/modules/ngx_http_image_filter_module.so;",
        server: "location / { image_filter test; proxy_pass http://<b>; }\n\
                 location /refused { image_filter test; proxy_pass http://<down>; }",
        cases: &[
            // No image, nor is the page of an error: the filter ends the request by the road that nginx's own 502 takes.
            get("/text").status(415),
            get("/refused")
                .fails(415, &[REFUSED])
                .reply(Reply::Is("connect_refused", 502, "nginx"))
                .handled("error_page|"),
        ],
        drive: Drive::By(whatever_comes),
        ..WHOLE
    },
];

/// Each request on a connection of its own; nginx may close it without a word, as filters that refuse even the page of
/// an error make it do.
fn whatever_comes(stage: &Stage) -> Result<()> {
    for case in stage.cases() {
        for _ in 0..stage.count(case.amount) {
            let mut client = stage.connect()?;
            stage.send(&mut client, case)?;
            let _ = client.receive(case.method);
        }
    }
    Ok(())
}
