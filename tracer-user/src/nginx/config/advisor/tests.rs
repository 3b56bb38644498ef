use std::{
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use super::{Advisor, Files, Known, READERS};
use crate::{model::observation::State, nginx::config::master::Process};

#[test]
fn without_workers_nothing_is_known() {
    let observation = Advisor::default().observation(&[], Duration::ZERO);
    assert_eq!((observation.state, observation.hook), (State::None, None));
    assert_eq!(observation.missing.as_deref(), Some("read when a worker starts"));
}

/// A process that is no nginx: its binary names no configuration.
#[test]
fn what_is_no_nginx_has_a_reason() {
    let mut advisor = Advisor::default();
    let observation = advisor.observation(&[std::process::id()], Duration::from_secs(20));
    assert_eq!(observation.state, State::None);
    let reason = observation.missing.expect("a reason");
    assert!(reason.contains("configuration") || reason.contains("not read"), "{reason}");
    assert_eq!(advisor.generations.len(), 1);
}

#[test]
fn the_dead_are_forgotten() {
    let mut advisor = Advisor::default();
    advisor.watch(std::process::id());
    let own = advisor.workers.values().next().cloned().expect("we are known");
    for pid in 0..super::CAPACITY {
        advisor.workers.insert(u32::MAX - u32::try_from(pid).expect("it fits"), own.clone());
    }
    advisor.tidy();
    assert_eq!(advisor.workers.len(), 1);
}

#[test]
fn what_finds_no_reader_waits_for_its_turn() {
    let mut advisor = Advisor::default();
    let mut senders = Vec::new();
    for _ in 0..READERS {
        let (sender, answer) = sync_channel(1);
        senders.push(sender);
        advisor.add(Known { files: Files::Reading { since: Instant::now(), answer }, loaded_ns: 0 });
    }
    let own = Process::read(std::process::id()).expect("we exist");
    let files = advisor.begin(own);
    let number = advisor.add(Known { files, loaded_ns: 0 });
    advisor.resume(number);
    assert_eq!(advisor.generations[&number].state(), Err("other configurations are still being read".to_owned()));
    senders.pop();
    advisor.resume(number);
    assert!(matches!(advisor.generations[&number].files, Files::Reading { .. }));
}

#[test]
fn files_that_never_answer_hold_up_nobody() {
    let (sender, answer) = sync_channel(1);
    let mut known = Known { files: Files::Reading { since: Instant::now(), answer }, loaded_ns: 0 };
    known.files.wait(|since| since);
    assert_eq!(known.state(), Err("its files are still being read".to_owned()));
    if let Files::Reading { since, .. } = &mut known.files
        && let Some(before) = since.checked_sub(super::GIVEN_UP + Duration::from_millis(1))
    {
        *since = before;
        // Long overdue: asked, but not waited for.
        known.files.wait(|since| since + super::PATIENCE);
        assert_eq!(known.state(), Err("its files are not answered for".to_owned()));
    }
    drop(sender);
    known.files.wait(|since| since);
    assert!(known.state().is_err_and(|reason| reason.contains("bug")));
}
