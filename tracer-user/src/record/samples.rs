//! A record of every type, for tests.

use std::collections::BTreeMap;

use super::{
    Attempt, AttemptResult, Change, Confidence, Connection, Counted, End, EndReason, Evidence, Exit, Failure, Listener,
    LossReason, Lost, NginxSource, NginxWord, Observation, ObservationState, Origin, Outcome, Overflow, Owner, Phase,
    Process, ProcessFate, Purpose, Quantiles, Queue, Record, Response, Role, Root, RootKind, SCHEMA, Session, Setting,
    Stats, Timestamp, Transport, Update, Upstream, UpstreamStats, Worker, WorkerChange,
};
use crate::model::cause::Cause;

/// 2026-03-04T05:06:07.000000Z and so many microseconds.
pub(crate) fn at(microseconds: i64) -> Timestamp {
    Timestamp::from_unix_ns((1_772_600_767_000_000 + i128::from(microseconds)) * 1000)
}

pub(crate) fn worker() -> Worker {
    Worker {
        pid: 9380,
        comm: "nginx".to_owned(),
        netns: Some(4_026_531_840),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
    }
}

pub(crate) fn process() -> Process {
    Process {
        pid: 9380,
        comm: "nginx".to_owned(),
        exe: Some("/usr/sbin/nginx".to_owned()),
        role: Some(Role::Worker),
        netns: Some(4_026_531_840),
    }
}

pub(crate) fn session() -> Session {
    Session {
        schema: SCHEMA,
        time: at(0),
        session: "0195".to_owned(),
        part: 0,
        version: "0.1.0".into(),
        host: "web1".to_owned(),
        kernel: "6.18.44".to_owned(),
        boot_id: Some("b7c1".to_owned()),
        processes: vec![process()],
        observations: vec![
            Observation {
                name: "tcp_lifecycle".into(),
                hook: Some("tp_btf/inet_sock_set_state".into()),
                state: ObservationState::Full,
                missing: None,
            },
            Observation {
                name: "packet_drop".into(),
                hook: None,
                state: ObservationState::None,
                missing: Some("fentry: EPERM".to_owned()),
            },
        ],
    }
}

pub(crate) fn nginx_word() -> NginxWord {
    NginxWord {
        source: NginxSource::Uprobe,
        level: Some("error".into()),
        connection: Some(6789),
        message: "connect() failed (111: Connection refused) while connecting to upstream".to_owned(),
        client: Some("127.0.0.1".to_owned()),
        server: Some("example.com".to_owned()),
        request: Some("GET /x?token=s3cret HTTP/1.1".to_owned()),
        host: Some("example.com".to_owned()),
        upstream: Some("http://127.0.0.1:3001/x?token=s3cret".to_owned()),
        referrer: None,
    }
}

pub(crate) fn failure() -> Failure {
    Failure {
        id: 17,
        time: at(133),
        started: Some(at(0)),
        cause: Cause::ConnectRefused,
        confidence: Confidence::Proven,
        status: Some(502),
        outcome: Outcome::Final,
        upstream: Some(Upstream { address: "127.0.0.1:3001".to_owned(), transport: Some(Transport::Tcp) }),
        purpose: Purpose::Http,
        worker: worker(),
        request_key: Some("9380-6789-1".to_owned()),
        phase: Some(Phase::Connect),
        errno: Some("ECONNREFUSED".into()),
        elapsed_us: Some(133),
        connection: Some(Connection {
            local: Some("127.0.0.1:41234".to_owned()),
            reused: Some(false),
            preexisting: Some(false),
            requests: Some(1),
            idle_us: None,
            bytes_sent: Some(0),
            bytes_received: Some(0),
            syn_retransmits: Some(0),
        }),
        root: Some(Root {
            kind: RootKind::NotListening,
            text: "nothing listens on port 3001; node[412] listens on 127.0.0.1:3000".to_owned(),
            process: None,
            listener: None,
        }),
        nginx: Some(nginx_word()),
        evidence: vec![
            Evidence { at_us: 0, source: "tp_btf/inet_sock_set_state".into(), text: "CLOSE → SYN_SENT".into() },
            Evidence { at_us: 131, source: "raw_tp/tcp_receive_reset".into(), text: "RST received in SYN_SENT".into() },
        ],
        disagreement: None,
        hint: Some("start the upstream, or point proxy_pass at 127.0.0.1:3000".into()),
        configuration: vec![
            Setting {
                directive: "proxy_pass".to_owned(),
                value: Some("http://127.0.0.1:3001/x?token=s3cret".to_owned()),
                file: Some("/etc/nginx/sites-enabled/default".to_owned()),
                line: Some(12),
                in_force: None,
            },
            Setting {
                directive: "proxy_connect_timeout".to_owned(),
                value: Some("60s".to_owned()),
                file: None,
                line: None,
                in_force: Some("60s".to_owned()),
            },
        ],
    }
}

pub(crate) fn response() -> Response {
    Response {
        id: 9,
        time: at(259),
        status: 502,
        client_status: None,
        origin: Origin::Nginx,
        handled_by: None,
        cause: Cause::ConnectRefused,
        failures: vec![17],
        counted: 0,
        related: vec![],
        request_key: Some("9380-6789-1".to_owned()),
        worker: worker(),
        client: Some("127.0.0.1".to_owned()),
        server: Some("example.com".to_owned()),
        request: Some("GET /x?token=s3cret HTTP/1.1".to_owned()),
        host: Some("example.com".to_owned()),
        upstream: None,
        message: None,
        hint: None,
        configuration: vec![],
    }
}

pub(crate) fn lost() -> Lost {
    Lost {
        time: at(300),
        program: "tcp_lifecycle".into(),
        reason: LossReason::RingFull,
        count: Some(12),
        counted: None,
    }
}

pub(crate) fn counted() -> Lost {
    let counted = Counted {
        cause: Cause::ConnectRefused,
        upstream: Some("127.0.0.1:3001".to_owned()),
        since: at(100_000),
        failures: 1000,
        by_outcome: BTreeMap::from([(Outcome::Final, 900), (Outcome::Retried, 99)]),
        responses: 900,
        by_status: BTreeMap::from([(502, 900)]),
        responses_alone: 0,
        retried_in_vain: 9,
    };
    let program = "ngx_log_error_core".into();
    Lost { time: at(900_000), program, reason: LossReason::Overload, count: Some(1000), counted: Some(counted) }
}

pub(crate) fn stats() -> Stats {
    Stats {
        time: at(10_000_000),
        interval_s: 10.0,
        upstreams: vec![UpstreamStats {
            address: "127.0.0.1:3001".to_owned(),
            connections: 40,
            established: 39,
            failures: BTreeMap::from([(Cause::ConnectRefused, 1)]),
            connect_us: Some(Quantiles { p50: 60, p90: 120, p99: 900, count: 39 }),
        }],
        failures: 1,
        responses: 1,
        by_cause: BTreeMap::from([(Cause::ConnectRefused, 1)]),
        lost: 12,
        events: 5,
    }
}

pub(crate) fn end() -> End {
    End {
        time: at(20_000_000),
        reason: EndReason::Signal,
        next: None,
        failures: 1,
        responses: 1,
        by_cause: BTreeMap::from([(Cause::ConnectRefused, 1)]),
        by_outcome: BTreeMap::from([(Outcome::Final, 1)]),
        unexplained: 0,
        connections: Some(40),
        lost: 12,
        events: 5,
        duration_s: 20.0,
    }
}

/// One of every type.
pub(crate) fn all() -> Vec<Record> {
    let upstream = Some(Upstream { address: "unix:/run/php.sock".to_owned(), transport: Some(Transport::Unix) });
    let owner = Some(Owner { pid: 700, comm: "gunicorn".to_owned() });
    let root = Root {
        kind: RootKind::OomKilled,
        text: "gunicorn[700] was killed for memory".to_owned(),
        process: Some(ProcessFate {
            pid: 700,
            comm: "gunicorn".to_owned(),
            code: None,
            signal: Some("SIGKILL".into()),
            oom: Some(true),
        }),
        listener: Some(Listener {
            address: "127.0.0.1:8000".to_owned(),
            limit: Some(5),
            queued: Some(6),
            owner: owner.clone(),
        }),
    };
    vec![
        Record::Session(session()),
        Record::Failure(Box::new(failure())),
        Record::Failure(Box::new(bare_failure())),
        Record::Response(Box::new(response())),
        Record::Update(Box::new(Update {
            time: at(400),
            failure: 17,
            outcome: Some(Outcome::Retried),
            root: Some(root),
            hint: Some("start node again".into()),
            nginx: None,
        })),
        Record::Worker(WorkerChange { time: at(500), change: Change::Gone, process: process() }),
        Record::Overflow(Overflow {
            time: at(600),
            address: "127.0.0.1:8000".to_owned(),
            queue: Queue::Accept,
            limit: Some(5),
            queued: Some(6),
            count: None,
            owner,
        }),
        Record::Exit(Exit {
            time: at(700),
            pid: 700,
            comm: "gunicorn".to_owned(),
            code: None,
            signal: Some("SIGKILL".into()),
            oom: Some(true),
            upstreams: vec!["127.0.0.1:8000".to_owned()],
        }),
        Record::Attempt(Box::new(Attempt {
            time: at(800),
            started: Some(at(700)),
            result: AttemptResult::Completed,
            upstream,
            worker: worker(),
            request_key: None,
            elapsed_us: Some(100),
            connection: Some(Connection::default()),
        })),
        Record::Lost(lost()),
        Record::Stats(stats()),
        Record::End(end()),
    ]
}

/// A failure of which next to nothing is known.
pub(crate) fn bare_failure() -> Failure {
    Failure {
        id: 18,
        time: at(200),
        started: None,
        cause: Cause::Unexplained,
        confidence: Confidence::Unknown,
        status: None,
        outcome: Outcome::Unknown,
        upstream: None,
        purpose: Purpose::Unknown,
        worker: Worker { pid: 9381, comm: "nginx".to_owned(), netns: None, cgroup: None },
        request_key: None,
        phase: None,
        errno: None,
        elapsed_us: None,
        connection: None,
        root: None,
        nginx: None,
        evidence: vec![],
        disagreement: None,
        hint: None,
        configuration: vec![],
    }
}

/// The examples of the contract.
pub(crate) const CONTRACT: &[&str] = &[
    r#"{"type":"session","schema":1,"time":"2026-03-04T05:06:07.000000Z","session":"s","version":"0.1.0","host":"h","kernel":"6.18.44","boot_id":"b",
 "processes":[{"pid":9380,"comm":"nginx","exe":"/usr/sbin/nginx","role":"worker","netns":4026531840}],
 "observations":[{"name":"tcp_lifecycle","hook":"tp_btf/inet_sock_set_state","state":"full","missing":null},
                 {"name":"accept_queue","hook":"raw_tp/tcp_retransmit_synack","state":"partial","missing":"fentry: EPERM"}]}"#,
    r#"{"type":"failure","id":17,"time":"2026-03-04T05:06:07.000133Z","started":"2026-03-04T05:06:07.000000Z","cause":"connect_refused","confidence":"proven","status":502,"outcome":"final",
 "upstream":{"address":"127.0.0.1:3001","transport":"tcp"},"purpose":"http",
 "worker":{"pid":9380,"comm":"nginx","netns":4026531840,"cgroup":"/system.slice/nginx.service"},
 "request_key":"9380-6789-1",
 "phase":"connect","errno":"ECONNREFUSED","elapsed_us":133,
 "connection":{"local":"127.0.0.1:41234","reused":false,"preexisting":false,"requests":1,"idle_us":null,
               "bytes_sent":0,"bytes_received":0,"syn_retransmits":0},
 "root":{"kind":"not_listening","text":"nothing listens on port 3001; node[412] listens on 127.0.0.1:3000","process":null,"listener":null},
 "nginx":{"source":"uprobe","level":"error","connection":6789,"message":"connect() failed (111: Connection refused) while connecting to upstream",
          "client":"127.0.0.1","server":"example.com","request":"GET /x HTTP/1.1","host":"example.com","upstream":"http://127.0.0.1:3001/x"},
 "evidence":[{"at_us":0,"source":"tp_btf/inet_sock_set_state","text":"CLOSE → SYN_SENT"},
             {"at_us":131,"source":"raw_tp/tcp_receive_reset","text":"RST received in SYN_SENT"},
             {"at_us":133,"source":"tp_btf/inet_sock_set_state","text":"SYN_SENT → CLOSE, sk_err ECONNREFUSED"}],
 "disagreement":null,"hint":"start the upstream, or point proxy_pass at 127.0.0.1:3000"}"#,
    r#"{"type":"response","id":9,"time":"2026-03-04T05:06:07.000259Z","status":502,"client_status":null,"origin":"nginx","handled_by":null,"cause":"connect_refused","failures":[17],"related":[],
 "request_key":"9380-6789-1","worker":{"pid":9380,"comm":"nginx","netns":4026531840,"cgroup":null},"client":"127.0.0.1","server":"example.com","request":"GET /x HTTP/1.1","host":"example.com"}"#,
];
