//! Upstreams that speak their protocol, and say what it forbids: FastCGI, uwsgi, SCGI, gRPC, memcached.

use crate::scenario::{Attempt, BASE, Case, Drive, Load, Need, Scenario, attempt, get};
use crate::script::Step::{self, Await, Bytes, Close, Finish, Hold, Reset, Send, When};
use crate::upstream::{Listen, Place};

const fn wrong(says: &'static str) -> Attempt {
    attempt(&["header_invalid"], says)
}

const fn rejected(path: &'static str, attempts: &'static [Attempt]) -> Case {
    get(path).fails(502, attempts)
}

const fn served(name: &'static str, steps: &'static [Step]) -> (&'static str, Place, Listen) {
    (name, Place::V4, Listen::Accept(steps))
}

/// FastCGI records: version, type, id (2), length (2), padding, reserved. 3 ends a request, 6 is stdout, 7 stderr.
const STDERR_AND_END: &[u8] = b"\x01\x07\0\x01\0\x09\0\0PHP fatal\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0";
const EMPTY_STDOUT: &[u8] = b"\x01\x06\0\x01\0\0\0\0";
const BODY_CUT_BY_STDOUT: &[u8] = b"\x01\x06\0\x01\0\x1b\0\0Content-Length: 100\r\n\r\nhalf\x01\x06\0\x01\0\0\0\0";
const BODY_CUT_BY_END: &[u8] =
    b"\x01\x06\0\x01\0\x1b\0\0Content-Length: 100\r\n\r\nhalf\x01\x03\0\x01\0\x08\0\0\0\0\0\0\0\0\0\0";

/// HTTP/2 frames: length (3), type, flags, stream (4). An empty SETTINGS comes first.
const RST_STREAM: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07";
const GOAWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02";
const CONTINUATION: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x09\0\0\0\0\x01x";
/// :status 200 and content-length 100, then five bytes and the end of the stream.
const SHORT_BODY: &[u8] =
    b"\0\0\0\x04\0\0\0\0\0\0\0\x07\x01\x04\0\0\0\x01\x88\x0f\x0d\x03100\0\0\x05\0\x01\0\0\0\x01hello";

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "protocols/fastcgi_records",
        upstreams: &[
            served("fatal", &[Await, Bytes(STDERR_AND_END), Hold]),
            served("empty", &[Await, Bytes(EMPTY_STDOUT), Hold]),
            served("kind", &[Await, Bytes(b"\x01\x63\0\x01\0\0\0\0"), Hold]),
            served("id", &[Await, Bytes(b"\x01\x06\0\x02\0\0\0\0"), Hold]),
            served("status", &[Await, Bytes(b"\x01\x06\0\x01\0\x0f\0\0Status: abc\r\n\r\n"), Hold]),
        ],
        server: "location /fatal { fastcgi_pass <fatal>; } location /empty { fastcgi_pass <empty>; }\n\
                 location /kind { fastcgi_pass <kind>; } location /id { fastcgi_pass <id>; }\n\
                 location /status { fastcgi_pass <status>; }",
        cases: &[
            rejected("/fatal", &[wrong("upstream sent unexpected FastCGI record: 3")])
                .may_say(&["FastCGI sent in stderr: \"PHP fatal\""]),
            rejected("/empty", &[wrong("upstream prematurely closed FastCGI stdout while reading response header")]),
            rejected("/kind", &[wrong("upstream sent invalid FastCGI record type: 99")]),
            rejected("/id", &[wrong("upstream sent unexpected FastCGI request id")]),
            rejected("/status", &[wrong("upstream sent invalid status \"abc\"")]),
        ],
        ..BASE
    },
    Scenario {
        name: "protocols/fastcgi_body",
        // Before, nothing was compared with the length that was announced, and the client waits for the rest.
        needs: &[Need::Version(1, 19, 1)],
        upstreams: &[
            served("stdout", &[Await, Bytes(BODY_CUT_BY_STDOUT), Finish, Hold]),
            served("ended", &[Await, Bytes(BODY_CUT_BY_END), Finish, Hold]),
        ],
        server: "fastcgi_read_timeout 1s; location /stdout { fastcgi_pass <stdout>; } location /ended { fastcgi_pass <ended>; }",
        cases: &[
            get("/stdout").fails(
                200,
                &[attempt(
                    &["closed_mid_response"],
                    "upstream prematurely closed FastCGI stdout while reading upstream",
                )
                .truncated()],
            ),
            get("/ended").fails(
                200,
                &[attempt(
                    &["closed_mid_response"],
                    "upstream prematurely closed FastCGI request while reading upstream",
                )
                .truncated()],
            ),
        ],
        ..BASE
    },
    Scenario {
        name: "protocols/gateway_status",
        upstreams: &[served("a", &[Await, Send("Status: abc\r\n\r\n"), Hold])],
        server: "location /uwsgi { uwsgi_pass <a>; } location /scgi { scgi_pass <a>; }",
        cases: &[
            rejected("/uwsgi", &[wrong("upstream sent invalid status \"abc\"")]),
            rejected("/scgi", &[wrong("upstream sent invalid status \"abc\"")]),
        ],
        ..BASE
    },
    Scenario {
        name: "protocols/grpc_frames",
        upstreams: &[
            served("reset", &[Await, Bytes(RST_STREAM), Hold]),
            served("goaway", &[Await, Bytes(GOAWAY), Hold]),
            served("frame", &[Await, Bytes(CONTINUATION), Hold]),
        ],
        server: "location /reset { grpc_pass <reset>; } location /goaway { grpc_pass <goaway>; }\n\
                 location /frame { grpc_pass <frame>; }",
        cases: &[
            rejected("/reset", &[wrong("upstream rejected request with error 7")]),
            rejected("/goaway", &[wrong("upstream sent goaway with error 2")]),
            rejected("/frame", &[wrong("upstream sent unexpected http2 frame: 9 | upstream sent unexpected")]),
        ],
        ..BASE
    },
    Scenario {
        name: "protocols/proxied_http2_frames",
        needs: &[Need::Version(1, 29, 4)],
        upstreams: &[
            served("reset", &[Await, Bytes(RST_STREAM), Hold]),
            served("goaway", &[Await, Bytes(GOAWAY), Hold]),
            served("http", &[Await, Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), Hold]),
        ],
        server: "proxy_http_version 2; location /reset { proxy_pass http://<reset>; }\n\
                 location /goaway { proxy_pass http://<goaway>; } location /http { proxy_pass http://<http>; }",
        cases: &[
            rejected("/reset", &[wrong("upstream rejected request with error 7")]),
            rejected("/goaway", &[wrong("upstream sent goaway with error 2")]),
            rejected("/http", &[wrong("upstream sent too large http2 frame: 4740180")]),
        ],
        ..BASE
    },
    Scenario {
        name: "protocols/grpc_body",
        needs: &[Need::Version(1, 19, 1)],
        upstreams: &[served("a", &[Await, Bytes(SHORT_BODY), Hold])],
        server: "location / { grpc_pass <a>; }",
        cases: &[get("/short").fails(
            200,
            &[attempt(&["closed_mid_response"], "upstream prematurely closed stream while reading").truncated()],
        )],
        ..BASE
    },
    Scenario {
        name: "protocols/memcached",
        upstreams: &[
            ("down", Place::V4, Listen::Nobody),
            served(
                "a",
                &[
                    When("/closed", &[Await, Finish, Hold]),
                    When("/reset", &[Await, Reset]),
                    When("/silent", &[Hold]),
                    When("/bad", &[Await, Send("BAD\r\n"), Hold]),
                    When("/none", &[Await, Send("END\r\n"), Close]),
                    Await,
                    Send("VALUE /ok 0 3\r\nok\n\r\nEND\r\n"),
                    Hold,
                ],
            ),
        ],
        server: "memcached_read_timeout 1s; set $memcached_key /ok;\n\
                 location /refused { memcached_pass <down>; } location / { memcached_pass <a>; }\n\
                 location /closed { set $memcached_key /closed; memcached_pass <a>; }\n\
                 location /reset { set $memcached_key /reset; memcached_pass <a>; }\n\
                 location /silent { set $memcached_key /silent; memcached_pass <a>; }\n\
                 location /bad { set $memcached_key /bad; memcached_pass <a>; }\n\
                 location /none { set $memcached_key /none; memcached_pass <a>; }",
        cases: &[
            rejected("/refused", &[attempt(&["connect_refused"], "connect() failed (111")]),
            rejected(
                "/closed",
                &[attempt(&["closed_before_response"], "upstream prematurely closed connection while")],
            ),
            rejected("/reset", &[attempt(&["reset_before_response"], "recv() failed (104")]),
            get("/silent").fails(504, &[attempt(&["response_timeout"], "upstream timed out (110")]),
            rejected("/bad", &[wrong("memcached sent invalid response: \"BAD")]),
            get("/none").status(404),
            get("/found"),
        ],
        drive: Drive::Load(Load { clients: 100, keepalive: true }),
        ..BASE
    },
];
