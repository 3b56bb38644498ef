//! Files against memory, and one without the other.

use super::{SITE, check, configured, question, shown, tree, without_memory};
use crate::{
    model::{address::Address, cause::Cause},
    nginx::config::{advice::advise, view::View},
};

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
