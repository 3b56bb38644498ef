//! Servers that people run, from their packages: who of their processes ended, who waits, and what is said about it.
//!
//! They do what a server of a few lines does not: workers share a listener that their master opened, a master kills its
//! workers, processes and threads give themselves other names.

mod gunicorn;
mod node;
mod php_fpm;
mod stopped;
mod uwsgi;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::{Scene, because, failure};
use crate::child::{self, Guarded};
use crate::scenario::{BASE, Net, Scenario};
use crate::stage::Stage;
use crate::wait;

pub(super) const PROGRAMS: &[&[Program]] =
    &[gunicorn::PROGRAMS, node::PROGRAMS, php_fpm::PROGRAMS, stopped::PROGRAMS, uwsgi::PROGRAMS];

/// `/pPORT/…` over HTTP, `/php/…` over FastCGI on port 9000, `/phpunix/…` over `php.sock`, `/uwsgi/…` over `uwsgi.sock`.
const SERVER: &str = "proxy_read_timeout 3s; fastcgi_read_timeout 1s; uwsgi_read_timeout 10s;\n\
     fastcgi_param SCRIPT_FILENAME <dir>/app.php; fastcgi_param REQUEST_METHOD $request_method;\n\
     fastcgi_param REQUEST_URI $request_uri; uwsgi_param REQUEST_METHOD $request_method;\n\
     uwsgi_param PATH_INFO $uri; uwsgi_param REQUEST_URI $request_uri; uwsgi_param SERVER_PROTOCOL $server_protocol;\n\
     uwsgi_param SERVER_NAME lab; uwsgi_param SERVER_PORT 80;\n\
     location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://127.0.0.1:$port; }\n\
     location ~ ^/q(?<short>[0-9]+)/ { proxy_read_timeout 1s; proxy_pass http://127.0.0.1:$short; }\n\
     location /php1/ { fastcgi_pass 127.0.0.1:9000; }\n\
     location /php/ { fastcgi_read_timeout 3s; fastcgi_pass 127.0.0.1:9000; }\n\
     location /phpunix/ { fastcgi_pass unix:<dir>/php.sock; }\n\
     location /uwsgi/ { uwsgi_pass unix:<dir>/uwsgi.sock; }\n\
     location /kept/ { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_next_upstream off; proxy_pass http://kept; }";

const NGINX: Scenario = Scenario {
    name: "real/nginx",
    net: Net::Private(&[]),
    workers: Some(1),
    http: "upstream kept { server 127.0.0.1:3000; keepalive 4; }",
    server: SERVER,
    ..BASE
};

const NOBODY: (&str, Value) = ("", Value::Null);

/// Its path, if it is installed: under this name, or under this name with a version at its end.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let listed = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&listed).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")]);
    let version = |rest: &str| rest.chars().all(|letter| letter.is_ascii_digit() || letter == '.');
    let called = |path: &PathBuf| {
        path.file_name().and_then(|file| file.to_str()?.strip_prefix(name)).is_some_and(version) && path.is_file()
    };
    directories
        .filter_map(|directory| {
            let mut found: Vec<PathBuf> = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
            found.retain(called);
            found.sort();
            found.into_iter().next()
        })
        .next()
}

/// One of those servers: a master, and what it forked. All of it ends with its guard.
struct Real {
    process: Guarded,
    said: PathBuf,
}

impl Real {
    /// Starts it in the directory of the stage, where nginx is.
    fn start(stage: &Stage, name: &str, arguments: &[&str]) -> Result<Self> {
        let directory = stage.directory.path();
        for (file, text) in [
            ("app.py", include_str!("app.py")),
            ("app.php", include_str!("app.php")),
            ("app.js", include_str!("app.js")),
        ] {
            fs::write(directory.join(file), text)?;
        }
        let program = program(name).with_context(|| format!("no {name}"))?;
        let log = fs::File::create(directory.join(format!("{name}.log")))?;
        let mut command = Command::new(program);
        command.args(arguments.iter().map(|text| text.replace("<dir>", &directory.display().to_string())));
        command.current_dir(directory).env("PYTHONDONTWRITEBYTECODE", "1").process_group(0);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let near = stage.near().map(crate::namespace::Namespace::fd);
        Ok(Self { process: child::start(name, &mut command, near)?, said: directory.join("said") })
    }

    /// The tracer comes to it, and knows it: what becomes of a process that is not known to listen is not seen.
    fn watched(&self, stage: Stage, why502: &Path) -> Result<Scene> {
        let scene = Scene::watch(stage, why502)?;
        let mut pids = child::children(self.pid());
        pids.push(self.pid());
        scene.meets(&pids)?;
        Ok(scene)
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until somebody listens on this port.
    fn listens(&self, stage: &Stage, port: u16) -> Result<()> {
        let found = || stage.inside(|| Ok(crate::sockets::listens(port))).unwrap_or(false);
        wait::until("the server to listen", wait::SOON, found)
    }

    /// Waits until it has so many workers.
    fn workers(&self, count: usize) -> Result<Vec<u32>> {
        let mut workers = Vec::new();
        wait::until("the workers", wait::SOON, || {
            workers = child::children(self.pid());
            workers.len() == count
        })?;
        Ok(workers)
    }

    /// Waits until a process says so; gives its pid.
    fn hears(&self, word: &str) -> Result<u32> {
        wait::until_some(&format!("{word} from the server"), wait::SOON, || {
            let said = fs::read_to_string(&self.said).ok()?;
            said.lines().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
        })
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let Ok(group) = i32::try_from(self.pid()) else { return };
        // SAFETY: kill(2) takes two integers; the group is the one that the server was started as, and its leader has not
        // been waited for unless the scenario did, while others of the group are there.
        unsafe {
            libc::kill(-group, libc::SIGCONT);
            libc::kill(-group, libc::SIGKILL);
        }
    }
}

/// What a failure must be told to come from.
struct Told<'a> {
    uri: &'a str,
    cause: &'a str,
    kind: &'a str,
    /// The process of the reason.
    pid: Option<u32>,
    fate: (&'a str, Value),
    /// In the reason's text, and in the hint.
    words: &'a [&'a str],
    hint: &'a str,
}

impl Told<'_> {
    fn check(&self, records: &[Value]) -> Result<()> {
        let failure = failure(records, self.uri)?;
        let what = || format!("{}: {} {} {}", self.uri, failure["cause"], failure["root"], failure["hint"]);
        ensure!(self.cause.split('|').any(|cause| failure["cause"] == cause), "not {}: {}", self.cause, what());
        because(failure, self.kind, self.pid, &self.fate, self.words).with_context(what)?;
        let null = self.pid.is_none() && failure["root"]["process"].is_null();
        ensure!(self.pid.is_some() || null, "a process where none is to be named: {}", what());
        ensure!(
            failure["hint"].as_str().is_some_and(|hint| hint.contains(self.hint)),
            "not {:?}: {}",
            self.hint,
            what()
        );
        Ok(())
    }
}

const CLOSED: &str = "closed_before_response|reset_before_response";

/// Waits until so many failures were told, and as many of them as `roots` with a reason; then ends the tracing.
fn records(scene: Scene, failures: usize, roots: usize) -> Result<Vec<Value>> {
    told(&scene, failures)?;
    let reason = |line: &&String| line.contains("\"root\":{");
    let reasons = || scene.tracer.lines().iter().filter(reason).count();
    wait::until("the reasons", wait::SOON, || reasons() >= roots)?;
    scene.records()
}

/// Waits until so many failures were told: what happens then is not part of what is told about them.
fn told(scene: &Scene, failures: usize) -> Result<()> {
    let failure = |line: &&String| line.contains("\"type\":\"failure\"");
    wait::until("the failures", wait::SOON, || scene.tracer.lines().iter().filter(failure).count() >= failures)
}

fn comm(pid: u32) -> Result<String> {
    Ok(fs::read_to_string(format!("/proc/{pid}/comm")).context("a process")?.trim_end().to_owned())
}

/// That clients are answered so.
fn fails(scene: &Scene, status: u16, uris: &[&str]) -> Result<()> {
    for uri in uris {
        let answered = scene.get(uri)?;
        ensure!(answered == status, "{uri} was answered {answered}, not {status}");
    }
    Ok(())
}
