//! What tests of the program itself share: an nginx whose requests fail on demand, and a look at what was written.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::scenario::{BASE, Scenario, get};
use crate::script::Step::{Close, Hold, Request, Reset, Respond, When};
use crate::script::{self, Step};
use crate::stage::{Options, Stage};
use crate::tracer::{self, of_type};
use crate::upstream::{Listen, Place};
use crate::{child, wait};

const FAULTY: &[Step] = &[
    When("/closed", &[Request, Close]),
    When("/reset", &[Request, Reset]),
    When("/silent", &[Request, Hold]),
    Request,
    Respond,
    Step::Repeat,
];

/// `/refused`, `/closed`, `/reset`, `/silent` (1 s) fail with these causes; `/ok` does not.
pub const BENCH: Scenario = Scenario {
    name: "bench/nginx",
    workers: Some(2),
    upstreams: &[
        ("down", Place::V4, Listen::Nobody),
        ("a", Place::V4, Listen::Accept(FAULTY)),
        ("b", Place::V4, Listen::Accept(script::HEALTHY)),
    ],
    server: "proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
             location /refused { proxy_pass http://<down>; }",
    cases: &[
        get("/ok"),
        get("/refused").status(502),
        get("/refused?token=secret").status(502),
        get("/closed").status(502),
        get("/reset").status(502),
        get("/silent").status(504),
    ],
    ..BASE
};

/// Starts the bench.
pub fn nginx(options: &Options) -> Result<Stage> {
    Stage::set(&BENCH, options)
}

/// Sends `count` requests of the case with this path, one after the other, and waits until nginx has logged them.
pub fn send(stage: &Stage, path: &str, count: usize) -> Result<()> {
    let case = stage.case(path)?;
    for _ in 0..count {
        let answer = stage.exchange(&mut stage.connect()?, case, false)?;
        ensure!(answer.status == case.status, "{path}: {} instead of {}", answer.status, case.status);
    }
    stage.all_logged()
}

/// The causes of the failure records in these lines; an error if a line is no record.
pub fn causes<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>> {
    let records = parsed(lines)?;
    Ok(of_type(&records, "failure").filter_map(|failure| failure["cause"].as_str().map(str::to_owned)).collect())
}

/// All records; an error if a line is none.
pub fn parsed<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Vec<Value>> {
    let (records, problems) = tracer::records(lines.into_iter());
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(records)
}

/// That these are exactly `count` failures of this cause.
pub fn exactly(causes: &[String], cause: &str, count: usize) -> Result<()> {
    let kinds: BTreeSet<&String> = causes.iter().collect();
    let right = causes.len() == count && causes.iter().all(|seen| seen == cause);
    ensure!(right, "{} failures of {kinds:?} instead of {count} of {cause}", causes.len());
    Ok(())
}

/// Runs a command to its end, which must come within `limit`, and gives all that it wrote.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = format!("{command:?}");
    let mut process = command.spawn().with_context(|| name.clone())?;
    let pid = process.id();
    let ended = wait::until(&format!("{name} to end"), limit, || {
        // A program that fills its pipe would never end: none of these writes that much before it does.
        process.try_wait().ok().flatten().is_some()
    });
    if ended.is_err() {
        child::signal_pid(pid, libc::SIGKILL)?;
    }
    let output = process.wait_with_output().context("collecting the output")?;
    ended.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(output)
}

/// That a command ended with this code and says these words on stderr (any of each group).
pub fn ends(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{} instead of exit code {code}: {said}", output.status);
    let named = words.is_empty() || words.iter().any(|word| said.contains(word));
    ensure!(named, "the message names none of {words:?}: {said}");
    Ok(())
}
