//! Failures to connect to a unix socket.

use super::{Check, Explanation, Group, check};
use crate::model::cause::Cause;

pub(super) const GROUP: Group = Group {
    title: "Unix sockets",
    about: "Upstreams behind a socket file: php-fpm, gunicorn, uwsgi, puma. connect(2) fails at once, no packets are \
            involved, and nginx passes any request on to the next server, where there is one.",
    explanations: &[MISSING, DENIED, REFUSED, BACKLOG],
};

const LISTENERS: Check = check("Which unix sockets are listened on, and by whom", "ss -lxp");

const MISSING: Explanation = Explanation {
    cause: Cause::SocketMissing,
    status: "502",
    meaning: "There is no file at the path of the socket. The application has not started, creates its socket somewhere \
              else (another version in the path, a private /tmp), or took the file away as it stopped. The reason says which part \
              of the path is missing in the worker's eyes, who listened there and how it ended, and who listens on a similar \
              path, on the same path in another mount namespace, or on a file that was removed or renamed.",
    kernel: "connect(2) fails with ENOENT.",
    nginx: &["connect() to unix:… failed (2: No such file or directory) while connecting to upstream"],
    check: &[
        check("Which part of the path is missing", "namei -l /run/app.sock"),
        LISTENERS,
        check("Whether nginx or the application has a private /tmp", "systemctl show nginx SERVICE -p PrivateTmp"),
    ],
    change: &[
        "Start the application, or make both configurations name the same path.",
        "Put sockets below /run, in a directory made by RuntimeDirectory= of the service, not in /tmp.",
    ],
    hint: "start the upstream, or make both sides name the same socket path (ss -lxp)",
};

const DENIED: Explanation = Explanation {
    cause: Cause::SocketDenied,
    status: "502",
    meaning: "The user that nginx's workers run as may not use the socket: connecting needs write permission on the file \
              and search permission on every directory above it. The reason names the first part of the path whose mode forbids \
              it, with its owner and the worker's user. Where no mode does, it is an access control list, SELinux or AppArmor.",
    kernel: "connect(2) fails with EACCES.",
    nginx: &["connect() to unix:… failed (13: Permission denied) while connecting to upstream"],
    check: &[
        check("Mode and owner of every part of the path", "namei -l /run/app.sock"),
        check("The user of the workers", "ps -o user= -C nginx | sort | uniq -c"),
        check("Access control lists", "getfacl /run/app.sock"),
        check("SELinux denials", "ausearch -m avc -ts recent -c nginx"),
        check("AppArmor denials", "journalctl -k -g DENIED"),
    ],
    change: &[
        "php-fpm: listen.owner, listen.group and listen.mode = 0660 for nginx's user.",
        "gunicorn, uwsgi, puma: a common group, and a umask or mode that lets it write; or a systemd socket unit with \
         SocketUser= and SocketMode=.",
        "Not 0777 on the directories: search permission (x) is enough there.",
    ],
    hint: "let nginx's user write to the socket and search its directories (namei -l)",
};

const REFUSED: Explanation = Explanation {
    cause: Cause::SocketRefused,
    status: "502",
    meaning: "The file is there, but nobody listens on it. It is left over from a process that has ended, or a new \
              process has not come as far as listening; or it is no socket at all. The reason names who listened on that very \
              file and how it ended, where that was seen.",
    kernel: "connect(2) fails with ECONNREFUSED.",
    nginx: &["connect() to unix:… failed (111: Connection refused) while connecting to upstream"],
    check: &[
        LISTENERS,
        check("Whether the service runs, and why it ended", "systemctl status SERVICE; journalctl -u SERVICE -n 50"),
    ],
    change: &[
        "Start the application, and let its service manager restart it.",
        "With a systemd socket unit the listener outlives restarts, and connections wait instead of failing.",
    ],
    hint: "start the upstream: its socket file is there, but nobody listens (ss -lxp)",
};

const BACKLOG: Explanation = Explanation {
    cause: Cause::SocketBacklogFull,
    status: "502",
    meaning: "The queue of connections that the application has not accepted yet is full. All its workers are busy or \
              stuck, and more came than the queue holds: one more than its limit. The reason names the owner, the limit, and how \
              many waited when it was looked at, a moment later.",
    kernel: "connect(2) on a non-blocking unix socket fails with EAGAIN.",
    nginx: &["connect() to unix:… failed (11: Resource temporarily unavailable) while connecting to upstream"],
    check: &[
        check("Recv-Q (waiting) against Send-Q (limit)", "ss -lx"),
        check("The system's limit for listen(2)", "sysctl net.core.somaxconn"),
        check("php-fpm at its limit of children", "grep max_children /var/log/php*-fpm.log"),
    ],
    change: &[
        "More workers (php-fpm: pm.max_children, gunicorn: --workers or --threads), as far as memory and the database \
         allow; or find what makes requests slow.",
        "A longer queue bridges bursts: the application's listen backlog, and net.core.somaxconn, which caps it. Both \
         take effect when the application listens anew.",
        "Fewer requests at once: limit_conn or limit_req in nginx, max_conns on the server line.",
    ],
    hint: "more or faster workers in the upstream; a longer listen backlog only bridges bursts",
};
