//! Advice about a real nginx: started here with files of its own, changed, reloaded, its workers killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use why502::{
    model::{
        address::Address,
        cause::Cause,
        configured::{Block, Configured, Module, Pass, Place, Server},
        observation::State,
    },
    nginx::config::{Advice, Advisor, Question},
};

const LONG: Duration = Duration::from_secs(20);

/// A private nginx that listens on a unix socket and is ended with the test.
struct Nginx {
    directory: PathBuf,
    master: Child,
}

fn site(read_timeout: &str) -> String {
    format!(
        "upstream backend {{
  server 127.0.0.1:3001;
  server 127.0.0.1:3002 max_fails=2;
}}
server {{
  listen unix:listen.sock;
  location /api/ {{
    proxy_pass http://backend;
    proxy_read_timeout {read_timeout};
  }}
}}
"
    )
}

impl Nginx {
    /// None where no nginx is installed.
    fn start(name: &str, sites: &str) -> Option<Self> {
        let binary = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].into_iter().find(|path| Path::new(path).exists())?;
        let directory = std::env::temp_dir().join(format!("why502-configuration-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("available")).expect("a directory");
        fs::create_dir_all(directory.join("enabled")).expect("a directory");
        let main = "pid nginx.pid; error_log error.log; worker_processes 2; worker_shutdown_timeout 1s;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  include enabled/*.conf;
}
";
        fs::write(directory.join("nginx.conf"), main).expect("a file");
        fs::write(
            directory.join("available/site.conf"),
            sites.replace("unix:", &format!("unix:{}/", directory.display())),
        )
        .expect("a file");
        std::os::unix::fs::symlink("../available/site.conf", directory.join("enabled/site.conf")).expect("a link");
        let master = Command::new(binary)
            .args(["-g", "daemon off;", "-c", "nginx.conf", "-p"])
            .arg(&directory)
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is started");
        Some(Self { directory, master })
    }

    fn place(&self, line: u32) -> Place {
        Place { file: format!("{}/enabled/site.conf", self.directory.display()), line }
    }

    /// Not within the tick in which a worker was started: the kernel does not tell these apart.
    fn rewrite(&self, read_timeout: &str) {
        thread::sleep(Duration::from_millis(2 * 1000 / rustix::param::clock_ticks_per_second()));
        let text = site(read_timeout).replace("unix:", &format!("unix:{}/", self.directory.display()));
        fs::write(self.directory.join("available/site.conf"), text).expect("a file");
    }

    fn signal(&self, pid: u32, signal: Signal) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it is ours");
    }

    /// Workers that are not leaving, once there are two that `wanted` takes.
    fn workers(&self, wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        let master = self.master.id();
        let title = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let end = Instant::now() + LONG;
        loop {
            let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
            let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            let workers: Vec<u32> = children
                .filter(|pid| title(*pid).contains("worker process") && !title(*pid).contains("shutting down"))
                .collect();
            if workers.len() == 2 && workers.iter().any(|worker| wanted(*worker)) {
                return workers;
            }
            assert!(Instant::now() < end, "no such workers: {workers:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// As memory would have it.
    fn configured(&self, read_timeout_ms: u64) -> Configured {
        Configured {
            server: Some(Server { name: String::new(), place: Some(self.place(5)) }),
            location: Some("/api/".to_owned()),
            pass: Some(Pass {
                module: Module::Proxy,
                block: Some(Block { name: "backend".to_owned(), place: Some(self.place(1)) }),
                connect_timeout_ms: 60_000,
                send_timeout_ms: 60_000,
                read_timeout_ms,
                next_upstream_timeout_ms: 0,
                buffer_size: 4096,
            }),
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.signal(self.master.id(), Signal::TERM);
        let _ = self.master.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn ask(advisor: &mut Advisor, worker: u32, configured: Option<&Configured>) -> Advice {
    let upstream = Address::from_nginx("127.0.0.1:3002");
    let question = Question {
        cause: Cause::ResponseTimeout,
        upstream: Some(&upstream),
        status: Some(504),
        idle_us: None,
        configured,
        general: "look",
    };
    advisor.advise(worker, &question)
}

fn hint(advice: &Advice) -> &str {
    advice.hint.as_deref().unwrap_or("-")
}

#[test]
fn lines_of_a_running_nginx() {
    let Some(nginx) = Nginx::start("lines", &site("5s")) else { return };
    let worker = nginx.workers(|_| true)[0];
    let mut advisor = Advisor::default();
    let observation = advisor.observation(&[worker], LONG);
    assert_eq!((observation.state, observation.missing), (State::Full, None));
    let file = nginx.place(0).file;
    for configured in [None, Some(nginx.configured(5000))] {
        let advice = ask(&mut advisor, worker, configured.as_ref());
        assert_eq!(hint(&advice), format!("proxy_read_timeout is 5s at {file}:9: look"));
        let lines: Vec<_> = advice
            .settings
            .iter()
            .map(|setting| (setting.directive.as_str(), setting.place.as_ref().map(|place| place.line)))
            .collect();
        assert_eq!(lines, [("proxy_read_timeout", Some(9)), ("server", Some(3)), ("proxy_pass", Some(8))]);
    }
    assert_eq!(hint(&ask(&mut advisor, u32::MAX, None)), "-");
}

#[test]
fn a_file_that_is_newer_than_the_workers() {
    let Some(nginx) = Nginx::start("newer", &site("5s")) else { return };
    let old = nginx.workers(|_| true);
    let mut early = Advisor::default();
    early.observation(&old, LONG);
    nginx.rewrite("7s");
    // Read before the change: still true of these workers.
    let file = nginx.place(0).file;
    assert_eq!(hint(&ask(&mut early, old[0], None)), format!("proxy_read_timeout is 5s at {file}:9: look"));
    // Read after it: says nothing of that file.
    let mut late = Advisor::default();
    let observation = late.observation(&old, LONG);
    assert_eq!(observation.state, State::Partial);
    assert_eq!(observation.missing.as_deref(), Some(format!("{file} was changed after the workers started").as_str()));
    assert_eq!(hint(&ask(&mut late, old[0], None)), "-");
    let advice = ask(&mut late, old[0], Some(&nginx.configured(5000)));
    assert_eq!(
        hint(&advice),
        format!(
            "proxy_read_timeout in force is 5s: look ({file} was changed since the workers were started: no line can be named)"
        )
    );

    // One that replaces a worker that died has what the master had.
    nginx.signal(old[0], Signal::KILL);
    let replaced = nginx.workers(|worker| !old.contains(&worker));
    let new = replaced.iter().copied().find(|worker| !old.contains(worker)).expect("one is new");
    assert_eq!(hint(&ask(&mut early, new, None)), format!("proxy_read_timeout is 5s at {file}:9: look"));
    assert_eq!(hint(&ask(&mut Advisor::default(), new, None)), "-");

    // A new generation has the new file.
    nginx.signal(nginx.master.id(), Signal::HUP);
    let end = Instant::now() + LONG;
    let reloaded = loop {
        let workers = nginx.workers(|worker| !replaced.contains(&worker));
        if workers.iter().all(|worker| !replaced.contains(worker)) {
            break workers[0];
        }
        assert!(Instant::now() < end, "it does not reload");
    };
    for advisor in [&mut early, &mut late, &mut Advisor::default()] {
        advisor.observation(&[reloaded], LONG);
        assert_eq!(hint(&ask(advisor, reloaded, None)), format!("proxy_read_timeout is 7s at {file}:9: look"));
    }
}
