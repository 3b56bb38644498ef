//! Sends a scenario's requests.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::Connection;
use crate::namespace;
use crate::scenario::{Amount, Case, Drive, Load, Turn};
use crate::stage::Stage;
use crate::{rate, sockets, wait};

/// Sends everything that the scenario has to send, and waits for every answer.
pub fn run(stage: &Stage, drive: Drive) -> Result<()> {
    match drive {
        Drive::Load(load) => in_parallel(stage, load),
        Drive::Turns(turns) => in_turns(stage, turns),
        Drive::Rate(rate) => rate::run(stage, rate),
        Drive::By(function) => function(stage),
    }
}

/// All cases of the stage at once in random order, from `load.clients` threads.
pub fn in_parallel(stage: &Stage, load: Load) -> Result<()> {
    let mut queue: Vec<&Case> = Vec::new();
    for case in stage.cases() {
        queue.extend(std::iter::repeat_n(case, stage.count(case.amount)));
    }
    shuffle(&mut queue);
    let next = AtomicUsize::new(0);
    let problem = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..load.clients.min(queue.len()) {
            scope.spawn(|| {
                if let Err(error) = one_client(stage, load, &queue, &next) {
                    problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            });
        }
    });
    match problem.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn one_client(stage: &Stage, load: Load, queue: &[&Case], next: &AtomicUsize) -> Result<()> {
    if let Some(near) = stage.near() {
        namespace::join(near.fd())?;
    }
    let mut client: Option<Connection> = None;
    while let Some(case) = queue.get(next.fetch_add(1, Ordering::SeqCst)) {
        anyhow::ensure!(!wait::interrupted(), "interrupted");
        let mut connection = match client.take() {
            Some(connection) => connection,
            None => Connection::open(stage.nginx.address())?,
        };
        let answer = stage.exchange(&mut connection, case, load.keepalive);
        // Of a response cut short a client may see nothing at all.
        let cut = case.attempts.last().is_some_and(|attempt| attempt.outcome.contains("truncated"));
        match answer {
            Ok(answer) if load.keepalive && answer.reusable => client = Some(connection),
            Err(error) if !cut => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The turns one after the other, as often as the first case wants.
fn in_turns(stage: &Stage, turns: &[Turn]) -> Result<()> {
    let amount = stage.cases().first().map_or(Amount::Requests, |case| case.amount);
    for _ in 0..stage.count(amount) {
        for turn in turns {
            match turn {
                Turn::Go(path) => {
                    let case = stage.case(path)?;
                    stage.exchange(&mut stage.connect()?, case, false).context("in turn")?;
                }
                Turn::Gone(name) => {
                    let port = stage.upstream(name)?.port();
                    wait::until("the connection to go", wait::SOON, || sockets::open_towards(port) == 0)?;
                }
                Turn::Idle(millis) => wait::let_pass(Duration::from_millis(*millis))?,
            }
        }
    }
    Ok(())
}

/// Fisher and Yates, seeded by the hasher's keys: no crate for one shuffle.
pub(crate) fn shuffle<T>(items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let random = usize::try_from(RandomState::new().build_hasher().finish() & 0xffff_ffff).unwrap_or(0);
        items.swap(last, random % (last + 1));
    }
}
