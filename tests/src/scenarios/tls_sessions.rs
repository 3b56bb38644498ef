//! Failures within and after a TLS handshake with a server that does speak TLS.

use crate::scenario::{Amount, Attempt, BASE, Drive, Load, Need, Scenario, Turn, attempt, get, post};
use crate::script::HEALTHY;
use crate::script::Step::{self, Await, Bytes, Close, Fill, Finish, Head, Hold, Request, Reset, Respond, Send, When};
use crate::upstream::{Listen, Place};

const CLOSED_SAYS: &str = "upstream prematurely closed connection while reading response header from upstream";
const CLOSED: Attempt = attempt(&["closed_before_response"], CLOSED_SAYS).reused(false);
/// OpenSSL hides the RST from nginx, not from the kernel (NGINX.md row 27).
const RESET: Attempt = attempt(&["reset_before_response"], CLOSED_SAYS).reused(false).likely();
const SILENT: Attempt =
    attempt(&["response_timeout"], "upstream timed out (110 … while reading response header from upstream");
const VERIFY: &[&str] = &["tls_verify_failed"];

/// The handshake succeeds, and what comes after it fails as the path says.
const FAULTS: &[Step] = &[
    When("/closed", &[Request, Close]),
    When("/notified", &[Request, Finish, Hold]),
    When("/reset", &[Request, Reset]),
    When("/silent", &[Request, Hold]),
    When("/upload", &[Head, Reset]),
    When("/half", &[Request, Send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), Fill(50_000), Close]),
    Request,
    Respond,
    Step::Repeat,
];

/// A TLS server and another with a certificate of its own.
const SERVED: Scenario = Scenario {
    needs: &[Need::Tls],
    upstreams: &[("a", Place::V4, Listen::Tls(FAULTS)), ("b", Place::V4, Listen::Tls(HEALTHY))],
    server: "proxy_ssl_session_reuse off; proxy_read_timeout 1s; location / { proxy_pass https://<a>; }",
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tls/alert",
        // A fatal alert: handshake failure.
        upstreams: &[("a", Place::V4, Listen::Accept(&[Await, Bytes(b"\x15\x03\x03\x00\x02\x02\x28"), Hold]))],
        server: "location / { proxy_pass https://<a>; }",
        cases: &[get("/alert").fails(
            502,
            &[attempt(&["tls_handshake_failed"], "SSL_do_handshake() failed (SSL: … while SSL handshaking to upstream")],
        )],
        ..SERVED
    },
    Scenario {
        name: "tls/certificate_of_nobody_known",
        server: "proxy_ssl_session_reuse off; proxy_ssl_verify on; proxy_ssl_name lab;\n\
                 proxy_ssl_trusted_certificate <dir>/b.pem; location / { proxy_pass https://<a>; }",
        cases: &[get("/verify").fails(502, &[attempt(VERIFY, "upstream SSL certificate verify error: (")])],
        ..SERVED
    },
    Scenario {
        name: "tls/certificate_of_another_name",
        server: "proxy_ssl_session_reuse off; proxy_ssl_verify on; proxy_ssl_name other.invalid;\n\
                 proxy_ssl_trusted_certificate <dir>/a.pem; location / { proxy_pass https://<a>; }",
        cases: &[get("/name")
            .fails(502, &[attempt(VERIFY, "upstream SSL certificate does not match \"other.invalid\"")])],
        ..SERVED
    },
    Scenario {
        name: "tls/healthy",
        server: "proxy_ssl_verify on; proxy_ssl_name lab; proxy_ssl_trusted_certificate <dir>/a.pem;\n\
                 location / { proxy_pass https://<a>; }",
        cases: &[get("/ok"), post("/post")],
        ..SERVED
    },
    Scenario {
        name: "tls/closed_before_response",
        cases: &[
            get("/closed").fails(502, &[CLOSED]),
            post("/closed/post").fails(502, &[CLOSED]),
            get("/notified").fails(502, &[CLOSED]),
            get("/ok"),
        ],
        ..SERVED
    },
    Scenario {
        name: "tls/reset_before_response",
        cases: &[get("/reset").fails(502, &[RESET]), post("/reset/post").fails(502, &[RESET])],
        ..SERVED
    },
    Scenario {
        name: "tls/response_timeout",
        cases: &[get("/silent").fails(504, &[SILENT])],
        drive: Drive::Load(Load { clients: 200, keepalive: false }),
        ..SERVED
    },
    Scenario {
        name: "tls/reset_during_big_body",
        // Which system call meets the RST first is nginx's luck.
        cases: &[post("/upload").body(8 << 20).amount(Amount::AtMost(20)).fails(
            502,
            &[attempt(
                &["send_failed", "reset_before_response"],
                "SSL_write() failed … (104 … while sending request to upstream | upstream prematurely closed connection while",
            )
            .likely()],
        )],
        ..SERVED
    },
    Scenario {
        name: "tls/closed_mid_response",
        cases: &[get("/half").fails(
            200,
            &[attempt(&["closed_mid_response"], "upstream prematurely closed connection while reading upstream")
                .truncated()],
        )],
        ..SERVED
    },
    Scenario {
        name: "tls/stale_keepalive",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Tls(&[Request, Respond, When("/stale", &[Request, Close]), Step::Repeat]))],
        http: "upstream pool { server <a> max_fails=0; keepalive 8; }",
        server: "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass https://pool; }",
        cases: &[
            post("/stale")
                .fails(
                    502,
                    &[attempt(&["stale_keepalive"], CLOSED_SAYS).reused(true).likely().idle_us(270_000)],
                )
                .amount(Amount::AtMost(5)),
            get("/warm"),
        ],
        drive: Drive::Turns(&[Turn::Go("/warm"), Turn::Idle(300), Turn::Go("/stale")]),
        ..SERVED
    },
];
