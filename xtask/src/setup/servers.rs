//! Application servers that people run, for the scenarios about their processes, and nginx with scripts. Without one its
//! scenarios are skipped.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;

use super::{Setup, apt};
use crate::process::Invocation;

const SERVERS: [&str; 5] = ["gunicorn", "python3-setproctitle", "uwsgi-core", "uwsgi-plugin-python3", "php-fpm"];
/// By itself: it wants another Lua than some programs have, and is not installed where one of those would have to go.
const SCRIPTS: [&str; 1] = ["libnginx-mod-http-lua"];

/// Where php-fpm's services, one per version, keep the pids of their masters.
const PID_FILES: &str = "/run/php";

pub(super) fn ensure(setup: &Setup<'_>) -> Result<()> {
    let scripts = apt::install(setup, "nginx's Lua, for scenarios with scripts", &SCRIPTS);
    let before = services();
    let installed = apt::install(setup, "servers whose processes the tests end and stop", &SERVERS)?;
    if installed.contains(&"php-fpm") {
        // As with nginx: only the program is needed, and a service that ran before is not ours to stop.
        services().difference(&before).try_for_each(|service| stop(service))?;
    }
    scripts.map(drop)
}

fn stop(service: &str) -> Result<()> {
    eprintln!("setup: Debian's package has just started {service}; only its program is needed: stopping it");
    apt::stop(service, &Invocation::new(format!("/etc/init.d/{service}")).arg("stop"))
}

/// Those that run, as `php8.2-fpm`.
fn services() -> BTreeSet<String> {
    let files = fs::read_dir(PID_FILES).into_iter().flatten().flatten();
    let running = files.filter_map(|file| {
        let pid: u32 = fs::read_to_string(file.path()).ok()?.trim().parse().ok()?;
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = file.file_name().to_str()?.strip_suffix(".pid")?.to_owned();
        comm.starts_with("php-fpm").then_some(name)
    });
    running.collect()
}
