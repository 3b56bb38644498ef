//! Everything that could not be delivered, counted per CPU, program and reason.

/// Which program counted. Also the `program` of an event's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Program {
    SetState = 0,
    DestroySock = 1,
    ReceiveReset = 2,
    SendReset = 3,
    RetransmitSkb = 4,
    ProcessExit = 5,
    ProcessExec = 6,
    ProcessFork = 7,
    LogErrorCore = 8,
    SpecialResponse = 9,
    MarkVictim = 10,
    SignalGenerate = 11,
    RetransmitSynack = 12,
    FreeSkb = 13,
    WriteLine = 14,
    SendLine = 15,
    Connect = 16,
    Bind = 17,
    Socket = 18,
    UnixRelease = 19,
    ConnRequest = 20,
    IcmpError = 21,
    Icmp6Error = 22,
    UnixExit = 23,
    CgroupFreeze = 24,
    CgroupUnfreeze = 25,
    Refuse = 26,
    Refuse6 = 27,
    TcpProbe = 28,
}

impl Program {
    pub const ALL: [Self; 29] = [
        Self::SetState,
        Self::DestroySock,
        Self::ReceiveReset,
        Self::SendReset,
        Self::RetransmitSkb,
        Self::ProcessExit,
        Self::ProcessExec,
        Self::ProcessFork,
        Self::LogErrorCore,
        Self::SpecialResponse,
        Self::MarkVictim,
        Self::SignalGenerate,
        Self::RetransmitSynack,
        Self::FreeSkb,
        Self::WriteLine,
        Self::SendLine,
        Self::Connect,
        Self::Bind,
        Self::Socket,
        Self::UnixRelease,
        Self::ConnRequest,
        Self::IcmpError,
        Self::Icmp6Error,
        Self::UnixExit,
        Self::CgroupFreeze,
        Self::CgroupUnfreeze,
        Self::Refuse,
        Self::Refuse6,
        Self::TcpProbe,
    ];

    /// Its place is in the kernel, not in nginx.
    pub const fn is_in_kernel(self) -> bool {
        !matches!(self, Self::LogErrorCore | Self::SpecialResponse)
    }

    /// The kernel's or nginx's name of the place it is attached to.
    pub const fn hook(self) -> &'static str {
        match self {
            Self::SetState => "inet_sock_set_state",
            Self::DestroySock => "tcp_destroy_sock",
            Self::ReceiveReset => "tcp_receive_reset",
            Self::SendReset => "tcp_send_reset",
            Self::RetransmitSkb => "tcp_retransmit_skb",
            Self::ProcessExit | Self::UnixExit => "sched_process_exit",
            Self::ProcessExec => "sched_process_exec",
            Self::ProcessFork => "sched_process_fork",
            Self::LogErrorCore => "ngx_log_error_core",
            Self::SpecialResponse => "ngx_http_special_response_handler",
            Self::MarkVictim => "mark_victim",
            Self::SignalGenerate => "signal_generate",
            Self::RetransmitSynack => "tcp_retransmit_synack",
            Self::FreeSkb => "kfree_skb",
            Self::WriteLine => "vfs_write",
            Self::SendLine => "__sys_sendto",
            Self::Connect => "__sys_connect",
            Self::Bind => "__sys_bind",
            Self::Socket => "__sys_socket",
            Self::UnixRelease => "unix_release_sock",
            Self::ConnRequest => "tcp_conn_request",
            Self::IcmpError => "tcp_v4_err",
            Self::Icmp6Error => "tcp_v6_err",
            Self::CgroupFreeze => "cgroup_freeze",
            Self::CgroupUnfreeze => "cgroup_unfreeze",
            Self::Refuse => "tcp_v4_send_reset",
            Self::Refuse6 => "tcp_v6_send_reset",
            Self::TcpProbe => "tcp_probe",
        }
    }
}

/// Why something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// The ring buffer had no room.
    RingFull = 0,
    /// A map had no room.
    MapFull = 1,
    /// User memory of nginx could not be read.
    UserRead = 2,
    /// A call returned unseen.
    KretprobeMissed = 3,
}

impl Reason {
    pub const ALL: [Self; 4] = [Self::RingFull, Self::MapFull, Self::UserRead, Self::KretprobeMissed];

    /// The `reason` of a `lost` record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::MapFull => "map_full",
            Self::UserRead => "user_read",
            Self::KretprobeMissed => "kretprobe_missed",
        }
    }
}

/// Entries of the per-CPU counter array.
pub const COUNTERS: u32 = (Program::ALL.len() * Reason::ALL.len()) as u32;

/// Index of a counter.
pub const fn counter(program: Program, reason: Reason) -> u32 {
    program as u32 * Reason::ALL.len() as u32 + reason as u32
}
