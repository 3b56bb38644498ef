//! Stories: what workers do with many requests at a time, told as steps, with what must come out of it.

use std::collections::HashMap;

use super::{
    link::{Link, connecting, connection, reused},
    script::{
        BODY, CONNECTING, HEADER, Kind, SENDING, START_MS, Step, WORKER, closed, complaint, retry, status, step, tick,
    },
};

/// xorshift64*: the same numbers on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % limit
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// literal, errno, action, what the kernel shows, the cause, the status.
type Fault = (&'static str, i32, &'static str, fn() -> Link, &'static str, u16);

const FAULTS: [Fault; 7] = [
    ("connect() failed", 111, CONNECTING, || connecting().failed(111), "connect_refused", 502),
    ("upstream timed out", 110, CONNECTING, connecting, "connect_timeout", 504),
    ("upstream timed out", 110, HEADER, connection, "response_timeout", 504),
    ("upstream prematurely closed connection", 0, HEADER, || connection().fin(2), "closed_before_response", 502),
    ("recv() failed", 104, HEADER, || connection().rst(2), "reset_before_response", 502),
    ("writev() failed", 32, SENDING, || reused(5000).sent(100, 1).rst(40), "stale_keepalive", 502),
    ("upstream sent too big header", 0, HEADER, || connection().received(4096, 1), "header_too_big", 502),
];

/// What must come out for one request: causes of its attempts, in order, and the status it was answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) causes: Vec<&'static str>,
    pub(super) answered: Option<u16>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) steps: Vec<Step>,
    /// By request line.
    pub(super) truth: HashMap<String, Truth>,
}

/// A request on its way: what its worker does for it without a break, one after the other.
struct Course {
    worker: u32,
    address: u64,
    beats: Vec<Vec<Step>>,
}

/// What a story is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    pub(super) workers: u32,
    /// Memory that nginx uses again and again for its requests; 0: never the same twice.
    pub(super) addresses: u64,
    pub(super) requests: usize,
}

/// Tells a story: requests side by side, on several workers, each with failures of its own.
pub(super) fn story(random: &mut Random, cast: Cast) -> Story {
    let mut story = Story::default();
    let mut courses: Vec<Course> = Vec::new();
    let mut started = 0;
    for worker in 0..cast.workers {
        story.steps.push(step(Kind::Listens(true)).worker(WORKER + worker));
    }
    while started < cast.requests || !courses.is_empty() {
        let begin = started < cast.requests && (courses.len() < 3 || random.one_in(2));
        if begin && let Some(course) = begin_course(random, cast, started, &courses, &mut story.truth) {
            courses.push(course);
            started += 1;
        }
        if courses.is_empty() {
            continue;
        }
        let index = random.below(courses.len());
        let beat = courses[index].beats.remove(0);
        if courses[index].beats.is_empty() {
            courses.remove(index);
        }
        let pause = if random.one_in(4) { 15 } else { 0 };
        story.steps.push(tick(pause));
        story.steps.extend(beat);
    }
    story
}

/// A request at an address that is free; None: there is none.
fn begin_course(
    random: &mut Random,
    cast: Cast,
    number: usize,
    courses: &[Course],
    truth: &mut HashMap<String, Truth>,
) -> Option<Course> {
    let worker = WORKER + u32::try_from(random.below(cast.workers as usize)).unwrap_or(0);
    let address = match cast.addresses {
        0 => 0x10_000 + number as u64 * 0x1000,
        limit => 0x10_000 + random.below(usize::try_from(limit).unwrap_or(1)) as u64 * 0x1000,
    };
    if courses.iter().any(|course| (course.worker, course.address) == (worker, address)) {
        return None;
    }
    let line = format!("GET /{number} HTTP/1.1");
    let client = random.below(5) as u64;
    let of = |step: Step| {
        let step = step.worker(worker).at(address).started(START_MS + number as u64);
        step.with(|request| (request.connection, request.line) = (client, Some(line.clone())))
    };
    let mut course = Course { worker, address, beats: Vec::new() };
    let mut told = Truth::default();
    let attempts = 1 + random.below(3);
    let saved = random.one_in(3);
    // auth_request: all of it in a subrequest, answered in the main request's name.
    let inside = random.one_in(5).then_some(address + 0x800);
    let within = |step: Step| inside.map_or(step.clone(), |address| step.subrequest(address));
    for attempt in 1..=attempts {
        let (literal, errno, action, link, cause, code) = random.pick(&FAULTS);
        // Its local port and its socket are nobody else's in the story.
        let link = link().number((number * 5 + attempt) as u64);
        let said = within(of(complaint(literal, action).errno(errno)))
            .attempt(u32::try_from(attempt).unwrap_or(1))
            .cached(cause == "stale_keepalive");
        let close = of(closed(link.clone()));
        let mut beat = match random.below(4) {
            0 => vec![said, close],
            1 => vec![said.on(link)],
            _ => vec![said.on(link), close],
        };
        told.causes.push(cause);
        let last = attempt == attempts;
        if last && !saved {
            let page = within(of(status(code))).attempt(u32::try_from(attempt).unwrap_or(1));
            beat.push(page);
            told.answered = Some(code);
            if inside.is_some() {
                beat.push(of(status(500)).no_upstream());
                told.answered = Some(500);
            }
        } else if !random.one_in(3) {
            beat.push(within(of(retry())));
        }
        course.beats.push(beat);
    }
    if saved && random.one_in(4) {
        let cut = within(of(complaint("upstream prematurely closed connection", BODY))).accepted_header();
        let link = connection().received(4096, 5).fin(2).number(number as u64 * 5);
        course.beats.push(vec![cut.attempt(u32::try_from(attempts + 1).unwrap_or(9)).on(link)]);
        told.causes.push("closed_mid_response");
    }
    truth.insert(line.clone(), told);
    Some(course)
}
