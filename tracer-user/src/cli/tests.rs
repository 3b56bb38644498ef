//! Every flag: what it sets, and what it refuses.

use std::time::Duration;

use clap::CommandFactory;

use super::convert::DEFAULT_LOG;
use super::options::Cli;
use super::parse_from;
use crate::explain::Subject;
use crate::model::cause::Cause;
use crate::model::root::RootKind;
use crate::settings::{Command, DoctorSettings, ExplainSettings, Format, RecordSettings, TraceSettings};
use crate::sink::terminal::{ColorChoice, Verbosity};

fn parse(arguments: &str) -> Command {
    parse_from(["why502"].into_iter().chain(arguments.split_whitespace()))
        .unwrap_or_else(|error| panic!("{arguments}: {error}"))
}

fn trace(arguments: &str) -> TraceSettings {
    let Command::Trace(settings) = parse(arguments) else { panic!("{arguments} is not trace") };
    settings
}

fn record(arguments: &str) -> RecordSettings {
    let Command::Record(settings) = parse(&format!("record {arguments}")) else { panic!("{arguments} is not record") };
    settings
}

fn doctor(arguments: &str) -> DoctorSettings {
    let Command::Doctor(settings) = parse(&format!("doctor {arguments}")) else { panic!("{arguments} is not doctor") };
    settings
}

/// The usage error, as one text.
fn refused(arguments: &str) -> String {
    let error = parse_from(["why502"].into_iter().chain(arguments.split_whitespace())).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{arguments}");
    error.to_string()
}

#[test]
fn the_description_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_help() {
    let mut command = Cli::command();
    command.build();
    for sub in [&command].into_iter().chain(command.get_subcommands()) {
        for argument in sub.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", sub.get_name(), argument.get_id());
        }
    }
}

#[test]
fn trace_is_the_default() {
    assert_eq!(parse(""), parse("trace"));
    assert_eq!(parse("--fail -v"), parse("trace --fail -v"));
    assert!(refused("--fail record").contains("cannot be used with"));
}

#[test]
fn defaults() {
    let settings = trace("");
    assert_eq!(settings.format, Format::Text);
    assert_eq!(settings.verbosity, Verbosity::Normal);
    assert_eq!(settings.color, ColorChoice::Auto);
    assert_eq!(settings.log, None);
    let watch = settings.watch;
    assert_eq!(watch.processes, ["nginx", "openresty", "angie", "nginx-debug"]);
    assert!(watch.pids.is_empty() && watch.upstreams.is_empty() && watch.causes.is_empty());
    assert!(watch.nginx_witness && !watch.fail && !watch.redact_query && !watch.debug_probes);
    assert_eq!((watch.duration, watch.count), (None, None));
}

#[test]
fn process_and_pid_add_up() {
    assert_eq!(trace("--process envoy --process nginx").watch.processes, ["envoy", "nginx"]);
    let watch = trace("--pid 12 --pid 13").watch;
    assert_eq!((watch.processes.len(), watch.pids), (0, vec![12, 13]));
    let watch = trace("--pid 12 --process nginx").watch;
    assert_eq!((watch.processes, watch.pids), (vec!["nginx".to_owned()], vec![12]));
    refused("--pid 0");
    refused("--pid nginx");
    assert!(refused("--process /usr/sbin/nginx").contains("without its directory"));
}

#[test]
fn no_nginx() {
    assert!(!trace("--no-nginx").watch.nginx_witness);
    assert!(!doctor("--no-nginx").nginx_witness);
}

#[test]
fn upstream() {
    let upstreams = trace("--upstream 10.0.0.0/8 --upstream unix:/run/a.sock").watch.upstreams;
    assert!(upstreams[0].matches("10.1.2.3:80") && upstreams[1].matches("unix:/run/a.sock"));
    assert!(refused("--upstream backend").contains("host names are not looked up"));
}

#[test]
fn cause() {
    let causes = trace("--cause connect_refused --cause stale_keepalive").watch.causes;
    assert_eq!(causes, [Cause::ConnectRefused, Cause::StaleKeepalive]);
    assert!(refused("--cause conect_refused").contains("did you mean connect_refused?"));
}

#[test]
fn redact_query_fail_and_debug_probes() {
    assert!(trace("--redact-query").watch.redact_query);
    assert!(trace("--fail").watch.fail);
    assert!(trace("--debug-probes").watch.debug_probes);
}

#[test]
fn duration() {
    assert_eq!(trace("--duration 1m30s").watch.duration, Some(Duration::from_secs(90)));
    assert!(refused("--duration 30").contains("a number with a unit"));
    refused("--duration 30s --duration 40s");
}

#[test]
fn count() {
    assert_eq!(trace("--count 3").watch.count.map(u64::from), Some(3));
    refused("--count 0");
    refused("--count -1");
}

#[test]
fn format_quiet_verbose_color() {
    assert_eq!(trace("--format json").format, Format::Json);
    assert_eq!(doctor("--format json").format, Format::Json);
    refused("--format xml");
    assert_eq!(trace("-q --format json").verbosity, Verbosity::Quiet);
    assert_eq!(trace("--quiet").verbosity, Verbosity::Quiet);
    assert_eq!(trace("-v").verbosity, Verbosity::Verbose);
    assert_eq!(trace("--verbose").verbosity, Verbosity::Verbose);
    assert!(refused("-q -v").contains("cannot be used with"));
    assert_eq!(trace("--color always").color, ColorChoice::Always);
    assert_eq!(trace("--color never").color, ColorChoice::Never);
}

#[test]
fn log_beside_the_display() {
    let log = trace("--log /tmp/a.jsonl").log.unwrap();
    assert_eq!((log.path, log.max_size, log.keep), ("/tmp/a.jsonl".into(), 64 << 20, 8));
    assert!(log.compress && !log.default_path);
    let log = trace("--log a --log-max-size 1MiB --log-keep 0").log.unwrap();
    assert_eq!((log.max_size, log.keep), (1 << 20, 0));
    assert!(refused("--log-keep 3").contains("--log <FILE>"));
    assert!(refused("--log-max-size 1MiB").contains("--log <FILE>"));
    assert!(refused("--log a --log-max-size 5").contains("too small"));
    refused("--log a --log-keep 1000");
    assert!(refused("--log -").contains("--format json"));
}

#[test]
fn record_has_a_place_of_its_own() {
    let settings = record("");
    assert_eq!((settings.log.path, settings.log.default_path), (DEFAULT_LOG.into(), true));
    let settings = record("--log /tmp/a --log-max-size 20KB --log-keep 3 --upstream 10.0.0.1 --duration 1s");
    assert_eq!((settings.log.max_size, settings.log.keep, settings.log.default_path), (20_000, 3, false));
    assert_eq!(settings.watch.upstreams.len(), 1);
    refused("record --format json");
    refused("record -v");
}

#[test]
fn explain() {
    assert_eq!(parse("explain"), Command::Explain(ExplainSettings { subject: None }));
    for (id, subject) in
        [("no_resolver", Subject::Cause(Cause::NoResolver)), ("oom_killed", Subject::Reason(RootKind::OomKilled))]
    {
        let expected = Command::Explain(ExplainSettings { subject: Some(subject) });
        assert_eq!(parse(&format!("explain {id}")), expected);
    }
    assert!(refused("explain stalekeepalive").contains("did you mean stale_keepalive?"));
    assert!(refused("explain xyzzy").contains("`why502 explain` lists them"));
}

#[test]
fn doctor_takes_what_decides_whether_it_can_run() {
    let settings = doctor("--pid 3");
    assert_eq!(settings.pids, [3]);
    assert_eq!(settings.processes.len(), 0);
    refused("doctor --fail");
}

#[test]
fn unknown_things_are_usage_errors() {
    refused("--nonsense");
    refused("nonsense");
}
