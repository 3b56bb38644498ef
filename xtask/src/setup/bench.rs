//! The load generator of the benchmark, and the tools that it compares with.

use anyhow::Result;

use super::{Setup, apt};

const PACKAGES: [&str; 2] = ["wrk", "openssl"];
const PEERS: [&str; 2] = ["libbpf-tools", "bpftrace"];

pub(super) fn ensure(setup: &Setup<'_>) -> Result<()> {
    apt::ensure(setup, "the load of the benchmark", &PACKAGES)
}

pub(super) fn ensure_peers(setup: &Setup<'_>) -> Result<()> {
    apt::ensure(setup, "what people use today, to be measured beside why502", &PEERS)
}
