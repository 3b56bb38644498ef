//! docs/accuracy.md: situations against versions of nginx, made of the results of runs (`--json`). Pure, but for reading
//! those files. No figure in it is written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const INTRODUCTION: &str = "\
# Accuracy

The lab starts a real nginx, gives it upstreams that fail on purpose, and holds what `why502` says against nginx's own
access and error logs. This page is what such a run came to. It is written by the run (`WHY502_UPDATE_DOCS=1 cargo xtask
test`); no figure is typed.

**How to read it.** A row is a situation, a column a version of nginx. `20/20` means: of 20 requests that something had to
be said about, 20 were explained. A request counts as explained only if each of its failed attempts was reported once, with
the cause that was injected, nginx's message, the upstream's address and the right outcome; if its 502 or 504 has exactly
one response that names those attempts; and if nothing else was said about it. *0 of 300 false* means: of 300 requests that
nothing may be said about, nothing was said. A situation **fails** if one request of it is not explained, or if anything
else about it is not as it should be (a loss, a record that breaks the schema, an exit code). With the kernel as the only
witness (*kernel only*) no request has a name: there `20/20` counts attempts by their cause.

All of it is loopback or a private network on one machine: it says whether the verdicts are true, not how many there are of
each in anybody's production.
";

/// Reads results and makes the document of them. `also` are lines about other steps of the same run.
pub fn document(results: &[PathBuf], also: &[String]) -> Result<String> {
    let mut runs = Vec::new();
    for path in results {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        runs.push(serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?);
    }
    if runs.is_empty() {
        bail!("no results to make a document of");
    }
    Ok(markdown(runs, also))
}

fn markdown(mut runs: Vec<Value>, also: &[String]) -> String {
    runs.sort_by_key(|run| numbers(text(&run["nginx"])));
    let mut page = INTRODUCTION.to_owned();
    circumstances(&mut page, &runs);
    situations(&mut page, &runs);
    testimony(&mut page, &runs);
    remarks(&mut page, &runs, also);
    page
}

/// `1.30.6` as numbers, to sort by.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn scenarios(run: &Value) -> impl Iterator<Item = &Value> {
    run["scenarios"].as_array().into_iter().flatten()
}

/// The sum of a number over the scenarios of a run; `path` as in RFC 6901.
fn sum(run: &Value, path: &str) -> u64 {
    scenarios(run).filter_map(|scenario| scenario.pointer(path)?.as_u64()).sum()
}

fn row<C: AsRef<str>>(page: &mut String, cells: impl IntoIterator<Item = C>) {
    page.push('|');
    for cell in cells {
        let _ = write!(page, " {} |", cell.as_ref().replace('|', "\\|"));
    }
    page.push('\n');
}

fn header(page: &mut String, first: &[&str], runs: &[Value]) {
    let names: Vec<String> = runs.iter().map(|run| format!("nginx {}", text(&run["nginx"]))).collect();
    row(page, first.iter().copied().chain(names.iter().map(String::as_str)));
    row(page, first.iter().map(|_| "---").chain(names.iter().map(|_| "---:")));
}

fn circumstances(page: &mut String, runs: &[Value]) {
    page.push_str("\n## The runs\n\n");
    header(page, &[""], runs);
    let mut line = |name: &str, cell: &dyn Fn(&Value) -> String| {
        row(page, [name.to_owned()].into_iter().chain(runs.iter().map(cell)));
    };
    line("date", &|run| text(&run["date"]).replace('T', " ").replace('Z', " UTC"));
    line("kernel", &|run| text(&run["kernel"]).into());
    line("why502", &|run| text(&run["why502"]).trim_start_matches("why502 ").into());
    line("nginx runs", &|run| if run["own_root"] == true { "in a root of its own" } else { "as installed" }.into());
    line("requests per case", &|run| count(&run["requests_per_case"]).to_string());
    line("scenarios passed", &|run| count(&run["passed"]).to_string());
    line("scenarios failed", &|run| flagged(count(&run["failed"])));
    line("scenarios skipped", &|run| count(&run["skipped"]).to_string());
    line("502 and 504 in nginx's access logs, rightly told", &|run| {
        format!("{}/{}", sum(run, "/tally/errors_right"), sum(run, "/tally/errors"))
    });
    line("requests explained (also those saved or cut short)", &|run| {
        format!("{}/{}", sum(run, "/tally/right"), sum(run, "/tally/due"))
    });
    line("… said wrongly", &|run| flagged(sum(run, "/tally/wrong")));
    line("… said too little", &|run| flagged(sum(run, "/tally/missing")));
    line("… said too much", &|run| flagged(sum(run, "/tally/extra")));
    line("requests to be silent about", &|run| sum(run, "/tally/quiet").to_string());
    line("false reports", &|run| flagged(sum(run, "/tally/spurious")));
}

/// Stands out where it is not 0.
fn flagged(number: u64) -> String {
    if number == 0 { "0".into() } else { format!("**{number}**") }
}

fn situations(page: &mut String, runs: &[Value]) {
    let mut subjects: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for scenario in runs.iter().flat_map(scenarios) {
        let name = text(&scenario["name"]);
        subjects.entry(name.split('/').next().unwrap_or(name)).or_default().insert(name);
    }
    page.push_str("\n## Situations\n");
    for (subject, names) in subjects {
        let _ = write!(page, "\n### {}\n\n", subject.replace('_', " "));
        header(page, &["situation", "what must be said"], runs);
        for name in names {
            let found: Vec<Option<&Value>> =
                runs.iter().map(|run| scenarios(run).find(|scenario| scenario["name"] == name)).collect();
            let meant = found.iter().flatten().next().map_or_else(String::new, |scenario| meant(scenario));
            let title = name.split_once('/').map_or(name, |(_, rest)| rest).replace('_', " ");
            row(
                page,
                [title, meant].into_iter().chain(found.into_iter().map(|scenario| scenario.map_or("–".into(), cell))),
            );
        }
    }
}

/// The causes that a scenario provokes.
fn meant(scenario: &Value) -> String {
    let cases = || scenario["cases"].as_array().into_iter().flatten();
    let attempts = cases().flat_map(|case| case["cause"].as_array().into_iter().flatten());
    let of_attempts = attempts.map(|any| {
        let any = any.as_array().into_iter().flatten();
        any.map(|cause| format!("`{}`", text(cause))).collect::<Vec<_>>().join(" or ")
    });
    let of_responses = cases().filter_map(|case| Some(format!("`{}`", case["response"].as_str()?)));
    let mut causes: Vec<String> = Vec::new();
    for cause in of_attempts.chain(of_responses) {
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    match (causes.is_empty(), scenario["cases"].is_array()) {
        (false, _) => causes.join(", "),
        (true, true) => "nothing".into(),
        (true, false) => String::new(),
    }
}

fn cell(scenario: &Value) -> String {
    let tally = &scenario["tally"];
    let mut parts = Vec::new();
    let due = count(&tally["due"]);
    let right = count(&tally["right"]);
    if due > 0 {
        parts.push(format!("{right}/{due}"));
        for (name, word) in [("wrong", "wrong"), ("missing", "missing"), ("extra", "too much")] {
            match count(&tally[name]) {
                0 => {}
                some => parts.push(format!("{some} {word}")),
            }
        }
    }
    let spurious = count(&tally["spurious"]);
    match count(&tally["quiet"]) {
        0 if spurious > 0 => parts.push(format!("{spurious} false")),
        0 => {}
        quiet => parts.push(format!("{spurious} of {quiet} false")),
    }
    match text(&scenario["verdict"]) {
        "skip" => "skipped".into(),
        "pass" if parts.is_empty() => "ok".into(),
        "pass" => parts.join(", "),
        _ if parts.is_empty() => "**failed**".into(),
        _ => format!("**failed** {}", parts.join(", ")),
    }
}

/// What the records said of attempts, beyond the cause.
fn testimony(page: &mut String, runs: &[Value]) {
    page.push_str("\n## Confidence and outcome of the reported attempts\n\n");
    header(page, &["", ""], runs);
    for (title, field) in [("confidence", "confidences"), ("outcome", "outcomes")] {
        let names: BTreeSet<&String> = runs
            .iter()
            .flat_map(scenarios)
            .filter_map(|scenario| scenario["tally"][field].as_object())
            .flat_map(|counts| counts.keys())
            .collect();
        for name in names {
            let cells = runs.iter().map(|run| sum(run, &format!("/tally/{field}/{name}")).to_string());
            row(page, [title.to_owned(), format!("`{name}`")].into_iter().chain(cells));
        }
    }
}

/// The differences shown of a scenario that failed.
const SHOWN: usize = 3;

fn remarks(page: &mut String, runs: &[Value], also: &[String]) {
    for (title, verdict, none) in [("Skipped", "skip", "Nothing."), ("Failed", "fail", "Nothing.")] {
        let _ = write!(page, "\n## {title}\n\n");
        let before = page.len();
        for run in runs {
            for scenario in scenarios(run).filter(|scenario| scenario["verdict"] == verdict) {
                let words: Vec<&str> = scenario["words"].as_array().into_iter().flatten().map(text).collect();
                let more = if words.len() > SHOWN { format!(" … ({} in all)", words.len()) } else { String::new() };
                let shown: Vec<&str> = words.into_iter().take(SHOWN).collect();
                let (nginx, name) = (text(&run["nginx"]), text(&scenario["name"]));
                let _ = writeln!(page, "- nginx {nginx}, {name}: {}{more}", plain(&shown.join("; ")));
            }
        }
        if page.len() == before {
            let _ = writeln!(page, "{none}");
        }
    }
    if !also.is_empty() {
        page.push_str("\n## Other steps of the same run\n\n");
        for line in also {
            let _ = writeln!(page, "- {}", plain(line));
        }
    }
}

/// One line without control characters and Markdown of its own, of bounded length.
fn plain(words: &str) -> String {
    let clean = words.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut shown = String::new();
    for letter in clean.take(400) {
        if "\\`*_<[]".contains(letter) {
            shown.push('\\');
        }
        shown.push(letter);
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{cell, markdown};

    fn run(nginx: &str, verdict: &str, tally: &Value) -> Value {
        json!({
            "date": "2026-01-02T03:04:05Z", "kernel": "6.1.0", "nginx": nginx, "own_root": true, "why502": "why502 0.1.0",
            "requests_per_case": 20, "passed": 1, "failed": 0, "skipped": 0,
            "scenarios": [{
                "name": "connect/refused_v6", "verdict": verdict, "words": ["why"], "requests": 20, "status_502": 20,
                "status_504": 0, "tally": tally,
                "cases": [{"path": "/a", "cause": [["connect_refused"]], "response": null}],
            }],
        })
    }

    fn tally(right: u64, missing: u64, quiet: u64) -> Value {
        json!({
            "due": right + missing, "right": right, "wrong": 0, "missing": missing, "extra": 0, "quiet": quiet,
            "spurious": 0, "outcomes": {"final": right}, "confidences": {"proven": right},
        })
    }

    #[test]
    fn versions_are_columns_in_their_order() {
        let runs = vec![run("1.30.6", "pass", &tally(20, 0, 0)), run("1.9.1", "fail", &tally(17, 3, 5))];
        let page = markdown(runs, &["vm 6.1: 9 passed".into()]);
        let line = "| refused v6 | `connect_refused` | **failed** 17/20, 3 missing, 0 of 5 false | 20/20 |";
        assert!(page.contains(line), "{page}");
        assert!(page.contains("| requests explained (also those saved or cut short) | 17/20 | 20/20 |"), "{page}");
        assert!(page.contains("- nginx 1.9.1, connect/refused_v6: why"), "{page}");
        assert!(page.contains("- vm 6.1: 9 passed"), "{page}");
    }

    #[test]
    fn what_did_not_run_shows_no_number() {
        assert_eq!(cell(&json!({"verdict": "skip", "words": ["no IPv6"]})), "skipped");
        assert_eq!(cell(&json!({"verdict": "fail", "words": ["no nginx"]})), "**failed**");
        assert_eq!(cell(&json!({"verdict": "pass"})), "ok");
        assert_eq!(cell(&json!({"verdict": "pass", "tally": tally(0, 0, 7)})), "0 of 7 false");
    }
}
