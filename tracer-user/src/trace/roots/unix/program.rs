//! Programs behind unix sockets whose settings are known by name.

use crate::model::host::Name;

/// Which program, by the name of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    PhpFpm,
    Gunicorn,
    Uwsgi,
    Puma,
    Unicorn,
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
            Self::Other => return None,
        })
    }

    /// What lets it accept sooner, and what its queue's length is called.
    pub(super) const fn more(self) -> (&'static str, &'static str) {
        match self {
            Self::PhpFpm => ("pm.max_children, or faster answers", "listen.backlog"),
            Self::Gunicorn => ("--workers, --threads, or faster answers", "--backlog"),
            Self::Uwsgi => ("processes, threads, or faster answers", "listen"),
            Self::Puma => ("workers, threads, or faster answers", "?backlog= of bind"),
            Self::Unicorn => ("worker_processes, or faster answers", ":backlog of listen"),
            Self::Other => ("more workers, or faster answers", "its listen backlog"),
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
