//! Which of nginx's messages, and which ways from an upstream's failure to a status, the scenarios produce; and which
//! they do not, with the reason. The tests hold the tables to the scenarios, so that neither rots alone.

/// nginx's messages about upstreams: name, how the message goes on after `begin … `, and scenarios that meet it.
const MESSAGES: &[(&str, &str, &[&str])] = &[
    ("connect_refused", "connect() failed (111", &["connect/refused", "connect/rejected_by_icmp_port"]),
    ("connect_unreach_host", "connect() failed (113", &["connect/unreachable_arp", "connect/unreachable_icmp"]),
    ("connect_timeout_kernel", "connect() failed (110", &["connect/timeout_kernel"]),
    ("reset_before_first_write", "connect() failed (104", &["connect/reset", "keepalive/rst_before_pick_up"]),
    ("connect_sync_refused", "connect() to unix: … failed (111", &["unix/refused"]),
    ("unix_backlog_full", "connect() to unix: … failed (11:", &["unix/backlog_full"]),
    ("connect_sync_netunreach", "connect() to 192.0.2.1:80 failed (101", &["connect/routes_of_this_host"]),
    ("connect_sync_hostunreach", "connect() to 10.88.2.1:80 failed (113", &["connect/routes_of_this_host"]),
    ("unix_socket_missing", "connect() to unix: … failed (2:", &["unix/missing"]),
    ("connect_permission", "connect() to 10.88.1.1:80 failed (13", &["connect/routes_of_this_host", "unix/denied"]),
    ("ephemeral_ports_exhausted", "connect() to 127.0.0.1 … failed (99", &["connect/ports_exhausted"]),
    ("connect_einval", "connect() to 10.88.3.1:80 failed (22", &["connect/routes_of_this_host"]),
    ("timeout_connect", "upstream timed out (110 … while connecting", &["connect/timeout_filtered"]),
    ("timeout_ssl_handshake", "upstream timed out (110 … while SSL handshaking", &["tls/timeout"]),
    ("timeout_send", "upstream timed out (110 … while sending request", &["sending/timeout"]),
    ("timeout_read_header", "upstream timed out (110 … while reading response header", &["response/timeout"]),
    ("timeout_read_body", "upstream timed out (110 … while reading upstream", &["body/stalled"]),
    ("timeout_upgraded", "upstream timed out (110 … while proxying upgraded", &["negative/upgraded_timeout"]),
    (
        "premature_close_header",
        "upstream prematurely closed … header",
        &["response/closed", "tls/closed_before_response"],
    ),
    (
        "premature_close_body",
        "upstream prematurely closed … reading upstream",
        &["body/closed", "tls/closed_mid_response"],
    ),
    ("reset_header", "recv() failed (104 … while reading response header", &["response/reset"]),
    ("recv_timeout_kernel_header", "recv() failed (110", &["response/timeout_kernel"]),
    ("reset_body", "readv() failed (104 … while reading upstream", &["body/reset"]),
    ("reset_upgraded", "recv() failed (104 … while proxying upgraded", &["negative/upgraded_reset"]),
    ("send_reset", "writev() failed (104", &["sending/reset_before_write"]),
    ("header_too_big", "upstream sent too big header", &["response/header_too_big"]),
    ("invalid_header", "upstream sent invalid header", &["response/header_invalid"]),
    (
        "header_cl_te_conflict",
        "upstream sent \"Content-Length\" and \"Transfer-Encoding\"",
        &["response/header_conflicts"],
    ),
    ("header_duplicate_cl_te", "upstream sent duplicate header line", &["response/header_conflicts"]),
    ("header_unknown_te", "upstream sent unknown \"Transfer-Encoding\"", &["response/header_conflicts"]),
    ("header_invalid_cl", "upstream sent invalid \"Content-Length\"", &["response/header_conflicts"]),
    ("not_http", "upstream sent no valid HTTP/1.0 header", &["clients/http09_from_upstream"]),
    ("invalid_chunked", "upstream sent invalid chunked response", &["body/invalid_chunk"]),
    ("invalid_status_line", "upstream sent invalid status", &["protocols/gateway_status", "protocols/fastcgi_records"]),
    ("tls_peer_closed", "peer closed connection in SSL handshake while", &["tls/peer_closed"]),
    ("tls_peer_reset", "peer closed connection in SSL handshake (104", &["tls/peer_reset"]),
    ("tls_handshake_failed", "SSL_do_handshake() failed (SSL:", &["tls/plain_http_behind_https", "tls/alert"]),
    ("tls_verify_failed", "upstream SSL certificate verify error: (", &["tls/certificate_of_nobody_known"]),
    ("tls_name_mismatch", "upstream SSL certificate does not match", &["tls/certificate_of_another_name"]),
    ("tls_write_failed", "SSL_write() failed", &["tls/reset_during_big_body"]),
    (
        "no_live_upstreams",
        "no live upstreams while connecting",
        &["no_attempt/no_live_upstreams", "no_attempt/max_conns"],
    ),
    ("server_disabled", "upstream server temporarily disabled", &["witness/log_level_warn"]),
    ("no_resolver", "no resolver defined to resolve", &["no_attempt/no_resolver"]),
    ("dns_timeout", "lab.invalid could not be resolved (110", &["no_attempt/dns_silent_or_garbled"]),
    ("dns_nxdomain", "lab.invalid could not be resolved (3:", &["no_attempt/dns_failed"]),
    ("dns_servfail", "lab.invalid could not be resolved (2:", &["no_attempt/dns_failed"]),
    ("dns_other", "lab.invalid could not be resolved (5:", &["no_attempt/dns_failed"]),
    // Both are about no request: what comes of them is.
    ("dns_server_refused", "lab.invalid could not be resolved (110", &["no_attempt/dns_timeout"]),
    ("dns_bad_response", "lab.invalid could not be resolved (110", &["no_attempt/dns_silent_or_garbled"]),
    ("bad_upstream_url", "invalid URL prefix in", &["exhausted/bad_address_from_variables"]),
    ("emfile_socket", "socket() failed (24", &["exhausted/file_descriptors"]),
    ("worker_connections", "21 worker_connections are not enough", &["exhausted/worker_connections"]),
    ("bind_failed", "bind(192.0.2.7) failed (99", &["exhausted/bind"]),
    ("client_closed", "epoll_wait() reported that client", &["negative/client_leaves_log_info"]),
    // Without a message, at this level of the log.
    ("client_h2_cancel", "", &["clients/http2_cancels"]),
    ("client_timed_out", "", &["clients/body_never_comes"]),
    ("fcgi_stderr", "FastCGI sent in stderr", &["protocols/fastcgi_records", "hostile/bytes"]),
    ("fcgi_unexpected_record", "upstream sent unexpected FastCGI record: 3", &["protocols/fastcgi_records"]),
    (
        "fcgi_stdout_closed",
        "upstream prematurely closed FastCGI stdout",
        &["protocols/fastcgi_records", "protocols/fastcgi_body"],
    ),
    ("fcgi_request_closed", "upstream prematurely closed FastCGI request", &["protocols/fastcgi_body"]),
    ("fcgi_bad_protocol", "upstream sent unsupported FastCGI", &["protocols/http_behind_another_pass"]),
    ("h2_not_http2", "upstream sent too large http2 frame: 4740180", &["protocols/http_behind_another_pass"]),
    ("h2_rst_stream", "upstream rejected request with error 7", &["protocols/grpc_frames"]),
    ("h2_goaway", "upstream sent goaway with error 2", &["protocols/grpc_frames"]),
    ("h2_stream_closed_early", "upstream prematurely closed stream", &["protocols/grpc_body"]),
    ("h2_protocol_error", "upstream sent unexpected http2 frame: 9", &["protocols/grpc_frames"]),
    ("memcached_invalid", "memcached sent invalid response", &["protocols/memcached"]),
    ("auth_subrequest_5xx", "auth request unexpected status: 502", &["handled/auth_request"]),
    ("upstream_own_5xx", "", &["origins/side_by_side", "negative/status_by_upstream"]),
    ("cached_5xx", "", &["origins/cached_failure", "origins/cached_status_of_upstream"]),
    ("return_5xx", "", &["origins/side_by_side", "negative/status_by_configuration"]),
    ("limit_req_conn", "limiting requests, excess", &["origins/limited"]),
];

/// nginx's messages without a scenario, and why.
const UNSPOKEN: &[(&str, &str)] = &[
    (
        "connect_unreach_net",
        "Linux gives 113 for an ICMP net unreachable; 101 comes at once, as connect_sync_netunreach",
    ),
    (
        "connect_async_other",
        "no fault makes a kernel give another error to an asynchronous connect on loopback or veth",
    ),
    ("connect_sync_reset_or_down", "no route or device makes connect(2) itself give 104, 100 or 112"),
    ("connect_eperm", "takes a cgroup program or an LSM that denies connect(2), on the host that is tested"),
    ("connect_sync_other", "the table names no errno that can be provoked beyond those that have a row"),
    ("recv_other_header", "takes an ICMP error on an established connection with IP_RECVERR, which nginx does not set"),
    ("send_other", "no fault gives writev(2) another errno than 104 or 32 on TCP"),
    ("header_duplicate_ignored", "a warning, about an answer that is passed on"),
    ("early_hints_http10", "nginx 1.29.0 and later, with early_hints; no scenario yet"),
    ("premature_plaintext_tls", "nginx 1.29.5 and distributions that took the fix over; no scenario yet"),
    ("extra_body_data", "a warning, about an answer that is passed on"),
    ("tls_handshake_syscall", "older OpenSSL: since 1.1.1 a failed system call in a handshake is tls_peer_reset"),
    ("tls_handshake_rejected", "takes a renegotiation by the server, which TLS 1.3 and OpenSSL's defaults forbid"),
    ("tls_read_failed_header", "nginx before 1.21.2 with OpenSSL 3 alone"),
    ("tls_setup_failed", "takes OpenSSL to run out of memory"),
    ("no_upstream_conf", "cannot be configured: nginx refuses to start"),
    ("socket_other", "ENFILE takes all descriptors of the host; the others no longer happen"),
    ("worker_connections_client", "a client's connection that is not accepted: no request, nothing to attribute"),
    ("tempfile_enospc", "takes a full file system under nginx; a 200 cut short, or a 500 without an upstream"),
];

/// The table of causes and statuses: number of the row, and what produces it (a message's name, or a scenario).
const WAYS: &[(u8, &str)] = &[
    (1, "connect_refused"),
    (2, "connect_unreach_host"),
    (3, "connect_timeout_kernel"),
    (4, "reset_before_first_write"),
    (5, "connect_einval"),
    (6, "unix_socket_missing"),
    (7, "timeout_connect"),
    (8, "timeout_ssl_handshake"),
    (9, "timeout_send"),
    (10, "timeout_read_header"),
    (11, "timeout_read_body"),
    (12, "premature_close_header"),
    (13, "reset_header"),
    (14, "recv_timeout_kernel_header"),
    (15, "send_reset"),
    (16, "header_too_big"),
    (17, "invalid_header"),
    (18, "header_cl_te_conflict"),
    (19, "not_http"),
    (20, "premature_close_body"),
    (21, "reset_body"),
    (22, "invalid_chunked"),
    (23, "tls_peer_closed"),
    (24, "tls_peer_reset"),
    (25, "tls_handshake_failed"),
    (26, "tls_verify_failed"),
    (27, "tls/reset_before_response"),
    (28, "tls_write_failed"),
    (29, "premature_plaintext_tls"),
    (30, "no_live_upstreams"),
    (31, "no_resolver"),
    (32, "dns_timeout"),
    (33, "dns_server_refused"),
    (34, "bad_upstream_url"),
    (35, "emfile_socket"),
    (36, "worker_connections"),
    (37, "bind_failed"),
    (38, "client_closed"),
    (39, "client_h2_cancel"),
    (40, "upstream_own_5xx"),
    (41, "cached_5xx"),
    (42, "return_5xx"),
    (43, "auth_subrequest_5xx"),
    (44, "fcgi_unexpected_record"),
    (45, "fcgi_bad_protocol"),
    (46, "invalid_status_line"),
    (47, "fcgi_request_closed"),
    (48, "h2_rst_stream"),
    (49, "memcached_invalid"),
    (50, "server_disabled"),
    (51, "tempfile_enospc"),
    (52, "limit_req_conn"),
    (53, "tls_setup_failed"),
];

/// The edges of `ngx_http_special_response_handler`: when it is called for a 502, and when not; the scenario of each.
const PAGES: &[(&str, &str)] = &[
    ("plain, HTTP/1", "connect/refused"),
    ("plain, HTTP/2", "clients/http2"),
    ("error_page", "handled/error_page"),
    ("error_page =200", "handled/error_page_as_200"),
    ("error page missing", "handled/error_page_missing"),
    ("fallback works", "handled/fallback"),
    ("fallback refused", "handled/fallback_refused_too"),
    ("fallback refused, recursive_error_pages", "handled/recursive_error_pages"),
    ("upstream's own status intercepted", "negative/status_by_upstream_intercepted"),
    ("upstream's own status passed on", "negative/status_by_upstream"),
    ("cached", "origins/cached_failure"),
    ("return, return with text, try_files", "negative/status_by_configuration"),
    ("auth_request", "handled/auth_request"),
    ("cut after the header", "body/closed"),
    ("499", "negative/client_leaves"),
    ("a filter ends the request", "subrequests/image_filter"),
    ("HTTP/0.9", "clients/http09_from_upstream"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{MESSAGES, PAGES, UNSPOKEN, WAYS};
    use crate::scenario::Scenario;
    use crate::scenarios::{Entry, all};

    fn entry(name: &str) -> Entry {
        all().find(|entry| entry.name() == name).unwrap_or_else(|| panic!("no scenario {name}"))
    }

    /// Whether nginx says this in a scenario: each part, in one message.
    fn says(scenario: &Scenario, message: &str) -> bool {
        let attempts = scenario.cases.iter().flat_map(|case| case.attempts).map(|attempt| attempt.says);
        let others = scenario.cases.iter().flat_map(|case| case.says.iter().chain(case.may_say)).copied();
        let mut patterns = attempts.chain(others).flat_map(|says| says.split(" | "));
        patterns.any(|says| message.split(" … ").all(|part| says.contains(part)))
    }

    #[test]
    fn each_message_is_met_where_the_table_says_so() {
        for (name, message, scenarios) in MESSAGES {
            assert!(!scenarios.is_empty(), "{name}");
            let entries: Vec<Entry> = scenarios.iter().map(|scenario| entry(scenario)).collect();
            let met = entries.iter().any(|entry| match entry {
                Entry::Traffic(scenario) => says(scenario, message),
                Entry::Program(_) => false,
            });
            assert!(met || message.is_empty(), "{name}: no scenario of {scenarios:?} meets {message:?}");
        }
    }

    #[test]
    fn every_message_is_covered_or_has_a_reason() {
        let names = MESSAGES.iter().map(|(name, ..)| *name).chain(UNSPOKEN.iter().map(|(name, _)| *name));
        let mut seen = HashSet::new();
        for name in names {
            assert!(seen.insert(name), "{name} is there twice");
        }
        // As many as the table of messages has.
        assert_eq!(seen.len(), 91);
        assert!(UNSPOKEN.iter().all(|(_, reason)| reason.len() > 20));
    }

    #[test]
    fn every_way_to_a_status_is_covered_or_has_a_reason() {
        for (number, (row, by)) in (1..).zip(WAYS) {
            assert_eq!(*row, number, "{by}");
            let message = MESSAGES.iter().any(|(name, ..)| name == by) || UNSPOKEN.iter().any(|(name, _)| name == by);
            assert!(message || entry(by).name() == *by);
        }
        assert_eq!(WAYS.len(), 53);
    }

    #[test]
    fn every_edge_of_the_error_page_has_a_scenario() {
        for (edge, scenario) in PAGES {
            assert_eq!(entry(scenario).name(), *scenario, "{edge}");
        }
    }
}
