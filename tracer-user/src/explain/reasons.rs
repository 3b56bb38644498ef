//! The reasons behind causes (`root` in records): what each says, how it is known, what to do.

use super::{Check, check};
use crate::model::root::RootKind;

/// One reason, for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reason {
    pub(super) kind: RootKind,
    /// What it says, in a sentence or three.
    pub(super) meaning: &'static str,
    /// How why502 comes to know it, and when it says nothing.
    pub(super) known: &'static str,
    pub(super) check: &'static [Check],
    pub(super) change: &'static [&'static str],
}

const LISTENERS: Check = check("Who listens where", "ss -ltnp");
const SERVICE: Check = check(
    "Why the service ended, and whether it was started again",
    "systemctl status SERVICE; journalctl -u SERVICE -n 50",
);
const QUEUES: Check = check("Queues (Recv-Q) and their limits (Send-Q) now", "ss -ltn");

/// All of them, in the order of the records' schema.
pub(super) const REASONS: &[Reason] = &[
    Reason {
        kind: RootKind::NotListening,
        meaning: "Nothing listens at the address that nginx connects to, in its network namespace. It names what listens on the \
                  same port of another address or on a port that differs by a digit, and who listened there last and how that \
                  process ended.",
        known: "The kernel answered the SYN with a reset for want of a socket, and the list of listeners at that moment has none.",
        check: &[LISTENERS, SERVICE],
        change: &["Start the upstream, or make both configurations name the same address and port."],
    },
    Reason {
        kind: RootKind::AddressFamily,
        meaning: "The upstream listens on the same port, but only in the other family: on ::1 where nginx came to 127.0.0.1, or the \
                  other way round. A server name like localhost stands for both, and nginx tries both in turn.",
        known: "The refused address has no listener; its counterpart has.",
        check: &[LISTENERS, check("What the name stands for", "getent ahosts localhost")],
        change: &[
            "Write 127.0.0.1 or [::1] into proxy_pass or server instead of a name.",
            "Or let the upstream listen on both.",
        ],
    },
    Reason {
        kind: RootKind::AcceptQueueFull,
        meaning: "The listener's queue of finished handshakes was over its limit: its process accepts connections more slowly than they \
                  come, because all its workers are busy or it hangs. The kernel then drops SYNs, and nginx waits for an answer \
                  that does not come; with net.ipv4.tcp_abort_on_overflow a reset comes instead.",
        known: "A segment of this very connection went unanswered, or was answered with a reset, while the queue was over its limit; or \
                its SYN went unanswered, and the queue was over its limit right after (\"seen … after\"). Drops that others met make an overflow record, and no reason.",
        check: &[QUEUES, check("Drops since boot", "nstat -az TcpExtListenOverflows TcpExtListenDrops")],
        change: &[
            "More workers, or faster answers: a longer queue only makes clients wait longer.",
            "Against bursts: a larger backlog in the application, and net.core.somaxconn no smaller.",
        ],
    },
    Reason {
        kind: RootKind::SynQueueFull,
        meaning: "The listener's queue of handshakes that were begun was full, and the host may not answer with cookies: a SYN flood, \
                  or clients whose final ACK gets lost.",
        known: "A SYN of this connection went unanswered while half-open connections were at their limit and net.ipv4.tcp_syncookies \
                was 0.",
        check: &[
            check("Half-open connections", "ss -tn state syn-recv | wc -l"),
            check("Drops since boot", "nstat -az TcpExtTCPReqQFullDrop"),
        ],
        change: &[
            "net.ipv4.tcp_syncookies = 1, which is the kernel's default.",
            "Or a larger net.ipv4.tcp_max_syn_backlog.",
        ],
    },
    Reason {
        kind: RootKind::ProcessExited,
        meaning: "The process at the other end ended by itself while nginx waited for it, or before nginx came: its exit code is given.",
        known: "The kernel ran the close of this connection, or of the listener, in that process as it exited.",
        check: &[SERVICE],
        change: &[
            "Mend what made it exit: its own log has the error.",
            "If it was a restart: let the old process finish its requests first (a graceful reload).",
        ],
    },
    Reason {
        kind: RootKind::ProcessKilled,
        meaning: "A signal ended the process at the other end; the signal is given, and who sent it where that was seen. SIGSEGV and \
                  SIGABRT are its own crash; SIGKILL and SIGTERM come from somebody: a service manager, a watchdog, the master of a \
                  prefork server whose worker took too long.",
        known: "The connection, or the listener, was closed by that process on its way out, with the signal as its exit status.",
        check: &[SERVICE, check("Crashes", "coredumpctl list; dmesg -T | grep -i segfault")],
        change: &[
            "A crash: the core dump says where.",
            "A worker's time limit (gunicorn --timeout, php-fpm request_terminate_timeout, uwsgi harakiri): below nginx's \
             proxy_read_timeout it is a 502, above it a 504.",
        ],
    },
    Reason {
        kind: RootKind::OomKilled,
        meaning: "The kernel killed the process at the other end for want of memory: the host's, or that of its control group.",
        known: "The kernel chose that process as the victim, and it closed the connection as it died.",
        check: &[
            check("What the kernel wrote", "journalctl -k -g 'killed process'"),
            check("The control group's limit", "systemctl show SERVICE -p MemoryMax -p MemoryCurrent"),
        ],
        change: &["Raise the limit (MemoryMax=, the container's memory), or let fewer workers run at once."],
    },
    Reason {
        kind: RootKind::ProcessStopped,
        meaning: "The process at the other end was stopped: by SIGSTOP, a terminal, a debugger, or a frozen control group. It holds the \
                  connection and does nothing.",
        known: "It held the connection, or the listener, and was stopped when nginx gave up.",
        check: &[check("Processes that are stopped", "ps -eo pid,stat,comm | awk '$2 ~ /^[Tt]/'")],
        change: &["kill -CONT PID, or thaw the group; then find out who stopped it."],
    },
    Reason {
        kind: RootKind::NotAccepted,
        meaning: "The connection still waited in the listener's queue when nginx gave up: the kernel had finished the handshake, no \
                  process has accepted it. The processes that could are named, with how many are at other connections.",
        known: "The kernel was asked for the other end of this very connection, and no process has it open.",
        check: &[QUEUES, SERVICE],
        change: &[
            "More workers (php-fpm pm.max_children, gunicorn --workers), or find what keeps them busy: a slow database, a slow \
             upstream of their own.",
        ],
    },
    Reason {
        kind: RootKind::ApplicationSilent,
        meaning: "A process of this host has the connection (or had it, and closed it because nginx did), runs, and had not answered when nginx gave up. It works on the request, or \
                  waits for something itself.",
        known: "The kernel was asked for the other end of this very connection, and /proc for who has it open; or the kernel saw who \
                closed it right after nginx had given up, without having sent anything since the request.",
        check: &[
            check("What it does at this moment", "cat /proc/PID/stack; cat /proc/PID/wchan"),
            check("What it waits for", "ss -tnp | grep pid=PID"),
        ],
        change: &[
            "Find what is slow in it: its own log, its database.",
            "Or a longer proxy_read_timeout for this location.",
        ],
    },
    Reason {
        kind: RootKind::ApplicationClosed,
        meaning: "A process of this host closed the connection and lives on: the application itself decided to, by a limit, an error that \
                  it caught, or a time-out of its own.",
        known: "The kernel ran the close in that process, which was not exiting then. Who closed after a part of an answer is not \
                remembered, as every server does that: then whoever listens there is named, or whom that let have the connection.",
        check: &[check("What it wrote at that second", "journalctl -u SERVICE --since '1 minute ago'")],
        change: &[
            "Look for limits of the application: body size, header size, time per request, requests per connection.",
        ],
    },
    Reason {
        kind: RootKind::UnreadData,
        meaning: "The process closed the connection before it had read all of the request. The kernel then sends a reset, which also \
                  destroys an answer that is on its way.",
        known: "Bytes were left in the socket when that process closed it.",
        check: &[check("The application's limits for bodies", "grep -ri 'max.*body\\|post_max_size' /etc")],
        change: &[
            "Let the application read the request to its end before it closes, or raise its limit to nginx's client_max_body_size.",
        ],
    },
    Reason {
        kind: RootKind::PeerIdleClose,
        meaning: "The upstream closes connections that were idle for so long, as measured, and nginx had kept this one longer: it sent a \
                  request into a connection that was being closed.",
        known: "The connection had served before, was idle, and ended without a byte of an answer; how long the upstream keeps idle \
                connections is what its other closes agree on.",
        check: &[check("What nginx keeps, and for how long", "nginx -T | grep -n keepalive")],
        change: &[
            "keepalive_timeout of nginx's upstream block below the upstream's time, with a second to spare.",
            "Or a longer time at the upstream.",
        ],
    },
    Reason {
        kind: RootKind::Firewall,
        meaning: "This host's kernel threw the packets away, or rejected them, by a rule: netfilter, a BPF program, traffic control, a \
                  filter on the socket.",
        known: "The kernel gave the reason when it freed a packet of this connection (not on kernels before 5.17), or the error that \
                a rule sends came from this host.",
        check: &[
            check("Rules and their counters", "nft list ruleset; iptables-save -c"),
            check("BPF programs on the way", "bpftool net; bpftool cgroup tree"),
        ],
        change: &["Let the upstream's address and port pass, in both directions."],
    },
    Reason {
        kind: RootKind::Icmp,
        meaning: "Somebody on the way, or the upstream's host, answered with an ICMP error: its sender, type and code are given. Port \
                  unreachable mostly is a firewall that rejects; host unreachable a router that finds nobody.",
        known: "The kernel took an ICMP error that quotes a segment of this connection.",
        check: &[check("The way", "tracepath ADDRESS"), check("Errors as they come", "tcpdump -ni any icmp or icmp6")],
        change: &["Look at the sender: its firewall, or its route to the upstream."],
    },
    Reason {
        kind: RootKind::Route,
        meaning: "This host does not know the way, or may not use it: no route, a prohibited one, a neighbour that does not answer ARP, a \
                  packet too large for the path, or an answer on an unexpected interface (rp_filter).",
        known: "connect(2) failed at once with that error, or the kernel gave it as the reason when it freed a packet.",
        check: &[
            check("The route that is taken", "ip route get ADDRESS"),
            check("Neighbours that do not answer", "ip neigh show nud failed"),
        ],
        change: &["Mend the route, or the address of the upstream."],
    },
    Reason {
        kind: RootKind::RemoteSilent,
        meaning: "The upstream is on another host, and nothing came back: either not even an acknowledgement (from here it cannot be told \
                  whether that host is down, a firewall on the way drops, or its queue is full), or its kernel has acknowledged \
                  all that nginx sent, and the application behind it is silent. The text says which.",
        known: "No network namespace of this host has the address. Segments were sent again while packets dropped on this host were \
                looked at, none of them was, and no error came back; or the socket had nothing left to be acknowledged when nginx gave up.",
        check: &[
            check("Whether it answers at all", "ping ADDRESS; nc -vz ADDRESS PORT"),
            check("On the other host", "ss -ltn"),
        ],
        change: &["Run why502, or tcpdump, on the other host: it sees whether the packets arrive."],
    },
    Reason {
        kind: RootKind::RemoteReset,
        meaning: "A reset or a FIN came from another host. That host's kernel or a box on the way sent it; for whom cannot be told from \
                  here. What comes sooner than half of the shortest round trip is no answer to the request: it was under way \
                  already (a restart, an idle time-out), or a box on the way sent it. One whose time to live (TTL) shows that it has \
                  passed fewer routers than the answers was most likely sent by another one: a firewall, a balancer.",
        known: "It arrived from the network: no network namespace of this host has the address, no process of this host closed the \
                other end, and, for a reset, this host's TCP did not send it and no rule of this host had dropped what it answers. The round trip \
                is the kernel's own figure for this connection (tcp_min_rtt). On a busy host TTLs are looked at from the first such reset on; routers \
                are counted from 64, 128 or 255.",
        check: &[check("The upstream's log at that second", "")],
        change: &["Look at the other host: restarts, limits, time-outs of load balancers on the way."],
    },
    Reason {
        kind: RootKind::SocketFile,
        meaning: "The file of the unix socket: which part of its path is missing or forbids the worker to use it, with mode and owner, in \
                  the worker's own eyes (its root directory, its mounts, its user).",
        known: "The path was walked right after the failure, as the kernel does.",
        check: &[check("Every part of the path", "namei -l /run/app.sock")],
        change: &[
            "Make both configurations name the same path, and let nginx's user write to the socket and search its directories.",
        ],
    },
    Reason {
        kind: RootKind::Ports,
        meaning: "All local ports towards that one upstream are taken, most by connections in TIME-WAIT.",
        known: "Sockets towards the upstream were counted by state, beside the port range and tcp_tw_reuse.",
        check: &[
            check("Sockets towards it by state", "ss -tan dst ADDRESS | awk '{print $1}' | sort | uniq -c"),
            check("The range", "sysctl net.ipv4.ip_local_port_range net.ipv4.tcp_tw_reuse"),
        ],
        change: &[
            "Upstream keepalive, so that connections are used again.",
            "net.ipv4.tcp_tw_reuse = 1; a wider net.ipv4.ip_local_port_range; more upstream addresses.",
        ],
    },
    Reason {
        kind: RootKind::FdLimit,
        meaning: "The worker has as many descriptors open as it may, or the host as many files; both numbers are given.",
        known: "socket(2) failed with EMFILE or ENFILE, and that limit and its use were read.",
        check: &[check("The limit and the use", "grep 'open files' /proc/PID/limits; ls /proc/PID/fd | wc -l")],
        change: &["worker_rlimit_nofile above twice worker_connections, and LimitNOFILE= of the service."],
    },
    Reason {
        kind: RootKind::Limits,
        meaning: "All worker_connections of the worker are in use.",
        known: "nginx says so, with the number.",
        check: &[check("The setting", "nginx -T | grep -n worker_connections")],
        change: &["Raise worker_connections, and worker_rlimit_nofile with it."],
    },
];

/// The explanation of a reason.
pub(super) fn reason(kind: RootKind) -> Option<&'static Reason> {
    REASONS.iter().find(|reason| reason.kind == kind)
}
