//! uWSGI: a master, processes, and threads in each.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::{CLOSED, NGINX, Program, Real, Told, fails, records};
use crate::scenario::Need;
use crate::stage::{Options, Stage};
use crate::wait;

pub(super) const PROGRAMS: &[Program] =
    &[Program { name: "real/uwsgi_workers_that_end", needs: &[Need::Program("uwsgi")], run: workers_end }];

fn workers_end(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let arguments = "--plugin python3 --master --processes 2 --threads 2 --socket <dir>/uwsgi.sock --chmod-socket=666 \
                     --harakiri 1 --wsgi-file <dir>/app.py --need-app";
    let server = Real::start(&stage, "uwsgi", &arguments.split(' ').collect::<Vec<_>>())?;
    let log = stage.directory.path().join("uwsgi.log");
    let ready = || fs::read_to_string(&log).is_ok_and(|log| log.contains("spawned uWSGI worker 2"));
    wait::until("uWSGI's workers", wait::SOON, ready)?;
    let scene = server.watched(stage, why502)?;
    let mut pids = Vec::new();
    for what in ["kill", "crash", "hang"] {
        fails(&scene, 502, &[&format!("/uwsgi/{what}")])?;
        pids.push(server.hears(what)?);
    }
    let records = records(scene, 3, 3)?;
    let master = format!("uwsgi[{}]", server.pid());
    let (worker, by_master) = (format!("a worker of {master}"), format!("SIGKILL from {master}"));
    let told = |uri: &str, kind: &str, index: usize, fate: (&str, Value), words: &[&str], hint: &str| {
        Told { uri, cause: CLOSED, kind, pid: Some(pids[index]), fate, words, hint }.check(&records)
    };
    told("/kill", "process_killed", 0, ("signal", "SIGKILL".into()), &[&worker, "its own SIGKILL"], "sent itself")?;
    // It handles SIGSEGV: it shows where, and exits, unless that fails too.
    let exited =
        told("/crash", "process_exited", 1, ("code", 1.into()), &[&worker, "exited with code 1"], "read the log");
    let crash = || told("/crash", "process_killed", 1, ("signal", "SIGSEGV".into()), &[&worker], "find the crash");
    exited.or_else(|_| crash())?;
    told("/hang", "process_killed", 2, ("signal", "SIGKILL".into()), &[&worker, &by_master], "if that is harakiri")?;
    Ok(format!("workers {pids:?} of {master}"))
}
