//! Runs scenarios one after the other and says what came of them.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::kernels::MARK;
use crate::program::Version;
use crate::results::{Numbers, Ran, Results};
use crate::scenario::{Need, Net, Scenario, Witness};
use crate::scenarios::{self, Entry};
use crate::stage::{Options, Stage};
use crate::tracer::{self, Tracer};
use crate::watchdog::Watchdog;
use crate::{check, drive, oracle, schema, selection, wait};

/// What came of a scenario.
#[derive(Debug)]
pub enum Outcome {
    /// All as it should be; a few words about what was seen.
    Passed(String),
    /// Every difference.
    Failed(Vec<String>),
    /// The machine cannot run it.
    Skipped(String),
}

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

/// Kinds of difference shown of one scenario.
const SHOWN: usize = 8;
/// How often a fault is injected at most until nginx meets it.
const TRIES: usize = 3;

/// Runs the chosen scenarios, a line for each, and notes them in `results`; in a VM some of them in every hook mode.
/// `doctor`: says before each mode what hooks it has.
pub fn all(options: &Options, filters: &[String], doctor: bool, results: &mut Results) -> Totals {
    let mut totals = Totals::default();
    let here = selection::chosen(filters).filter(|entry| {
        (!options.vm || selection::in_a_vm(entry)) && (!options.of_nginx || selection::of_nginx(entry))
    });
    each(options, here, doctor, results, &mut totals);
    if options.vm && options.hooks.is_none() {
        for hooks in selection::OTHER_HOOKS {
            let options = Options { hooks: Some(hooks.to_owned()), doctor: OnceLock::new(), ..options.clone() };
            each(&options, selection::chosen(filters).filter(selection::by_hooks), doctor, results, &mut totals);
        }
    }
    totals
}

fn each(
    options: &Options,
    entries: impl Iterator<Item = Entry>,
    doctor: bool,
    results: &mut Results,
    totals: &mut Totals,
) {
    let mode = options.hooks.as_deref();
    if doctor {
        match options.doctor() {
            Ok(report) => println!("{MARK}{} {report}", mode.unwrap_or("best")),
            Err(error) => println!("doctor says nothing: {error:#}"),
        }
    }
    let watchdog = Watchdog::new();
    for entry in entries {
        if wait::interrupted() {
            println!("interrupted");
            totals.failed += 1;
            break;
        }
        watchdog.begins(entry.name());
        let started = Instant::now();
        let ran = until_met(&entry, options);
        let took = started.elapsed().as_secs_f64();
        let name = mode.map_or_else(|| entry.name().to_owned(), |mode| format!("{} [{mode}]", entry.name()));
        results.note(&entry, &name, &ran, took);
        match ran.outcome {
            Outcome::Passed(seen) => {
                totals.passed += 1;
                println!("{name:<44} {seen}  ok  ({took:.1} s)");
            }
            Outcome::Skipped(reason) => {
                totals.skipped += 1;
                println!("{name:<44} skipped: {reason}");
            }
            Outcome::Failed(differences) => {
                totals.failed += 1;
                println!("{name:<44} FAILED ({took:.1} s)");
                show(&differences);
            }
        }
    }
}

/// The differences, each kind once: many requests tend to differ alike.
fn show(differences: &[String]) {
    let mut kinds: Vec<(String, &String, usize)> = Vec::new();
    for difference in differences {
        let kind = match difference.split_once(": ") {
            Some((uri, kind)) if uri.starts_with('/') => kind.replace(uri, "URI"),
            _ => difference.clone(),
        };
        match kinds.iter_mut().find(|(other, _, _)| *other == kind) {
            Some((_, _, count)) => *count += 1,
            None => kinds.push((kind, difference, 1)),
        }
    }
    for (_, example, count) in kinds.iter().take(SHOWN) {
        let times = if *count > 1 { format!("  (×{count})") } else { String::new() };
        println!("    {example}{times}");
    }
    if kinds.len() > SHOWN {
        println!("    … and {} more kinds", kinds.len() - SHOWN);
    }
}

/// Where a fault is a race, nginx may meet another one, as its own logs tell. That says nothing about the tracer: once
/// more, and said. An emulated machine may be too slow for it, however often; then that is all that can be said. It may be
/// too slow for a wait, too; what never comes, though, has failed. A verdict that is not right gets no second chance.
fn until_met(entry: &Entry, options: &Options) -> Ran {
    let mut ran = one(entry, options);
    for _ in 1..TRIES {
        let Outcome::Failed(differences) = &ran.outcome else { break };
        let why = match &ran {
            Ran { met: false, .. } => "nginx did not meet the fault",
            Ran { gave_up: true, .. } if options.vm => "the machine may have been too slow",
            _ => break,
        };
        if wait::interrupted() {
            break;
        }
        println!("{:<44} again, {why}", entry.name());
        show(differences);
        ran = one(entry, options);
    }
    if options.vm && !ran.met && !wait::interrupted() && matches!(ran.outcome, Outcome::Failed(_)) {
        return Outcome::Skipped(format!("nginx did not meet the fault, {TRIES} times")).into();
    }
    ran
}

fn one(entry: &Entry, options: &Options) -> Ran {
    if options.until.is_some_and(|until| until <= SystemTime::now()) {
        return Outcome::Skipped("no time left (--until)".into()).into();
    }
    if let Some(reason) = cannot(entry, options) {
        return Outcome::Skipped(reason).into();
    }
    let ran = match entry {
        Entry::Traffic(scenario) => traffic(scenario, options),
        Entry::Program(program) => match &options.why502 {
            Some(why502) => (program.run)(why502, options).map(|seen| Outcome::Passed(seen).into()),
            None => Ok(Outcome::Skipped("it is about why502 itself".into()).into()),
        },
    };
    ran.unwrap_or_else(|error| {
        let gave_up = error.is::<wait::GaveUp>();
        Ran { gave_up, ..Outcome::Failed(vec![format!("{error:#}")]).into() }
    })
}

/// Why this machine cannot run it.
fn cannot(entry: &Entry, options: &Options) -> Option<String> {
    let (needs, net) = match entry {
        Entry::Traffic(scenario) => (scenario.needs, scenario.net),
        Entry::Program(program) => (program.needs, Net::Host),
    };
    let missing = match net {
        Net::Host => None,
        Net::Private(_) => no_namespace(),
        Net::Routed(_) => no_namespace().or_else(|| (!on_path("ip")).then(|| "no iproute2 (ip)".into())),
    };
    missing.or_else(|| needs.iter().find_map(|&need| lacks(need, options)))
}

fn no_namespace() -> Option<String> {
    crate::namespace::Namespace::new().err().map(|error| format!("no network namespaces: {error:#}"))
}

fn lacks(need: Need, options: &Options) -> Option<String> {
    match need {
        Need::Ipv6 => std::net::TcpListener::bind("[::1]:0").err().map(|error| format!("no IPv6: {error}")),
        Need::Python => (!on_path("python3")).then(|| "no python3".into()),
        Need::Nft => nft(PLAIN).err().map(|error| format!("{error:#}")),
        Need::Nat => nft(REWRITING).err().map(|error| format!("{error:#}")),
        Need::Tun => (!std::path::Path::new("/dev/net/tun").exists()).then(|| "no /dev/net/tun".into()),
        Need::Program(name) => scenarios::real_program(name).is_none().then(|| format!("no {name}")),
        Need::Stream => {
            (!options.nginx.outside(STREAM_MODULE).exists()).then(|| "nginx's stream module is not here".into())
        }
        Need::Http2 => (!options.nginx.built_with("http_v2_module")).then(|| "nginx without HTTP/2".into()),
        Need::Module(name) => {
            let here = options.nginx.outside("/usr/lib/nginx/modules").join(name).exists();
            (!here).then(|| format!("{name} is not here"))
        }
        Need::Version(major, minor, patch) => {
            let least = Version(major, minor, patch);
            (options.nginx.version() < least).then(|| format!("nginx is older than {least}"))
        }
        Need::DropReasons => drop_reasons(options).err().map(|error| format!("{error:#}")),
        Need::Observation(name) => observation(name, options).err().map(|error| format!("{error:#}")),
        Need::Tls => (!options.nginx.built_with("http_ssl_module")).then(|| "nginx without TLS".into()),
    }
}

const PLAIN: &str = "add table inet t; add chain inet t c { type filter hook output priority 0; }; \
                     add rule inet t c tcp dport 1 reject with tcp reset";
const REWRITING: &str = "add table ip t; add chain ip t c { type nat hook output priority -100; }; \
                         add rule ip t c tcp dport 1 dnat to 192.0.2.1:2";

/// Whether these commands work, in a network namespace of their own.
fn nft(commands: &str) -> Result<()> {
    ensure!(on_path("nft"), "no nftables (nft)");
    crate::namespace::Namespace::new()?.nft(commands).context("the kernel's nf_tables")
}

/// Whether the kernel gives reasons for dropped packets.
pub fn drop_reasons(options: &Options) -> Result<()> {
    let found = options.observations()?.iter().find(|found| found["name"] == "packet_drop");
    let found = found.context("no observation packet_drop")?;
    let silent = found["missing"].as_str().is_some_and(|missing| missing.contains("kernel gives no reasons"));
    ensure!(found["state"] != "none" && !silent, "no reasons for dropped packets");
    Ok(())
}

/// Whether why502 makes an observation by a hook of the kernel; an error says what serves instead.
fn observation(name: &str, options: &Options) -> Result<()> {
    let found = options.observations()?.iter().find(|found| found["name"] == name);
    let hook = found.with_context(|| format!("no observation {name}"))?["hook"].as_str().unwrap_or("nothing");
    ensure!(["fentry/", "fexit/", "kprobe/", "kretprobe/"].iter().any(|kind| hook.contains(kind)), "{name} by {hook}");
    Ok(())
}

/// Where Debian puts it.
pub const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Whether a program is on PATH.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

/// Runs traffic past nginx with the tracer watching, then compares.
fn traffic(scenario: &Scenario, options: &Options) -> Result<Ran> {
    let stage = Stage::set(scenario, options)?;
    let mut arguments = scenario.options.to_vec();
    if scenario.witness == Witness::Kernel {
        arguments.push("--no-nginx");
    }
    if let Some(hooks) = &options.hooks {
        arguments.extend(["--hooks", hooks]);
    }
    let attach =
        |why502: &std::path::PathBuf| Tracer::attach(why502, stage.nginx.pid(), &arguments, stage.directory.path());
    if let Some(before) = scenario.before {
        before(&stage).context("before the tracer starts")?;
    }
    let tracer = options.why502.as_ref().map(attach).transpose()?;
    let driven = drive::run(&stage, scenario.drive).and_then(|()| stage.all_logged());
    if let Err(error) = driven {
        let logged = stage.error_log().unwrap_or_default();
        let last = logged.lines().last().unwrap_or_default();
        return Err(error.context(format!("the traffic failed; nginx's last message: {last:?}")));
    }
    let sent = stage.sent();
    let access = oracle::access(&stage.access_log());
    let mut differences = oracle::differences(&sent, &stage.access_log(), stage.error_log().as_deref());
    let met = differences.is_empty();
    if !met {
        differences.insert(0, "the lab itself: nginx did not meet the intended fault".into());
    }
    let Some(tracer) = tracer else {
        let numbers = Numbers::new(sent.len(), &access, None);
        return Ok(conclude(format!("{:>6} requests {}", sent.len(), stage.remarked()), differences, met, numbers));
    };
    let finished = tracer.finish()?;
    if !finished.status.success() {
        differences.push(format!("why502 ended with {}: {}", finished.status, finished.complaints));
    }
    if options.keep {
        std::fs::write(stage.directory.path().join("records.jsonl"), finished.lines.join("\n"))?;
    }
    let (records, problems) = tracer::records(finished.lines.iter().map(String::as_str));
    differences.extend(problems);
    let verdict = check::records(scenario, &sent, &access, &records);
    differences.extend(verdict.differences);
    if let Some(schema) = &options.schema {
        differences.extend(schema::differences(schema, &records).context("validating")?);
    }
    let mut seen = format!("{:>6} requests, failures {}/{}", sent.len(), verdict.seen, verdict.expected);
    let remark = stage.remarked();
    if !remark.is_empty() {
        seen.push_str(&format!(", {remark}"));
        if !differences.is_empty() {
            differences.insert(0, seen.clone());
        }
    }
    let numbers = Numbers::new(sent.len(), &access, Some(verdict.tally));
    Ok(conclude(seen, differences, met, numbers))
}

fn conclude(seen: String, differences: Vec<String>, met: bool, numbers: Numbers) -> Ran {
    let outcome = if differences.is_empty() { Outcome::Passed(seen) } else { Outcome::Failed(differences) };
    Ran { outcome, met, gave_up: false, numbers: Some(numbers) }
}
