use super::{Advice, Question, advise};
use crate::{
    model::{
        address::Address,
        cause::Cause,
        configured::{Block, Configured, Module, Pass, Place, Server},
    },
    nginx::config::{
        tree::{Tree, read, tests::Memory},
        view::View,
    },
};

const SITE: &str = "worker_rlimit_nofile 1024;
events { worker_connections 768; }
http {
  resolver 127.0.0.11 valid=30s;
  client_body_temp_path /tmp/body;
  upstream backend {
    server 10.0.0.1:3001 max_fails=3;
    server 10.0.0.2:3001 fail_timeout=5s max_conns=7 backup;
    server 10.0.0.3:3001 down;
    keepalive 16;
  }
  upstream patient { server 10.0.0.9; keepalive_timeout 4s; }
  server {
    listen 80;
    location /default/ { proxy_pass http://backend; }
    location /set/ {
      proxy_pass http://127.0.0.1:3001/x;
      proxy_read_timeout 5s;
      proxy_buffer_size 32k;
      proxy_buffers 8 64k;
      proxy_bind 10.9.9.9;
      proxy_ssl_server_name on;
      proxy_ssl_trusted_certificate /etc/ca.pem;
    }
    location /php { fastcgi_pass unix:/run/php.sock; }
    location /url { proxy_pass http://$arg_x; }
    location /patient { proxy_pass http://patient; }
    location /gone { return 502; }
    location /files { try_files $uri =502; }
  }
}";

fn tree(text: &str) -> Tree {
    read(&mut Memory::of(&[("/n.conf", text)]), "/n.conf", None).expect("it can be read")
}

/// As memory has it for a location of the site; in force are the defaults but for `/set/`.
fn configured(location: &str) -> Configured {
    let block = |name: &str| Some(Block { name: name.to_owned(), place: None });
    let pass = |module, block| Pass {
        module,
        block,
        connect_timeout_ms: 60_000,
        send_timeout_ms: 60_000,
        read_timeout_ms: if location == "/set/" { 5000 } else { 60_000 },
        next_upstream_timeout_ms: 0,
        buffer_size: if location == "/set/" { 32_768 } else { 4096 },
    };
    Configured {
        server: Some(Server { name: String::new(), place: Some(Place { file: "/n.conf".into(), line: 13 }) }),
        location: Some(location.to_owned()),
        pass: match location {
            "/default/" => Some(pass(Module::Proxy, block("backend"))),
            "/set/" => Some(pass(Module::Proxy, block("127.0.0.1"))),
            "/php" => Some(pass(Module::Fastcgi, block("/run/php.sock"))),
            "/url" => Some(pass(Module::Proxy, None)),
            "/patient" => Some(pass(Module::Proxy, block("patient"))),
            _ => None,
        },
    }
}

/// The hint and the settings (`directive value file:line in_force`), one a line.
fn shown(advice: &Advice) -> String {
    let mut lines = vec![advice.hint.clone().unwrap_or_else(|| "-".to_owned())];
    for setting in &advice.settings {
        let place = setting.place.as_ref().map_or("-".to_owned(), |place| place.line.to_string());
        let value = setting.value.as_deref().unwrap_or("-");
        lines.push(format!("{} {value} @{place} {}", setting.directive, setting.in_force.as_deref().unwrap_or("-")));
    }
    lines.join("\n")
}

struct Case<'a> {
    cause: Cause,
    location: Option<&'a str>,
    upstream: &'a str,
    expected: &'a [&'a str],
}

const fn case<'a>(cause: Cause, location: &'a str, upstream: &'a str, expected: &'a [&'a str]) -> Case<'a> {
    Case { cause, location: Some(location), upstream, expected }
}

const fn without_memory<'a>(cause: Cause, upstream: &'a str, expected: &'a [&'a str]) -> Case<'a> {
    Case { cause, location: None, upstream, expected }
}

fn question<'a>(cause: Cause, upstream: &'a Address, configured: Option<&'a Configured>) -> Question<'a> {
    let idle_us = Some(5_000_400);
    Question { cause, upstream: Some(upstream), status: Some(502), idle_us, configured, general: "do something" }
}

fn check(site: &str, cases: &[Case<'_>]) {
    let tree = tree(site);
    for Case { cause, location, upstream, expected } in cases {
        let configured = location.map(configured);
        let upstream = Address::from_nginx(upstream);
        let advice = advise(&question(*cause, &upstream, configured.as_ref()), Some(View::new(&tree, 1)));
        assert_eq!(shown(&advice), expected.join("\n"), "{cause} in {location:?} of {upstream}");
    }
}

#[test]
fn lines_that_lead_to_the_upstream() {
    let php = ["do something: fastcgi_pass unix:/run/php.sock at /n.conf:25", "fastcgi_pass unix:/run/php.sock @25 -"];
    let backend = [
        "do something: server 10.0.0.2:3001 fail_timeout=5s max_conns=7 backup at /n.conf:8",
        "server 10.0.0.2:3001 fail_timeout=5s max_conns=7 backup @8 -",
        "proxy_pass http://backend @15 -",
    ];
    check(
        SITE,
        &[
            case(Cause::ConnectRefused, "/default/", "10.0.0.2:3001", &backend),
            case(
                Cause::ConnectRefused,
                "/set/",
                "127.0.0.1:3001",
                &[
                    "do something: proxy_pass http://127.0.0.1:3001/x at /n.conf:17",
                    "proxy_pass http://127.0.0.1:3001/x @17 -",
                ],
            ),
            case(Cause::SocketMissing, "/php", "unix:/run/php.sock", &php),
            case(Cause::HeaderInvalid, "/php", "unix:/run/php.sock", &php),
            case(Cause::ClosedBeforeResponse, "/php", "unix:/run/php.sock", &["-", php[1]]),
            case(
                Cause::UpstreamMisconfigured,
                "/url",
                "10.0.0.7:1",
                &["do something: proxy_pass http://$arg_x at /n.conf:26", "proxy_pass http://$arg_x @26 -"],
            ),
            case(Cause::ClientClosed, "/php", "unix:/run/php.sock", &["-"]),
        ],
    );
}

#[test]
fn what_is_in_force_and_where_it_is_changed() {
    check(
        SITE,
        &[
            case(
                Cause::ResponseTimeout,
                "/set/",
                "127.0.0.1:3001",
                &[
                    "proxy_read_timeout is 5s at /n.conf:18: do something",
                    "proxy_read_timeout 5s @18 5s",
                    "proxy_pass http://127.0.0.1:3001/x @17 -",
                ],
            ),
            case(
                Cause::ResponseTimeout,
                "/php",
                "unix:/run/php.sock",
                &[
                    "fastcgi_read_timeout is 60s (default; to change it: location /php at /n.conf:25): do something",
                    "fastcgi_read_timeout 60s @- 60s",
                    "fastcgi_pass unix:/run/php.sock @25 -",
                ],
            ),
            case(
                Cause::SendFailed,
                "/php",
                "unix:/run/php.sock",
                &[
                    "client_max_body_size is 1m (default; to change it: location /php at /n.conf:25): do something",
                    "client_max_body_size 1m @- -",
                    "fastcgi_pass unix:/run/php.sock @25 -",
                ],
            ),
            case(
                Cause::FdsExhausted,
                "/php",
                "unix:/run/php.sock",
                &[
                    "do something; worker_rlimit_nofile is 1024 at /n.conf:1, worker_connections is 768 at /n.conf:2",
                    "worker_rlimit_nofile 1024 @1 -",
                    "worker_connections 768 @2 -",
                ],
            ),
            case(
                Cause::WorkerConnections,
                "/none",
                "backend",
                &[
                    "worker_connections is 768 at /n.conf:2: do something",
                    "worker_connections 768 @2 -",
                    "worker_rlimit_nofile 1024 @1 -",
                ],
            ),
            case(
                Cause::BindFailed,
                "/set/",
                "127.0.0.1:3001",
                &[
                    "do something: proxy_bind 10.9.9.9 at /n.conf:21",
                    "proxy_bind 10.9.9.9 @21 -",
                    "proxy_pass http://127.0.0.1:3001/x @17 -",
                ],
            ),
            case(
                Cause::TempfileFailed,
                "/set/",
                "127.0.0.1:3001",
                &["-", "client_body_temp_path /tmp/body @5 -", "proxy_max_temp_file_size 1024m @- -"],
            ),
        ],
    );
}

#[test]
fn buffers_grow_with_their_companions() {
    let page = 4096;
    assert_eq!(rustix::param::page_size(), page, "the cases are for this page");
    check(
        SITE,
        &[
            case(
                Cause::HeaderTooBig,
                "/default/",
                "10.0.0.1:3001",
                &[
                    "proxy_buffer_size is 4k (default; to change it: location /default/ at /n.conf:15): raise it to 16k with \
                 proxy_buffers 8 16k, or send fewer cookies",
                    "proxy_buffer_size 4k @- 4k",
                    "proxy_buffers 8 4k @- -",
                    "server 10.0.0.1:3001 max_fails=3 @7 -",
                    "proxy_pass http://backend @15 -",
                ],
            ),
            case(
                Cause::HeaderTooBig,
                "/set/",
                "127.0.0.1:3001",
                &[
                    "proxy_buffer_size is 32k at /n.conf:19: raise it to 64k, or send fewer cookies",
                    "proxy_buffer_size 32k @19 32k",
                    "proxy_buffers 8 64k @20 -",
                    "proxy_pass http://127.0.0.1:3001/x @17 -",
                ],
            ),
        ],
    );
}

#[test]
fn keepalive_and_what_was_seen_of_it() {
    check(
        SITE,
        &[
            case(
                Cause::StaleKeepalive,
                "/default/",
                "10.0.0.1:3001",
                &[
                    "keepalive_timeout is 60s (default; to change it: upstream backend at /n.conf:6), and the upstream had \
                 closed the connection by the time it was idle for 5.0 s: set it lower than the upstream's own, or raise that",
                    "keepalive_timeout 60s @- -",
                    "keepalive 16 @10 -",
                    "server 10.0.0.1:3001 max_fails=3 @7 -",
                    "proxy_pass http://backend @15 -",
                ],
            ),
            case(Cause::StaleKeepalive, "/set/", "127.0.0.1:3001", &["-", "proxy_pass http://127.0.0.1:3001/x @17 -"]),
        ],
    );
}

#[test]
fn servers_that_are_left_alone() {
    let expected = [
        "do something; or its servers are at max_conns; upstream backend at /n.conf:6: 10.0.0.1:3001 (line 7) max_fails=3 fail_timeout=10s, \
         10.0.0.2:3001 (line 8) max_fails=1 fail_timeout=5s max_conns=7 backup, 10.0.0.3:3001 (line 9) is marked down",
        "server 10.0.0.1:3001 max_fails=3 @7 -",
        "server 10.0.0.2:3001 fail_timeout=5s max_conns=7 backup @8 -",
        "server 10.0.0.3:3001 down @9 -",
    ];
    check(SITE, &[case(Cause::NoLiveUpstreams, "/default/", "backend", &expected)]);
}

#[test]
fn servers_that_are_out_without_a_failure() {
    let hint = |servers: &str, next: &str| {
        let text = format!(
            "http {{ upstream pool {{ {servers} }} server {{ location / {{ proxy_pass http://pool; {next} }} }} }}"
        );
        let tree = tree(&text);
        let mut configured = configured("/default/");
        configured.server =
            Some(Server { name: String::new(), place: Some(Place { file: "/n.conf".into(), line: 1 }) });
        configured.location = Some("/".to_owned());
        configured.pass =
            configured.pass.map(|pass| Pass { block: Some(Block { name: "pool".to_owned(), place: None }), ..pass });
        let upstream = Address::from_nginx("pool");
        let question = question(Cause::NoLiveUpstreams, &upstream, Some(&configured));
        advise(&question, Some(View::new(&tree, 1))).hint.unwrap_or_default()
    };
    let said = |servers: &str| hint(servers, "").split("; upstream").next().unwrap_or_default().to_owned();
    let counted = hint("server 10.0.0.1;", "proxy_next_upstream error http_502;");
    assert!(
        counted.contains("; answers count as failures, too: proxy_next_upstream error http_502 at /n.conf:1;"),
        "{counted}"
    );
    assert!(!hint("server 10.0.0.1;", "proxy_next_upstream error http_404;").contains("count"));
    assert!(!hint("server 10.0.0.1 down;", "proxy_next_upstream error http_502;").contains("count"));
    assert_eq!(said("server 10.0.0.1 down;"), "every server is marked down: take that off one of them");
    assert_eq!(said("server 10.0.0.1;"), "do something");
    assert_eq!(said("server 10.0.0.1 max_conns=2;"), "its only server is at max_conns: raise it, or add a server");
    assert_eq!(said("server app.lan max_conns=2;"), "do something; or its servers are at max_conns");
    let never = "no server is left alone after failures (max_fails=0)";
    assert_eq!(
        said("server 10.0.0.1 max_fails=0 max_conns=2; server 10.0.0.2 down;"),
        format!("{never}: they are at max_conns, or were tried already for this request")
    );
    assert_eq!(said("server 10.0.0.1 max_fails=0;"), format!("{never}: each was tried already for this request"));
}

#[test]
fn for_how_long_each_server_is_left_alone() {
    let told = |location: &str, block: &str, peers: &[&str]| {
        let (tree, configured) = (tree(SITE), configured(location));
        let upstream = Address::from_nginx(block);
        let question = question(Cause::NoLiveUpstreams, &upstream, Some(&configured));
        let advice = advise(&question, Some(View::new(&tree, 1)));
        peers.iter().map(|peer| advice.fail_timeout_ms(&Address::from_nginx(peer))).collect::<Vec<_>>()
    };
    let of_two = ["10.0.0.1:3001", "10.0.0.2:3001", "10.0.0.4:3001"];
    assert_eq!(told("/default/", "backend", &of_two), [Some(10_000), Some(5000), None]);
    // One server, which has two addresses if it is a name.
    assert_eq!(told("/patient", "patient", &["10.0.0.9:80", "10.0.0.10:80"]), [Some(10_000); 2]);
}

#[test]
fn names_and_resolvers() {
    check(
        SITE,
        &[case(
            Cause::DnsTimeout,
            "/url",
            "backend",
            &[
                "do something: resolver 127.0.0.11 valid=30s at /n.conf:4 (resolver_timeout 30s)",
                "resolver 127.0.0.11 valid=30s @4 -",
                "resolver_timeout 30s @- -",
                "proxy_pass http://$arg_x @26 -",
            ],
        )],
    );
    let without = SITE.replace("resolver ", "# ");
    check(
        &without,
        &[case(
            Cause::NoResolver,
            "/url",
            "backend",
            &[
                "add a resolver directive to server at /n.conf:13, or take the variable out of proxy_pass at /n.conf:26",
                "proxy_pass http://$arg_x @26 -",
            ],
        )],
    );
}

#[test]
fn handshakes_and_certificates() {
    check(
        SITE,
        &[
            case(
                Cause::TlsHandshakeFailed,
                "/patient",
                "10.0.0.9:80",
                &[
                    "proxy_ssl_server_name is off (default; to change it: location /patient at /n.conf:27), so that no server \
                 name is sent: do something",
                    "proxy_ssl_server_name off @- -",
                    "server 10.0.0.9 @12 -",
                    "proxy_pass http://patient @27 -",
                ],
            ),
            case(
                Cause::TlsVerifyFailed,
                "/set/",
                "127.0.0.1:3001",
                &[
                    "do something: proxy_ssl_trusted_certificate /etc/ca.pem at /n.conf:23",
                    "proxy_ssl_trusted_certificate /etc/ca.pem @23 -",
                    "proxy_ssl_verify off @- -",
                    "proxy_ssl_verify_depth 1 @- -",
                    "proxy_ssl_server_name on @22 -",
                    "proxy_pass http://127.0.0.1:3001/x @17 -",
                ],
            ),
        ],
    );
}

#[test]
fn statuses_that_are_ordered() {
    check(
        SITE,
        &[
            case(
                Cause::ConfiguredStatus,
                "/gone",
                "x",
                &["do something: return 502 at /n.conf:28", "return 502 @28 -"],
            ),
            case(
                Cause::ConfiguredStatus,
                "/files",
                "x",
                &["do something: try_files $uri =502 at /n.conf:29", "try_files $uri =502 @29 -"],
            ),
            case(Cause::ConfiguredStatus, "/php", "x", &["-"]),
            without_memory(Cause::ConfiguredStatus, "x", &["-"]),
        ],
    );
}

#[test]
fn without_memory_only_what_one_line_can_mean() {
    // The site has a URL with variables: a request to any address may have come from there.
    check(SITE, &[without_memory(Cause::ConnectRefused, "10.0.0.1:3001", &["-"])]);
    let site = SITE.replace("http://$arg_x", "http://10.0.0.4:80");
    let backend = ["server 10.0.0.1:3001 max_fails=3 @7 -", "proxy_pass http://backend @15 -"];
    check(
        &site,
        &[
            without_memory(
                Cause::ConnectRefused,
                "10.0.0.1:3001",
                &["do something: server 10.0.0.1:3001 max_fails=3 at /n.conf:7", backend[0], backend[1]],
            ),
            without_memory(
                Cause::ConnectTimeout,
                "10.0.0.1:3001",
                &[
                    "proxy_connect_timeout is 60s (default; to change it: location /default/ at /n.conf:15): do something",
                    "proxy_connect_timeout 60s @- -",
                    backend[0],
                    backend[1],
                ],
            ),
            without_memory(
                Cause::ResponseTimeout,
                "127.0.0.1:3001",
                &[
                    "proxy_read_timeout is 5s at /n.conf:18: do something",
                    "proxy_read_timeout 5s @18 -",
                    "proxy_pass http://127.0.0.1:3001/x @17 -",
                ],
            ),
            without_memory(Cause::ConnectRefused, "10.0.0.77:1", &["-"]),
            without_memory(Cause::ConnectRefused, "unix:/run/other", &["-"]),
        ],
    );
    // Another location with the same address, or a name with the same port: it could be either.
    for other in ["http://10.0.0.1:3001", "http://name:3001"] {
        let site = SITE.replace("http://$arg_x", other);
        check(&site, &[without_memory(Cause::ConnectRefused, "10.0.0.1:3001", &["-"])]);
    }
}

#[test]
fn where_memory_and_files_differ_memory_counts() {
    let tree = tree(&SITE.replace("proxy_read_timeout 5s", "proxy_read_timeout 7s"));
    let (configured, upstream) = (configured("/set/"), Address::from_nginx("127.0.0.1:3001"));
    let question = question(Cause::ResponseTimeout, &upstream, Some(&configured));
    let advice = advise(&question, Some(View::new(&tree, 1)));
    assert_eq!(
        advice.hint.as_deref(),
        Some("proxy_read_timeout in force is 5s, although /n.conf:18 says 7s: do something")
    );
    assert_eq!(advice.settings[0].in_force.as_deref(), Some("5s"));
    assert_eq!(advice.settings[0].value.as_deref(), Some("7s"));
}

#[test]
fn a_file_that_was_changed_since_names_no_line() {
    let tree = tree(SITE);
    let (configured, upstream) = (configured("/set/"), Address::from_nginx("127.0.0.1:3001"));
    let ask = |cause| advise(&question(cause, &upstream, Some(&configured)), Some(View::new(&tree, 0)));
    assert_eq!(
        shown(&ask(Cause::ResponseTimeout)),
        "proxy_read_timeout in force is 5s: do something (/n.conf was changed since the workers were started: no line can \
         be named)\nproxy_read_timeout - @- 5s"
    );
    assert_eq!(shown(&ask(Cause::ConnectRefused)), "-");
}

#[test]
fn without_files_memory_alone_is_told() {
    let (configured, upstream) = (configured("/set/"), Address::from_nginx("127.0.0.1:3001"));
    let ask = |cause, configured| shown(&advise(&question(cause, &upstream, configured), None));
    assert_eq!(
        ask(Cause::ResponseTimeout, Some(&configured)),
        "proxy_read_timeout in force is 5s: do something\nproxy_read_timeout - @- 5s"
    );
    for cause in Cause::ALL {
        assert_eq!(ask(*cause, None), "-", "{cause}");
    }
}

/// Every cause, every location, with and without memory: nothing panics, and what is named is there.
#[test]
fn all_causes_everywhere() {
    let tree = tree(SITE);
    for cause in Cause::ALL {
        for location in ["", "/default/", "/set/", "/php", "/url", "/patient", "/gone", "/none"] {
            let configured = configured(location);
            for upstream in ["10.0.0.1:3001", "backend", "unix:/run/php.sock", "name", ""] {
                let upstream = Address::from_nginx(upstream);
                for configured in [None, Some(&configured)] {
                    let advice = advise(&question(*cause, &upstream, configured), Some(View::new(&tree, 1)));
                    for place in advice.settings.iter().filter_map(|setting| setting.place.as_ref()) {
                        assert!(place.file == "/n.conf" && (1..=31).contains(&place.line));
                    }
                }
            }
        }
    }
}
