//! What runs a process, as its control group is named: a systemd service, or a container.

use std::{collections::HashMap, fs};

/// Processes remembered; their units outlive them.
const CAPACITY: usize = 4096;
/// Letters of a container's id that programs show.
const SHORT: usize = 12;
/// Letters of a container's id.
const ID: usize = 64;

/// What runs a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Without `.service`.
    Service { name: String, of_user: bool },
    /// The program that knows it, and the beginning of its id.
    Container { program: &'static str, id: String },
}

impl Unit {
    /// The unit behind a control group's path; None: none that is known by its name.
    ///
    /// Names: systemd.unit(5); the cgroup drivers of Docker, containerd, CRI-O and Podman.
    pub fn of_group(path: &str) -> Option<Self> {
        let mut above = "";
        let mut found = None;
        for part in path.split('/') {
            if let Some(container) = container(part, above) {
                return Some(container);
            }
            let plain =
                |name: &&str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || "@:._-".contains(letter));
            if let Some(name) = part.strip_suffix(".service").filter(plain).filter(|name| !name.is_empty()) {
                let of_user = path.contains("/user@");
                // A user's service manager is one as well.
                if !name.starts_with("user@") {
                    found = Some(Self::Service { name: name.to_owned(), of_user });
                }
            }
            above = part;
        }
        found
    }

    /// The command that shows its log.
    pub fn log(&self) -> String {
        match self {
            Self::Service { name, of_user } => format!("journalctl {}-u {name}", if *of_user { "--user " } else { "" }),
            Self::Container { program, id } => format!("{program} logs {id}"),
        }
    }

    /// The command that shows how it is.
    pub fn status(&self) -> String {
        match self {
            Self::Service { name, of_user } => {
                format!("systemctl {}status {name}", if *of_user { "--user " } else { "" })
            }
            Self::Container { program, id } => format!("{program} inspect {id}"),
        }
    }
}

fn container(part: &str, above: &str) -> Option<Unit> {
    let prefixes = [("docker-", "docker"), ("libpod-", "podman"), ("cri-containerd-", "crictl"), ("crio-", "crictl")];
    let scope = part.strip_suffix(".scope").unwrap_or(part);
    let (program, id) =
        match prefixes.iter().find_map(|(prefix, program)| Some((*program, scope.strip_prefix(prefix)?))) {
            Some(found) => found,
            None if above == "docker" => ("docker", part),
            None => return None,
        };
    let is_id = id.len() == ID && id.bytes().all(|letter| letter.is_ascii_hexdigit());
    is_id.then(|| Unit::Container { program, id: id[..SHORT].to_owned() })
}

/// Units by process, kept after it is gone.
#[derive(Debug, Default)]
pub struct Units {
    known: HashMap<u32, Option<Unit>>,
}

impl Units {
    /// Looks at a process while it is there: it listens, say.
    pub fn meet(&mut self, pid: u32) {
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        if let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) {
            self.known.insert(pid, of_groups(&groups));
        }
    }

    /// What runs it, as far as it is known or can be read now: after its end the number may be another process's.
    pub fn of(&mut self, pid: u32) -> Option<Unit> {
        if !self.known.contains_key(&pid) {
            self.meet(pid);
        }
        self.known.get(&pid)?.clone()
    }
}

/// The most particular one of /proc/PID/cgroup: hierarchies of version 1 may each have a path of their own.
fn of_groups(groups: &str) -> Option<Unit> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut found: Vec<Unit> = paths.filter_map(Unit::of_group).collect();
    found.sort_by_key(|unit| matches!(unit, Unit::Service { .. }));
    found.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::{Unit, of_groups};

    #[test]
    fn services_and_containers_by_their_groups() {
        let log = |path: &str| Unit::of_group(path).map(|unit| unit.log());
        assert_eq!(log("/system.slice/php8.2-fpm.service").as_deref(), Some("journalctl -u php8.2-fpm"));
        assert_eq!(log("/system.slice/system-app.slice/app@2.service/worker").as_deref(), Some("journalctl -u app@2"));
        let user = "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service";
        assert_eq!(log(user).as_deref(), Some("journalctl --user -u web"));
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(log(&format!("/system.slice/docker-{id}.scope")).as_deref(), Some("docker logs 0123456789ab"));
        assert_eq!(log(&format!("/docker/{id}")).as_deref(), Some("docker logs 0123456789ab"));
        let pod = format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope");
        assert_eq!(log(&pod).as_deref(), Some("crictl logs 0123456789ab"));
        assert_eq!(log(&format!("/machine.slice/libpod-{id}.scope")).as_deref(), Some("podman logs 0123456789ab"));
        for none in ["/", "/user.slice/user-0.slice/session-1.scope", "/docker/short", "/.service", "/a;b.service"] {
            assert_eq!(log(none), None, "{none}");
        }
    }

    #[test]
    fn any_hierarchy_may_tell() {
        let groups = "12:memory:/system.slice/app.service\n1:name=systemd:/\n0::/\n";
        assert_eq!(of_groups(groups).expect("a service").status(), "systemctl status app");
        assert_eq!(of_groups("0::/\n"), None);
    }
}
