//! Errors without any attempt to connect.

use super::{Explanation, Group, check};
use crate::model::cause::Cause;

pub(super) const GROUP: Group = Group {
    title: "No connection was tried",
    about: "The answer was decided without a connection for this request. There is a `response` record and no `failure`.",
    explanations: &[NO_LIVE, DNS_TIMEOUT, DNS_FAILED, NO_RESOLVER, UPSTREAM_STATUS, CONFIGURED],
};

const NO_LIVE: Explanation = Explanation {
    cause: Cause::NoLiveUpstreams,
    status: "502",
    meaning: "Every server of the upstream block is out: each failed max_fails times (1 by default) and is left alone for \
              fail_timeout (10 s by default), is marked down, was tried already for this request, or is at max_conns. The \
              reason lies in the failures before, which the record names.",
    kernel: "No socket, no connect.",
    nginx: &["no live upstreams while connecting to upstream"],
    check: &[
        check("The failures that put the servers out", "why502 -v"),
        check("The block", "nginx -T | grep -n -A12 'upstream '"),
    ],
    change: &[
        "Mend the cause of the earlier failures.",
        "max_fails=3, or max_fails=0 for a server that has no substitute: one hiccup then does not take it out.",
        "A name that resolves to ::1 and 127.0.0.1 is two servers: name the address that is listened on.",
        "A stale_keepalive failure counts against a healthy server: mend that first.",
    ],
    hint: "look at the failures before it; max_fails=1 takes a server out for fail_timeout after one",
};

const DNS_TIMEOUT: Explanation = Explanation {
    cause: Cause::DnsTimeout,
    status: "502",
    meaning: "nginx had to resolve the upstream's name for this request (a variable in proxy_pass), and its resolver did not \
              answer within resolver_timeout (30 s by default).",
    kernel: "UDP queries to the resolver without an answer, or refused by ICMP.",
    nginx: &["… could not be resolved (110: Operation timed out)"],
    check: &[
        check("Whether the resolver answers", "dig @RESOLVER NAME"),
        check("Which resolver nginx uses (not /etc/resolv.conf)", "nginx -T | grep -n resolver"),
    ],
    change: &[
        "A resolver that is reachable from nginx, two of them if possible, with valid= to cache answers.",
        "Without a variable in proxy_pass names are resolved once, at start.",
    ],
    hint: "nginx's resolver does not answer: check the resolver directive (dig @RESOLVER NAME)",
};

const DNS_FAILED: Explanation = Explanation {
    cause: Cause::DnsFailed,
    status: "502",
    meaning: "The resolver answered that the name cannot be resolved: it does not exist (3), or the server failed (2) or refused (5). \
              nginx knows no search domains, and reads neither /etc/hosts nor /etc/resolv.conf for names at run time.",
    kernel: "A UDP query and its answer; no connect.",
    nginx: &["… could not be resolved (3: Host not found)", "… could not be resolved (2: Server failure)"],
    check: &[
        check("The same question to the same server", "dig @RESOLVER NAME"),
        check("Which resolver nginx uses", "nginx -T | grep -n resolver"),
    ],
    change: &[
        "The full name in proxy_pass (in Kubernetes: service.namespace.svc.cluster.local).",
        "A resolver that knows the name (in Docker: 127.0.0.11).",
        "resolver … ipv6=off where the name has no usable AAAA record.",
    ],
    hint: "ask nginx's resolver yourself (dig @RESOLVER NAME); use the full name",
};

const NO_RESOLVER: Explanation = Explanation {
    cause: Cause::NoResolver,
    status: "502",
    meaning: "proxy_pass holds a variable, so the name must be resolved at run time, and no resolver is configured.",
    kernel: "No socket at all.",
    nginx: &["no resolver defined to resolve …"],
    check: &[check("Where it is missing", "nginx -T | grep -n -e resolver -e proxy_pass")],
    change: &[
        "resolver ADDRESS valid=30s; in the http, server or location block.",
        "Or an upstream block with that name, or no variable: then names are resolved at start.",
    ],
    hint: "add a resolver directive, or take the variable out of proxy_pass",
};

const UPSTREAM_STATUS: Explanation = Explanation {
    cause: Cause::UpstreamStatus,
    status: "as the upstream gave it",
    meaning: "The upstream itself answered with this status, and nginx passed it on. It is the word of another proxy, a load \
              balancer or the application: the reason is there, not here.",
    kernel: "An ordinary exchange.",
    nginx: &[],
    check: &[
        check("$upstream_status and $upstream_header_time in the access log: numbers mean that it came from there", ""),
        check("The upstream's answer without nginx", "curl -sv http://ADDRESS:PORT/PATH -o /dev/null"),
    ],
    change: &[
        "Look there; if it is nginx, run why502 there.",
        "proxy_next_upstream … http_502 http_504 lets another server try, where there is one.",
    ],
    hint: "the upstream itself answered so: look there",
};

const CONFIGURED: Explanation = Explanation {
    cause: Cause::ConfiguredStatus,
    status: "as configured",
    meaning: "nginx's configuration orders this status: return 502, try_files … =502, or a cached error (proxy_cache_valid any).",
    kernel: "No connection to an upstream.",
    nginx: &[],
    check: &[check("Where it is written", "nginx -T | grep -n -e 'return 50' -e '=50' -e proxy_cache_valid")],
    change: &["Take it out if it is not meant; leave 502 and 504 out of proxy_cache_valid."],
    hint: "nginx's configuration answers so: look for return, try_files and proxy_cache_valid",
};
