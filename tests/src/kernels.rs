//! docs/kernels.md: which hook serves which observation on which kernel, made of what `why502 doctor` said there. Pure, but
//! for reading those reports. No figure in it is written by hand.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const INTRODUCTION: &str = "\
# Kernels

What `why502` observes on which kernel, and by which hook. This page is written by the test run (`WHY502_UPDATE_DOCS=1 cargo
xtask test`), from what `why502 doctor` says in the machines that the lab runs in; no line is typed. `why502 doctor` says the same
of your kernel.

For each observation the program has a list of hooks, best first; it takes the first whose place and arguments the kernel's
BTF shows and that can be attached. Nothing is decided by version. `full`, `partial` and `none` are followed by a number: the
hooks and what they hide are listed below under it.
";

/// How a line of a run begins that carries a report.
pub const MARK: &str = "DOCTOR ";

/// What `why502 doctor` says on one kernel in one hook mode.
#[derive(Debug)]
struct Report {
    kernel: String,
    mode: String,
    said: Value,
}

/// Hooks, and what they hide: numbered as they come.
#[derive(Debug, Default)]
struct Notes {
    known: Vec<String>,
}

impl Notes {
    fn number(&mut self, note: String) -> usize {
        let index = self.known.iter().position(|known| *known == note).unwrap_or_else(|| {
            self.known.push(note);
            self.known.len() - 1
        });
        index + 1
    }
}

/// The page, from files of lines as `run --doctor` prints them.
pub fn document(files: &[PathBuf]) -> Result<String> {
    let mut reports = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        for line in text.lines().filter_map(|line| line.strip_prefix(MARK)) {
            reports.push(report(line).with_context(|| format!("in {}", file.display()))?);
        }
    }
    if reports.is_empty() {
        bail!("no line of these files is a report");
    }
    page(&reports)
}

fn report(line: &str) -> Result<Report> {
    let (mode, said) = line.split_once(' ').context("a report without a mode")?;
    let said: Value = serde_json::from_str(said).context("a report that is not JSON")?;
    let kernel = said["kernel"].as_str().context("a report without a kernel")?.to_owned();
    Ok(Report { kernel, mode: mode.to_owned(), said })
}

fn page(reports: &[Report]) -> Result<String> {
    let mut notes = Notes::default();
    let mut page = INTRODUCTION.to_owned();
    let mut modes: Vec<&str> = Vec::new();
    for report in reports {
        if !modes.contains(&report.mode.as_str()) {
            modes.push(&report.mode);
        }
    }
    for mode in modes {
        let of_mode: Vec<&Report> = reports.iter().filter(|report| report.mode == mode).collect();
        let title = match mode {
            "best" => "The best hooks that there are".to_owned(),
            other => format!("With `--hooks {other}`"),
        };
        writeln!(page, "\n## {title}\n")?;
        observations(&mut page, &of_mode, &mut notes)?;
    }
    writeln!(page, "\n## Hooks, and what is hidden\n")?;
    for (index, note) in notes.known.iter().enumerate() {
        writeln!(page, "{}. {note}", index + 1)?;
    }
    verified(&mut page, reports)?;
    Ok(page)
}

fn observations(page: &mut String, reports: &[&Report], notes: &mut Notes) -> Result<()> {
    header(page, "observation", reports)?;
    let first = reports.first().context("no report")?;
    let names = first.said["observations"].as_array().context("a report without observations")?;
    for name in names.iter().filter_map(|observation| observation["name"].as_str()) {
        // Of nginx, of which none was running.
        if name.starts_with("nginx_") || name == "configuration" {
            continue;
        }
        write!(page, "| `{name}` |")?;
        for report in reports {
            let found = report.said["observations"].as_array().into_iter().flatten();
            let found = found.into_iter().find(|observation| observation["name"] == name);
            let cell = found.map_or_else(|| "-".to_owned(), |observation| cell(observation, notes));
            write!(page, " {cell} |")?;
        }
        writeln!(page)?;
    }
    Ok(())
}

fn cell(observation: &Value, notes: &mut Notes) -> String {
    let hooks = observation["hook"].as_str().map_or_else(|| "nothing".to_owned(), |hook| format!("`{hook}`"));
    let note = match observation["missing"].as_str() {
        Some(missing) => format!("{hooks}: {missing}"),
        None => hooks,
    };
    format!("{} ({})", observation["state"].as_str().unwrap_or("?"), notes.number(note))
}

fn header(page: &mut String, first: &str, reports: &[&Report]) -> Result<()> {
    let kernels: Vec<&str> = reports.iter().map(|report| report.kernel.as_str()).collect();
    writeln!(page, "| {first} | {} |", kernels.join(" | "))?;
    writeln!(page, "|---|{}", "---|".repeat(kernels.len()))?;
    Ok(())
}

/// Every program that is at work in any mode.
fn verified(page: &mut String, reports: &[Report]) -> Result<()> {
    let mut kernels: Vec<&Report> = Vec::new();
    for report in reports {
        if kernels.iter().all(|known| known.kernel != report.kernel) {
            kernels.push(report);
        }
    }
    let mut counts: BTreeMap<(&str, &str), Option<u64>> = BTreeMap::new();
    let mut hooks: Vec<&str> = Vec::new();
    for report in reports {
        for program in report.said["programs"].as_array().into_iter().flatten() {
            let hook = program["hook"].as_str().context("a program without a hook")?;
            if !hooks.contains(&hook) {
                hooks.push(hook);
            }
            counts.insert((hook, &report.kernel), program["verified_instructions"].as_u64());
        }
    }
    hooks.sort_unstable();
    writeln!(page, "\n## Instructions that the verifier looked at\n")?;
    writeln!(
        page,
        "Of a million that it would look at. `-`: not in use there; `?`: the kernel does not say (before 5.16).\n"
    )?;
    header(page, "program at", &kernels)?;
    for hook in hooks {
        write!(page, "| `{hook}` |")?;
        for kernel in &kernels {
            let cell = match counts.get(&(hook, kernel.kernel.as_str())) {
                None => "-".to_owned(),
                Some(None) => "?".to_owned(),
                Some(Some(count)) => count.to_string(),
            };
            write!(page, " {cell} |")?;
        }
        writeln!(page)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{page, report};

    #[test]
    fn a_page_of_two_kernels() {
        let said = |kernel: &str, state: &str, hook: &str| {
            format!(
                r#"best {{"kernel":"{kernel}","observations":[{{"name":"icmp","state":"{state}","hook":"{hook}","missing":null}}],
                "programs":[{{"hook":"{hook}","verified_instructions":7}}]}}"#
            )
        };
        let lines = [said("5.10", "full", "fentry/tcp_v4_err"), said("6.1", "partial", "sk_err")];
        let reports: Vec<_> = lines.iter().map(|line| report(line).expect("a report")).collect();
        let page = page(&reports).expect("a page");
        assert!(page.contains("| observation | 5.10 | 6.1 |"), "{page}");
        assert!(page.contains("| `icmp` | full (1) | partial (2) |"), "{page}");
        assert!(page.contains("2. `sk_err`"), "{page}");
        assert!(page.contains("| `fentry/tcp_v4_err` | 7 | - |"), "{page}");
    }

    #[test]
    fn a_line_that_is_no_report_is_refused() {
        assert!(report("best").is_err() && report("best {").is_err() && report("best {}").is_err());
    }
}
