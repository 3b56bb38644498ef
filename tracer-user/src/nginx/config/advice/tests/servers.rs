//! The upstream's servers, their names and certificates.

use super::{SITE, case, check, configured, question, tree};
use crate::{
    model::{
        address::Address,
        cause::Cause,
        configured::{Block, Pass, Place, Server},
    },
    nginx::config::{advice::advise, view::View},
};

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
