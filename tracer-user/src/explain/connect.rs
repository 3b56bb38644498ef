//! Failures to connect over TCP.

use super::{Check, Explanation, Group, check};
use crate::model::cause::Cause;

pub(super) const GROUP: Group = Group {
    title: "Connecting",
    about: "No request was sent yet, so nginx passes any request on to the next server, POST included, where there is one.",
    explanations: &[REFUSED, UNREACHABLE, TIMEOUT, TIMEOUT_KERNEL, RESET, DENIED, PORTS, FAILED],
};

const LISTENERS: Check = check("What listens, on which address and port, and who owns it", "ss -ltnp");

const REFUSED: Explanation = Explanation {
    cause: Cause::ConnectRefused,
    status: "502",
    meaning: "The upstream's host answered the connection attempt with a refusal. As a rule nothing listens on that \
              address and port: the application is down, starting, or listens elsewhere (another port, only 127.0.0.1, \
              only ::1). A firewall that rejects looks the same, and so does an ICMP refusal.",
    kernel: "A reset (or an ICMP port unreachable) in answer to the SYN: ECONNREFUSED in SYN_SENT.",
    nginx: &["connect() failed (111: Connection refused) while connecting to upstream"],
    check: &[
        LISTENERS,
        check("Whether the service runs, and why it ended", "systemctl status SERVICE; journalctl -u SERVICE -n 50"),
        check("Whether a firewall rejects", "nft list ruleset | grep -i reject"),
        check(
            "Where the address leads, if it is rewritten",
            "nft list ruleset | grep -i dnat; conntrack -L -p tcp --dst ADDRESS",
        ),
    ],
    change: &[
        "Start the application, and let its service manager restart it.",
        "Make proxy_pass (or the server line) and the application's listen address agree, port and address family alike: \
         localhost means both 127.0.0.1 and ::1 to nginx.",
        "In a container, listen on 0.0.0.0 or [::], not on the container's own loopback.",
        "During deployments, wait for readiness before sending traffic, and drain before stopping.",
    ],
    hint: "start the upstream, or make proxy_pass and its listen address agree",
};

const UNREACHABLE: Explanation = Explanation {
    cause: Cause::ConnectUnreachable,
    status: "502",
    meaning: "There is no way to the upstream's host. A router or firewall said so by ICMP, no host answers ARP for the \
              address, or this host has no route at all.",
    kernel: "EHOSTUNREACH or ENETUNREACH: at once from connect(2) where a route is missing, by ICMP, or after about \
             3 seconds without an ARP answer.",
    nginx: &[
        "connect() failed (113: No route to host) while connecting to upstream",
        "connect() to … failed (101: Network is unreachable) while connecting to upstream",
    ],
    check: &[
        check("The route that would be taken", "ip route get ADDRESS"),
        check("Whether the neighbour answers", "ip neigh show ADDRESS"),
        check("Whether a firewall on the way rejects", "nft list ruleset | grep -i reject"),
    ],
    change: &[
        "Correct the address, or bring the host or container back; an address of a container that is gone looks like this.",
        "Where names stand in the configuration, reload nginx after their addresses changed, or let it resolve at run time.",
        "Add the missing route, or take an unusable address family out of the name's records.",
    ],
    hint: "check the upstream's address and the route to it (ip route get)",
};

const TIMEOUT: Explanation = Explanation {
    cause: Cause::ConnectTimeout,
    status: "504",
    meaning: "Nobody answered the connection attempt before nginx's own timer ran out (proxy_connect_timeout, 60 s by \
              default). Refusals are quick; silence means dropped packets: a firewall, a host that is off, or an \
              upstream on this host whose accept queue is full.",
    kernel: "The SYN is sent again and again, then nginx closes the socket in SYN_SENT. No error code exists: the timer \
             is in nginx.",
    nginx: &["upstream timed out (110: Connection timed out) while connecting to upstream"],
    check: &[
        check("Accept queue: Recv-Q at or above Send-Q means full", "ss -ltn"),
        check("Drops at full queues, since boot", "nstat -az TcpExtListenOverflows TcpExtListenDrops"),
        check("Whether a firewall drops", "nft list ruleset | grep -i drop"),
    ],
    change: &[
        "If the queue is full, the application accepts too slowly: more workers or threads, or find what blocks them. \
         A longer queue (listen backlog and net.core.somaxconn) only bridges bursts.",
        "Let the firewall pass the port, or reject instead of dropping, so that failures are quick.",
        "On a local network, a proxy_connect_timeout of a few seconds sends the request to the next server sooner.",
    ],
    hint: "see whether the upstream's accept queue is full (ss -ltn) or a firewall drops",
};

const TIMEOUT_KERNEL: Explanation = Explanation {
    cause: Cause::ConnectTimeoutKernel,
    status: "502",
    meaning: "Nobody answered, and the kernel gave up before nginx did: proxy_connect_timeout is longer than the \
              kernel's own retries (net.ipv4.tcp_syn_retries). The same silence as connect_timeout, with another status.",
    kernel: "SYN retransmissions end with ETIMEDOUT.",
    nginx: &["connect() failed (110: Connection timed out) while connecting to upstream"],
    check: &[
        check("How often the kernel tries (6 retries take about 127 s)", "sysctl net.ipv4.tcp_syn_retries"),
        check("Accept queue: Recv-Q at or above Send-Q means full", "ss -ltn"),
        check("Whether a firewall drops", "nft list ruleset | grep -i drop"),
    ],
    change: &[
        "As for connect_timeout.",
        "Set proxy_connect_timeout to a few seconds: then failures are 504, and quick.",
    ],
    hint: "nobody answers: check the host and firewalls, and shorten proxy_connect_timeout",
};

const RESET: Explanation = Explanation {
    cause: Cause::ConnectReset,
    status: "502",
    meaning: "The upstream's host took the connection and reset it before nginx had written anything. Either the \
              application's process died with the connection still in its queue, or the host resets connections that do \
              not fit the accept queue.",
    kernel: "A reset between the handshake and the first write, on a connection made for this request.",
    nginx: &["connect() failed (104: Connection reset by peer) while connecting to upstream"],
    check: &[
        check("Whether overflows reset", "sysctl net.ipv4.tcp_abort_on_overflow"),
        check("Whether the application restarted", "journalctl -u SERVICE --since '10 min ago'"),
        check("Accept queue: Recv-Q at or above Send-Q means full", "ss -ltn"),
    ],
    change: &[
        "Stop the application in order: close the listener, serve what is queued, then exit.",
        "With tcp_abort_on_overflow set: accept faster, or a longer listen backlog.",
    ],
    hint: "see whether the upstream restarted, or its accept queue overflowed (tcp_abort_on_overflow)",
};

const DENIED: Explanation = Explanation {
    cause: Cause::ConnectDenied,
    status: "502",
    meaning: "This host forbids nginx to connect: SELinux or another security module, a prohibit route, or a BPF program of \
              the service's cgroup. A firewall rule on output does not: what it drops is never answered.",
    kernel: "connect(2) fails at once with EACCES or EPERM.",
    nginx: &[
        "connect() to … failed (13: Permission denied) while connecting to upstream",
        "connect() to … failed (1: Operation not permitted) while connecting to upstream",
    ],
    check: &[
        check("SELinux denials", "ausearch -m avc -ts recent -c nginx"),
        check("Whether SELinux lets nginx connect", "getsebool httpd_can_network_connect"),
        check("Address rules of the service", "systemctl show nginx -p IPAddressDeny -p IPAddressAllow"),
        check("The route", "ip route get ADDRESS"),
    ],
    change: &[
        "SELinux: setsebool -P httpd_can_network_connect 1, or the narrower label for the port.",
        "Let the service's IPAddressAllow pass the upstream.",
        "Replace a prohibit route, or an ip rule that leads to one.",
    ],
    hint: "this host forbids it: SELinux (httpd_can_network_connect), IPAddressDeny or a prohibit route",
};

const PORTS: Explanation = Explanation {
    cause: Cause::PortsExhausted,
    status: "502",
    meaning: "No local port was left for another connection to this upstream. Every new connection takes one, and it \
              stays taken for a minute in TIME_WAIT after this side closed it.",
    kernel: "connect(2) fails at once with EADDRNOTAVAIL.",
    nginx: &["connect() to … failed (99: Cannot assign requested address) while connecting to upstream"],
    check: &[
        check("Sockets towards the upstream, by state", "ss -tan dst ADDRESS | awk '{print $1}' | sort | uniq -c"),
        check("The range of local ports", "sysctl net.ipv4.ip_local_port_range"),
    ],
    change: &[
        "Keep connections to the upstream: keepalive in the upstream block, proxy_http_version 1.1 and \
         proxy_set_header Connection \"\" (before nginx 1.29.7 none of these is the default).",
        "Widen net.ipv4.ip_local_port_range; give the upstream more addresses or ports; or use a unix socket.",
    ],
    hint: "use keepalive to the upstream, or widen net.ipv4.ip_local_port_range",
};

const FAILED: Explanation = Explanation {
    cause: Cause::ConnectFailed,
    status: "502",
    meaning: "connect(2) failed with an error that is none of the usual ones, such as EINVAL from a blackhole route, or \
              ELOOP, ENOTDIR and EPROTOTYPE from the path of a unix socket. The record's errno names it.",
    kernel: "connect(2) fails at once.",
    nginx: &["connect() to … failed (N: …) while connecting to upstream"],
    check: &[
        check("The route", "ip route get ADDRESS"),
        check("The path of a unix socket", "namei -l PATH"),
        check("The address as nginx uses it", "nginx -T | grep -n -e proxy_pass -e server"),
    ],
    change: &["Correct the address, the path or the route."],
    hint: "look at the errno, and at the route to the upstream (ip route get)",
};
