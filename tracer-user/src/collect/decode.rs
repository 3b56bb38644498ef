//! The wire's events as values.

use std::collections::{BTreeMap, HashMap};

use tracer_common::{
    event::{Header, closed, complaint, kind, process, retry, status, unix as wire_unix},
    loss::Program,
    socket,
    storm::peer_id_of,
    unix::UnixSocket,
};
use zerocopy::{FromBytes, IntoBytes as _};

use super::address::from_wire;
use super::memory::{Memory, text, twin};
use super::unix;
use crate::model::{
    event::{
        Bound, Complaint, Connection, ConnectionId, Ended, Event, Happening, Kind, Moment, Now, Request, Reset,
        ResetSender, ResponseRead, Status, Subject, TcpState,
    },
    unix::UnixConnection,
    verdict::QueueFull,
};

/// Bytes that are no event of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("an event of {0} bytes is too short")]
    Short(usize),
    #[error("event kind {0} is unknown")]
    Kind(u16),
}

/// Turns wire events into values.
#[derive(Debug)]
pub struct Decoder {
    /// `enum sk_rst_reason` of the running kernel.
    reset_reasons: BTreeMap<u32, String>,
    /// What the programs are attached to, by their numbers.
    sources: BTreeMap<u16, &'static str>,
    /// Of each worker, the process that has the same constants at the same addresses.
    twins: HashMap<u32, u32>,
}

impl Decoder {
    pub fn new(reset_reasons: BTreeMap<u32, String>, sources: BTreeMap<u16, &'static str>) -> Self {
        Self { reset_reasons, sources, twins: HashMap::new() }
    }

    /// The hook of a program, as records name it.
    fn source(&self, program: u16) -> &'static str {
        self.sources.get(&program).copied().unwrap_or("unknown")
    }

    fn unix(&self, wire: &UnixSocket, time_ns: u64) -> UnixConnection {
        let all = self.sources.get(&(Program::UnixRelease as u16)).copied();
        let closed_by = all.unwrap_or_else(|| self.source(Program::UnixExit as u16));
        unix::connection(wire, self.source(Program::Connect as u16), closed_by, (time_ns, all.is_some()))
    }

    /// A worker is there. A complaint may be the last thing it does: what it said must be readable without it.
    pub fn meets(&mut self, worker: u32) {
        match twin(worker) {
            Some(twin) => self.twins.insert(worker, twin),
            None => self.twins.remove(&worker),
        };
    }

    /// All that a worker has said has been decoded.
    pub fn forget(&mut self, worker: u32) {
        self.twins.remove(&worker);
    }

    /// Decodes one event.
    pub fn decode(&self, bytes: &[u8]) -> Result<Event, DecodeError> {
        let header: Header = read(bytes)?;
        let moment = Moment {
            time_ns: header.time_ns,
            pid: header.tgid,
            sequence: header.sequence,
            source: self.source(header.program),
        };
        let happening = match header.kind {
            kind::CLOSED => {
                let event: closed::Closed = read(bytes)?;
                Happening::Closed {
                    connection: self.connection(&event.socket, &event.live),
                    response: match event.response {
                        closed::RESPONSE_COMPLETE => ResponseRead::Complete,
                        closed::RESPONSE_CUT => ResponseRead::Cut,
                        _ => ResponseRead::Unknown,
                    },
                }
            }
            kind::REFUSED => Happening::Refused(unix::refusal(header.tgid, &read(bytes)?)),
            kind::UNIX => {
                let event: wire_unix::GivenUp = read(bytes)?;
                Happening::UnixClosed(self.unix(&event.socket, header.time_ns))
            }
            kind::RETRY => {
                let event: retry::Retry = read(bytes)?;
                Happening::Retry { request: event.request }
            }
            kind::COMPLAINT => Happening::Complaint(self.complaint(header.tgid, &read(bytes)?)),
            kind::STATUS => {
                let event: status::Status = read(bytes)?;
                Happening::Status(Status {
                    request: request(&event.request),
                    status: u16::try_from(event.status).unwrap_or(u16::MAX),
                })
            }
            kind::PROCESS => {
                let event: process::Process = read(bytes)?;
                let comm = text(event.comm.as_bytes());
                if event.change == process::GONE {
                    Happening::Gone { pid: event.tgid, comm }
                } else {
                    Happening::Appeared { pid: event.tgid, comm }
                }
            }
            other => return Err(DecodeError::Kind(other)),
        };
        Ok(Event { moment, happening })
    }

    fn complaint(&self, worker: u32, event: &complaint::Complaint) -> Complaint {
        let literal = self.late_text(worker, &event.literal, event.literal_address);
        let flags = event.request.flags;
        let bound = if flags & complaint::SOCKET_BOUND != 0 {
            Bound::Tcp(self.connection(&event.socket, &event.live))
        } else if flags & complaint::UNIX != 0 {
            Bound::Unix(self.unix(&event.unix, event.header.time_ns))
        } else {
            Bound::None
        };
        Complaint {
            subject: if flags & complaint::HTTP != 0 { Subject::Http(request(&event.request)) } else { Subject::Other },
            bound,
            level: event.level,
            errno: event.errno.cast_signed(),
            number: event.arguments[1],
            text: first_argument(&literal, &event.text, event.arguments[0]),
            literal,
            action: self.late_text(worker, &event.action, event.action_address),
            kind: kind_of(worker, event),
        }
    }

    /// A string constant of nginx: as the kernel read it, else read now; from its master where the worker has exited since.
    fn late_text(&self, worker: u32, bytes: &[u8], address: u64) -> String {
        let early = text(bytes);
        if !early.is_empty() || address == 0 {
            return early;
        }
        let read = |pid: u32| Memory::open(pid).ok()?.string(address);
        read(worker).or_else(|| self.twins.get(&worker).copied().and_then(read)).unwrap_or_default()
    }

    fn connection(&self, memory: &socket::Socket, live: &socket::Live) -> Connection {
        let has = |flag: u32| memory.flags & flag != 0;
        let fin = u64::from(has(socket::FIN_RECEIVED) || live.state == tracer_common::tcp_state::CLOSE_WAIT);
        let reset = has(socket::RESET_RECEIVED).then(|| Reset {
            state: tcp_state(memory.reset_state),
            sender: has(socket::RESET_SEEN_AT_SENDER).then(|| ResetSender {
                reason: self.reset_reason(memory.reset_reason),
                process: (memory.reset_by_tgid != 0)
                    .then(|| (memory.reset_by_tgid, text(memory.reset_by_comm.as_bytes()))),
            }),
        });
        Connection {
            id: ConnectionId { sk: memory.sk, started_ns: memory.started_ns },
            preexisting: has(socket::PREEXISTING),
            established_ns: nonzero(memory.established_ns),
            ended: nonzero(memory.ended_ns).map(|time_ns| Ended {
                time_ns,
                state: tcp_state(memory.ended_state),
                error: memory.ended_error.cast_signed(),
                bytes_sent: memory.ended_bytes_sent,
                bytes_received: memory.ended_bytes_received,
                since_sent_jiffies: memory.ended_since_sent_jiffies,
                since_received_jiffies: memory.ended_since_received_jiffies,
            }),
            fin_ns: nonzero(memory.fin_ns),
            reset,
            reset_sent: has(socket::RESET_SENT),
            retransmits: memory.retransmits.max(live.total_retransmits),
            queue_full: queue_full(memory.flags).filter(|_| live.bytes_acked <= 1),
            last_retransmit_ns: nonzero(memory.last_retransmit_ns),
            outstanding: has(socket::OUTSTANDING),
            closed_by_other: has(socket::EXITING),
            worker: memory.tgid,
            netns: memory.netns,
            local: (memory.local_port != 0).then(|| from_wire(memory.local_address, memory.local_port)),
            remote: from_wire(memory.remote_address, memory.remote_port),
            now: Now {
                state: tcp_state(live.state),
                error: live.error.cast_signed(),
                soft_error: live.soft_error.cast_signed(),
                bytes_sent: live.bytes_sent,
                bytes_received: live.bytes_received.saturating_sub(fin),
                // The SYN counts one.
                bytes_acked: live.bytes_acked.saturating_sub(1),
                unread: live.unread,
                since_sent_jiffies: live.since_sent_jiffies,
                since_received_jiffies: live.since_received_jiffies,
                all_acknowledged: match live.sending {
                    socket::ALL_ACKNOWLEDGED => Some(true),
                    socket::UNACKNOWLEDGED => Some(false),
                    _ => None,
                },
                min_rtt_us: (live.min_rtt_us != 0).then_some(live.min_rtt_us),
            },
        }
    }

    fn reset_reason(&self, number: u32) -> Option<String> {
        match number {
            socket::NO_REASON => None,
            // As newer kernels name it.
            socket::NO_SOCKET => Some("NO_SOCKET".to_owned()),
            _ => Some(self.reset_reasons.get(&number).cloned().unwrap_or_else(|| number.to_string())),
        }
    }
}

/// As the kernel programs tell kinds apart (tracer-ebpf, probe/nginx/storm.rs).
fn kind_of(worker: u32, event: &complaint::Complaint) -> Option<Kind> {
    let name = event.request.peer.split(|byte| *byte == 0).next()?;
    Some(Kind {
        worker,
        errno: event.errno.cast_signed(),
        literal: event.literal_address,
        action: event.action_address,
        location: event.request.location_conf,
        peer: peer_id_of(name)?,
    })
}

fn request(wire: &complaint::Request) -> Request {
    let has = |flag: u32| wire.flags & flag != 0;
    let states = has(complaint::STATES_KNOWN);
    Request {
        request: wire.request,
        main: wire.main,
        connection: wire.connection,
        has_upstream: wire.upstream != 0,
        attempts: states.then_some(wire.attempt),
        // What separates the upstreams of one location from the next one's is all zeros; with a header comes a status.
        header_accepted: states.then_some(wire.state_header_time != u64::MAX && wire.state_status != 0),
        upstream_status: (states && wire.state_status != 0).then(|| u16::try_from(wire.state_status).ok()).flatten(),
        received: states.then_some(wire.state_received),
        log_level: wire.log_level,
        cached: has(complaint::CACHED_KNOWN).then_some(has(complaint::CACHED)),
        peer: Some(text(&wire.peer)).filter(|name| !name.is_empty()),
        client: Some(text(&wire.client)).filter(|client| !client.is_empty()),
        start_ms: has(complaint::LINE_KNOWN).then_some(wire.start_ms),
        start_offset: wire.start_offset,
        host: Some(text(&wire.host)).filter(|host| !host.is_empty()),
        cacheable: has(complaint::CACHEABLE),
        server_conf: wire.server_conf,
        location_conf: wire.location_conf,
        uri: wire.uri,
        counted: wire.counted,
        answered: has(complaint::ANSWERED),
        configured: None,
        sent: wire.sent,
        behind_number: wire.behind_number,
        requests_word: None,
        line: Some(text(&wire.line)).filter(|line| has(complaint::LINE_KNOWN) && !line.is_empty()),
    }
}

fn read<T: FromBytes>(bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_prefix(bytes).map(|(value, _)| value).map_err(|_| DecodeError::Short(bytes.len()))
}

/// The literal's first argument as nginx would print it (ngx_vslprintf(), src/core/ngx_string.c); empty: it has none, or
/// one that is not understood.
fn first_argument(literal: &str, bytes: &[u8], number: u64) -> String {
    let Some((_, conversion)) = literal.split_once('%') else { return String::new() };
    if conversion.starts_with("*s") || conversion.starts_with('V') {
        return text(bytes);
    }
    let conversion = conversion.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let mut letters = conversion.chars();
    match letters.next() {
        Some('u') => match letters.next() {
            Some('i' | 'z' | 'L' | 'A') => number.to_string(),
            // Of a number of 32 bits the upper half of the register means nothing.
            Some('d' | 'D') => (number as u32).to_string(),
            _ => String::new(),
        },
        Some('i' | 'z' | 'O' | 'L') => number.cast_signed().to_string(),
        Some('d' | 'D') => (number as u32).cast_signed().to_string(),
        _ => String::new(),
    }
}

/// A queue that was over its limit at some retransmit. It is no reason any more once the other end has let us in.
const fn queue_full(flags: u32) -> Option<QueueFull> {
    if flags & socket::ACCEPT_QUEUE_FULL != 0 {
        Some(QueueFull::Accept)
    } else if flags & socket::SYN_QUEUE_FULL != 0 {
        Some(QueueFull::Syn)
    } else {
        None
    }
}

const fn nonzero(value: u64) -> Option<u64> {
    if value == 0 { None } else { Some(value) }
}

const fn tcp_state(number: u8) -> TcpState {
    use tracer_common::tcp_state;
    match number {
        tcp_state::ESTABLISHED => TcpState::Established,
        tcp_state::SYN_SENT => TcpState::SynSent,
        tcp_state::CLOSE => TcpState::Close,
        tcp_state::CLOSE_WAIT => TcpState::CloseWait,
        other => TcpState::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{DecodeError, Decoder, first_argument};

    #[test]
    fn arguments_as_nginx_prints_them() {
        let cases = [
            ("upstream sent unsupported FastCGI protocol version: %d", 72, "72"),
            ("upstream sent too large http2 frame: %uz", 4_740_180, "4740180"),
            ("%V could not be resolved (%i: %s)", 0, "name"),
            ("%ui worker_connections are not enough", 7, "7"),
            ("upstream sent unexpected FastCGI record: %d", 0xffff_ffff, "-1"),
            ("status %uD", 0xdead_beef_0000_0007, "7"),
            ("offset %D", 0x0000_0001_ffff_ffff, "-1"),
            ("flag %ud", 0xdead_beef_0000_0008, "8"),
            ("flag %u", 1, ""),
            ("no live upstreams", 1, ""),
            ("%s in upstream \"%V\"", 1, ""),
            ("ends with %", 1, ""),
        ];
        for (literal, number, expected) in cases {
            assert_eq!(first_argument(literal, b"name\0", number), expected, "{literal}");
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused() {
        let decoder = Decoder::new(BTreeMap::new(), BTreeMap::new());
        assert_eq!(decoder.decode(&[]), Err(DecodeError::Short(0)));
        // Every kind, every length, several fillings: never a panic.
        for fill in [0, 1, 0x7f, 0xff] {
            for kind in [0_u16, 10, 12, 14, 20, 30, 40, 50] {
                for length in (0..1200).step_by(8) {
                    let mut bytes = vec![fill; length];
                    if let Some(place) = bytes.get_mut(24..26) {
                        place.copy_from_slice(&kind.to_le_bytes());
                    }
                    let _ = decoder.decode(&bytes);
                }
            }
        }
    }
}
