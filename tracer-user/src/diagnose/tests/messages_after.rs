//! nginx's messages from the first byte of the request on: each leads to its cause, by phase, reuse and what the kernel saw.

use super::{
    link::{connection, reused},
    messages::{NONE, Row, check, fin, nothing, rst, unix, unix_open, waiting},
    script::{BODY, HEADER, SENDING, Step},
};

const CLIENT: &str = "sending to client";
const UPGRADED: &str = "proxying upgraded connection";

/// The FIN of an idle connection answers the request's first bytes.
fn stale_fin(step: Step) -> Step {
    step.cached(true).on(reused(5000).sent(100, 3).fin(2))
}

fn stale_rst(step: Step) -> Step {
    step.cached(true).on(reused(5000).sent(100, 3).rst(2))
}

/// The request was not written: the end was there before.
fn stale_before(step: Step) -> Step {
    step.cached(true).on(reused(5000).sent(100, 1).rst(40))
}

/// The kernel gave the connection up.
fn given_up(step: Step) -> Step {
    step.on(connection().given_up(110))
}

/// Bytes of a response came.
fn answering(step: Step) -> Step {
    step.on(connection().received(4096, 1))
}

/// The header came, and then the FIN.
fn cut(step: Step) -> Step {
    step.accepted_header().on(connection().received(4096, 5).fin(2))
}

/// The header came, and then the RST.
fn cut_by_rst(step: Step) -> Step {
    step.accepted_header().on(connection().received(4096, 5).rst(2))
}

/// The header came, and then nothing.
fn stalled(step: Step) -> Step {
    step.accepted_header().on(connection().received(4096, 5))
}

const PREMATURE: &str = "upstream prematurely closed connection";
const DUPLICATE: &str = "upstream sent duplicate header line: \"%V: %V\", previous value: \"%V: %V\"";

const ROWS: &[Row] = &[
    ("timeout_send", "upstream timed out", 110, SENDING, waiting, "send_timeout", 504),
    ("timeout_read_header", "upstream timed out", 110, HEADER, waiting, "response_timeout", 504),
    ("timeout_read_header", "upstream timed out", 110, HEADER, unix_open, "response_timeout", 504),
    ("timeout_read_body", "upstream timed out", 110, BODY, stalled, "response_stalled", 200),
    ("timeout_upgraded", "upstream timed out", 110, UPGRADED, stalled, NONE, 0),
    ("premature_close_header", PREMATURE, 0, HEADER, fin, "closed_before_response", 502),
    ("premature_close_header", PREMATURE, 0, HEADER, unix, "closed_before_response", 502),
    ("premature_close_header", PREMATURE, 0, HEADER, rst, "reset_before_response", 502),
    ("premature_close_header", PREMATURE, 0, HEADER, stale_fin, "stale_keepalive", 502),
    ("premature_close_body", PREMATURE, 0, BODY, cut, "closed_mid_response", 200),
    ("reset_header", "recv() failed", 104, HEADER, rst, "reset_before_response", 502),
    ("reset_header", "recv() failed", 104, HEADER, stale_rst, "stale_keepalive", 502),
    ("recv_timeout_kernel_header", "recv() failed", 110, HEADER, given_up, "response_timeout_kernel", 502),
    ("recv_other_header", "recv() failed", 113, HEADER, given_up, "response_timeout_kernel", 502),
    ("recv_other_header", "recv() failed", 101, HEADER, given_up, "response_timeout_kernel", 502),
    ("recv_other_header", "recv() failed", 32, HEADER, rst, "reset_before_response", 502),
    ("reset_body", "readv() failed", 104, BODY, cut_by_rst, "reset_mid_response", 200),
    ("reset_body", "recv() failed", 104, BODY, cut_by_rst, "reset_mid_response", 200),
    ("reset_body", "readv() failed", 110, BODY, stalled, "response_stalled", 200),
    ("reset_upgraded", "recv() failed", 104, UPGRADED, cut_by_rst, NONE, 0),
    ("reset_upgraded", "send() failed", 32, UPGRADED, cut_by_rst, NONE, 0),
    ("send_reset", "writev() failed", 104, SENDING, rst, "send_failed", 502),
    ("send_reset", "send() failed", 32, SENDING, rst, "send_failed", 502),
    ("send_reset", "sendfile() failed", 32, SENDING, rst, "send_failed", 502),
    ("send_reset", "writev() failed", 104, SENDING, stale_before, "stale_keepalive", 502),
    ("send_other", "writev() failed", 113, SENDING, waiting, "send_failed", 502),
    ("header_too_big", "upstream sent too big header", 0, HEADER, answering, "header_too_big", 502),
    ("invalid_header", "upstream sent invalid header", 0, HEADER, answering, "header_invalid", 502),
    ("invalid_header", "upstream sent invalid header: \"%*s\\x%02xd...\"", 0, HEADER, answering, "header_invalid", 502),
    (
        "header_cl_te_conflict",
        "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
        0,
        HEADER,
        answering,
        "header_invalid",
        502,
    ),
    ("header_duplicate_cl_te", DUPLICATE, 0, HEADER, answering, "header_invalid", 502),
    (
        "header_duplicate_ignored",
        "upstream sent duplicate header line: \"%V: %V\", previous value: \"%V: %V\", ignored",
        0,
        HEADER,
        answering,
        NONE,
        0,
    ),
    (
        "header_unknown_te",
        "upstream sent unknown \"Transfer-Encoding\": \"%V\"",
        0,
        HEADER,
        answering,
        "header_invalid",
        502,
    ),
    (
        "header_invalid_cl",
        "upstream sent invalid \"Content-Length\" header: \"%V: %V\"",
        0,
        HEADER,
        answering,
        "header_invalid",
        502,
    ),
    (
        "early_hints_http10",
        "upstream sent HTTP/1.0 response with early hints",
        0,
        HEADER,
        answering,
        "header_invalid",
        502,
    ),
    ("not_http", "upstream sent no valid HTTP/1.0 header", 0, HEADER, answering, NONE, 0),
    ("premature_plaintext_tls", "upstream prematurely sent response", 0, HEADER, answering, "header_invalid", 502),
    ("invalid_chunked", "upstream sent invalid chunked response", 0, BODY, stalled, "response_invalid", 200),
    ("invalid_status_line", "upstream sent invalid status \"%V\"", 0, HEADER, answering, "header_invalid", 502),
    (
        "extra_body_data",
        "upstream sent more data than specified in \"Content-Length\" header",
        0,
        BODY,
        stalled,
        NONE,
        0,
    ),
    ("extra_body_data", "upstream sent data after final chunk", 0, BODY, stalled, NONE, 0),
    (
        "tls_read_failed_header",
        "%*s SSL_read() failed (SSL: error:0A000126:unexpected eof while reading",
        0,
        HEADER,
        fin,
        "closed_before_response",
        502,
    ),
    (
        "tls_read_failed_header",
        "%*s SSL_read() failed (SSL: error:0A00045C:SSL routines::tlsv13 alert certificate required:SSL alert number 116",
        0,
        HEADER,
        fin,
        "tls_handshake_failed",
        502,
    ),
    ("tls_read_failed_header", "%*s SSL_read() failed (SSL:", 104, HEADER, rst, "reset_before_response", 502),
    ("tls_write_failed", "SSL_write() failed", 104, SENDING, rst, "send_failed", 502),
    ("tls_write_failed", "%*s SSL_write() failed (SSL:", 32, SENDING, rst, "send_failed", 502),
    ("tls_write_failed", "SSL_write() failed", 104, SENDING, stale_before, "stale_keepalive", 502),
    ("fcgi_stderr", "FastCGI sent in stderr: \"%*s\"", 0, HEADER, unix, NONE, 0),
    ("fcgi_unexpected_record", "upstream sent unexpected FastCGI record: %ui", 0, HEADER, unix, "header_invalid", 502),
    ("fcgi_stdout_closed", "upstream prematurely closed FastCGI stdout", 0, HEADER, unix, "header_invalid", 502),
    ("fcgi_stdout_closed", "upstream prematurely closed FastCGI stdout", 0, BODY, stalled, "closed_mid_response", 200),
    (
        "fcgi_request_closed",
        "upstream prematurely closed FastCGI request",
        0,
        BODY,
        stalled,
        "closed_mid_response",
        200,
    ),
    (
        "fcgi_bad_protocol",
        "upstream sent unsupported FastCGI protocol version: %d",
        0,
        HEADER,
        answering,
        "header_invalid",
        502,
    ),
    ("fcgi_bad_protocol", "upstream sent invalid FastCGI record type: %d", 0, HEADER, answering, "header_invalid", 502),
    (
        "fcgi_bad_protocol",
        "upstream sent unexpected FastCGI request id high byte: %d",
        0,
        HEADER,
        answering,
        "header_invalid",
        502,
    ),
    ("h2_not_http2", "upstream sent too large http2 frame: %uz", 0, HEADER, answering, "header_invalid", 502),
    ("h2_rst_stream", "upstream rejected request with error %ui", 0, HEADER, answering, "header_invalid", 502),
    ("h2_goaway", "upstream sent goaway with error %ui", 0, HEADER, answering, "header_invalid", 502),
    ("h2_stream_closed_early", "upstream prematurely closed stream", 0, BODY, stalled, "closed_mid_response", 200),
    (
        "h2_protocol_error",
        "upstream violated stream flow control, received %uz data frame with window %uz",
        0,
        HEADER,
        answering,
        "header_invalid",
        502,
    ),
    ("h2_protocol_error", "upstream sent frame for unknown stream %ui", 0, HEADER, answering, "header_invalid", 502),
    (
        "h2_protocol_error",
        "upstream sent response body larger than indicated content length",
        0,
        BODY,
        stalled,
        "response_invalid",
        200,
    ),
    ("memcached_invalid", "memcached sent invalid response: \"%V\"", 0, HEADER, answering, "header_invalid", 502),
];

/// An unbuffered or gRPC response: nginx reads the first of the body together with the header, and still says that it is
/// reading the header (ngx_http_upstream_send_response() calls `input_filter`); the rest while it says that it sends.
const STALE_ACTION: &[Row] = &[
    (
        "fcgi_stdout_closed",
        "upstream prematurely closed FastCGI stdout",
        0,
        HEADER,
        stalled,
        "closed_mid_response",
        200,
    ),
    ("h2_stream_closed_early", "upstream prematurely closed stream", 0, HEADER, stalled, "closed_mid_response", 200),
    (
        "h2_protocol_error",
        "upstream sent response body larger than indicated content length",
        0,
        HEADER,
        stalled,
        "response_invalid",
        200,
    ),
    ("invalid_chunked", "upstream sent invalid chunked response", 0, HEADER, stalled, "response_invalid", 200),
    ("timeout_read_body", "upstream timed out", 110, CLIENT, stalled, "response_stalled", 200),
    ("premature_close_body", PREMATURE, 0, CLIENT, cut, "closed_mid_response", 200),
    ("reset_body", "recv() failed", 104, CLIENT, cut_by_rst, "reset_mid_response", 200),
];

#[test]
fn every_message_has_its_cause() {
    ROWS.iter().for_each(check);
}

#[test]
fn an_accepted_header_means_the_body_whatever_the_action_says() {
    STALE_ACTION.iter().for_each(check);
}

/// Written by nginx on an unknown version: kept, and blamed on the upstream's protocol.
#[test]
fn unknown_protocol_errors_are_still_failures() {
    check(&("", "upstream sent something nobody thought of", 0, HEADER, answering, "header_invalid", 502));
    check(&("", "upstream sent something nobody thought of", 0, BODY, stalled, "response_invalid", 200));
    check(&("", "something nobody thought of", 0, "sending to client", nothing, NONE, 0));
}
