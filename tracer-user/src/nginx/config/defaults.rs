//! What is in force where no file says anything: defaults of the nginx documentation.
//!
//! Only those that are the same in every version from 1.18 on: of others nothing is claimed.

use crate::model::configured::Module;

/// Directives of modules that pass requests on, without the module's name.
const OF_MODULES: &[(&str, &[Module], &str)] = {
    use Module::{Fastcgi, Grpc, Proxy, Scgi, Uwsgi};
    &[
        ("connect_timeout", &Module::ALL, "60s"),
        ("send_timeout", &Module::ALL, "60s"),
        ("read_timeout", &Module::ALL, "60s"),
        ("buffer_size", &Module::ALL, PAGE),
        ("buffers", &[Proxy, Fastcgi, Uwsgi, Scgi], EIGHT_PAGES),
        ("max_temp_file_size", &[Proxy, Fastcgi, Uwsgi, Scgi], "1024m"),
        ("ssl_server_name", &[Proxy, Grpc, Uwsgi], "off"),
        ("ssl_verify", &[Proxy, Grpc, Uwsgi], "off"),
        ("ssl_verify_depth", &[Proxy, Grpc, Uwsgi], "1"),
    ]
};

/// Other directives of http, server and location.
const OF_LOCATIONS: &[(&str, &str)] = &[("client_max_body_size", "1m"), ("resolver_timeout", "30s")];
const OF_UPSTREAMS: &[(&str, &str)] = &[("keepalive_timeout", "60s")];
const OF_SERVERS: &[(&str, &str)] = &[("max_fails", "1"), ("fail_timeout", "10s")];
const OF_EVENTS: &[(&str, &str)] = &[("worker_connections", "512")];

/// One memory page.
const PAGE: &str = "4k|8k";
const EIGHT_PAGES: &str = "8 4k|8k";

/// Of a directive in http, server or location.
pub(super) fn of_location(name: &str) -> Option<String> {
    let of_module = || {
        let (module, rest) = name.split_once('_')?;
        let module = Module::ALL.into_iter().find(|known| known.prefix() == module)?;
        let known = |(suffix, modules, _): &&(&str, &[Module], &str)| *suffix == rest && modules.contains(&module);
        OF_MODULES.iter().find(known).map(|(_, _, value)| in_pages(value))
    };
    of(OF_LOCATIONS, name).map(str::to_owned).or_else(of_module)
}

/// Of a directive in `upstream`.
pub(super) fn of_upstream(name: &str) -> Option<&'static str> {
    of(OF_UPSTREAMS, name)
}

/// Of a parameter of `server` in `upstream`.
pub(super) fn of_server(name: &str) -> Option<&'static str> {
    of(OF_SERVERS, name)
}

/// Of a directive in `events`.
pub(super) fn of_events(name: &str) -> Option<&'static str> {
    of(OF_EVENTS, name)
}

fn of(table: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// With the page of this machine, which is that of the nginx on it.
fn in_pages(value: &str) -> String {
    value.replace(PAGE, &super::value::size(rustix::param::page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::{OF_EVENTS, OF_LOCATIONS, OF_MODULES, OF_SERVERS, OF_UPSTREAMS, of_location};

    /// "Default:" of each directive on nginx.org, and of each parameter of `server` what its text says.
    const DOCUMENTED: &str = "
        proxy_connect_timeout 60s;         fastcgi_connect_timeout 60s;      uwsgi_connect_timeout 60s;
        scgi_connect_timeout 60s;          grpc_connect_timeout 60s;         memcached_connect_timeout 60s;
        proxy_send_timeout 60s;            fastcgi_send_timeout 60s;         uwsgi_send_timeout 60s;
        scgi_send_timeout 60s;             grpc_send_timeout 60s;            memcached_send_timeout 60s;
        proxy_read_timeout 60s;            fastcgi_read_timeout 60s;         uwsgi_read_timeout 60s;
        scgi_read_timeout 60s;             grpc_read_timeout 60s;            memcached_read_timeout 60s;
        proxy_buffer_size 4k|8k;           fastcgi_buffer_size 4k|8k;        uwsgi_buffer_size 4k|8k;
        scgi_buffer_size 4k|8k;            grpc_buffer_size 4k|8k;           memcached_buffer_size 4k|8k;
        proxy_buffers 8 4k|8k;             fastcgi_buffers 8 4k|8k;          uwsgi_buffers 8 4k|8k;
        scgi_buffers 8 4k|8k;
        proxy_max_temp_file_size 1024m;    fastcgi_max_temp_file_size 1024m; uwsgi_max_temp_file_size 1024m;
        scgi_max_temp_file_size 1024m;
        proxy_ssl_server_name off;         grpc_ssl_server_name off;         uwsgi_ssl_server_name off;
        proxy_ssl_verify off;              grpc_ssl_verify off;              uwsgi_ssl_verify off;
        proxy_ssl_verify_depth 1;          grpc_ssl_verify_depth 1;          uwsgi_ssl_verify_depth 1;
        client_max_body_size 1m;           resolver_timeout 30s;             keepalive_timeout 60s;
        max_fails 1;                       fail_timeout 10s;                 worker_connections 512;
    ";

    #[test]
    fn every_default_is_the_documented_one() {
        let mut listed: Vec<String> = Vec::new();
        for (suffix, modules, value) in OF_MODULES {
            listed.extend(modules.iter().map(|module| format!("{}_{suffix} {value}", module.prefix())));
        }
        for (name, value) in [OF_LOCATIONS, OF_UPSTREAMS, OF_SERVERS, OF_EVENTS].into_iter().flatten() {
            listed.push(format!("{name} {value}"));
        }
        let mut documented: Vec<String> =
            DOCUMENTED.split(';').map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        listed.sort();
        documented.sort();
        assert_eq!(listed, documented);
    }

    #[test]
    fn names_lead_to_defaults() {
        assert_eq!(of_location("grpc_read_timeout").as_deref(), Some("60s"));
        assert_eq!(of_location("grpc_buffers"), None);
        assert_eq!(of_location("memcached_ssl_verify"), None);
        assert_eq!(of_location("nonsense"), None);
        let page = super::super::value::size(rustix::param::page_size() as u64);
        assert_eq!(of_location("proxy_buffers"), Some(format!("8 {page}")));
    }
}
