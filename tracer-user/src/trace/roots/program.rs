//! Programs behind nginx whose settings are known by name.

use crate::model::host::Name;

/// Which program, by the name of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    PhpFpm,
    Gunicorn,
    Uwsgi,
    Puma,
    Unicorn,
    Node,
    Other,
}

impl Program {
    pub(super) fn of(owner: Option<&Name>) -> Self {
        let comm = owner.map_or("", |owner| owner.comm.as_str());
        let begins = |name: &str| comm.starts_with(name);
        match () {
            () if begins("php-fpm") => Self::PhpFpm,
            () if begins("gunicorn") => Self::Gunicorn,
            () if begins("uwsgi") => Self::Uwsgi,
            () if begins("puma") => Self::Puma,
            () if begins("unicorn") => Self::Unicorn,
            () if comm == "node" => Self::Node,
            () => Self::Other,
        }
    }

    /// How its socket becomes one that `user` may write to, who is of `group`; None: not known.
    pub(super) fn let_in(self, user: &str, group: &str) -> Option<String> {
        Some(match self {
            Self::PhpFpm => {
                format!("set listen.owner = {user} and listen.mode = 0660 in php-fpm's pool, and restart php-fpm")
            }
            Self::Gunicorn => format!(
                "start gunicorn with --umask 007 in a group that {user} is in (or behind a systemd .socket unit with \
                 SocketUser={user})"
            ),
            Self::Uwsgi => format!("set chmod-socket = 660 and chown-socket = :{group} in uwsgi's configuration"),
            Self::Puma => format!("bind puma with ?umask=0007 in a group that {user} is in"),
            Self::Unicorn => format!("give unicorn's listen :umask => 0007, in a group that {user} is in"),
            Self::Node | Self::Other => return None,
        })
    }

    /// What ends a worker that takes too long with its request.
    pub(super) const fn timeout(self) -> Option<&'static str> {
        Some(match self {
            Self::PhpFpm => "request_terminate_timeout of the pool",
            Self::Gunicorn => "--timeout",
            Self::Uwsgi => "harakiri",
            Self::Puma => "worker_timeout",
            Self::Unicorn => "timeout in unicorn's configuration",
            Self::Node | Self::Other => return None,
        })
    }

    /// What lets it finish its requests before it ends.
    pub(super) const fn finish(self) -> Option<&'static str> {
        Some(match self {
            Self::PhpFpm => "process_control_timeout above 0, and SIGQUIT instead of SIGTERM",
            Self::Gunicorn => "--graceful-timeout, and SIGTERM instead of SIGINT or SIGQUIT",
            Self::Uwsgi => "die-on-term, worker-reload-mercy, and SIGHUP to reload",
            Self::Puma => "worker_shutdown_timeout",
            Self::Unicorn => "SIGQUIT instead of SIGTERM",
            Self::Node => "on SIGTERM server.close(), then exit",
            Self::Other => return None,
        })
    }

    /// How to see what such a process is doing.
    pub(super) fn doing(self, pid: u32) -> String {
        match self {
            Self::PhpFpm => {
                "request_slowlog_timeout and slowlog in the pool's configuration say where it is".to_owned()
            }
            Self::Gunicorn | Self::Uwsgi => format!("py-spy dump --pid {pid} says where it is"),
            Self::Puma | Self::Unicorn => format!("rbspy dump --pid {pid} says where it is"),
            Self::Node | Self::Other => format!("strace -f -p {pid}, or a stack of its threads, says where it is"),
        }
    }

    /// What lets it accept sooner, and what its queue's length is called.
    pub(super) const fn more(self) -> (&'static str, &'static str) {
        match self {
            Self::PhpFpm => ("pm.max_children, or faster answers", "listen.backlog"),
            Self::Gunicorn => ("--workers, --threads, or faster answers", "--backlog"),
            Self::Uwsgi => ("processes, threads, or faster answers", "listen"),
            Self::Puma => ("workers, threads, or faster answers", "?backlog= of bind"),
            Self::Unicorn => ("worker_processes, or faster answers", ":backlog of listen"),
            Self::Node | Self::Other => ("more workers, or faster answers", "its listen backlog"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Program;
    use crate::model::host::Name;

    #[test]
    fn programs_by_their_name() {
        let of = |comm: &str| Program::of(Some(&Name { pid: 1, comm: comm.into() }));
        assert_eq!(of("php-fpm8.2"), Program::PhpFpm);
        assert_eq!(of("gunicorn: maste"), Program::Gunicorn);
        assert_eq!(of("python3"), Program::Other);
        assert!(Program::PhpFpm.let_in("nginx", "web").expect("known").contains("listen.owner = nginx"));
        assert!(of("uwsgi").let_in("nginx", "web").expect("known").contains("chown-socket = :web"));
        assert_eq!(Program::of(None).let_in("nginx", "web"), None);
    }
}
