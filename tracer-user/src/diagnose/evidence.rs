//! What was seen, as a list of facts in order.

use crate::model::{
    event::{Complaint, Connection, Moment, TcpState},
    unix::{Call, Closing, OtherEnd, Refusal, UnixConnection},
    verdict::Evidence,
};

use super::word;

const SET_STATE: &str = "tp_btf/inet_sock_set_state";

/// Names of errnos that appear on sockets, as in `errno` of records.
pub fn errno_name(number: i32) -> String {
    use word::errno;
    let name = match number {
        errno::EPERM => "EPERM",
        errno::ENOENT => "ENOENT",
        errno::EAGAIN => "EAGAIN",
        errno::EACCES => "EACCES",
        20 => "ENOTDIR",
        22 => "EINVAL",
        errno::ENFILE => "ENFILE",
        errno::EMFILE => "EMFILE",
        errno::EPIPE => "EPIPE",
        40 => "ELOOP",
        errno::EPROTO => "EPROTO",
        91 => "EPROTOTYPE",
        errno::ENOPROTOOPT => "ENOPROTOOPT",
        97 => "EAFNOSUPPORT",
        98 => "EADDRINUSE",
        errno::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        errno::ENETDOWN => "ENETDOWN",
        errno::ENETUNREACH => "ENETUNREACH",
        103 => "ECONNABORTED",
        errno::ECONNRESET => "ECONNRESET",
        105 => "ENOBUFS",
        107 => "ENOTCONN",
        errno::ETIMEDOUT => "ETIMEDOUT",
        errno::ECONNREFUSED => "ECONNREFUSED",
        errno::EHOSTDOWN => "EHOSTDOWN",
        errno::EHOSTUNREACH => "EHOSTUNREACH",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}

const fn state_name(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::Other(_) => "another state",
    }
}

/// The connection's history.
pub fn of_connection(connection: &Connection) -> Vec<Evidence> {
    let mut list = Vec::with_capacity(6);
    let mut add = |time_ns, source, text: String| list.push(Evidence { time_ns, source, text });
    if connection.preexisting {
        add(
            connection.id.started_ns,
            "uprobe/ngx_log_error_core",
            "the connection is older than the tracing: its history is unknown".into(),
        );
    } else {
        add(connection.id.started_ns, SET_STATE, "CLOSE → SYN_SENT (connect)".into());
    }
    if let Some(time_ns) = connection.established_ns {
        add(time_ns, SET_STATE, "SYN_SENT → ESTABLISHED".into());
    }
    if let Some(time_ns) = connection.last_retransmit_ns {
        let what = if connection.established_ns.is_none() { "SYN" } else { "segment" };
        add(time_ns, "raw_tp/tcp_retransmit_skb", format!("{what} retransmitted, {} in all", connection.retransmits));
    }
    let ended_by_fin = connection.ended.is_some_and(|ended| ended.error == 0);
    if let Some(time_ns) = connection.fin_ns
        && !ended_by_fin
    {
        add(time_ns, SET_STATE, "FIN received: ESTABLISHED → CLOSE_WAIT".into());
    }
    if let Some(ended) = &connection.ended {
        if let Some(reset) = &connection.reset {
            let mut text = format!("RST received in {}", state_name(reset.state));
            if let Some(sender) = &reset.sender {
                if let Some((pid, comm)) = &sender.process {
                    text += &format!("; sent by the close of {comm}[{pid}] on this host");
                } else {
                    text += "; sent by the kernel of this host";
                }
                if let Some(reason) = &sender.reason {
                    text += &format!(", reason {reason}");
                }
            }
            add(ended.time_ns, "raw_tp/tcp_receive_reset", text);
        }
        let counters = format!("{} bytes sent, {} received", ended.bytes_sent, ended.bytes_received);
        add(
            ended.time_ns,
            SET_STATE,
            if ended.error == 0 {
                format!("FIN received: {} → CLOSE_WAIT; {counters}", state_name(ended.state))
            } else {
                format!("{} → CLOSE, sk_err {}; {counters}", state_name(ended.state), errno_name(ended.error))
            },
        );
    }
    list
}

/// A call that failed.
pub fn of_refusal(moment: &Moment, refusal: &Refusal) -> Evidence {
    let to = refusal.remote.as_ref().map_or_else(String::new, |remote| match refusal.call {
        Call::Bind => format!(" of {remote}"),
        _ => format!(" to {remote}"),
    });
    let text = format!("{}{to} = {}", refusal.call.name(), errno_name(refusal.errno));
    Evidence { time_ns: moment.time_ns, source: moment.source, text }
}

/// A unix connection's history, and its state at `moment`.
pub fn of_unix(moment: &Moment, unix: &UnixConnection) -> Vec<Evidence> {
    let mut list = Vec::with_capacity(4);
    let mut add = |time_ns, source, text: String| list.push(Evidence { time_ns, source, text });
    if let Some((time_ns, source)) = unix.connected {
        let to = unix.remote.as_ref().map_or_else(String::new, |remote| format!(" to {remote}"));
        add(time_ns, source, format!("connect(2){to} = 0"));
    }
    let Some(other) = &unix.other_end else { return list };
    if let Some(Closing { time_ns, source, by, unread, embryo }) = &other.closing {
        let who = format!("{}[{}]", by.name.comm, by.name.pid);
        let what =
            if *embryo { "closed the listener before it accepted the connection" } else { "closed the other end" };
        let left = if *unread > 0 { format!(", with {unread} messages unread") } else { String::new() };
        add(*time_ns, source, format!("{who} {what}{left}"));
    }
    let state = match other {
        OtherEnd { closed: true, .. } => "closed".to_owned(),
        OtherEnd { unread: 0, .. } if unix.ended => "shut down for sending".to_owned(),
        OtherEnd { accepted: false, .. } => "open, and not accepted yet".to_owned(),
        OtherEnd { unread: 0, .. } => "open, and has read all that was sent".to_owned(),
        OtherEnd { unread, .. } => format!("open, with {unread} messages unread"),
    };
    add(moment.time_ns, moment.source, format!("the other end of the socket is {state}"));
    list
}

/// nginx's complaint.
pub fn of_complaint(moment: &Moment, complaint: &Complaint) -> Evidence {
    Evidence { time_ns: moment.time_ns, source: moment.source, text: word::message(complaint) }
}

/// The state in which the worker gave the connection up.
pub fn of_close(moment: &Moment, connection: &Connection) -> Evidence {
    let now = &connection.now;
    Evidence {
        time_ns: moment.time_ns,
        source: moment.source,
        text: format!(
            "the worker closes the socket in {}, sk_err {}; {} bytes sent, {} received",
            state_name(now.state),
            if now.error == 0 { "0".to_owned() } else { errno_name(now.error) },
            now.bytes_sent,
            now.bytes_received,
        ),
    }
}
