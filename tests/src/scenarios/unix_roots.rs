//! The reasons behind failures of unix sockets, with names and numbers: real processes that die, move and are slow.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::{Scene, Server, because, besides, end_of, failure};
use crate::scenario::{BASE, Need, Net, Scenario};
use crate::stage::{Options, Stage};
use crate::tracer::of_type;
use crate::wait;

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[Need::Python], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("unix/processes_that_end", processes_that_end),
    program("unix/listeners_that_end", listeners_that_end),
    program("unix/queue_of_one_that_ends", queue_of_one_that_ends),
    program("unix/where_it_went", where_it_went),
    program("unix/who_may_use_it", who_may_use_it),
    program("unix/full_with_numbers", full_with_numbers),
];

const SERVER: &str = "location /killed { proxy_pass http://unix:<dir>/killed.sock; }\n\
     location /exited { proxy_pass http://unix:<dir>/exited.sock; }\n\
     location /old { proxy_pass http://unix:<dir>/php8.2-fpm.sock; }\n\
     location /removed { proxy_pass http://unix:<dir>/removed.sock; }\n\
     location /renamed { proxy_pass http://unix:<dir>/renamed.sock; }\n\
     location /private { proxy_pass http://unix:<dir>/private/app.sock; }\n\
     location /mode { proxy_pass http://unix:<dir>/mode.sock; }\n\
     location /search { proxy_pass http://unix:<dir>/closed/app.sock; }\n\
     location /full { proxy_pass http://unix:<dir>/full.sock; }";

const HOST: Scenario = Scenario { name: "unix/nginx", workers: Some(1), server: SERVER, ..BASE };
const DYING: Scenario = Scenario {
    server: "location /hang { proxy_pass http://unix:<dir>/hang.sock; }\n\
             location /exit { proxy_pass http://unix:<dir>/exit.sock; }\n\
             location /crash { proxy_pass http://unix:<dir>/crash.sock; }\n\
             location /half { proxy_pass http://unix:<dir>/half.sock; }\n\
             location /close { proxy_pass http://unix:<dir>/close.sock; }",
    ..HOST
};
const PRIVATE: Scenario = Scenario { name: "unix/nginx-alone", net: Net::Private(&[]), ..HOST };
const PYTHON: &[&str] = &["python3"];
const NOBODY: (&str, Value) = ("", Value::Null);

fn refused(scene: &Scene, uris: &[&str]) -> Result<()> {
    for uri in uris {
        scene.answers(uri, 502)?;
    }
    Ok(())
}

/// Between request and response; each at a socket of its own.
fn processes_that_end(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&DYING, options)?;
    let fates = ["hang", "exit", "crash", "half", "close"];
    let mut servers = Vec::new();
    for fate in fates {
        servers.push(Server::at(&stage, &stage.directory.path().join(format!("{fate}.sock")), 64, PYTHON)?);
    }
    let scene = Scene::watch(stage, why502)?;
    let listening: Vec<u32> = servers.iter().map(|server| server.process.pid()).collect();
    scene.meets(&listening)?;
    let mut pids = Vec::new();
    for (fate, server) in fates.into_iter().zip(&mut servers) {
        let mut client = scene.begin(&format!("/{fate}/now"))?;
        pids.push(server.hears(if fate == "half" { "half" } else { "request" })?);
        if matches!(fate, "hang" | "half") {
            server.process.signal(libc::SIGKILL)?;
        }
        let answer = client.receive("GET");
        ensure!(fate == "half" || answer.is_ok_and(|answer| answer.status == 502), "{fate} did not fail");
        if fate != "close" {
            server.process.wait(wait::SOON)?;
        }
    }
    let seen = || scene.tracer.lines().iter().filter(|line| line.contains("\"type\":\"failure\"")).count() == 5;
    wait::until("five failures", wait::SOON, seen)?;
    let hooked = options.observations()?.iter().any(|found| {
        found["name"] == "unix_stream" && found["hook"].as_str().is_some_and(|hook| hook.contains("unix_release_sock"))
    });
    // Who closes without dying is seen only where a hook sees every close. Else it is known who listens there, once that none of its
    // processes has ended was seen for as long as a close may go unnoticed.
    if !hooked {
        scene.until_root(&["/close/again".into()], "application_closed")?;
    }
    let records = scene.records()?;
    let by = format!("lab[{}]", std::process::id());
    let expected: [(&str, (&str, Value), &[&str]); 4] = [
        ("process_killed", ("signal", "SIGKILL".into()), &[&by, "unanswered"]),
        ("process_exited", ("code", 3.into()), &["exited with code 3"]),
        ("process_killed", ("signal", "SIGSEGV".into()), &["SIGSEGV"]),
        ("process_killed", ("signal", "SIGKILL".into()), &[&by, "in the middle of the response"]),
    ];
    for ((fate, pid), (kind, how, words)) in fates.iter().zip(&pids).zip(expected) {
        let failure = failure(&records, &format!("/{fate}/now"))?;
        because(failure, kind, Some(*pid), &how, words).with_context(|| besides(&records))?;
    }
    if hooked {
        let closed = failure(&records, "/close/now")?;
        because(closed, "application_closed", Some(pids[4]), &NOBODY, &["without answering"])?;
    } else {
        let closed = of_type(&records, "failure").filter(|failure| !failure["root"].is_null()).last();
        let closed = closed.context("a failure with its root")?;
        let (server, path) = (format!("[{}], which listens on unix:", pids[4]), "close.sock");
        because(closed, "application_closed", None, &NOBODY, &[&server, path, "or a process that it let have"])?;
        ensure!(closed["root"]["process"].is_null(), "nobody saw who closed: {}", closed["root"]);
    }
    Ok("SIGKILL, exit(3), SIGSEGV, SIGKILL in a response, close".into())
}

/// It has not accepted the connection, so that it is none of its descriptors.
fn queue_of_one_that_ends(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&HOST, options)?;
    let mut server = Server::at(&stage, &stage.directory.path().join("killed.sock"), 0, PYTHON)?;
    let pid = server.process.pid();
    let scene = Scene::watch(stage, why502)?;
    scene.meets(&[pid])?;
    let mut client = scene.begin("/killed/queued")?;
    // The listener's own line, and that of what waits in its queue.
    let path = scene.stage.directory.path().join("killed.sock").display().to_string();
    let lines = || fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let queued = || lines().lines().filter(|line| line.ends_with(&path)).count() == 2;
    wait::until("nginx's connection to be queued", wait::SOON, queued)?;
    server.process.signal(libc::SIGKILL)?;
    client.answers(502)?;
    server.process.wait(wait::SOON)?;
    let records = scene.records()?;
    let failure = failure(&records, "/killed/queued")?;
    // Nothing waits until nginx has sent its request, too.
    let queued = if failure["cause"] == "connect_reset" { "before it accepted the connection" } else { "unanswered" };
    because(failure, "process_killed", Some(pid), &("signal", "SIGKILL".into()), &[queued])?;
    Ok(format!("{} {pid}", failure["cause"]))
}

fn listeners_that_end(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&HOST, options)?;
    let directory = stage.directory.path().to_owned();
    let mut killed = Server::at(&stage, &directory.join("killed.sock"), 64, PYTHON)?;
    let mut exited = Server::at(&stage, &directory.join("exited.sock"), 64, PYTHON)?;
    let scene = Scene::watch(stage, why502)?;
    scene.meets(&[killed.process.pid(), exited.process.pid()])?;
    killed.process.signal(libc::SIGKILL)?;
    killed.process.wait(wait::SOON)?;
    // It ends in the middle of an answer, and its file with it.
    refused(&scene, &["/exited/exit"])?;
    exited.process.wait(wait::SOON)?;
    fs::remove_file(directory.join("exited.sock"))?;
    refused(&scene, &["/killed/now", "/exited/now"])?;
    let pids = [killed.process.pid(), exited.process.pid()];
    let records = scene.records()?;
    let by = format!("from lab[{}]", std::process::id());
    let (signal, code) = (("signal", "SIGKILL".into()), ("code", 3.into()));
    let (killed, exited) = (failure(&records, "/killed/now")?, failure(&records, "/exited/now")?);
    let ended: [(&Value, &str, &str, _, &[&str]); 2] = [
        (killed, "process_killed", "killed.sock", signal, &["which listened there", &by]),
        (exited, "socket_file", "exited.sock", code, &["there is no exited.sock in", "exited with code 3"]),
    ];
    for ((failure, kind, path, fate, words), pid) in ended.into_iter().zip(pids) {
        let Some(exit) = end_of(&records, pid)? else {
            let text = failure["root"]["text"].as_str().unwrap_or_default();
            ensure!(text.contains("is gone"), "nobody saw how {pid} ended: {failure}");
            continue;
        };
        ensure!(exit["upstreams"].to_string().contains(path), "{exit}");
        because(failure, kind, Some(pid), &fate, words)?;
    }
    Ok(format!("killed {}, exited {}", pids[0], pids[1]))
}

fn where_it_went(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&HOST, options)?;
    let directory = stage.directory.path().to_owned();
    let other = Server::at(&stage, &directory.join("php8.3-fpm.sock"), 64, PYTHON)?;
    let removed = Server::at(&stage, &directory.join("removed.sock"), 64, PYTHON)?;
    let renamed = Server::at(&stage, &directory.join("renamed.sock"), 64, PYTHON)?;
    let private = directory.join("private");
    fs::create_dir(&private)?;
    let mount = format!("mount -t tmpfs none {} && exec python3 \"$@\"", private.display());
    let private = Server::at(&stage, &private.join("app.sock"), 64, &["unshare", "--mount", "sh", "-c", &mount, "sh"])?;
    let scene = Scene::watch(stage, why502)?;
    fs::remove_file(directory.join("removed.sock"))?;
    fs::rename(directory.join("renamed.sock"), directory.join("other.name"))?;
    refused(&scene, &["/old/now", "/removed/now", "/renamed/now", "/private/now"])?;
    let named = |server: &Server| format!("[{}]", server.process.pid());
    let records = scene.records()?;
    let old = failure(&records, "/old/now")?;
    because(
        old,
        "socket_file",
        None,
        &NOBODY,
        &["no php8.2-fpm.sock", "php8.3-fpm.sock is listened on by", &named(&other)],
    )?;
    let removed = (failure(&records, "/removed/now")?, named(&removed));
    because(removed.0, "socket_file", None, &NOBODY, &["does listen", "its file was removed", &removed.1])?;
    let (renamed, now) = (named(&renamed), directory.join("other.name"));
    let words = ["does listen", &renamed, &format!("its file is {} now", now.display())];
    because(failure(&records, "/renamed/now")?, "socket_file", None, &NOBODY, &words)?;
    let private = (failure(&records, "/private/now")?, named(&private));
    because(private.0, "socket_file", None, &NOBODY, &["does listen", "another mount namespace", &private.1])?;
    Ok("a similar name, a removed and a renamed file, another mount namespace".into())
}

fn who_may_use_it(why502: &Path, options: &Options) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::set(&HOST, options)?;
    let directory = stage.directory.path().to_owned();
    let server = Server::at(&stage, &directory.join("mode.sock"), 64, PYTHON)?;
    fs::create_dir(directory.join("closed"))?;
    for (name, mode) in [("mode.sock", 0o640), ("closed", 0o710)] {
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode))?;
    }
    let scene = Scene::watch(stage, why502)?;
    refused(&scene, &["/mode/now", "/search/now"])?;
    let records = scene.records()?;
    let socket = failure(&records, "/mode/now")?;
    let root = "of user root (0), group root (0)";
    because(socket, "socket_file", None, &NOBODY, &["may not write to", "srw-r----- ", root])?;
    because(failure(&records, "/search/now")?, "socket_file", None, &NOBODY, &["may not search", "drwx--x--- ", root])?;
    drop(server);
    Ok(socket["root"]["text"].as_str().unwrap_or_default().to_owned())
}

/// The application may be in another network namespace than nginx: only the file counts.
fn full_with_numbers(why502: &Path, options: &Options) -> Result<String> {
    for scenario in [&HOST, &PRIVATE] {
        let stage = Stage::set(scenario, options)?;
        let path = stage.directory.path().join("full.sock");
        let server = Server::at(&stage, &path, 0, PYTHON)?;
        let scene = Scene::watch(stage, why502)?;
        let filler = UnixStream::connect(&path)?;
        refused(&scene, &["/full/now"])?;
        drop(filler);
        let pid = server.process.pid();
        let records = scene.records()?;
        let failure = failure(&records, "/full/now")?;
        let words: &[&str] = &["its limit is 0; 1 wait", &format!("[{pid}]")];
        because(failure, "accept_queue_full", None, &NOBODY, words)?;
        let listener = &failure["root"]["listener"];
        ensure!(listener["limit"] == 0 && listener["queued"] == 1 && listener["owner"]["pid"] == pid, "{listener}");
        ensure!(listener["address"] == format!("unix:{}", path.display()), "{listener}");
    }
    Ok("limit 0, 1 waiting, from the same and from another network namespace".into())
}
