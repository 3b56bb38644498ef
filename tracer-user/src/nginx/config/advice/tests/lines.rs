//! Which lines lead to an upstream, and what of them is in force: as files and memory have it.

use super::{SITE, case, check};
use crate::model::cause::Cause;

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
