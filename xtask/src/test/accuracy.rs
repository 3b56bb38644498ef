//! What the runs of the lab came to as a document: `target/lab/accuracy.md`, and with `WHY502_UPDATE_DOCS` set
//! docs/accuracy.md, too.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Outcome, Report, Step};
use crate::paths::{Profile, Repository};
use crate::process::Invocation;

pub(super) fn step(report: &mut Report, repository: &Repository) {
    let results = results(repository);
    if results.is_empty() {
        return;
    }
    let also = others(report, &results);
    report.step("accuracy", || write(repository, &results, also));
}

/// The results of each run, also of those that an earlier `test` made and this one was not asked for.
fn results(repository: &Repository) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository.results()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut results: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|ext| ext == "json")).collect();
    results.sort();
    results
}

/// A line for every step of the lab that left no results of its own.
fn others(report: &Report, results: &[PathBuf]) -> Vec<OsString> {
    let has_results = |name: &str| results.iter().any(|path| path.ends_with(file_name(name)));
    let of_the_lab = |name: &str| name == super::HOST || name.starts_with("nginx ") || name.starts_with("vm ");
    let steps = report.steps.iter().filter(|Step { name, .. }| of_the_lab(name) && !has_results(name));
    steps
        .flat_map(|Step { name, outcome: Outcome { count, note, .. }, .. }| {
            let note = note.as_ref().map_or(String::new(), |note| format!(": {note}"));
            ["--also".into(), format!("{name}: {count}{note}").into()]
        })
        .collect()
}

/// The file in [`Repository::results`] that a step leaves.
pub(super) fn file_name(step: &str) -> String {
    format!("{}.json", step.replace(' ', "-"))
}

fn write(repository: &Repository, results: &[PathBuf], also: Vec<OsString>) -> Result<Outcome> {
    let lab = Invocation::new(repository.binary("lab", Profile::Release, None)).current_dir(&repository.root);
    let page = lab.arg("accuracy").args(also).args(results).output()?;
    publish(repository, "accuracy.md", &page)?;
    Ok(Outcome::passed())
}

/// Writes a page beside the results, and into docs/ if that is wanted.
pub(super) fn publish(repository: &Repository, name: &str, page: &str) -> Result<()> {
    save(&repository.results().join(name), page)?;
    if env::var_os("WHY502_UPDATE_DOCS").is_some() {
        save(&repository.root.join("docs").join(name), page)?;
    }
    Ok(())
}

fn save(path: &Path, page: &str) -> Result<()> {
    eprintln!("writing {}", path.display());
    fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}
