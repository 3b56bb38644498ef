//! What hooks at system calls cost those who have nothing to do with nginx.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::Program;
use super::scene::Scene;
use crate::scenario::{BASE, Scenario};
use crate::script::HEALTHY;
use crate::stage::{Options, Stage};
use crate::upstream::{Listen, Place};

pub(super) const PROGRAMS: &[Program] = &[Program { name: "hooks/cost_to_others", needs: &[], run: cost_to_others }];

const IDLE: Scenario = Scenario {
    name: "hooks/nginx",
    workers: Some(1),
    upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY))],
    server: "location / { proxy_pass http://<a>; }",
    ..BASE
};

const PAIRS: usize = 3;
/// Calls between two looks at the clock; the least of a series has met the least of what else goes on.
const CALLS: u32 = 200;
const SERIES: usize = 15;
/// A hook whose cost is many times that of the call would be a fault.
const WORST: f64 = 3.0;

/// connect(2) to a path that is not there, by a process that is not traced: it passes the hook and fails at once.
fn cost_to_others(why502: &Path, options: &Options) -> Result<String> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let stage = Stage::set(&IDLE, options)?;
        let missing = stage.directory.path().join("nowhere.sock");
        without.push(least_ns(&missing));
        let scene = Scene::watch(stage, why502)?;
        with.push(least_ns(&missing));
        scene.records()?;
    }
    let least = |of: &[f64]| of.iter().copied().fold(f64::INFINITY, f64::min);
    let (without, with) = (least(&without), least(&with));
    ensure!(with < without * WORST, "connect(2) of others takes {with:.0} ns instead of {without:.0}");
    Ok(format!("connect(2) of others: {with:.0} ns with, {without:.0} without, {:.2} of it", with / without))
}

fn least_ns(path: &Path) -> f64 {
    let series = || {
        let started = Instant::now();
        for _ in 0..CALLS {
            // It is not there: that is the point.
            let _ = UnixStream::connect(path);
        }
        started.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    (0..SERIES).map(|_| series()).fold(f64::INFINITY, f64::min)
}
