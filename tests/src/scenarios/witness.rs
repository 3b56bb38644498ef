//! nginx says less, or more, or elsewhere: other error logs than a file at level `error`.

use super::response::FAULTS;
use crate::drive;
use crate::logs::Logs;
use crate::scenario::{Amount, Attempt, BASE, Case, Drive, Load, Net, Scenario, attempt, get, post};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};
use crate::wait;

const UPSTREAMS: &[(&str, Place, Listen)] =
    &[("down", Place::V4, Listen::Nobody), ("a", Place::V4, Listen::Accept(FAULTS))];
const SERVER: &str = "proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
                      location /refused { proxy_pass http://<down>; }";
const CROWD: Drive = Drive::Load(Load { clients: 100, keepalive: true });

/// The log is silent about it: status and kernel alone.
const fn silent(path: &'static str, status: u16, attempts: &'static [Attempt]) -> Case {
    get(path).fails(status, attempts)
}

const SPOKEN: &[Case] = &[
    get("/refused").fails(502, &[attempt(&["connect_refused"], "connect() failed (111")]),
    post("/closed").fails(502, &[attempt(&["closed_before_response"], "upstream prematurely closed")]),
    get("/reset").fails(502, &[attempt(&["reset_before_response"], "recv() failed (104")]),
    get("/silent").fails(504, &[attempt(&["response_timeout"], "upstream timed out (110")]),
    get("/healthy"),
];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "witness/log_level_crit",
        upstreams: UPSTREAMS,
        server: SERVER,
        error_level: "crit",
        cases: &[
            silent("/refused", 502, &[attempt(&["connect_refused"], "").likely()]),
            silent("/closed", 502, &[attempt(&["closed_before_response"], "").likely()]),
            silent("/reset", 502, &[attempt(&["reset_before_response"], "").likely()]),
            get("/healthy"),
        ],
        ..BASE
    },
    Scenario {
        name: "witness/log_level_info",
        upstreams: UPSTREAMS,
        server: SERVER,
        error_level: "info",
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/two_error_logs",
        upstreams: UPSTREAMS,
        http: "error_log <dir>/error.log error; error_log <dir>/second.log warn;",
        server: SERVER,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/buffered_access_log",
        upstreams: UPSTREAMS,
        http: "access_log <dir>/buffered.log lab buffer=64k flush=1m;",
        server: SERVER,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/log_level_emerg",
        upstreams: UPSTREAMS,
        server: SERVER,
        error_level: "emerg",
        cases: &[
            silent("/refused", 502, &[attempt(&["connect_refused"], "").likely()]),
            silent("/closed", 502, &[attempt(&["closed_before_response"], "").likely()]),
            silent("/reset", 502, &[attempt(&["reset_before_response"], "").likely()]),
            silent("/silent", 504, &[attempt(&["response_timeout"], "").likely()]),
            get("/healthy"),
        ],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/log_level_crit_retried",
        // Two attempts and not a word. Whose the first was nobody says: it is told without a request.
        upstreams: &[("down", Place::V4, Listen::Nobody), ("a", Place::V4, Listen::Accept(FAULTS))],
        http: "upstream pair { server <down> max_fails=0 weight=1000000; server <a> max_fails=0 backup; }",
        server: "location / { proxy_pass http://pair; }",
        error_level: "crit",
        cases: &[silent("/closed", 502, &[attempt(&["closed_before_response"], "").likely()])],
        optional: &["connect_refused"],
        ..BASE
    },
    Scenario {
        name: "witness/log_level_warn",
        // nginx also says that it gives the server up for a while.
        upstreams: UPSTREAMS,
        http: "upstream pair { server <down> fail_timeout=600s; server <a> backup; }",
        server: "location / { proxy_pass http://pair; }",
        error_level: "warn",
        workers: Some(1),
        cases: &[
            get("/first")
                .fails(200, &[attempt(&["connect_refused"], "connect() failed (111").retried()])
                .says(&["upstream server temporarily disabled while connecting to upstream"]),
            get("/rest"),
        ],
        drive: Drive::By(super::origins::first_then_the_rest),
        ..BASE
    },
    Scenario {
        name: "witness/log_level_debug",
        upstreams: UPSTREAMS,
        http: "error_log <dir>/debug.log debug; error_log <dir>/error.log error;",
        server: SERVER,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/log_to_stderr",
        upstreams: UPSTREAMS,
        server: SERVER,
        logs: Logs::Stderr,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/log_to_syslog",
        // The kernel queues ten datagrams, and nginx drops the rest.
        net: Net::Private(&[("unix.max_dgram_qlen", "4096")]),
        upstreams: UPSTREAMS,
        server: SERVER,
        logs: Logs::Syslog,
        cases: &[
            get("/refused").fails(502, &[attempt(&["connect_refused"], "connect() failed (111")]),
            get("/reset").fails(502, &[attempt(&["reset_before_response"], "recv() failed (104")]),
            get("/silent")
                .fails(504, &[attempt(&["response_timeout"], "upstream timed out (110")])
                .amount(Amount::AtMost(2)),
        ],
        drive: Drive::Load(Load { clients: 1, keepalive: true }),
        ..BASE
    },
    Scenario {
        name: "witness/log_to_nowhere",
        upstreams: UPSTREAMS,
        server: SERVER,
        logs: Logs::NoErrors,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/no_access_log",
        upstreams: UPSTREAMS,
        server: "access_log off; proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
                 location /refused { proxy_pass http://<down>; }",
        logs: Logs::NoAccess,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/logs_rotated",
        upstreams: UPSTREAMS,
        server: SERVER,
        cases: SPOKEN,
        drive: Drive::By(rotated),
        ..BASE
    },
];

/// Everything, then both logs are moved away and reopened, then everything again.
fn rotated(stage: &Stage) -> anyhow::Result<()> {
    let load = Load { clients: 50, keepalive: true };
    drive::in_parallel(stage, load)?;
    stage.all_logged()?;
    let path = |name: &str| stage.directory.path().join(name);
    for name in ["access.log", "error.log"] {
        std::fs::rename(path(name), path(&format!("{name}.1")))?;
    }
    stage.nginx.signal(libc::SIGUSR1)?;
    // The master makes the new files and then tells the workers: one writes to the old ones until it has heard.
    let reopened = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        !targets.any(|target| target.extension().is_some_and(|extension| extension == "1"))
    };
    wait::until("the workers to reopen their logs", wait::SOON, || stage.nginx.workers().into_iter().all(reopened))?;
    drive::in_parallel(stage, load)
}
