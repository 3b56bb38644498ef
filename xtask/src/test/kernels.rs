//! What `why502 doctor` said on each kernel as a document: `target/lab/kernels.md`, and with `WHY502_UPDATE_DOCS` set
//! docs/kernels.md, too.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Outcome, Report, accuracy};
use crate::paths::{Profile, Repository};
use crate::process::Invocation;

/// How a line of the lab begins that carries a report of doctor.
const MARK: &str = "DOCTOR ";

/// Gathers the reports of one step.
#[derive(Debug, Default)]
pub(super) struct Reports {
    lines: Vec<String>,
}

impl Reports {
    pub(super) fn read(&mut self, line: &str) {
        if line.starts_with(MARK) {
            self.lines.push(line.to_owned());
        }
    }

    /// Leaves them for the document.
    pub(super) fn write(&self, repository: &Repository, kernel: &str) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let directory = repository.results();
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let path = directory.join(format!("{PREFIX}{}.txt", kernel.replace('/', "-")));
        fs::write(&path, self.lines.join("\n") + "\n").with_context(|| format!("writing {}", path.display()))
    }
}

const PREFIX: &str = "doctor-";

pub(super) fn step(report: &mut Report, repository: &Repository) {
    let reports = reports(repository);
    if !reports.is_empty() {
        report.step("kernels", || write(repository, &reports));
    }
}

/// Those of each kernel, also of one that an earlier `test` ran on and this one was not asked for; in the order of versions.
fn reports(repository: &Repository) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository.results()).into_iter().flatten().flatten().map(|entry| entry.path());
    let name = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    let mut reports: Vec<PathBuf> = entries.filter(name).collect();
    reports.sort_by_key(|path| version(&path.to_string_lossy()));
    reports
}

/// The numbers in it, for sorting; what has none comes last.
fn version(name: &str) -> Vec<u32> {
    let name = name.rsplit_once(PREFIX).map_or(name, |(_, kernel)| kernel);
    let numbers: Vec<u32> =
        name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
    if numbers.is_empty() { vec![u32::MAX] } else { numbers }
}

fn write(repository: &Repository, reports: &[PathBuf]) -> Result<Outcome> {
    let lab = Invocation::new(repository.binary("lab", Profile::Release, None)).current_dir(&repository.root);
    let page = lab.arg("kernels").args(reports).output()?;
    accuracy::publish(repository, "kernels.md", &page)?;
    Ok(Outcome::passed())
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernels_in_the_order_of_their_versions() {
        let mut names =
            ["doctor-host.txt", "doctor-6.12-arm64.txt", "doctor-6.12.txt", "doctor-5.10.txt", "doctor-6.1.txt"];
        names.sort_by_key(|name| version(name));
        assert_eq!(
            names,
            ["doctor-5.10.txt", "doctor-6.1.txt", "doctor-6.12.txt", "doctor-6.12-arm64.txt", "doctor-host.txt"]
        );
    }
}
