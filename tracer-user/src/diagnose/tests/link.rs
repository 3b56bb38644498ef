//! Connections as the kernel describes them. Times are given as milliseconds before the event that shows them.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
};

use crate::model::{
    address::Address,
    event::{Connection, ConnectionId, Ended, Now, Reset, ResetSender, TcpState},
};

/// CONFIG_HZ=250.
pub(super) const JIFFY_US: u64 = 4000;
/// Payload of a request, and of a former response.
const REQUEST_BYTES: u64 = 100;
const RESPONSE_BYTES: u64 = 500;

#[derive(Clone, Debug)]
pub(super) struct Link {
    number: u64,
    made: u64,
    established: bool,
    /// Payload of the present request, and when it was written.
    sent: (u64, u64),
    /// Payload of the present request that the other end's kernel has taken.
    acked: u64,
    /// How long it had been idle before the request; None: made for it.
    idle: Option<u64>,
    /// Payload that came since the request, and when.
    answered: Option<(u64, u64)>,
    ended: Option<(u64, TcpState, i32)>,
    fin: Option<u64>,
    reset: Option<Reset>,
    preexisting: bool,
    outstanding: bool,
    closed_by_other: bool,
    missed: bool,
}

/// In SYN_SENT, nothing came back yet.
pub(super) fn connecting() -> Link {
    Link {
        number: 1,
        made: 50,
        established: false,
        sent: (0, 0),
        acked: 0,
        idle: None,
        answered: None,
        ended: None,
        fin: None,
        reset: None,
        preexisting: false,
        outstanding: true,
        closed_by_other: false,
        missed: false,
    }
}

/// Made for this request, which was written 40 ms ago; nothing came back.
pub(super) fn connection() -> Link {
    Link { established: true, sent: (REQUEST_BYTES, 40), ..connecting() }
}

/// From the keepalive cache after `idle` ms; the request was written 40 ms ago.
pub(super) fn reused(idle: u64) -> Link {
    Link { made: idle + 1000, idle: Some(idle), ..connection() }
}

impl Link {
    /// Which of several: its socket, and its local port as far as that goes.
    pub(super) fn number(self, number: u64) -> Self {
        Self { number, ..self }
    }

    pub(super) fn sent(self, bytes: u64, ago: u64) -> Self {
        Self { sent: (bytes, ago), made: self.made.max(ago + 10), ..self }
    }

    pub(super) fn acked(self, bytes: u64) -> Self {
        Self { acked: bytes, ..self }
    }

    pub(super) fn unsent(self) -> Self {
        self.sent(0, 0)
    }

    pub(super) fn received(self, bytes: u64, ago: u64) -> Self {
        Self { answered: Some((bytes, ago)), ..self }
    }

    /// The peer's FIN came.
    pub(super) fn fin(self, ago: u64) -> Self {
        Self { ended: Some((ago, TcpState::Established, 0)), fin: Some(ago), ..self }
    }

    /// The peer's RST came.
    pub(super) fn rst(self, ago: u64) -> Self {
        let state = if self.fin.is_some() { TcpState::CloseWait } else { TcpState::Established };
        Self { ended: Some((ago, state, 104)), reset: Some(Reset { state, sender: None }), ..self }
    }

    /// The kernel ended the connect with this error.
    pub(super) fn failed(self, errno: i32) -> Self {
        let reset = (errno == 111).then_some(Reset { state: TcpState::SynSent, sender: None });
        Self { ended: Some((1, TcpState::SynSent, errno)), reset, ..self }
    }

    /// The kernel gave an established connection up, without a RST.
    pub(super) fn given_up(self, errno: i32) -> Self {
        Self { ended: Some((1, TcpState::Established, errno)), ..self }
    }

    /// The RST was seen at its sender on this host.
    pub(super) fn sent_by(mut self, reason: &str, process: Option<(u32, &str)>) -> Self {
        if let Some(reset) = &mut self.reset {
            let process = process.map(|(pid, comm)| (pid, comm.to_owned()));
            reset.sender = Some(ResetSender { reason: Some(reason.to_owned()), process });
        }
        self
    }

    pub(super) fn preexisting(self) -> Self {
        Self { preexisting: true, ..self }
    }

    /// No request was waiting, as far as counters tell.
    pub(super) fn settled(self) -> Self {
        Self { outstanding: false, ..self }
    }

    /// The kernel skipped the program that should have seen the end.
    pub(super) fn missed(self) -> Self {
        Self { missed: true, ..self }
    }

    pub(super) fn closed_by_other(self) -> Self {
        Self { closed_by_other: true, ..self }
    }

    /// As an event of this moment shows it; `started` has the time of connect of those that were shown before.
    pub(super) fn build(&self, now_ns: u64, worker: u32, started: &mut HashMap<u64, u64>) -> Connection {
        let at = |ago: u64| now_ns.saturating_sub(ago * 1_000_000);
        let jiffies = |ms: u64| u32::try_from(ms * 1000 / JIFFY_US).unwrap_or(u32::MAX);
        let (bytes, sent_ago) = self.sent;
        let former = self.idle.map_or((0, 0, self.made), |idle| (REQUEST_BYTES, RESPONSE_BYTES, sent_ago + idle));
        let (former_sent, former_received, former_ago) = former;
        let (answer, received_ago) = self.answered.unwrap_or((0, former_ago));
        let ended = self.ended.map(|(ago, state, error)| {
            // Written when the end was in the socket already: the end knows nothing of it.
            let (sent, since_sent) =
                if sent_ago < ago { (former_sent, former_ago) } else { (former_sent + bytes, sent_ago) };
            Ended {
                time_ns: at(ago),
                state,
                error,
                bytes_sent: sent,
                bytes_received: former_received + answer,
                since_sent_jiffies: jiffies(since_sent.saturating_sub(ago)),
                since_received_jiffies: jiffies(received_ago.saturating_sub(ago)),
            }
        });
        let state = match (self.ended, self.established) {
            (Some((_, _, 0)), _) => TcpState::CloseWait,
            (Some(_), _) => TcpState::Close,
            (None, true) => TcpState::Established,
            (None, false) => TcpState::SynSent,
        };
        Connection {
            id: ConnectionId {
                sk: 0xffff_8000_0000_0000 + self.number,
                started_ns: *started.entry(self.number).or_insert_with(|| at(self.made)),
            },
            preexisting: self.preexisting,
            established_ns: (self.established && !self.preexisting).then(|| at(self.made) + 500_000),
            ended: if self.preexisting || self.missed { None } else { ended },
            fin_ns: if self.preexisting || self.missed { None } else { self.fin.map(at) },
            reset: self.reset.clone(),
            reset_sent: false,
            retransmits: 0,
            queue_full: None,
            last_retransmit_ns: None,
            outstanding: self.outstanding,
            closed_by_other: self.closed_by_other,
            worker,
            netns: 4_026_531_840,
            local: Some(Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, self.number as u16)))),
            remote: Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            now: Now {
                state,
                error: self.ended.map_or(0, |(_, _, error)| error),
                soft_error: 0,
                bytes_sent: former_sent + bytes,
                bytes_received: former_received + answer,
                unread: 0,
                since_sent_jiffies: jiffies(sent_ago),
                since_received_jiffies: jiffies(received_ago),
                all_acknowledged: None,
                min_rtt_us: None,
                bytes_acked: former_sent + self.acked,
            },
        }
    }
}
