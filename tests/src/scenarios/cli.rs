//! Options and exit codes of `why502 trace`.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Program;
use crate::bench::{self, causes, ends, exactly, output, parsed};
use crate::stage::{Options, Stage};
use crate::tracer::{Finished, Tracer, of_type};
use crate::{child, wait};

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("cli/bad_option", bad_option),
    program("cli/without_root", without_root),
    program("cli/unwritable_log", unwritable_log),
    program("cli/no_such_process", no_such_process),
    program("cli/duration", duration),
    program("cli/fail", fail),
    program("cli/count", count),
    program("cli/filter_upstream", filter_upstream),
    program("cli/filter_cause", filter_cause),
    program("cli/redact_query", redact_query),
    program("cli/closed_pipe", closed_pipe),
    program("cli/two_at_once", two_at_once),
    program("cli/nginx_starts_later", nginx_starts_later),
    program("cli/sigterm", sigterm),
];

/// A few seconds for what should take none.
const SHORT: Duration = Duration::from_secs(20);

fn tracer(why502: &Path, stage: &Stage, options: &[&str]) -> Result<Tracer> {
    Tracer::attach(why502, stage.nginx.pid(), options, stage.directory.path())
}

fn seen(finished: &Finished) -> Result<Vec<String>> {
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    causes(finished.lines.iter().map(String::as_str))
}

fn bad_option(why502: &Path, _: &Options) -> Result<String> {
    for arguments in
        [&["trace", "--no-such-option"][..], &["trace", "--cause", "no_such_cause"], &["trace", "--duration", "x"]]
    {
        let ended = output(Command::new(why502).args(arguments), SHORT)?;
        ends(&ended, 2, &[arguments[1]])?;
        ensure!(ended.stdout.is_empty(), "talk on stdout");
    }
    Ok("exit 2, names the option".into())
}

fn without_root(why502: &Path, options: &Options) -> Result<String> {
    let directory = crate::stage::Directory::new("without_root", options.keep)?;
    let copy = directory.path().join("why502");
    std::fs::copy(why502, &copy).context("copying why502 to where anybody can run it")?;
    let mut command = Command::new(&copy);
    command.args(["trace", "--format", "json"]).uid(65534).gid(65534).current_dir("/");
    let ended = output(&mut command, SHORT)?;
    ends(&ended, 2, &["root", "CAP_", "capabilit"])?;
    Ok("exit 2, says what is missing".into())
}

/// The number of a process that has ended; and what it is not allowed or not able to begin leaves no file behind.
fn no_such_process(why502: &Path, options: &Options) -> Result<String> {
    let directory = crate::stage::Directory::new("no_such_process", options.keep)?;
    let mut ended = Command::new("true").spawn()?;
    ended.wait()?;
    let (pid, log) = (ended.id().to_string(), directory.path().join("capture.jsonl"));
    let output = output(Command::new(why502).args(["record", "--pid", &pid, "--log"]).arg(&log), SHORT)?;
    ends(&output, 2, &[&format!("there is no process {pid}")])?;
    ensure!(!log.exists(), "it made {}", log.display());
    Ok("exit 2, no file".into())
}

fn unwritable_log(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let pid = stage.nginx.pid().to_string();
    let ended = output(Command::new(why502).args(["trace", "--pid", &pid, "--log", "/proc/none/log.jsonl"]), SHORT)?;
    ends(&ended, 2, &["/proc/none"])?;
    ends(&ended, 2, &["make its directory first"])?;
    Ok("exit 2, names the file".into())
}

fn duration(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let finished = tracer(why502, &stage, &["--duration", "1s"])?.wait(SHORT)?;
    seen(&finished)?;
    reason(&finished, "duration")
}

fn reason(finished: &Finished, wanted: &str) -> Result<String> {
    let records = parsed(finished.lines.iter().map(String::as_str))?;
    let end = of_type(&records, "end").last().context("no end record")?;
    ensure!(end["reason"] == wanted, "end.reason is {} instead of {wanted}", end["reason"]);
    Ok(format!("exit 0, end.reason {wanted}"))
}

fn fail(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let healthy = tracer(why502, &stage, &["--fail"])?;
    bench::send(&stage, "/ok", 5)?;
    let code = healthy.finish()?.status.code();
    ensure!(code == Some(0), "{code:?} although nothing failed");
    // Filters choose what is shown, not what counts.
    let failing = tracer(why502, &stage, &["--fail", "--cause", "connect_timeout"])?;
    bench::send(&stage, "/refused", 1)?;
    let code = failing.finish()?.status.code();
    ensure!(code == Some(1), "{code:?} although a 502 was seen");
    Ok("exit 0, then exit 1".into())
}

fn count(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let three = tracer(why502, &stage, &["--count", "3"])?;
    bench::send(&stage, "/refused", 5)?;
    let finished = three.wait(SHORT)?;
    exactly(&seen(&finished)?, "connect_refused", 3)?;
    // What became of the last one counts, too.
    let one = tracer(why502, &stage, &["--count", "1", "--fail"])?;
    bench::send(&stage, "/refused", 1)?;
    let failed = one.wait(SHORT)?;
    let records = parsed(failed.lines.iter().map(String::as_str))?;
    let responses = of_type(&records, "response").count();
    ensure!(responses == 1 && failed.status.code() == Some(1), "{responses} responses, {}", failed.status);
    reason(&finished, "count")
}

fn filter_upstream(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let tracer = tracer(why502, &stage, &["--upstream", stage.upstream("down")?.address()])?;
    bench::send(&stage, "/closed", 3)?;
    bench::send(&stage, "/refused", 3)?;
    exactly(&seen(&tracer.finish()?)?, "connect_refused", 3)?;
    Ok("only that upstream's".into())
}

fn filter_cause(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let tracer = tracer(why502, &stage, &["--cause", "closed_before_response"])?;
    bench::send(&stage, "/refused", 3)?;
    bench::send(&stage, "/closed", 3)?;
    let finished = tracer.finish()?;
    exactly(&seen(&finished)?, "closed_before_response", 3)?;
    let records = parsed(finished.lines.iter().map(String::as_str))?;
    let others = of_type(&records, "response").filter(|response| response["cause"] != "closed_before_response").count();
    ensure!(others == 0, "{others} responses of other causes");
    Ok("only that cause".into())
}

fn redact_query(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let tracer = tracer(why502, &stage, &["--redact-query"])?;
    bench::send(&stage, "/refused?token=secret", 3)?;
    let finished = tracer.finish()?;
    exactly(&seen(&finished)?, "connect_refused", 3)?;
    let leak = finished.lines.iter().find(|line| line.contains("secret"));
    ensure!(leak.is_none(), "the query is there: {leak:?}");
    Ok("no query anywhere".into())
}

fn closed_pipe(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let mut command = Command::new(why502);
    command.args(["trace", "--format", "json", "--pid", &stage.nginx.pid().to_string()]);
    let errors = std::fs::File::create(stage.directory.path().join("pipe.stderr"))?;
    let mut process = child::start("why502", command.stdout(Stdio::piped()).stderr(errors), None)?;
    let mut stdout = BufReader::new(process.take_stdout().context("stdout")?);
    stdout.read_line(&mut String::new()).context("the first line")?;
    drop(stdout);
    bench::send(&stage, "/refused", 5)?;
    let status = process.wait(SHORT)?;
    let said = std::fs::read_to_string(stage.directory.path().join("pipe.stderr"))?;
    ensure!(status.code() == Some(0), "{status}: {said}");
    ensure!(!said.contains("panic"), "{said}");
    Ok("a clean end".into())
}

fn two_at_once(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let both = [tracer(why502, &stage, &[])?, tracer(why502, &stage, &[])?];
    bench::send(&stage, "/refused", 10)?;
    for tracer in both {
        exactly(&seen(&tracer.finish()?)?, "connect_refused", 10)?;
    }
    Ok("both see all".into())
}

fn nginx_starts_later(why502: &Path, options: &Options) -> Result<String> {
    let directory = crate::stage::Directory::new("later", options.keep)?;
    let name = options.nginx.name().to_owned();
    let arguments = ["trace", "--format", "json", "--process", &name].map(str::to_owned);
    let mut tracer = Tracer::start(why502, &arguments, directory.path())?;
    tracer.ready()?;
    let stage = bench::nginx(options)?;
    // Bound before, so that what is seen of it cannot be of another nginx of this host.
    let address = stage.upstream("down")?.address().to_owned();
    bench::send(&stage, "/refused", 10)?;
    let finished = tracer.finish()?;
    seen(&finished)?;
    let records = parsed(finished.lines.iter().map(String::as_str))?;
    let ours = of_type(&records, "failure").filter(|failure| failure["upstream"]["address"] == address.as_str());
    let count = ours.filter(|failure| failure["cause"] == "connect_refused").count();
    ensure!(count == 10, "{count} failures of the younger nginx instead of 10");
    Ok("10 failures of the younger nginx".into())
}

fn sigterm(why502: &Path, options: &Options) -> Result<String> {
    let stage = bench::nginx(options)?;
    let tracer = tracer(why502, &stage, &[])?;
    bench::send(&stage, "/reset", 3)?;
    tracer.signal(libc::SIGTERM)?;
    let finished = tracer.wait(wait::SOON)?;
    exactly(&seen(&finished)?, "reset_before_response", 3)?;
    reason(&finished, "signal")
}
