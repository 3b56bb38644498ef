//! Twelve causes at once at a steady rate over four workers, with retries: each request must get its own.

use super::response::FAULTS;
use crate::filter::Filter;
use crate::rate::Rate;
use crate::scenario::{Attempt, BASE, Drive, Need, Reply, Scenario, attempt, get, post};
use crate::script::HEALTHY;
use crate::script::Step::{Await, Finish, Hold, Send};
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111");
const CLOSED: Attempt = attempt(&["closed_before_response"], "upstream prematurely closed");
const SILENT: Attempt = attempt(&["response_timeout"], "upstream timed out (110 … while reading response");

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "mixed/rate",
    needs: &[Need::Tls],
    workers: Some(4),
    upstreams: &[
        ("down", Place::V4, Listen::Nobody),
        ("dropped", Place::V4, Listen::Filtered(Filter::Everything, HEALTHY)),
        ("a", Place::V4, Listen::Accept(FAULTS)),
        ("b", Place::V4, Listen::Accept(HEALTHY)),
        ("socket", Place::Unix, Listen::Nobody),
        (
            "plain",
            Place::V4,
            Listen::Accept(&[Await, Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), Finish, Hold]),
        ),
        ("shut", Place::V4, Listen::Accept(&[Await, Finish, Hold])),
    ],
    http: "upstream pool { server <b> max_fails=0; keepalive 32; }\n\
           upstream saved { server <down> max_fails=0 weight=1000000; server <b> backup; }\n\
           upstream twice { server <down> max_fails=0 weight=1000000; server <a> max_fails=0 backup; }",
    server: "proxy_connect_timeout 1s; proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
             location /healthy { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://pool; }\n\
             location /refused { proxy_pass http://<down>; } location /dropped { proxy_pass http://<dropped>; }\n\
             location /missing { proxy_pass http://unix:<dir>/nowhere.sock; }\n\
             location /socket { proxy_pass http://<socket>; }\n\
             location /nameless { set $name lab.invalid; proxy_pass http://$name; }\n\
             location /plain { proxy_pass https://<plain>; } location /shut { proxy_pass https://<shut>; }\n\
             location /saved { proxy_pass http://saved; }\n\
             location /twice/ { proxy_pass http://twice/; }",
    cases: &[
        get("/healthy"),
        get("/refused").fails(502, &[REFUSED]),
        get("/dropped").fails(504, &[attempt(&["connect_timeout"], "upstream timed out (110 … while connecting")]),
        get("/missing").fails(502, &[attempt(&["socket_missing"], "connect() to unix: … failed (2:")]),
        get("/socket").fails(502, &[attempt(&["socket_refused"], "connect() to unix: … failed (111")]),
        post("/closed").fails(502, &[CLOSED]),
        get("/reset").fails(502, &[attempt(&["reset_before_response"], "recv() failed (104")]),
        get("/silent").fails(504, &[SILENT]),
        get("/big").fails(502, &[attempt(&["header_too_big"], "upstream sent too big header")]),
        get("/bad").fails(502, &[attempt(&["header_invalid"], "upstream sent invalid header")]),
        get("/nameless").status(502).says(&["no resolver defined to resolve"]).reply(Reply::Is(
            "no_resolver",
            502,
            "nginx",
        )),
        get("/plain").fails(502, &[attempt(&["tls_handshake_failed"], "SSL_do_handshake() failed (SSL:")]),
        get("/shut").fails(502, &[attempt(&["tls_peer_closed"], "peer closed connection in SSL handshake")]),
        get("/saved").fails(200, &[REFUSED.retried()]),
        get("/twice/closed").fails(502, &[REFUSED.retried(), CLOSED]),
        get("/twice/silent").fails(504, &[REFUSED.retried(), SILENT]),
    ],
    drive: Drive::Rate(Rate {
        per_second: 2000,
        shares: &[
            ("/healthy", 38),
            ("/refused", 9),
            ("/dropped", 2),
            ("/missing", 5),
            ("/socket", 5),
            ("/closed", 6),
            ("/reset", 6),
            ("/silent", 2),
            ("/big", 3),
            ("/bad", 4),
            ("/nameless", 4),
            ("/plain", 3),
            ("/shut", 3),
            ("/saved", 6),
            ("/twice/closed", 3),
            ("/twice/silent", 1),
        ],
    }),
    ..BASE
}];
