//! `bench`: set up, build, measure hook modes in machines, and hand over to the lab as root, which measures the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::build::build;
use crate::cli::BenchOptions;
use crate::paths::Repository;
use crate::process::{Invocation, Limits, which};
use crate::run::{build_lab, release};
use crate::setup::{Need, Setup};
use crate::vm::{Task, ready};

/// Becomes `lab bench`; returns only if that fails.
pub(crate) fn bench(repository: &Repository, setup: &Setup<'_>, options: &BenchOptions) -> Result<u8> {
    setup.ensure(&[Need::Ebpf, Need::Lab, Need::Bench])?;
    if !options.no_peers {
        setup.peers();
    }
    let why502 = build(repository, setup, &release())?;
    let lab = build_lab(repository, setup, None)?;
    let mut command = Invocation::new(&lab).current_dir(&repository.root);
    command = command.args(["bench", "--why502"]).arg(&why502).arg("--json").arg(repository.bench_figures());
    if options.quick {
        command = command.arg("--quick");
    } else if options.arguments.is_empty() {
        for kernel in KERNELS {
            command = command.arg("--modes").arg(modes(repository, setup, kernel, &lab, &why502)?);
        }
    }
    if options.no_peers {
        command = command.arg("--no-peers");
    }
    if options.write_docs {
        command = command.arg("--write-docs").arg(repository.root.join("docs/performance.md"));
    }
    Err(command.args(&options.arguments).for_root().exec())
}

/// An old kernel and a newer one, with fentry and kprobes both.
const KERNELS: [&str; 2] = ["5.10", "6.12"];
/// How a line of the lab begins that carries a figure.
const MARK: &str = "MODE ";
const DEADLINE: Duration = Duration::from_secs(300);

/// Kernel time in each hook mode of an emulated machine, as a file of lines.
fn modes(repository: &Repository, setup: &Setup<'_>, kernel: &str, lab: &Path, why502: &Path) -> Result<PathBuf> {
    let program = |name| which(name).with_context(|| format!("{name} was there a moment ago"));
    let include = [program("wrk")?, program("openssl")?, PathBuf::from("/usr/lib/ssl/openssl.cnf")];
    let words = [lab.as_os_str(), "modes".as_ref(), "--why502".as_ref(), why502.as_os_str()];
    let command: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let task = Task {
        kernel,
        command: &command,
        directory: &repository.root,
        include: &include,
        modules: &[],
        memory_mib: 2048,
    };
    let mut lines = String::new();
    let code = ready(repository, setup, &task)?.run(repository, None, Limits::of(DEADLINE), |line| {
        if line.starts_with(MARK) {
            lines.push_str(line);
            lines.push('\n');
        }
    })?;
    ensure!(code == 0, "`lab modes` ended with {code} on kernel {kernel}");
    let directory = repository.results();
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let path = directory.join(format!("modes-{kernel}.txt"));
    fs::write(&path, lines).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
