//! Processes that stand still while nginx waits for them.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::gunicorn::start;
use super::{NGINX, NOBODY, Program, Told, comm, fails, records};
use crate::child::stop;
use crate::scenario::Need;
use crate::scenarios::scene::failure;
use crate::stage::{Options, Stage};

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[Need::Program("gunicorn")], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("real/stopped_with_the_request", with_the_request),
    program("real/stopped_before_it_was_accepted", before_it_was_accepted),
];

/// One that is stopped while it has the request, and one that is stopped only after the failure.
fn with_the_request(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let server = start(&stage, 8000, &[])?;
    let scene = server.watched(stage, why502)?;
    let mut clients = [scene.begin("/q8000/still_hang")?, scene.begin("/q8000/late_hang")?];
    let (still, late) = (server.hears("still_hang")?, server.hears("late_hang")?);
    stop(still)?;
    for client in &mut clients {
        client.answers(504)?;
    }
    stop(late)?;
    let name = comm(still)?;
    let records = records(scene, 2, 1)?;
    let words = format!("{name}[{still}], a worker of {}[{}],", comm(server.pid())?, server.pid());
    let by = format!("has the connection and is stopped: SIGSTOP from lab[{}]", std::process::id());
    let hint = format!("kill -CONT {still}");
    Told {
        uri: "/still_hang",
        cause: "response_timeout",
        kind: "process_stopped",
        pid: Some(still),
        fate: NOBODY,
        words: &[&words, &by],
        hint: &hint,
    }
    .check(&records)?;
    let kinds: Vec<&Value> = records.iter().filter(|record| record["root"]["kind"] == "process_stopped").collect();
    ensure!(kinds.len() == 1, "the other was not stopped at that time: {kinds:?}");
    Ok(format!("worker {still}, not {late}"))
}

/// All workers are, before the tracing and during it; another server's have nothing to do with it.
fn before_it_was_accepted(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let (server, other) = (start(&stage, 8000, &[])?, start(&stage, 8001, &[])?);
    let workers = server.workers(2)?;
    stop(workers[0])?;
    stop(other.workers(2)?[0])?;
    let scene = server.watched(stage, why502)?;
    fails(&scene, 200, &["/q8001/ok"])?;
    stop(workers[1])?;
    let mut clients = [scene.begin("/q8000/lost")?, scene.begin("/q8001/hang")?];
    let busy = other.hears("hang")?;
    for client in &mut clients {
        client.answers(504)?;
    }
    let records = records(scene, 2, 2)?;
    let lost = failure(&records, "/lost")?;
    let pid = lost["root"]["process"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    ensure!(pid.is_some_and(|pid| workers.contains(&pid)), "{lost}");
    Told {
        uri: "/lost",
        cause: "response_timeout",
        kind: "process_stopped",
        pid,
        fate: NOBODY,
        words: &["nobody has accepted the connection to 127.0.0.1:8000", "is stopped", "all 2 that accept there"],
        hint: "kill -CONT",
    }
    .check(&records)?;
    let words = format!("[{busy}], a worker of");
    Told {
        uri: "/hang",
        cause: "response_timeout",
        kind: "application_silent",
        pid: Some(busy),
        fate: NOBODY,
        words: &[&words],
        hint: "py-spy",
    }
    .check(&records)?;
    Ok(format!("workers {workers:?}"))
}
