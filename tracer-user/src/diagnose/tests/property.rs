//! What holds for any sequence of events, also of events that are late, doubled or missing.

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    link::JIFFY_US,
    script::{Act, Kind, WORKER, acts, failures, responses, step, tell},
    story::{Cast, Random, Truth, story},
};
use crate::{
    diagnose::engine::{Engine, Facts},
    model::verdict::{Outcome, Update, Verdict},
};

const CAST: Cast = Cast { workers: 3, addresses: 4, requests: 40 };

fn told(acts: &[Act]) -> Vec<Verdict> {
    let mut engine = Engine::new(Facts { jiffy_us: JIFFY_US });
    let mut verdicts = Vec::new();
    for act in acts {
        tell(&mut engine, act.clone());
        verdicts.extend(engine.take());
    }
    engine.finish();
    verdicts.extend(engine.take());
    engine.finish();
    assert_eq!(engine.take().count(), 0, "nothing is held when the session has ended");
    verdicts
}

/// What no sequence of events may break.
fn sound(verdicts: &[Verdict]) -> Result<(), String> {
    let ensure = |holds: bool, otherwise: &dyn Fn() -> String| if holds { Ok(()) } else { Err(otherwise()) };
    let mut ids = HashSet::new();
    let mut connections = HashSet::new();
    let mut open = HashSet::new();
    for verdict in verdicts {
        match verdict {
            Verdict::Failure(failure) => {
                let id = failure.id;
                ensure(ids.insert(id), &|| format!("{id:?} is given twice"))?;
                // A connection of a story has a local port of its own.
                if let Some(local) = &failure.connection.local {
                    ensure(connections.insert(local), &|| format!("{local} failed twice"))?;
                }
                ensure(!failure.evidence.is_empty(), &|| format!("{id:?} has no evidence"))?;
                if failure.outcome == Outcome::Unknown {
                    open.insert(id);
                }
            }
            Verdict::Response(response) => {
                ensure(ids.insert(response.id), &|| format!("{:?} is given twice", response.id))?;
                for named in response.failures.iter().chain(&response.related) {
                    ensure(ids.contains(named), &|| format!("{named:?} is named before it is told"))?;
                }
            }
            Verdict::Update(Update { failure, outcome, .. }) => {
                ensure(open.remove(failure), &|| format!("{failure:?} had an outcome"))?;
                ensure(*outcome != Outcome::Unknown, &|| format!("{failure:?} is unknown again"))?;
            }
        }
    }
    Ok(())
}

/// What a sequence breaks, a panic included.
fn breaks(acts: &[Act]) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| sound(&told(acts)))) {
        Ok(sound) => sound.err(),
        Err(_) => Some("it panics".to_owned()),
    }
}

/// Plays the acts; of those that break something, as few as still do.
#[track_caller]
fn holds(seed: u64, acts: Vec<Act>) {
    let mut few = acts;
    let Some(mut broken) = breaks(&few) else { return };
    let mut index = 0;
    while index < few.len() {
        let mut fewer = few.clone();
        fewer.remove(index);
        match breaks(&fewer) {
            Some(still) => (few, broken) = (fewer, still),
            None => index += 1,
        }
    }
    let few: Vec<String> = few.iter().map(|act| format!("{act:?}")).collect();
    panic!("seed {seed}: {broken}, by\n{}", few.join("\n"));
}

/// Late, doubled and missing events; times stay those of the kernel.
fn disturb(random: &mut Random, acts: Vec<Act>) -> Vec<Act> {
    let mut disturbed: Vec<Act> = Vec::new();
    for act in acts {
        match random.below(20) {
            0 => {}
            1 => disturbed.extend([act.clone(), act]),
            2 | 3 if !disturbed.is_empty() => {
                let back = random.below(disturbed.len().min(8));
                disturbed.insert(disturbed.len() - back, act);
            }
            _ => disturbed.push(act),
        }
    }
    disturbed
}

#[test]
fn any_sequence_is_sound() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut steps = story(&mut random, CAST).steps;
        for _ in 0..random.below(6) {
            let kind = match random.below(5) {
                0 => Kind::Gone,
                1 => Kind::Appeared,
                2 => Kind::Lost,
                3 => Kind::Listens(random.one_in(2)),
                _ => Kind::Other,
            };
            let worker = WORKER + u32::from(random.one_in(2));
            steps.insert(random.below(steps.len()), step(kind).worker(worker));
        }
        for step in &mut steps {
            match random.below(30) {
                0 => *step = step.clone().log_level(2),
                1 => *step = step.clone().unread(),
                2 => *step = step.clone().with(|request| request.start_ms = None),
                3 => *step = step.clone().with(|request| request.cached = None),
                _ => {}
            }
        }
        let acts = disturb(&mut random, acts(steps));
        holds(seed, acts);
    }
}

/// Every failed attempt has one failure, every error page one response, and each is its own request's.
#[test]
fn undisturbed_stories_are_told_as_they_were() {
    for seed in 0..300 {
        let story = story(&mut Random::new(seed), CAST);
        let verdicts = told(&acts(story.steps));
        assert_eq!(sound(&verdicts), Ok(()), "seed {seed}");
        let mut found: HashMap<String, Truth> = HashMap::new();
        let mut lines = HashMap::new();
        for failure in failures(&verdicts) {
            let line = failure.word.as_ref().and_then(|word| word.request.clone()).expect("nginx said it");
            let told = found.entry(line.clone()).or_default();
            told.causes.push(failure.cause.id());
            lines.insert(failure.id, line);
        }
        for response in responses(&verdicts) {
            let line = response.request.clone().expect("the story says it");
            let told = found.entry(line.clone()).or_default();
            assert_eq!(told.answered.replace(response.status), None, "seed {seed}: {line} is answered twice");
            assert!(response.failures.iter().all(|id| lines[id] == line), "seed {seed}: {line} names others' failures");
            assert_eq!(response.failures.len(), told.causes.len(), "seed {seed}: {line}");
            assert_eq!(Some(&response.cause.id()), told.causes.last(), "seed {seed}: {line}");
        }
        for (line, truth) in &story.truth {
            assert_eq!(found.get(line), Some(truth), "seed {seed}: {line}");
        }
        assert_eq!(found.len(), story.truth.len(), "seed {seed}");
    }
}

/// The last word on each attempt's outcome is right wherever the events show it.
#[test]
fn outcomes_of_undisturbed_stories_are_right() {
    for seed in 0..300 {
        let story = story(&mut Random::new(seed), CAST);
        let verdicts = told(&acts(story.steps));
        let mut outcomes: HashMap<_, _> = failures(&verdicts).map(|failure| (failure.id, failure.outcome)).collect();
        for verdict in &verdicts {
            if let Verdict::Update(update) = verdict {
                outcomes.insert(update.failure, update.outcome);
            }
        }
        for response in responses(&verdicts) {
            let (last, former) = response.failures.split_last().expect("the story's responses have failures");
            assert_eq!(outcomes[last], Outcome::Final, "seed {seed}: {response:?}");
            assert!(former.iter().all(|id| outcomes[id] == Outcome::Retried), "seed {seed}: {response:?}");
        }
    }
}

/// What the engine remembers, as text: all its collections are in there.
#[test]
fn memory_is_bounded() {
    let mut engine = Engine::new(Facts { jiffy_us: JIFFY_US });
    let mut random = Random::new(1);
    let endless = Cast { workers: 3, addresses: 0, requests: 40_000 };
    let acts = acts(story(&mut random, endless).steps);
    let events = acts.iter().filter(|act| matches!(act, Act::Event(_))).count();
    assert!(events >= 200_000, "{events} events");
    let mut largest = 0;
    let mut most_verdicts = 0;
    for (index, act) in acts.into_iter().enumerate() {
        tell(&mut engine, act);
        most_verdicts = most_verdicts.max(engine.take().count());
        if index % 10_000 == 0 {
            largest = largest.max(format!("{engine:?}").len());
        }
    }
    // 20,000 requests, and some thousand connections and outcomes.
    assert!(largest < 9_000_000, "{largest} bytes of text");
    assert!(most_verdicts < 100, "a single event let {most_verdicts} verdicts out");
}
