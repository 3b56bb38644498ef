//! The options of `cargo xtask` as typed; judges nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::setup::Policy;

/// Sets up, builds, runs and tests why502.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,

    /// Install nothing: print the commands that would, and exit with 2 if anything is missing
    #[arg(long, visible_alias = "no-setup", global = true)]
    offline: bool,
}

impl Cli {
    pub(crate) fn policy(&self) -> Policy {
        if self.offline { Policy::Forbid } else { Policy::Install }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Install what is missing: nightly Rust with rust-src, bpf-linker, nginx, wrk, qemu
    Setup,
    /// Build the eBPF object and the `why502` binary around it
    Build(BuildOptions),
    /// Build, then run `why502` as root on this host's nginx
    Run(Passed),
    /// Build, then watch a private nginx whose upstreams fail in turn
    Demo(Passed),
    /// Every test this machine can run; the last line is `N passed, N failed, N skipped`
    Test(TestOptions),
    /// Measure what why502 costs, against budgets and other tools: tables, and JSON in target/bench.json
    Bench(BenchOptions),
    /// Run a command on another kernel, in a virtual machine; its exit code is the command's
    Vm(VmOptions),
}

#[derive(Debug, Default, Args)]
pub(crate) struct BuildOptions {
    /// Build user space with optimisations (the eBPF object always is)
    #[arg(long)]
    pub(crate) release: bool,

    /// Build for another target, e.g. aarch64-unknown-linux-musl (static)
    #[arg(long, value_name = "TRIPLE")]
    pub(crate) target: Option<String>,

    /// Only the eBPF object, not the binary
    #[arg(long)]
    pub(crate) ebpf_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Passed {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VmOptions {
    /// 5.10, 6.1, 6.12, 7.2, 6.12-arm64 (fetched from Debian) or the path of a kernel image
    #[arg(long)]
    pub(crate) kernel: String,

    /// Take a file, a program or a directory along (repeatable); words of the command that are files always are
    #[arg(long, value_name = "PATH")]
    pub(crate) include: Vec<PathBuf>,

    /// Load a kernel module besides the usual ones (repeatable)
    #[arg(long, value_name = "NAME")]
    pub(crate) module: Vec<String>,

    /// Memory of the machine in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    pub(crate) memory: u32,

    /// End the machine after so many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub(crate) deadline: u64,

    /// The command and its words
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Format, lints and unit tests
    #[arg(long)]
    pub(crate) unit: bool,

    /// The installed nginx on this host's kernel (needs root)
    #[arg(long)]
    pub(crate) host: bool,

    /// Other versions of nginx on this host's kernel: 1.18, 1.22, 1.26, 1.30 (fetched from Debian), without a version all
    /// that are not installed (repeatable)
    #[arg(long, value_name = "VERSION", num_args = 0..=1, default_missing_value = crate::test::EVERY)]
    pub(crate) nginx: Vec<String>,

    /// Real nginx in virtual machines, one per kernel
    #[arg(long)]
    pub(crate) vm: bool,

    /// Only this kernel (repeatable; implies --vm): 5.10, 6.1, 6.12, 7.2, 6.12-arm64 or the path of a kernel image
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Vec<String>,

    /// The full cross product of scenarios and hook modes instead of the usual selection
    #[arg(long)]
    pub(crate) all: bool,

    /// What has not begun after so many minutes is skipped, and counted so
    #[arg(long, value_name = "MINUTES")]
    pub(crate) within: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Two minutes instead of fifteen, with less certain figures
    #[arg(long)]
    pub(crate) quick: bool,

    /// Measure no other tools, and install none
    #[arg(long)]
    pub(crate) no_peers: bool,

    /// Write docs/performance.md too
    #[arg(long)]
    pub(crate) write_docs: bool,

    /// Passed on to `lab bench` as they are
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) arguments: Vec<String>,
}
