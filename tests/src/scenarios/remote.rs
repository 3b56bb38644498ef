//! Upstreams on a host that this kernel knows nothing of: what can be said of it, and what cannot.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::{Scene, Server, because, failure, fill, sees_resets};
use crate::elsewhere::{ADDRESS, CLOSES, CUTS, CUTS_NEARER, Elsewhere, FARTHER, IS_SILENT, NEARER, REFUSES, RESETS};
use crate::scenario::{BASE, Need, Net, Scenario};
use crate::stage::{Options, Stage};
use crate::tracer::of_type;
use crate::wait;

pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "remote/what_another_host_did", needs: &[Need::Tun], run: another_host },
    Program { name: "remote/cut_on_the_way", needs: &[Need::Tun], run: cut },
    Program { name: "remote/cut_nearer", needs: &[Need::Tun], run: cut_nearer },
    Program { name: "remote/same_port_here", needs: &[Need::Tun, Need::Python], run: same_port },
];

/// `/pPORT/…` goes to the other host, `/nobody/…` to an address that nobody has.
const NGINX: Scenario = Scenario {
    name: "remote/nginx",
    net: Net::Private(&[]),
    workers: Some(1),
    server: "proxy_connect_timeout 2s; proxy_read_timeout 1s;\n\
             location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://10.55.0.2:$port; }\n\
             location /nobody/ { proxy_pass http://10.55.0.9:80; }",
    ..BASE
};

/// Half of it would be enough; an emulated processor is slow.
const DISTANCE: Duration = Duration::from_millis(600);

const NOBODY: (&str, Value) = ("", Value::Null);

fn another_host(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let _elsewhere = Elsewhere::behind(stage.near().context("a namespace")?)?;
    let scene = Scene::watch(stage, why502)?;
    let closed = format!("/p{CLOSES}/closed");
    scene.answers(&closed, 502)?;
    let resets = sees_resets(options)?;
    let rejected = [format!("/p{REFUSES}/refused"), format!("/p{RESETS}/reset")];
    if resets {
        scene.until_root(&rejected, "remote_reset")?;
    } else {
        for uri in &rejected {
            scene.answers(uri, 502)?;
        }
    }
    let silent = format!("/p{IS_SILENT}/silent");
    for uri in [silent.as_str(), "/nobody/there"] {
        scene.answers(uri, 504)?;
    }
    let records = scene.records()?;
    // No rule sends a FIN: the first is told of, whether dropped packets are looked at yet or not.
    let words = [ADDRESS, "another host", "closed the connection"];
    because(failure(&records, &closed)?, "remote_reset", None, &NOBODY, &words)?;
    let acknowledged = ["acknowledged all that nginx sent", "application is silent"];
    because(failure(&records, &silent)?, "remote_silent", None, &NOBODY, &acknowledged)?;
    let nobody = failure(&records, "/nobody/there")?;
    because(nobody, "remote_silent", None, &NOBODY, &["10.55.0.9, another host, has not answered the SYN"])?;
    if !resets {
        for uri in &rejected {
            let root = &failure(&records, uri)?["root"];
            ensure!(root.is_null(), "a rule may have rejected it, as far as this kernel tells: {root}");
        }
    }
    Ok(format!("refused, reset: {}; closed, silent, nobody there", if resets { "the other's" } else { "not told" }))
}

/// A reset that comes sooner than the request can have got there.
fn cut(why502: &Path, options: &Options) -> Result<String> {
    if !sees_resets(options)? {
        return Ok("a rule may have rejected it, as far as this kernel tells".into());
    }
    let stage = Stage::set(&NGINX, options)?;
    let _elsewhere = Elsewhere::at(stage.near().context("a namespace")?, DISTANCE)?;
    let scene = Scene::watch(stage, why502)?;
    let uri = format!("/p{CUTS}/cut");
    scene.until_root(std::slice::from_ref(&uri), "remote_reset")?;
    let records = scene.records()?;
    let told = of_type(&records, "failure").filter(|failure| failure["root"]["kind"] == "remote_reset");
    let last = told.last().context("a failure with its root")?;
    ensure!(last["cause"] == "reset_before_response", "{last}");
    let (text, hint) = (last["root"]["text"].as_str(), last["hint"].as_str());
    let sooner = text.is_some_and(|text| text.contains("sooner than the request can have got there"));
    ensure!(sooner && hint.is_some_and(|hint| hint.contains("cannot have seen the request")), "{text:?}, {hint:?}");
    Ok("sooner than an answer can come".into())
}

/// A reset that has not come as far as the answers.
fn cut_nearer(why502: &Path, options: &Options) -> Result<String> {
    if !sees_resets(options)? {
        return Ok("a rule may have rejected it, as far as this kernel tells".into());
    }
    let stage = Stage::set(&NGINX, options)?;
    let _elsewhere = Elsewhere::behind(stage.near().context("a namespace")?)?;
    let scene = Scene::watch(stage, why502)?;
    let other = format!("/p{RESETS}/reset");
    scene.until_root(std::slice::from_ref(&other), "remote_reset")?;
    // On a busy host it is looked at since the first of these.
    let mut round = 0;
    let mut nearer = || -> Result<Option<String>> {
        round += 1;
        let uri = format!("/p{CUTS_NEARER}/nearer/{round}/");
        scene.answers(&uri, 502)?;
        Ok(scene.told(&uri)?.contains("TTL").then_some(uri))
    };
    let near = wait::until_some("a reset with its TTL", wait::SOON, || nearer().transpose())??;
    let own = format!("/p{RESETS}/own/");
    scene.answers(&own, 502)?;
    let records = scene.records()?;
    let near = failure(&records, &near)?;
    let words =
        format!("has passed {NEARER} routers, its answers {FARTHER} (TTL 62 and 57): most likely another one sent it");
    because(near, "remote_reset", None, &NOBODY, &[&words])?;
    let hint = near["hint"].as_str().unwrap_or_default();
    ensure!(hint.starts_with(&format!("look {} hops from here", NEARER + 1)), "{hint}");
    let own = failure(&records, &own)?;
    let own = own["root"]["text"].as_str().unwrap_or_default();
    ensure!(!own.contains("another one"), "the upstream itself has reset it: {own}");
    Ok(own.to_owned())
}

/// What listens here on that port, for all addresses, has nothing to do with the other host's silence, however full its queue is.
fn same_port(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let _elsewhere = Elsewhere::behind(stage.near().context("a namespace")?)?;
    let scene = Scene::watch(stage, why502)?;
    let server = Server::start(&scene.stage, "0.0.0.0", 80, 0, 0)?;
    let fillers = fill(&scene.stage, server.port)?;
    for round in 0..3 {
        let uri = format!("/nobody/{round}/");
        scene.answers(&uri, 504)?;
        scene.told(&uri)?;
    }
    drop(fillers);
    let records = scene.records()?;
    let failures: Vec<&Value> =
        (0..3).map(|round| failure(&records, &format!("/nobody/{round}/"))).collect::<Result<_>>()?;
    for failure in &failures {
        let root = &failure["root"];
        ensure!(root.is_null() || root["kind"] == "remote_silent", "{root} instead of the other's silence");
    }
    ensure!(failures.iter().any(|failure| !failure["root"].is_null()), "nothing is said of the other host");
    ensure!(of_type(&records, "overflow").next().is_none(), "nobody came to the listener here");
    Ok(format!("{} failures, none of them the listener's here", failures.len()))
}
