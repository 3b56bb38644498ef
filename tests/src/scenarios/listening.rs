//! Who listened, where that is not plain: several on one port, one that ceased to and lived on, a family of addresses only.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Program;
use super::roots::HOST;
use super::scene::{Scene, Server, because, end_of, failure};
use crate::scenario::{Need, Net, Scenario};
use crate::stage::Options;
use crate::wait;

pub(super) const PROGRAMS: &[Program] =
    &[Program { name: "roots/who_listened", needs: &[Need::Python], run: who_listened }];

/// Ports of its own.
const ALONE: Scenario = Scenario { name: "roots/nginx-listening", net: Net::Private(&[]), ..HOST };
const SHARED: u16 = 4000;
const CEASES: u16 = 4100;
const SIX: u16 = 4200;
const LEAVES: u16 = 4300;
const HALF: u16 = 4400;

/// So long after it ceased to listen, an end has nothing to do with that.
const LATER: Duration = Duration::from_millis(1500);

fn who_listened(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&ALONE, why502, options)?;
    let listens = |kind: &str, port: u16| {
        Server::script(&scene.stage, "listener", include_str!("listener.py"), &[kind, &port.to_string()])
    };
    let refused = |port: u16| {
        let uri = format!("/p{port}/refused/");
        scene.answers(&uri, 502)?;
        anyhow::Ok(uri)
    };
    let null = ("", Value::Null);

    // Of two that share a port, whoever went last; in either order of their coming.
    let mut groups = Vec::new();
    for (port, first) in [(SHARED, 0), (SHARED + 1, 1)] {
        let mut both = [listens("shared", port)?, listens("shared", port)?];
        // From now on it is an upstream, and the end of who serves it is told.
        scene.answers(&format!("/p{port}/served/"), 204)?;
        for (index, signal) in [(first, libc::SIGTERM), (1 - first, libc::SIGKILL)] {
            both[index].process.signal(signal)?;
            both[index].process.wait(wait::SOON)?;
        }
        groups.push((refused(port)?, both[1 - first].process.pid()));
    }
    // Killed long after it had ceased to listen.
    let mut ceases = listens("one", CEASES)?;
    ceases.process.signal(libc::SIGUSR1)?;
    ceases.hears("closed")?;
    wait::let_pass(LATER)?;
    let pid = ceases.process.pid();
    ceases.process.signal(libc::SIGKILL)?;
    ceases.process.wait(wait::SOON)?;
    let ceased = refused(CEASES)?;
    // It takes no IPv4.
    let six = listens("six", SIX).ok();
    let family = six.as_ref().map(|_| refused(SIX)).transpose()?;
    // Nor did it, once it is gone.
    let gone = format!("/p{SIX}/gone/");
    let six_pid = six.as_ref().map(|six| six.process.pid());
    if let Some(mut six) = six {
        scene.told(&format!("/p{SIX}/refused/"))?;
        six.process.signal(libc::SIGKILL)?;
        six.process.wait(wait::SOON)?;
        scene.answers(&gone, 502)?;
    }
    // It closes the connection, and exits a moment later: that comes as an update.
    let mut leaves = listens("leaves", LEAVES)?;
    let left = refused(LEAVES)?;
    let leaver = leaves.process.pid();
    leaves.process.wait(wait::SOON)?;
    let told = || scene.tracer.lines().iter().any(|line| line.contains("exited with code 4"));
    wait::until("what became of it", wait::SOON, told)?;
    // It closes in the middle of its response, and lives on.
    let half = listens("half", HALF)?;
    let cut = format!("/p{HALF}/half/");
    let _ = scene.get(&cut);
    scene.told(&cut)?;

    let records = scene.records()?;
    for (uri, last) in &groups {
        let words = ["the last that did", "SIGKILL"];
        because(failure(&records, uri)?, "process_killed", Some(*last), &("signal", "SIGKILL".into()), &words)?;
        end_of(&records, *last)?;
    }
    let words = ["stopped listening", "killed by SIGKILL"];
    because(failure(&records, &ceased)?, "not_listening", Some(pid), &null, &words)?;
    if let Some(uri) = &family {
        let there = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, SIX)).to_string();
        because(failure(&records, uri)?, "address_family", None, &null, &[&there])?;
        let gone = failure(&records, &gone)?;
        because(gone, "not_listening", None, &null, &[])?;
        let named = six_pid.is_some_and(|pid| gone["root"].to_string().contains(&pid.to_string()));
        ensure!(!named, "it took no IPv4: {gone}");
    }
    let words = ["closed the connection without answering", "exited with code 4"];
    // The one may have to do with the other, or not.
    because(failure(&records, &left)?, "application_closed", Some(leaver), &("code", Value::Null), &words)?;
    let cut = failure(&records, &cut)?;
    because(cut, "application_closed", None, &null, &["was not seen exiting"])?;
    let owner = &cut["root"]["listener"]["owner"]["pid"];
    ensure!(*owner == half.process.pid(), "{owner} is not {}: {cut}", half.process.pid());
    Ok(format!("two groups, one that ceased, {} of IPv6 alone, one that left", family.iter().count()))
}
