//! Whether a process runs or stands still, at the moment of asking.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::model::host::Name;

/// How a process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs, or waits for something.
    Going,
    /// By a signal.
    Stopped,
    /// By a debugger.
    Traced(Name),
    /// With its control group.
    Frozen(Group),
}

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// As the mounted hierarchy has it, with the leading slash.
    pub path: String,
    /// Number of its directory, which is its id; None: it is of version 1, the freezing of which nobody tells.
    pub id: Option<u64>,
}

/// Where the hierarchy is mounted: alone, or beside those of version 1.
const HIERARCHIES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Version 1 has one for freezing.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// Reads it; None: it is gone.
pub fn standing(pid: u32) -> Option<Standing> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let comm = |pid: u32| fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    // `T (stopped)`, `t (tracing stop)`: get_task_state(), fs/proc/array.c.
    Some(match field("State")?.chars().next()? {
        'Z' | 'X' => return None,
        'T' => Standing::Stopped,
        't' => {
            let tracer: u32 = field("TracerPid")?.parse().ok()?;
            let comm = String::from_utf8_lossy(&comm(tracer)).trim_end().to_owned();
            Standing::Traced(Name { pid: tracer, comm })
        }
        _ => frozen(pid).map_or(Standing::Going, Standing::Frozen),
    })
}

/// The control group whose freezing keeps it from running: its own, or one above.
fn frozen(pid: u32) -> Option<Group> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let freezer = groups.lines().find_map(|line| line.split_once(":freezer:"));
    freezer.and_then(|(_, path)| frozen_group_v1(Path::new(FREEZER), path)).or_else(|| {
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let hierarchy = HIERARCHIES.iter().map(Path::new).find(|mount| mount.join("cgroup.controllers").exists())?;
        frozen_group(hierarchy, path)
    })
}

/// Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
fn frozen_group_v1(hierarchy: &Path, path: &str) -> Option<Group> {
    let own = hierarchy.join(path.trim_start_matches('/'));
    let is = |directory: &Path, file: &str, wanted: &str| {
        fs::read_to_string(directory.join(file)).is_ok_and(|text| text.trim() == wanted)
    };
    if !is(&own, "freezer.state", "FROZEN") {
        return None;
    }
    let told = |directory: &&Path| is(directory, "freezer.self_freezing", "1");
    let directory = own.ancestors().take_while(|above| *above != hierarchy).find(told)?;
    Some(Group { path: format!("/{}", directory.strip_prefix(hierarchy).ok()?.to_str()?), id: None })
}

fn frozen_group(hierarchy: &Path, path: &str) -> Option<Group> {
    use std::os::unix::fs::MetadataExt as _;
    let own = hierarchy.join(path.trim_start_matches('/'));
    if !fs::read_to_string(own.join("cgroup.events")).ok()?.lines().any(|line| line == "frozen 1") {
        return None;
    }
    let told =
        |directory: &&Path| fs::read_to_string(directory.join("cgroup.freeze")).is_ok_and(|set| set.trim() == "1");
    let directory: PathBuf = own.ancestors().take_while(|above| *above != hierarchy).find(told)?.to_owned();
    let path = format!("/{}", directory.strip_prefix(hierarchy).ok()?.to_str()?);
    Some(Group { path, id: Some(directory.metadata().ok()?.ino()) })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Group, Standing, frozen_group, frozen_group_v1, standing};

    #[test]
    fn a_stopped_process_stands_still() {
        assert_eq!(standing(std::process::id()), Some(Standing::Going));
        assert_eq!(standing(u32::MAX), None);
        // It stops itself, and is waited for until it has.
        let script = "kill -STOP $$; read -r _";
        let mut shell = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().expect("a shell");
        let pid = rustix::process::Pid::from_child(&shell);
        let stopped = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::UNTRACED).expect("ours");
        assert!(stopped.expect("it changed").1.stopped());
        assert_eq!(standing(shell.id()), Some(Standing::Stopped));
        shell.kill().expect("ours");
        shell.wait().expect("ours");
    }

    #[test]
    fn the_group_that_was_frozen_is_found_above() {
        let mount = std::env::temp_dir().join(format!("why502-frozen-{}", std::process::id()));
        let inner = mount.join("pod/app");
        std::fs::create_dir_all(&inner).expect("a directory");
        let write = |file: &str, text: &str| std::fs::write(mount.join(file), text).expect("written");
        write("pod/cgroup.freeze", "1\n");
        write("pod/app/cgroup.freeze", "0\n");
        write("pod/app/cgroup.events", "populated 1\nfrozen 0\n");
        assert_eq!(frozen_group(&mount, "/pod/app"), None, "not yet, or no more");
        write("pod/app/cgroup.events", "populated 1\nfrozen 1\n");
        assert_eq!(frozen_group(&mount, "/pod/app").expect("frozen").path, "/pod");
        // Version 1.
        write("pod/freezer.self_freezing", "1\n");
        write("pod/app/freezer.self_freezing", "0\n");
        write("pod/app/freezer.state", "FREEZING\n");
        assert_eq!(frozen_group_v1(&mount, "/pod/app"), None, "not yet");
        write("pod/app/freezer.state", "FROZEN\n");
        assert_eq!(frozen_group_v1(&mount, "/pod/app"), Some(Group { path: "/pod".into(), id: None }));
        std::fs::remove_dir_all(mount).expect("ours");
    }
}
