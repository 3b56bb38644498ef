//! The capture file: whole lines whatever happens, rotation, reopening.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use crate::bench::{self, causes, exactly, parsed};
use crate::stage::{Options, Stage};
use crate::tracer::{Tracer, of_type};
use crate::{child, run, wait};

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("capture/kill_9_leaves_whole_lines", kill_9),
    program("capture/ends_with_an_end", ends_with_an_end),
    program("capture/rotation_keeps_all", rotation_keeps_all),
    program("capture/rotation_keeps_few", rotation_keeps_few),
    program("capture/sighup_reopens", sighup_reopens),
    program("capture/reader_that_hangs", reader_that_hangs),
    program("capture/missing_at_the_end", missing_at_the_end),
];

/// Starts `why502 record` on the bench, writing to `log/capture.jsonl` in its directory.
fn recorder(why502: &Path, stage: &Stage, options: &[&str]) -> Result<Tracer> {
    let directory = stage.directory.path().join("log");
    fs::create_dir_all(&directory)?;
    let log = directory.join("capture.jsonl");
    let pid = stage.nginx.pid().to_string();
    let mut arguments: Vec<String> = ["record", "--pid", &pid, "--log"].map(str::to_owned).into();
    arguments.push(log.display().to_string());
    arguments.extend(options.iter().map(|&option| option.to_owned()));
    let tracer = Tracer::start(why502, &arguments, stage.directory.path())?;
    begun(stage).with_context(|| tracer.complaints())?;
    Ok(tracer)
}

/// Waits until the capture has its first record.
fn begun(stage: &Stage) -> Result<()> {
    wait::until("the capture's session record", Duration::from_secs(30), || current(stage).contains("\"session\""))
}

fn current(stage: &Stage) -> String {
    fs::read_to_string(stage.directory.path().join("log/capture.jsonl")).unwrap_or_default()
}

/// Every file of the capture, the text of each.
fn files(stage: &Stage) -> Result<Vec<String>> {
    let mut paths: Vec<_> =
        fs::read_dir(stage.directory.path().join("log"))?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let text = |path: &std::path::PathBuf| {
        let bytes = fs::read(path)?;
        let bytes = match path.extension().and_then(|extension| extension.to_str()) {
            Some("zst") => zstd::decode_all(bytes.as_slice()).with_context(|| path.display().to_string())?,
            _ => bytes,
        };
        String::from_utf8(bytes).with_context(|| path.display().to_string())
    };
    paths.iter().map(text).collect()
}

fn kill_9(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let tracer = recorder(why502, &stage, &[])?;
    let pid = tracer.pid();
    bench::send(&stage, "/refused", 20)?;
    // The kernel cuts a write short that a kill finds under way (generic_perform_write(), mm/filemap.c): not before it is done.
    let written = || {
        let text = current(&stage);
        let all = |kind: &str| text.matches(&format!("\"type\":\"{kind}\"")).count() == 20;
        all("failure") && all("response") && text.ends_with('\n')
    };
    wait::until("20 failures and responses in the capture", wait::SOON, written)?;
    let programs = attached_by(pid);
    tracer.signal(libc::SIGKILL)?;
    tracer.wait(wait::SOON)?;
    let text = current(&stage);
    ensure!(text.ends_with('\n'), "the last line is cut off");
    exactly(&causes(text.lines())?, "connect_refused", 20)?;
    ensure!(!text.contains("\"type\":\"end\""), "an end record after kill -9");
    let Some(programs) = programs else { return Ok("20 whole lines; no bpftool".into()) };
    ensure!(!programs.is_empty(), "bpftool knows no program of a running why502");
    let gone = || loaded().is_some_and(|loaded| programs.iter().all(|program| !loaded.contains(program)));
    wait::until("the eBPF programs to vanish", wait::SOON, gone)?;
    Ok(format!("20 whole lines, {} programs gone", programs.len()))
}

fn bpftool() -> Option<Vec<Value>> {
    if !run::on_path("bpftool") {
        return None;
    }
    let shown = Command::new("bpftool").args(["prog", "show", "--json"]).output().ok()?;
    serde_json::from_slice(&shown.stdout).ok()
}

/// The ids of all loaded programs.
fn loaded() -> Option<Vec<u64>> {
    Some(bpftool()?.iter().filter_map(|program| program["id"].as_u64()).collect())
}

/// The ids of the programs that a process holds.
fn attached_by(pid: u32) -> Option<Vec<u64>> {
    // bpftool may not know who holds a program: the descriptors do.
    let loaded = loaded()?;
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten();
    let ids = entries.filter_map(|entry| {
        let info = fs::read_to_string(entry.path()).ok()?;
        let line = info.lines().find(|line| line.starts_with("prog_id:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let mut ids: Vec<u64> = ids.filter(|id| loaded.contains(id)).collect();
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

fn ends_with_an_end(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let tracer = recorder(why502, &stage, &[])?;
    bench::send(&stage, "/closed", 3)?;
    tracer.signal(libc::SIGTERM)?;
    let finished = tracer.wait(wait::SOON)?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    ensure!(finished.lines.is_empty(), "`record` wrote to stdout");
    let text = current(&stage);
    let records = parsed(text.lines())?;
    exactly(&causes(text.lines())?, "closed_before_response", 3)?;
    let last = records.last().context("an empty capture")?;
    ensure!(last["type"] == "end" && last["reason"] == "signal", "the last record is {last}");
    Ok("3 failures and the end".into())
}

/// Nobody reads its standard output: the capture goes on, and it ends all the same when it is told to.
fn reader_that_hangs(why502: &Path, options: &Options) -> Result<String> {
    /// A pipe holds 64 KiB: these failures, and as many responses, are more.
    const FAILURES: usize = 120;
    let stage = bench::nginx(options)?;
    let log = stage.directory.path().join("log/capture.jsonl");
    fs::create_dir_all(log.parent().context("a directory")?)?;
    let mut command = Command::new(why502);
    command.args(["trace", "--format", "json", "--pid", &stage.nginx.pid().to_string(), "--log"]).arg(&log);
    let stderr = stage.directory.path().join("hangs.stderr");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&stderr)?);
    let mut process = child::start("why502", &mut command, None)?;
    let _unread = process.take_stdout().context("its standard output")?;
    begun(&stage)?;
    bench::send(&stage, "/refused", FAILURES)?;
    let captured = || current(&stage).matches("\"type\":\"failure\"").count() == FAILURES;
    wait::until("all failures to be in the capture", wait::SOON, captured)?;
    process.signal(libc::SIGINT)?;
    let status = process.wait(wait::SOON * 2)?;
    let text = current(&stage);
    exactly(&causes(text.lines())?, "connect_refused", FAILURES)?;
    let last = text.lines().last().unwrap_or_default();
    ensure!(last.contains("\"type\":\"end\"") && last.contains("\"signal\""), "it ended ({status}) with {last}");
    Ok(format!("{FAILURES} failures, then {status}"))
}

/// A capture that lacks its last records is not told as a success.
fn missing_at_the_end(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let arguments = ["record", "--duration", "1s", "--log", "/dev/full", "--pid", &stage.nginx.pid().to_string()];
    let tracer = Tracer::start(why502, &arguments.map(str::to_owned), stage.directory.path())?;
    let finished = tracer.wait(wait::SOON * 3)?;
    let said = &finished.complaints;
    ensure!(finished.status.code() == Some(2) && said.contains("records are missing from /dev/full"), "{said}");
    Ok("exit code 2".into())
}

/// Sends failures until the capture was rotated `times` times or `most` were sent; then all ends in order.
fn rotate(why502: &Path, options: &Options, times: usize, most: usize) -> Result<(Stage, usize)> {
    let stage = bench::nginx(options)?;
    let tracer = recorder(why502, &stage, &["--log-max-size", "16KiB", "--log-keep", "3"])?;
    let mut sent = 0;
    let mut sessions = std::collections::BTreeSet::new();
    while sessions.len() <= times && sent < most {
        bench::send(&stage, "/refused", 1)?;
        sent += 1;
        let caught_up = || {
            let text = current(&stage);
            let uri = format!("/refused/{} ", sent - 1);
            text.contains(&uri) || files(&stage).is_ok_and(|files| files.iter().any(|file| file.contains(&uri)))
        };
        wait::until("the failure to be in the capture", wait::SOON, caught_up)?;
        sessions.insert(current(&stage).lines().next().unwrap_or_default().to_owned());
    }
    tracer.signal(libc::SIGTERM)?;
    let finished = tracer.wait(wait::SOON)?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    ensure!(sessions.len() > times, "{sent} failures, and {} files only", sessions.len());
    Ok((stage, sent))
}

fn rotation_keeps_all(why502: &Path, options: &Options) -> Result<String> {
    let (stage, sent) = rotate(why502, options, 2, 500)?;
    let files = files(&stage)?;
    ensure!(files.len() == 3, "{} files after two rotations", files.len());
    for text in &files {
        let records = parsed(text.lines())?;
        ensure!(records.first().is_some_and(|first| first["type"] == "session"), "a file begins without session");
        ensure!(records.last().is_some_and(|last| last["type"] == "end"), "a file ends without end");
    }
    let rotated = files.iter().filter(|text| text.contains("\"reason\":\"rotated\"")).count();
    ensure!(rotated == 2, "{rotated} files end with the reason rotated, instead of 2");
    let all = files.concat();
    exactly(&causes(all.lines())?, "connect_refused", sent)?;
    let records = parsed(all.lines())?;
    let ids: std::collections::BTreeSet<_> =
        of_type(&records, "failure").filter_map(|one| one["id"].as_u64()).collect();
    ensure!(ids.len() == sent, "{} ids for {sent} failures", ids.len());
    Ok(format!("3 files, all of {sent} failures"))
}

fn rotation_keeps_few(why502: &Path, options: &Options) -> Result<String> {
    let (stage, sent) = rotate(why502, options, 6, 2000)?;
    let files = files(&stage)?;
    ensure!(files.len() <= 4, "{} files with --log-keep 3", files.len());
    let all = files.concat();
    let kept = causes(all.lines())?.len();
    ensure!(all.contains(&format!("/refused/{} ", sent - 1)), "the last failure is not there");
    ensure!(kept < sent, "all {sent} failures in {} files", files.len());
    Ok(format!("{} files, {kept} of {sent} failures", files.len()))
}

fn sighup_reopens(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let tracer = recorder(why502, &stage, &[])?;
    bench::send(&stage, "/refused", 2)?;
    let log = stage.directory.path().join("log/capture.jsonl");
    let moved = stage.directory.path().join("log/moved.jsonl");
    wait::until("2 failures", wait::SOON, || current(&stage).matches("\"type\":\"failure\"").count() == 2)?;
    fs::rename(&log, &moved)?;
    tracer.signal(libc::SIGHUP)?;
    wait::until("the new file", wait::SOON, || current(&stage).contains("\"session\""))?;
    bench::send(&stage, "/closed", 2)?;
    tracer.signal(libc::SIGTERM)?;
    let finished = tracer.wait(wait::SOON)?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    exactly(&causes(fs::read_to_string(&moved)?.lines())?, "connect_refused", 2)?;
    exactly(&causes(current(&stage).lines())?, "closed_before_response", 2)?;
    Ok("old and new file, each with its own".into())
}
