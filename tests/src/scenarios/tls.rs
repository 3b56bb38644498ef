//! TLS towards the upstream.

use crate::scenario::{Attempt, BASE, Drive, Load, Need, Scenario, attempt, get};
use crate::script::Step::{Await, Finish, Hold, Reset, Send};
use crate::upstream::{Listen, Place};

const CLOSED: Attempt =
    attempt(&["tls_peer_closed"], "peer closed connection in SSL handshake while SSL handshaking to upstream");
const RESET: Attempt =
    attempt(&["tls_peer_closed"], "peer closed connection in SSL handshake (104 … while SSL handshaking to upstream");
const PLAIN: Attempt =
    attempt(&["tls_handshake_failed"], "SSL_do_handshake() failed (SSL: … while SSL handshaking to upstream");

/// nginx speaks TLS to whatever is there.
const HTTPS: Scenario = Scenario {
    needs: &[Need::Tls],
    server: "location / { proxy_connect_timeout 1s; proxy_pass https://<a>; }",
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tls/plain_http_behind_https",
        upstreams: &[(
            "a",
            Place::V4,
            Listen::Accept(&[Await, Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), Finish, Hold]),
        )],
        cases: &[get("/plain").fails(502, &[PLAIN])],
        ..HTTPS
    },
    Scenario {
        name: "tls/peer_closed",
        upstreams: &[("a", Place::V4, Listen::Accept(&[Await, Finish, Hold]))],
        cases: &[get("/closed").fails(502, &[CLOSED])],
        ..HTTPS
    },
    Scenario {
        name: "tls/peer_reset",
        upstreams: &[("a", Place::V4, Listen::Accept(&[Await, Reset]))],
        cases: &[get("/reset").fails(502, &[RESET])],
        ..HTTPS
    },
    Scenario {
        // With TLS 1.3 nginx hears of it only after its own side of the handshake is over.
        name: "tls/client_certificate_missing",
        upstreams: &[("a", Place::V4, Listen::MutualTls)],
        server: "location / { proxy_ssl_protocols TLSv1.3; proxy_pass https://<a>; }",
        cases: &[get("/unknown").fails(
            502,
            &[attempt(
                &["tls_handshake_failed"],
                "SSL_read() failed (SSL: … while reading response header from upstream",
            )],
        )],
        ..HTTPS
    },
    Scenario {
        name: "tls/timeout",
        upstreams: &[("a", Place::V4, Listen::Accept(&[Hold]))],
        cases: &[get("/silent").fails(
            504,
            &[attempt(&["tls_timeout"], "upstream timed out (110 … while SSL handshaking to upstream").errno("")],
        )],
        drive: Drive::Load(Load { clients: 200, keepalive: false }),
        ..HTTPS
    },
];
