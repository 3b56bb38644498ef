//! nginx and the programs around it, for the demo and the integration tests.

use std::fs;

use anyhow::Result;

use super::{Setup, apt};
use crate::process::Invocation;

const PACKAGES: [&str; 4] = ["nginx", "libnginx-mod-stream", "iproute2", "nftables"];

/// Where Debian's service keeps the pid of its master.
const PID_FILE: &str = "/run/nginx.pid";

pub(super) fn ensure(setup: &Setup<'_>) -> Result<()> {
    let before = service_pid();
    let installed = apt::install(setup, "a real nginx for the demo and the tests", &PACKAGES)?;
    // Debian starts a freshly installed nginx on port 80. Nobody asked for that; one that ran before is not ours to stop.
    if installed.contains(&"nginx") && before.is_none() && service_pid().is_some() {
        eprintln!(
            "setup: Debian's package has just started an nginx on port 80; only its program is needed: stopping it"
        );
        apt::stop("nginx", &Invocation::new("/usr/sbin/nginx").args(["-s", "quit"]))?;
    }
    Ok(())
}

/// The service's master, if it runs; other nginxes of this host are nobody's business here.
fn service_pid() -> Option<u32> {
    let pid = fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()?;
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (comm.trim_end() == "nginx").then_some(pid)
}
