//! The commands besides `trace` and `record`: doctor and explain.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use crate::bench::{self, ends, output};
use crate::stage::Options;

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[], run }
}

pub(super) const PROGRAMS: &[Program] = &[program("commands/doctor", doctor), program("commands/explain", explain)];

const SHORT: Duration = Duration::from_secs(20);

fn doctor(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let pid = stage.nginx.pid().to_string();
    let text = output(Command::new(why502).args(["doctor", "--pid", &pid]), SHORT)?;
    ends(&text, 0, &[])?;
    let json = output(Command::new(why502).args(["doctor", "--format", "json", "--pid", &pid]), SHORT)?;
    ends(&json, 0, &[])?;
    let told: Value = serde_json::from_slice(&json.stdout).context("doctor's JSON")?;
    let said = told.to_string();
    for observation in ["tcp_lifecycle", "nginx_cause", "nginx_status"] {
        ensure!(said.contains(observation), "{observation} is not mentioned: {said}");
    }
    // What the programs count on, in this kernel's own words.
    ensure!(told["missing_members"] == serde_json::json!([]), "members: {}", told["missing_members"]);
    let misfits: Vec<&str> =
        told["misfits"].as_array().context("no misfits")?.iter().filter_map(Value::as_str).collect();
    // Before 5.17 dropped packets come without a reason.
    let unexpected: Vec<_> = misfits.iter().filter(|misfit| !misfit.starts_with("raw_tp/kfree_skb has 2")).collect();
    ensure!(unexpected.is_empty(), "hooks: {unexpected:?}");
    Ok("exit 0, every observation, every member, every prototype".into())
}

fn explain(why502: &Path, _: &Options) -> Result<String> {
    let list = output(Command::new(why502).arg("explain"), SHORT)?;
    ends(&list, 0, &[])?;
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for cause in [
        "connect_refused",
        "stale_keepalive",
        "response_timeout",
        "no_live_upstreams",
        "unexplained",
        "oom_killed",
        "route",
    ] {
        ensure!(list.contains(cause), "{cause} is not in the list");
        ends(&output(Command::new(why502).args(["explain", cause]), SHORT)?, 0, &[])?;
    }
    ends(&output(Command::new(why502).args(["explain", "no_such_cause"]), SHORT)?, 2, &["no_such_cause"])?;
    Ok("the list, each, and exit 2 for none".into())
}
