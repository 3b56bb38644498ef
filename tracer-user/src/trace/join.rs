//! Which line of one connection belongs to which of its complaints.
//!
//! Both come from one thread, so that the lines are in the order of the complaints. A line is taken when worker, connection,
//! level, literal, errno, action, client, request line and peer agree, and no other line could be meant; where two could and
//! say different things, none is.

use std::rc::Rc;

use tracer_common::event::complaint::{LINE_LEN, LITERAL_LEN};

use crate::nginx::log::{
    tail::FileId,
    told::{Known, Told, tell},
};

/// nginx's clock stands still while it works off a batch of events.
const CLOCK_BEHIND_S: i64 = 5;
/// Zones differ by multiples of a quarter of an hour; a line does not tell its own.
const ZONES_S: i64 = 900;

/// A complaint without its text.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) time_ns: u64,
    /// Since when it waits: on a busy machine it is heard of late.
    pub(super) since_ns: u64,
    pub(super) wall_second: i64,
    pub(super) about: About,
    /// The engine's message, of a complaint without an attempt.
    pub(super) message: Option<String>,
}

/// What a line must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) level: u32,
    pub(super) literal: String,
    pub(super) errno: i32,
    pub(super) action: String,
    pub(super) client: Option<String>,
    pub(super) request: Option<String>,
    pub(super) peer: Option<String>,
}

impl About {
    pub(super) fn known(&self) -> Known<'_> {
        Known {
            literal: &self.literal,
            literal_cut: self.literal.len() >= LITERAL_LEN - 1,
            errno: self.errno,
            action: &self.action,
            client: self.client.as_deref(),
            request: self.request.as_deref(),
            request_cut: self.request.as_ref().is_some_and(|request| request.len() >= LINE_LEN - 1),
            peer: self.peer.as_deref(),
        }
    }
}

/// A line without its complaint.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) file: FileId,
    pub(super) arrived_ns: u64,
    pub(super) local_second: i64,
    pub(super) level: u32,
    pub(super) text: String,
    pub(super) cut: bool,
}

/// The complaints of one connection that have found their line; both are taken out.
pub(super) fn join(waiting: &mut Vec<Waiting>, lines: &mut Vec<Stored>) -> Vec<(u64, Option<String>, Rc<Told>)> {
    let mut joined = Vec::new();
    let mut from = 0;
    while let Some(first) = waiting.get(from) {
        let alike: Vec<usize> = (from..waiting.len()).filter(|index| waiting[*index].about == first.about).collect();
        if waiting[..from].iter().any(|earlier| earlier.about == first.about) {
            from += 1;
            continue;
        }
        let Some(texts) = agree(first, alike.len(), lines) else {
            from += 1;
            continue;
        };
        for (index, told) in alike.iter().rev().zip(texts.into_iter().rev()) {
            let waiting = waiting.remove(*index);
            joined.push((waiting.time_ns, waiting.message, told));
        }
    }
    joined.reverse();
    joined
}

/// The texts of `count` complaints that say the same, in their order; None: which lines are theirs cannot be told (yet).
fn agree(waiting: &Waiting, count: usize, lines: &mut Vec<Stored>) -> Option<Vec<Rc<Told>>> {
    let about = &waiting.about;
    let known = about.known();
    // By file: the same line may go to several.
    let mut by_file: Vec<(FileId, Vec<(usize, Told)>)> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let late_s = (line.local_second - waiting.wall_second).rem_euclid(ZONES_S);
        if line.level != about.level || (late_s > 1 && late_s < ZONES_S - CLOCK_BEHIND_S) {
            continue;
        }
        let Some(told) = tell(&line.text, line.cut, &known) else { continue };
        match by_file.iter_mut().find(|(file, _)| *file == line.file) {
            Some((_, of_file)) => of_file.push((index, told)),
            None => by_file.push((line.file, vec![(index, told)])),
        }
    }
    let (_, longest) = by_file.iter().max_by_key(|(_, of_file)| of_file.len())?;
    if longest.len() < count {
        return None;
    }
    let texts: Vec<Told> = longest.iter().map(|(_, told)| told.clone()).collect();
    let (one, rest) = texts.split_first()?;
    let same = rest.iter().all(|told| told == one);
    let consistent = by_file.iter().all(|(_, of_file)| {
        if same {
            of_file.iter().all(|(_, told)| told == one)
        } else {
            of_file.len() == count && of_file.iter().map(|(_, told)| told).eq(&texts)
        }
    });
    if !consistent {
        return None;
    }
    let mut taken: Vec<usize> =
        by_file.iter().flat_map(|(_, of_file)| of_file.iter().take(count)).map(|(index, _)| *index).collect();
    taken.sort_unstable();
    for index in taken.into_iter().rev() {
        lines.remove(index);
    }
    Some(texts.into_iter().take(count).map(Rc::new).collect())
}

#[cfg(test)]
mod tests {
    use super::{About, Stored, Waiting, join};

    /// 05:06:07 in one zone is 14:06:07 in another.
    const SECOND: i64 = 1_772_600_767;

    fn complaint(time_ns: u64) -> Waiting {
        Waiting {
            time_ns,
            since_ns: time_ns,
            wall_second: SECOND + 9 * 3600,
            about: About {
                level: 4,
                literal: "connect() failed".to_owned(),
                errno: 111,
                action: "connecting to upstream".to_owned(),
                client: Some("127.0.0.1".to_owned()),
                request: Some("GET / HTTP/1.1".to_owned()),
                peer: Some("127.0.0.1:1".to_owned()),
            },
            message: None,
        }
    }

    fn line(file: u64, host: &str) -> Stored {
        Stored {
            file: (0, file),
            arrived_ns: 0,
            local_second: SECOND,
            level: 4,
            text: format!(
                "connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: s, \
                 request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:1/\", host: \"{host}\""
            ),
            cut: false,
        }
    }

    /// Which host each complaint (by its time) got, and what is left of both.
    fn joined(mut waiting: Vec<Waiting>, mut lines: Vec<Stored>) -> (Vec<(u64, String)>, usize, usize) {
        let joined = join(&mut waiting, &mut lines);
        let hosts = joined.into_iter().map(|(time_ns, _, told)| (time_ns, told.host.clone().unwrap_or_default()));
        let mut hosts: Vec<_> = hosts.collect();
        hosts.sort();
        (hosts, waiting.len(), lines.len())
    }

    fn hosts(pairs: &[(u64, &str)]) -> Vec<(u64, String)> {
        pairs.iter().map(|(time_ns, host)| (*time_ns, (*host).to_owned())).collect()
    }

    #[test]
    fn one_line_for_one_complaint() {
        assert_eq!(joined(vec![complaint(1)], vec![line(1, "a")]), (hosts(&[(1, "a")]), 0, 0));
        assert_eq!(joined(vec![complaint(1)], vec![]), (vec![], 1, 0));
    }

    #[test]
    fn as_many_lines_as_complaints_are_in_their_order() {
        let both = joined(vec![complaint(1), complaint(2)], vec![line(1, "a"), line(1, "b")]);
        assert_eq!(both, (hosts(&[(1, "a"), (2, "b")]), 0, 0));
    }

    #[test]
    fn the_same_line_in_several_files_is_one() {
        let lines = vec![line(1, "a"), line(2, "a"), line(1, "b"), line(2, "b")];
        assert_eq!(joined(vec![complaint(1), complaint(2)], lines), (hosts(&[(1, "a"), (2, "b")]), 0, 0));
    }

    #[test]
    fn what_could_be_either_is_neither() {
        // A forged line, or one whose complaint was lost.
        assert_eq!(joined(vec![complaint(1)], vec![line(1, "a"), line(1, "b")]), (vec![], 1, 2));
        // One line is missing, or went elsewhere: whose is it?
        assert_eq!(joined(vec![complaint(1), complaint(2)], vec![line(1, "a")]), (vec![], 2, 1));
        assert_eq!(joined(vec![complaint(1), complaint(2)], vec![line(1, "a"), line(2, "b")]), (vec![], 2, 2));
        assert_eq!(joined(vec![complaint(1)], vec![line(1, "a"), line(2, "b")]), (vec![], 1, 2));
    }

    #[test]
    fn it_does_not_matter_which_if_all_say_the_same() {
        assert_eq!(joined(vec![complaint(1)], vec![line(1, "a"), line(1, "a")]), (hosts(&[(1, "a")]), 0, 1));
    }

    #[test]
    fn old_lines_and_other_levels_are_not_meant() {
        let old = Stored { local_second: SECOND - 60, ..line(1, "old") };
        assert_eq!(joined(vec![complaint(1)], vec![old, line(1, "a")]), (hosts(&[(1, "a")]), 0, 1));
        // Its clock stood still for a while, or ours is a little behind.
        for late_s in [-4, 1] {
            let line = Stored { local_second: SECOND + late_s, ..line(1, "a") };
            assert_eq!(joined(vec![complaint(1)], vec![line]).1, 0, "{late_s}");
        }
        let warning = Stored { level: 5, ..line(1, "a") };
        assert_eq!(joined(vec![complaint(1)], vec![warning]), (vec![], 1, 1));
    }

    #[test]
    fn different_complaints_of_one_connection_keep_their_lines() {
        let mut other = complaint(2);
        other.about.peer = Some("127.0.0.1:2".to_owned());
        let mut other_line = line(1, "b");
        other_line.text = other_line.text.replace("127.0.0.1:1/", "127.0.0.1:2/");
        let both = joined(vec![complaint(1), other], vec![line(1, "a"), other_line]);
        assert_eq!(both, (hosts(&[(1, "a"), (2, "b")]), 0, 0));
    }
}
