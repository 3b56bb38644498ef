//! Whose connections are traced.

use std::path::Path;
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::roots::HOST;
use super::scene::{Scene, failure, free_port};
use crate::child;
use crate::scenario::Need;
use crate::stage::{Options, Stage};
use crate::tracer::of_type;
use crate::wait;

pub(super) const PROGRAMS: &[Program] =
    &[Program { name: "traced/nginx_below_an_init", needs: &[Need::Python], run: below_an_init }];

const STRANGER: &str = "import socket, sys; sys.exit(socket.socket().connect_ex(('127.0.0.1', int(sys.argv[1]))) == 0)";

/// Given is what started nginx, and something else besides, as a container's init does.
fn below_an_init(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::watch_process(Stage::set(&HOST, options)?, why502, process::id())?;
    let (master, port) = (scene.stage.nginx.pid(), free_port()?);
    let workers = scene.stage.nginx.workers();
    let mut stranger = Command::new("python3");
    stranger.args(["-c", STRANGER, &port.to_string()]).stdin(Stdio::null());
    let mut stranger = child::start("a stranger", &mut stranger, None)?;
    ensure!(stranger.wait(wait::SOON)?.success(), "it was not refused");
    let uri = format!("/p{port}/refused");
    scene.answers(&uri, 502)?;
    let records = scene.records()?;
    let session = of_type(&records, "session").next().context("no session")?;
    let known: Vec<u64> = session["processes"].as_array().into_iter().flatten().filter_map(pid).collect();
    for one in workers.iter().chain([&master]) {
        ensure!(known.contains(&u64::from(*one)), "{one} is not traced: {session}");
    }
    ensure!(failure(&records, &uri)?["cause"] == "connect_refused", "another cause");
    let count = of_type(&records, "failure").count();
    ensure!(count == 1, "{count} failures");
    let named = |record: &&Value| record["process"]["comm"] == "python3";
    ensure!(!of_type(&records, "worker").any(|record| named(&record)), "a stranger is traced");
    Ok(format!("nginx[{master}] and {} workers", workers.len()))
}

fn pid(process: &Value) -> Option<u64> {
    process["pid"].as_u64()
}
