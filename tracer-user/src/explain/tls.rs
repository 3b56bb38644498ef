//! Failures of TLS to the upstream.

use super::{Check, Explanation, Group, check};
use crate::model::cause::Cause;

pub(super) const GROUP: Group = Group {
    title: "TLS to the upstream",
    about: "The TCP connection was made, the handshake was not. No request was sent, so nginx passes any request on to the \
            next server, where there is one.",
    explanations: &[HANDSHAKE, CLOSED, VERIFY, TIMEOUT],
};

const TRY: Check = check(
    "The handshake by hand, with the name that nginx sends",
    "openssl s_client -connect ADDRESS:PORT -servername NAME </dev/null",
);

const HANDSHAKE: Explanation = Explanation {
    cause: Cause::TlsHandshakeFailed,
    status: "502",
    meaning: "The upstream answered nginx's hello with an alert, or with something that is not TLS. Common reasons: https:// \
              in proxy_pass towards a plain HTTP port (\"wrong version number\"), no common protocol or cipher, an \
              upstream that needs a server name (SNI) or a client certificate.",
    kernel: "Bytes come back during the handshake, then nginx closes.",
    nginx: &[
        "SSL_do_handshake() failed (SSL: error:…) while SSL handshaking to upstream",
        "handshake rejected while SSL handshaking to upstream",
    ],
    check: &[
        TRY,
        check("Whether the port speaks plain HTTP", "curl -sv http://ADDRESS:PORT/ -o /dev/null"),
        check("What nginx is told to send", "nginx -T | grep -n -e proxy_ssl -e proxy_pass"),
    ],
    change: &[
        "\"wrong version number\": http:// in proxy_pass, or the upstream's TLS port.",
        "Alert 112 (unrecognized name) or 40 (handshake failure) from a host with several names: proxy_ssl_server_name on; \
         and proxy_ssl_name (off is the default).",
        "Old upstreams: proxy_ssl_protocols and proxy_ssl_ciphers that both sides know.",
        "Where a client certificate is asked for: proxy_ssl_certificate and proxy_ssl_certificate_key.",
    ],
    hint: "try the handshake by hand (openssl s_client); often plain HTTP behind https://, or SNI is off",
};

const CLOSED: Explanation = Explanation {
    cause: Cause::TlsPeerClosed,
    status: "502",
    meaning: "The upstream closed or reset the connection in the middle of the handshake, without an alert. Load balancers \
              do so when they have no backend or no certificate for the name; applications do so when they are \
              overloaded or restarting.",
    kernel: "A FIN or a reset during the handshake.",
    nginx: &["peer closed connection in SSL handshake while SSL handshaking to upstream"],
    check: &[TRY, check("The upstream's own log at that time", "")],
    change: &[
        "proxy_ssl_server_name on, with the proxy_ssl_name that the upstream expects.",
        "See that the upstream speaks TLS on this port and is not restarting.",
    ],
    hint: "the upstream hung up in the handshake: check SNI (proxy_ssl_server_name) and its log",
};

const VERIFY: Explanation = Explanation {
    cause: Cause::TlsVerifyFailed,
    status: "502",
    meaning: "The handshake succeeded, and nginx rejected the upstream's certificate, because proxy_ssl_verify is on: \
              expired, from an unknown authority, a missing intermediate, or for another name.",
    kernel: "A complete handshake, then nginx closes with no request sent.",
    nginx: &["upstream SSL certificate verify error: (…)", "upstream SSL certificate does not match \"…\""],
    check: &[
        check(
            "Names, dates and issuer",
            "openssl s_client -connect ADDRESS:PORT -servername NAME </dev/null | openssl x509 -noout -subject -issuer -dates -ext subjectAltName",
        ),
        check("What nginx trusts and expects", "nginx -T | grep -n -e proxy_ssl"),
    ],
    change: &[
        "Renew the certificate, or serve the whole chain with it.",
        "proxy_ssl_trusted_certificate with the right authority; proxy_ssl_verify_depth for longer chains (1 by default).",
        "proxy_ssl_name for the name that the certificate has. Switching verification off is no fix.",
    ],
    hint: "check the certificate's dates, names and chain, and proxy_ssl_trusted_certificate",
};

const TIMEOUT: Explanation = Explanation {
    cause: Cause::TlsTimeout,
    status: "504",
    meaning: "The connection was made, and the upstream did not finish the handshake in time. Connecting and handshake share \
              proxy_connect_timeout. Typical for a port that waits for the client to speak another protocol, for an \
              application too busy to accept (the kernel completes TCP for it), or for large packets lost on the way.",
    kernel: "nginx's hello is sent, nothing comes back, and nginx closes.",
    nginx: &["upstream timed out (110: Connection timed out) while SSL handshaking to upstream"],
    check: &[
        TRY,
        check("Accept queue of an upstream on this host (Recv-Q)", "ss -ltn"),
        check("Loss of large packets", "ping -M do -s 1400 ADDRESS"),
    ],
    change: &[
        "See that the port speaks TLS, and that the application accepts quickly enough.",
        "Over tunnels: the MTU, or MSS clamping.",
    ],
    hint: "see whether the upstream speaks TLS there and still accepts (ss -ltn, openssl s_client)",
};
