//! Unit tests of everything that is not eBPF.

use std::time::Duration;

use anyhow::Result;

use super::{Count, Failures, Outcome};
use crate::paths::Repository;
use crate::process::{Event, Limits};
use crate::toolchain::host_cargo;

/// Compiling included.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

pub(super) fn run(repository: &Repository) -> Result<Outcome> {
    let cargo = host_cargo().current_dir(&repository.root);
    let mut count = Count::default();
    let mut failures = Failures::default();
    let status = cargo.args(["test", "--workspace", "--exclude", "tracer-ebpf", "--no-fail-fast"]).stream(
        Limits::of(DEADLINE),
        |event| {
            let Event::Line(line) = event else { return };
            failures.read(line);
            if let Some(more) = Count::from_cargo(line) {
                count += more;
            }
        },
    )?;
    let outcome = Outcome::of(count).because(failures.into_lines());
    if !status.success() && count.failed == 0 {
        // A crate did not compile, or a test binary died before it could count.
        return Ok(outcome.and_failed(format!("cargo test: {status}")));
    }
    Ok(outcome)
}
