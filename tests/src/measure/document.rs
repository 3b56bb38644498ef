//! The report as text: docs/performance.md, and what the terminal shows of it.

use std::fmt::Write;

use super::cost::Cost;
use super::modes;
use super::pairs::Pairs;
use super::report::{KERNEL_ONLY, Report, WHY502};
use super::site::NEW;
use super::stats::Summary;
use super::table::Table;
use super::wrk;

/// From here on the noise hides what the budgets are about.
const NOISY: f64 = 0.03;

const MODES: &str = "Kernel time by hook mode";

/// The tables, in the order of the document, each with its title.
pub(crate) fn tables(report: &Report) -> Vec<(&'static str, Table)> {
    vec![
        ("Against the budgets", budgets(report)),
        ("Throughput", throughput(report)),
        ("Latency", latency(report)),
        ("Kernel time", kernel(report)),
        ("Kernel time, program by program", programs(report)),
        (MODES, modes::table(&report.modes)),
        ("A storm of failures", storms(report)),
        ("Memory, size, start", footprint(report)),
        ("What the verifier walked", verified(report)),
    ]
}

/// The whole document. `command` is what makes it.
pub(crate) fn markdown(report: &Report) -> String {
    let mut text = String::new();
    let host = &report.host;
    let quick = if report.quick { " --quick" } else { "" };
    let virtual_machine = if host.hypervisor { ", a virtual machine" } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "# Performance\n\nWritten by `cargo xtask bench{quick} --write-docs`; no figure is typed by hand.\n\n\
         {}, Linux {}, {}: {} processors, {} MiB{virtual_machine}; {}; {}. Load average before: {:.2}. The run took {:.0} s.\n",
        host.date,
        host.kernel,
        host.processor,
        host.processors,
        host.memory_mib,
        host.nginx,
        host.why502,
        host.load_before,
        report.seconds,
    );
    if let Some(noise) = report.noise() {
        let _ = write!(
            text,
            "\nRuns without any tool differ among themselves by ± {:.1} %: less than that is no difference.{}\n",
            noise * 100.0,
            if noise > NOISY { " This machine was busy with other things; measure again on a quiet one." } else { "" }
        );
    }
    for (title, table) in tables(report).into_iter().filter(|(title, table)| *title != MODES || !table.is_empty()) {
        let _ = write!(text, "\n## {title}\n\n{}\n\n{table}", method(title, report));
    }
    text.push_str("\n## What it means\n\n");
    text.push_str(&meaning(report));
    text
}

/// How the figures under this title come about.
fn method(title: &str, report: &Report) -> String {
    let connections = wrk::CONNECTIONS;
    match title {
        "Against the budgets" => {
            "A ratio is met when its median reaches the budget, within noise when only its interval does.".into()
        }
        "Throughput" => format!(
            "`wrk` with {connections} connections against nginx, one worker per processor with its share of them (`reuseport`), in front of a second nginx that answers \
             `return 200`: every processor is busy, so whatever a tool takes shows, in the kernel or in its own process. Each run with \
             a tool stands between two without; its ratio is to their mean. *Noise* is the same ratio of a run without to those before \
             and after it. Brackets hold order-statistic intervals of the median, of 95 % or more from six pairs on, else the range. *nginx CPU* is \
             the ratio of the workers' processor time per request, *own CPU* the tool's share of one processor. why502 is \
             `record` with its default settings; other tools write to a file and are told the upstream's ports where they can be; none of them sees unix sockets.\n\n{}",
            unable(report)
        ),
        "Latency" => "Under full load as `wrk` sees it; paced: a client that sends at a fifth of the full rate whatever comes back, \
                      timed from when each request was due. Medians over the windows, without → with why502."
            .into(),
        "Kernel time" => format!(
            "`kernel.bpf_stats_enabled`: the kernel's clock around each program run. A program that does nothing takes {:.0} ns by \
             that clock; so much is taken off each run. Of three windows the middle one counts (with `--quick` there is one). Traps of uprobes, wake-ups and output are not in it: they are in the throughput.",
            report.empty_program_ns
        ),
        "Kernel time, program by program" => "The same for why502's programs, dearest first.".into(),
        MODES => "In emulated machines, whose clock says nothing of real ones: in multiples of a program that does nothing, whose own \
                  time is taken off each run."
            .into(),
        "A storm of failures" => "A program that is no nginx connects where nobody listens, watched with `--process`, which has met it once before. Latency is from the \
                                  kernel's time of the failure to its JSON line being read."
            .into(),
        "Memory, size, start" => report.memory.as_ref().map_or_else(String::new, |memory| {
            format!(
                "Resident memory of `why502 record` while {} upstream connections stay open for {:.0} s and others come and go, one \
                 request of a hundred failing ({} requests, {} failures). The slope is the median of all slopes between samples of \
                 the second half.",
                memory.open, memory.seconds, memory.requests, memory.failures
            )
        }),
        _ => "Instructions that the kernel's verifier looked at to accept each program; its limit is a million.".into(),
    }
}

/// The tools that could not run.
pub(crate) fn unable(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    for pairs in &report.pairs {
        if let Some(why) = &pairs.cannot {
            let line = format!("- {} does not run here: `{}`", pairs.tool, why.replace('`', "'"));
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    if lines.is_empty() { "Every tool named runs here.".into() } else { lines.join("\n") }
}

fn budgets(report: &Report) -> Table {
    let mut table = Table::new(&["What", "Budget", "Measured", "Met"]);
    for budget in report.budgets() {
        table.row([budget.what, budget.budget, budget.measured, budget.met.word().to_owned()]);
    }
    table
}

fn ratio(summary: Option<Summary>) -> String {
    summary.map_or_else(|| "–".into(), |of| format!("{:.3} ({:.3} … {:.3})", of.median, of.low, of.high))
}

fn throughput(report: &Report) -> Table {
    let head =
        ["Load", "Tool", "Pairs", "Without /s", "With /s", "Ratio", "Noise", "nginx CPU", "Its noise", "Own CPU"];
    let mut table = Table::new(&head);
    for pairs in report.pairs.iter().filter(|pairs| pairs.cannot.is_none()) {
        table.row([
            pairs.scenario.to_owned(),
            pairs.tool.to_owned(),
            pairs.throughput.map_or(0, |of| of.count).to_string(),
            format!("{:.0}", pairs.plain_rate),
            format!("{:.0}", pairs.tool_rate),
            ratio(pairs.throughput),
            ratio(pairs.noise),
            ratio(pairs.nginx_cpu),
            ratio(pairs.nginx_cpu_noise),
            format!("{:.1} %", pairs.tool_share * 100.0),
        ]);
    }
    table
}

fn latency(report: &Report) -> Table {
    let head = ["Load", "Full p50 µs", "Full p99 µs", "Paced at /s", "Paced p50 µs", "Paced p99 µs"];
    let mut table = Table::new(&head);
    for pairs in report.pairs_of(WHY502) {
        let Pairs { plain_full_us: plain, tool_full_us: with, .. } = pairs;
        let paced = |pick: fn((f64, f64)) -> f64| match pairs.plain_paced_us.zip(pairs.tool_paced_us) {
            Some((plain, with)) => format!("{:.0} → {:.0}", pick(plain), pick(with)),
            None => "–".into(),
        };
        table.row([
            pairs.scenario.to_owned(),
            format!("{:.0} → {:.0}", plain.0, with.0),
            format!("{:.0} → {:.0}", plain.1, with.1),
            format!("{:.0}", pairs.paced_rate),
            paced(|latency| latency.0),
            paced(|latency| latency.1),
        ]);
    }
    table
}

fn kernel(report: &Report) -> Table {
    let mut table = Table::new(&["Load", "Tool", "ns per request", "with the clock", "Runs per request"]);
    for cost in &report.costs {
        let runs: f64 = cost.programs.iter().map(|program| program.runs_per_request).sum();
        let figures = [cost.ns_per_request, cost.raw_ns_per_request].map(|ns| format!("{ns:.0}"));
        let [net, raw] = figures;
        table.row([cost.scenario.to_owned(), cost.tool.to_owned(), net, raw, format!("{runs:.2}")]);
    }
    table
}

fn programs(report: &Report) -> Table {
    let head = ["Load", "Program", "Runs per request", "ns per run", "ns per request", "Skipped"];
    let mut table = Table::new(&head);
    for Cost { scenario, programs, .. } in report.costs.iter().filter(|cost| cost.tool == WHY502) {
        // What does not run once in a thousand requests is not part of the load.
        for program in programs.iter().filter(|program| program.runs_per_request >= 0.001) {
            table.row([
                (*scenario).to_owned(),
                program.name.clone(),
                format!("{:.3}", program.runs_per_request),
                format!("{:.0}", program.ns_per_run),
                format!("{:.1}", program.ns_per_request),
                program.skipped.to_string(),
            ]);
        }
    }
    table
}

fn storms(report: &Report) -> Table {
    let head = ["Asked /s", "Made /s", "Made", "Delivered", "Lost", "Exact", "why502 µs each", "p50 ms", "p99 ms"];
    let mut table = Table::new(&head);
    for storm in &report.storms {
        table.row([
            storm.asked.map_or_else(|| "as fast as it goes".into(), |rate| rate.to_string()),
            format!("{:.0}", storm.rate),
            storm.made.to_string(),
            storm.delivered.to_string(),
            storm.lost.to_string(),
            if storm.exact { "yes" } else { "**no**" }.into(),
            format!("{:.1}", storm.collector_us),
            format!("{:.1}", storm.latency_p50_ms),
            format!("{:.1}", storm.latency_p99_ms),
        ]);
    }
    table
}

fn footprint(report: &Report) -> Table {
    let mut table = Table::new(&["What", "Measured"]);
    let kib = |kib: u64| format!("{kib} KiB");
    let mut row = |what: &str, measured: String| table.row([what.to_owned(), measured]);
    if let Some(memory) = &report.memory {
        row("anonymous memory at the start", kib(memory.first.anonymous_kib));
        row("anonymous memory at the end", kib(memory.last.anonymous_kib));
        row("file-backed memory at the end (binary, ring)", kib(memory.last.file_kib));
        row("highest in all", kib(memory.highest_kib));
        let slope = memory.slope_kib_per_minute.map_or_else(|| "–".into(), |slope| format!("{slope:+.1} KiB a minute"));
        row("slope", slope);
    }
    if let Some(start_ms) = report.start_ms() {
        row("start to hooks attached", format!("{start_ms:.0} ms"));
    }
    row("size of the binary", kib(report.binary_bytes / 1024));
    table
}

fn verified(report: &Report) -> Table {
    let mut table = Table::new(&["Program", "Instructions"]);
    let mut programs: Vec<_> = report.verified_instructions.iter().collect();
    programs.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    for (name, count) in programs {
        table.row([name.clone(), count.to_string()]);
    }
    table
}

/// Sentences from the figures.
fn meaning(report: &Report) -> String {
    let mut lines = Vec::new();
    let new =
        |tool: &str| report.pairs_of(tool).find(|pairs| pairs.scenario == NEW.name).and_then(|pairs| pairs.throughput);
    if let Some(own) = new(WHY502) {
        lines.push(format!(
            "With a new upstream connection for each request, nginx keeps {} of its throughput under why502.",
            percent(own)
        ));
        let others = report.pairs.iter().filter(|pairs| pairs.scenario == NEW.name && !pairs.tool.starts_with(WHY502));
        for pairs in others {
            if let Some(ratio) = pairs.throughput {
                lines.push(format!("Under `{}`, which explains no 502, it keeps {}.", pairs.tool, percent(ratio)));
            }
        }
    }
    for pairs in report.pairs_of(KERNEL_ONLY) {
        let full =
            report.pairs_of(WHY502).find(|full| full.scenario == pairs.scenario).and_then(|full| full.throughput);
        if let Some((without, with)) = pairs.throughput.zip(full) {
            lines.push(format!(
                "{}: without nginx's own word (`--no-nginx`) nginx keeps {}, with it {}.",
                capitalised(pairs.scenario),
                percent(without),
                percent(with)
            ));
        }
    }
    lines.push(match report.sustained() {
        Some(storm) => format!("The fastest storm delivered whole was {:.0} failures a second.", storm.rate),
        None => "No storm was delivered whole.".into(),
    });
    for own in report.costs.iter().filter(|cost| cost.tool == WHY502) {
        let Some(dearest) = own.programs.first().filter(|_| own.ns_per_request >= 100.0) else { continue };
        lines.push(format!(
            "{}: {:.0} ns in the kernel per request, most of it in `{}` ({:.0} ns).",
            capitalised(own.scenario),
            own.ns_per_request,
            dearest.name,
            dearest.ns_per_request
        ));
    }
    let missed = report.budgets().iter().filter(|budget| budget.met == super::report::Met::No).count();
    lines.push(if missed == 0 {
        "No budget is missed.".into()
    } else {
        format!("{missed} of the budgets are missed.")
    });
    lines.iter().fold(String::new(), |text, line| text + "- " + line + "\n")
}

/// With its interval, where there is one.
fn percent(ratio: Summary) -> String {
    let [median, low, high] = [ratio.median, ratio.low, ratio.high].map(|value| value * 100.0);
    match ratio.count {
        1 => format!("{median:.1} % (one pair)"),
        _ => format!("{median:.1} % ({low:.1} … {high:.1})"),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
