//! `bench`: set up, build, and hand over to the lab as root, which measures.

use anyhow::Result;

use crate::build::build;
use crate::cli::BenchOptions;
use crate::paths::Repository;
use crate::process::Invocation;
use crate::run::{build_lab, release};
use crate::setup::{Need, Setup};

/// Becomes `lab bench`; returns only if that fails.
pub(crate) fn bench(repository: &Repository, setup: &Setup<'_>, options: &BenchOptions) -> Result<u8> {
    setup.ensure(&[Need::Ebpf, Need::Lab, Need::Bench])?;
    if !options.no_peers {
        setup.peers();
    }
    let why502 = build(repository, setup, &release())?;
    let lab = Invocation::new(build_lab(repository, setup, None)?).current_dir(&repository.root);
    let mut lab = lab.args(["bench", "--why502"]).arg(why502).arg("--json").arg(repository.bench_figures());
    if options.quick {
        lab = lab.arg("--quick");
    }
    if options.no_peers {
        lab = lab.arg("--no-peers");
    }
    if options.write_docs {
        lab = lab.arg("--write-docs").arg(repository.root.join("docs/performance.md"));
    }
    Err(lab.args(&options.arguments).for_root().exec())
}
