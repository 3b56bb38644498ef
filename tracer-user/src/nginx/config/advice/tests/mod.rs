mod lines;
mod servers;
mod sources;

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
