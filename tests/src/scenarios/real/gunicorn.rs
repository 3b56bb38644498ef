//! gunicorn: a master with sync workers.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CLOSED, NGINX, NOBODY, Program, Real, Told, comm, fails, records};
use crate::child;
use crate::scenario::Need;
use crate::scenarios::scene::failure;
use crate::stage::{Options, Stage};
use crate::wait;

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[Need::Program("gunicorn")], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("real/gunicorn_workers_that_end", workers_end),
    program("real/gunicorn_is_stopped", is_stopped),
    program("real/gunicorn_in_a_service", in_a_service),
];

/// With two workers on this port.
pub(super) fn start(stage: &Stage, port: u16, more: &[&str]) -> Result<Real> {
    let address = format!("127.0.0.1:{port}");
    let mut arguments = vec!["-w", "2", "-b", &address, "--chdir", "<dir>"];
    arguments.extend(more);
    arguments.push("app:application");
    let server = Real::start(stage, "gunicorn", &arguments)?;
    server.listens(stage, port)?;
    server.workers(2)?;
    Ok(server)
}

fn workers_end(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let server = start(&stage, 8000, &["--timeout", "1"])?;
    // Another one, whose worker dies meanwhile, has nothing to do with it.
    let other = start(&stage, 8001, &[])?;
    let stranger = other.workers(2)?[0];
    let scene = server.watched(stage, why502)?;
    let mut pids = Vec::new();
    for what in ["kill", "exit", "crash", "hang"] {
        let mut client = scene.begin(&format!("/p8000/{what}"))?;
        pids.push(server.hears(what)?);
        if what == "hang" {
            child::signal_pid(stranger, libc::SIGKILL)?;
        }
        client.answers(502).context(what)?;
    }
    let master = format!("a worker of {}[{}]", comm(server.pid())?, server.pid());
    let by = format!("SIGABRT from {}[{}]", comm(server.pid())?, server.pid());
    let records = records(scene, 4, 4)?;
    let told = |uri: &str, kind: &str, index: usize, fate: (&str, Value), words: &[&str], hint: &str| {
        Told { uri, cause: CLOSED, kind, pid: Some(pids[index]), fate, words, hint }.check(&records)
    };
    told("/kill", "process_killed", 0, ("signal", "SIGKILL".into()), &[&master, "its own SIGKILL"], "sent itself")?;
    told("/exit", "process_exited", 1, ("code", 1.into()), &[&master, "exited with code 1"], "read the log")?;
    told("/crash", "process_killed", 2, ("signal", "SIGSEGV".into()), &[&master], "find the crash")?;
    // It handles the signal, closes, and then exits, which may be told later.
    let exited = ["process_exited", "application_closed"];
    let late = exited.iter().map(|kind| told("/hang", kind, 3, NOBODY, &[&master, &by], "if that is --timeout"));
    ensure!(late.into_iter().any(|found| found.is_ok()), "{}", failure(&records, "/hang")?["root"]);
    Ok(format!("workers {pids:?} of {}", server.pid()))
}

fn is_stopped(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let mut server = start(&stage, 8000, &["--graceful-timeout", "0"])?;
    let scene = server.watched(stage, why502)?;
    let (master, name) = (server.pid(), comm(server.pid())?);
    let mut client = scene.begin("/p8000/hang")?;
    let worker = server.hears("hang")?;
    server.process.signal(libc::SIGINT)?;
    client.answers(502)?;
    server.process.wait(wait::SOON)?;
    fails(&scene, 502, &["/p8000/refused"])?;
    // The same program on another port, and then where it was.
    let near = start(&scene.stage, 8002, &[])?;
    fails(&scene, 502, &["/p8000/moved"])?;
    let _again = start(&scene.stage, 8000, &[])?;
    fails(&scene, 200, &["/p8000/ok"])?;
    fails(&scene, 502, &["/p8003/typo"])?;
    let records = records(scene, 4, 4)?;
    let lab = format!("lab[{}]", std::process::id());
    let by = format!("from {name}[{master}], as its master had SIGINT from {lab}");
    Told {
        uri: "/hang",
        cause: CLOSED,
        kind: "process_killed",
        pid: Some(worker),
        fate: ("signal", "SIGKILL".into()),
        words: &[&by],
        hint: "--graceful-timeout",
    }
    .check(&records)?;
    let gone = format!("{name}[{master}], the last that did, exited with code 0 after SIGINT from {lab}");
    let moved = format!("[{}] listens on 127.0.0.1:8002 since", near.pid());
    for (uri, words) in [("/refused", vec![gone.as_str()]), ("/moved", vec![gone.as_str(), moved.as_str()])] {
        let (cause, kind, fate, hint) = ("connect_refused", "process_exited", ("code", 0.into()), "again");
        Told { uri, cause, kind, pid: Some(master), fate, words: &words, hint }.check(&records)?;
    }
    let typo = failure(&records, "/typo")?;
    ensure!(typo["root"]["kind"] == "not_listening", "{}", typo["root"]);
    Ok(format!("master {master}, worker {worker}"))
}

/// A control group that is named as systemd names those of services.
fn in_a_service(why502: &Path, options: &Options) -> Result<String> {
    let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let Some(mount) = mount.into_iter().find(|mount| mount.join("cgroup.controllers").exists()) else {
        return Ok("no control groups of version 2 here: nothing tried".into());
    };
    let unit = format!("why502-lab-{}", std::process::id());
    let group = mount.join(format!("{unit}.service"));
    if fs::create_dir(&group).is_err() {
        return Ok("no control group can be made here: nothing tried".into());
    }
    let ran = service(&group, &unit, why502, options);
    wait::until("the control group to be empty", wait::SOON, || fs::remove_dir(&group).is_ok())?;
    ran
}

fn service(group: &Path, unit: &str, why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let server = start(&stage, 8000, &[])?;
    for pid in server.workers(2)?.into_iter().chain([server.pid()]) {
        fs::write(group.join("cgroup.procs"), pid.to_string())?;
    }
    let scene = server.watched(stage, why502)?;
    fails(&scene, 502, &["/p8000/exit"])?;
    let pid = server.hears("exit")?;
    // All of the group stands still before the request, and goes on only afterwards.
    let mut words = String::new();
    if fs::write(group.join("cgroup.freeze"), "1").is_ok() {
        let events = group.join("cgroup.events");
        let frozen = || fs::read_to_string(&events).is_ok_and(|events| events.contains("frozen 1"));
        wait::until("the control group to be frozen", wait::SOON, frozen)?;
        fails(&scene, 504, &["/q8000/frozen"])?;
        words = format!("control group /{unit}.service was frozen");
    }
    let records = records(scene, if words.is_empty() { 1 } else { 2 }, 1);
    fs::write(group.join("cgroup.freeze"), "0")?;
    let records = records?;
    let (cause, kind, fate) = (CLOSED, "process_exited", ("code", 1.into()));
    let hint = format!("systemctl status {unit}, journalctl -u {unit}");
    Told { uri: "/exit", cause, kind, pid: Some(pid), fate, words: &[], hint: &hint }.check(&records)?;
    if !words.is_empty() {
        let frozen = failure(&records, "/frozen")?;
        ensure!(frozen["root"]["text"].as_str().is_some_and(|text| text.contains(&words)), "{}", frozen["root"]);
    }
    Ok(hint)
}
