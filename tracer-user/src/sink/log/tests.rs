//! The capture file as its readers find it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{CaptureFile, CaptureOptions, OpenError};
use crate::record::{Change, EndReason, Record, Worker, WorkerChange, samples};
use crate::sink::{Sink, Talk};

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("why502-log-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(path: PathBuf) -> CaptureOptions {
    CaptureOptions { path, max_size: 1 << 20, keep: 3, compress: false, default_path: false }
}

fn silent() -> Talk {
    Box::new(|_| {})
}

fn records(path: &Path) -> Vec<Record> {
    let bytes = fs::read(path).unwrap();
    let bytes = if path.extension().is_some_and(|extension| extension == "zst") {
        zstd::stream::decode_all(&bytes[..]).unwrap()
    } else {
        bytes
    };
    String::from_utf8(bytes).unwrap().lines().map(|line| Record::read(line).unwrap()).collect()
}

fn failure(id: u64) -> Record {
    let mut failure = samples::failure();
    failure.id = id;
    Record::Failure(Box::new(failure))
}

fn failure_ids(records: &[Record]) -> Vec<u64> {
    records
        .iter()
        .filter_map(|record| if let Record::Failure(failure) = record { Some(failure.id) } else { None })
        .collect()
}

#[test]
fn a_file_is_private_and_holds_what_was_written() {
    let directory = Directory::new("plain");
    let path = directory.file("a.jsonl");
    let mut sink = CaptureFile::open(options(path.clone()), silent()).unwrap();
    for record in samples::all() {
        sink.write(&record).unwrap();
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "lines are batched");
    sink.flush().unwrap();
    assert_eq!(records(&path), samples::all());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn rotation_keeps_every_record_and_says_where_it_goes_on() {
    let directory = Directory::new("rotation");
    let path = directory.file("a.jsonl");
    let rotating = CaptureOptions { max_size: 16 * 1024, keep: 50, compress: true, ..options(path.clone()) };
    let mut sink = CaptureFile::open(rotating, silent()).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    let gone = WorkerChange { time: samples::at(1), change: Change::Gone, process: samples::process() };
    sink.write(&Record::Worker(gone)).unwrap();
    for id in 0..200 {
        sink.write(&failure(id)).unwrap();
        sink.flush().unwrap();
    }
    drop(sink);
    let mut names: Vec<_> = fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| *name != path);
    let number = |name: &Path| {
        let name = name.file_name().unwrap().to_str().unwrap();
        name.strip_prefix("a.jsonl.").unwrap().strip_suffix(".zst").unwrap().parse::<u32>().unwrap()
    };
    names.sort_by_key(|name| std::cmp::Reverse(number(name)));
    assert!(names.len() > 5, "{names:?}");
    let mut ids = Vec::new();
    for (part, name) in names.iter().chain([&path]).enumerate() {
        let records = records(name);
        let Some(Record::Session(session)) = records.first() else { panic!("{name:?} has no session") };
        assert_eq!(session.part, part as u64);
        assert_eq!(session.processes.len(), usize::from(part == 0), "the worker has gone");
        match records.last() {
            Some(Record::End(end)) if *name != path => {
                assert_eq!((end.reason, end.next.as_deref()), (EndReason::Rotated, Some("a.jsonl")));
            }
            last => assert!(*name == path && !matches!(last, Some(Record::End(_)))),
        }
        ids.extend(failure_ids(&records));
    }
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
}

#[test]
fn files_stay_within_their_size_and_the_oldest_goes() {
    let directory = Directory::new("keep");
    let path = directory.file("a.jsonl");
    let rotating = CaptureOptions { max_size: 16 * 1024, keep: 2, ..options(path.clone()) };
    let mut sink = CaptureFile::open(rotating, silent()).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    for id in 0..200 {
        sink.write(&failure(id)).unwrap();
    }
    sink.flush().unwrap();
    let mut names: Vec<_> = fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [path, directory.file("a.jsonl.1"), directory.file("a.jsonl.2")]);
    for name in names {
        assert!(fs::metadata(name).unwrap().len() <= 16 * 1024);
    }
}

#[test]
fn nothing_is_kept_if_nothing_shall_be() {
    let directory = Directory::new("keep0");
    let path = directory.file("a.jsonl");
    let rotating = CaptureOptions { max_size: 16 * 1024, keep: 0, compress: true, ..options(path.clone()) };
    let mut sink = CaptureFile::open(rotating, silent()).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    for id in 0..100 {
        sink.write(&failure(id)).unwrap();
    }
    drop(sink);
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
    assert!(matches!(&records(&path)[0], Record::Session(session) if session.part > 0));
}

#[test]
fn a_capture_is_gone_on_in_after_a_torn_line() {
    let directory = Directory::new("torn");
    let path = directory.file("a.jsonl");
    let mut torn = Vec::new();
    Record::Session(samples::session()).write_line(&mut torn).unwrap();
    torn.extend_from_slice(br#"{"type":"failure","id":1,"ti"#);
    fs::write(&path, torn).unwrap();
    let mut sink = CaptureFile::open(options(path.clone()), silent()).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    drop(sink);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(Record::read(lines[0]).is_ok() && Record::read(lines[1]).is_err() && Record::read(lines[2]).is_ok());
}

#[test]
fn other_peoples_files_are_left_alone() {
    let directory = Directory::new("foreign");
    let path = directory.file("passwd");
    fs::write(&path, "root:x:0:0\n").unwrap();
    let error = CaptureFile::open(options(path.clone()), silent()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "root:x:0:0\n");
}

#[test]
fn two_cannot_write_one_file() {
    let directory = Directory::new("busy");
    let path = directory.file("a.jsonl");
    let _first = CaptureFile::open(options(path.clone()), silent()).unwrap();
    let error = CaptureFile::open(options(path), silent()).unwrap_err();
    assert!(matches!(error, OpenError::Busy { .. }), "{error}");
}

#[test]
fn a_missing_directory_is_said_or_made_if_it_is_ours() {
    let directory = Directory::new("directory");
    let path = directory.file("new/deeper/a.jsonl");
    let error = CaptureFile::open(options(path.clone()), silent()).unwrap_err();
    assert!(error.to_string().contains("new/deeper/a.jsonl"), "{error}");
    let ours = CaptureOptions { default_path: true, ..options(path.clone()) };
    drop(CaptureFile::open(ours, silent()).unwrap());
    let mode = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}

#[test]
fn a_moved_file_is_ended_and_a_new_one_begun() {
    let directory = Directory::new("reopen");
    let (path, moved) = (directory.file("a.jsonl"), directory.file("moved"));
    let mut sink = CaptureFile::open(options(path.clone()), silent()).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    sink.write(&failure(1)).unwrap();
    sink.reopen().unwrap();
    assert_eq!(records(&path).len(), 2, "not moved: nothing ends");
    fs::rename(&path, &moved).unwrap();
    sink.write(&failure(2)).unwrap();
    sink.reopen().unwrap();
    sink.write(&failure(3)).unwrap();
    drop(sink);
    let (old, new) = (records(&moved), records(&path));
    assert_eq!((failure_ids(&old), failure_ids(&new)), (vec![1, 2], vec![3]));
    assert!(matches!(old.last(), Some(Record::End(end)) if end.reason == EndReason::Rotated));
    assert!(matches!(&new[0], Record::Session(session) if session.part == 1));
}

#[test]
fn what_was_removed_is_begun_anew_and_takes_no_archive_with_it() {
    let directory = Directory::new("removed");
    let path = directory.file("a.jsonl");
    let rotating = CaptureOptions { max_size: 16 * 1024, ..options(path.clone()) };
    let mut sink = CaptureFile::open(rotating, silent()).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    let mut id = 0;
    let mut until = |sink: &mut CaptureFile, done: &dyn Fn() -> bool| {
        while !done() {
            id += 1;
            assert!(id < 1000, "it does not end");
            sink.write(&failure(id)).unwrap();
            sink.flush().unwrap();
        }
    };
    until(&mut sink, &|| directory.file("a.jsonl.1").exists());
    let archived = fs::read(directory.file("a.jsonl.1")).unwrap();
    fs::remove_file(&path).unwrap();
    // As at its size, before anybody looked.
    until(&mut sink, &|| path.exists());
    assert_eq!(fs::read(directory.file("a.jsonl.1")).unwrap(), archived);
    fs::remove_file(&path).unwrap();
    sink.tick(samples::at(9)).unwrap();
    assert!(matches!(&records(&path)[0], Record::Session(session) if session.part == 3));
}

#[test]
fn a_file_that_was_emptied_begins_with_the_session() {
    let directory = Directory::new("emptied");
    let path = directory.file("a.jsonl");
    let mut sink = CaptureFile::open(options(path.clone()), silent()).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    sink.write(&failure(1)).unwrap();
    sink.flush().unwrap();
    fs::File::create(&path).unwrap();
    sink.write(&failure(2)).unwrap();
    sink.flush().unwrap();
    let records = records(&path);
    assert!(matches!(&records[0], Record::Session(_)) && records.len() == 2);
    assert_eq!((failure_ids(&records), sink.file.size()), (vec![2], fs::metadata(&path).unwrap().len()));
    drop(sink);
    CaptureFile::open(options(path), silent()).unwrap();
}

#[test]
fn a_link_is_followed_before_anything_is_renamed() {
    let directory = Directory::new("link");
    let (target, link) = (directory.file("target.jsonl"), directory.file("link.jsonl"));
    fs::File::create(&target).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let sink = CaptureFile::open(options(link), silent()).unwrap();
    assert_eq!(sink.options.path, target);
}

#[test]
fn a_full_disk_is_said_once_and_counted() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let talk: Talk = Box::new(move |text| heard.lock().unwrap().push(text.to_owned()));
    let mut sink = CaptureFile::open(options(PathBuf::from("/dev/full")), talk).unwrap();
    for id in 0..3 {
        sink.write(&failure(id)).unwrap();
        sink.write(&failure(id)).unwrap();
        sink.flush().unwrap();
    }
    assert_eq!(sink.unwritten, 6);
    // There is room again.
    let directory = Directory::new("full");
    let path = directory.file("a.jsonl");
    sink.file = super::LogFile::open(&path, false).unwrap();
    sink.write(&failure(7)).unwrap();
    sink.flush().unwrap();
    let records = records(&path);
    assert!(matches!(&records[0], Record::Lost(lost) if lost.count == Some(6)));
    assert_eq!(failure_ids(&records), [7]);
    let said = said.lock().unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("/dev/full: No space left") && said[1].contains("6 records"), "{said:?}");
}

/// Nobody has the rest of it: that must not look like success.
#[test]
fn what_is_missing_at_the_end_is_an_error() {
    let mut capture = CaptureFile::open(options(PathBuf::from("/dev/full")), silent()).unwrap();
    for record in samples::all() {
        capture.write(&record).unwrap();
    }
    let error = capture.flush().unwrap_err().to_string();
    assert_eq!(error, format!("the last {} records are missing from /dev/full", samples::all().len()));
}

#[test]
fn a_removed_directory_is_said_once_and_its_records_count_as_lost() {
    let directory = Directory::new("adrift");
    let below = directory.file("below");
    fs::create_dir(&below).unwrap();
    let said = Arc::new(Mutex::new(Vec::new()));
    let talk = Arc::clone(&said);
    let path = below.join("log.jsonl");
    let mut capture =
        CaptureFile::open(options(path.clone()), Box::new(move |text| talk.lock().unwrap().push(text.to_owned())))
            .unwrap();
    capture.write(&Record::Session(samples::session())).unwrap();
    capture.flush().unwrap();
    fs::remove_dir_all(&below).unwrap();
    for id in 0..3 {
        capture.tick(samples::at(1)).unwrap();
        capture.write(&failure(id)).unwrap();
        capture.flush().unwrap();
    }
    fs::create_dir(&below).unwrap();
    capture.tick(samples::at(2)).unwrap();
    capture.write(&failure(9)).unwrap();
    capture.flush().unwrap();
    let said = said.lock().unwrap();
    assert!(
        said.len() == 2 && said[0].contains("records are lost") && said[1].contains("3 records were lost"),
        "{said:?}"
    );
    let found = records(&path);
    assert!(matches!(&found[1], Record::Lost(lost) if lost.count == Some(3)), "{found:?}");
    assert_eq!(failure_ids(&found), [9]);
}

#[test]
fn a_pipe_that_nobody_reads_is_no_trap() {
    let directory = Directory::new("pipe");
    let path = directory.file("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let error = CaptureFile::open(options(path), silent()).unwrap_err().to_string();
    assert!(error.contains("nobody reads that pipe"), "{error}");
}

#[test]
fn a_file_that_cannot_be_rotated_grows_and_the_archive_stays() {
    // A directory in the way: neither renamed over nor removed; and one where the next file would be made.
    for (name, obstacle) in [("stuck", "a.jsonl.3/x"), ("no-next", "a.jsonl.next/x")] {
        cannot_be_rotated(name, obstacle);
    }
}

fn cannot_be_rotated(name: &str, obstacle: &str) {
    let directory = Directory::new(name);
    let path = directory.file("a.jsonl");
    fs::create_dir_all(directory.file(obstacle)).unwrap();
    fs::write(directory.file("a.jsonl.2"), "older").unwrap();
    let said = Arc::new(Mutex::new(0));
    let heard = Arc::clone(&said);
    let talk: Talk = Box::new(move |_| *heard.lock().unwrap() += 1);
    let rotating = CaptureOptions { max_size: 16 * 1024, ..options(path.clone()) };
    let mut sink = CaptureFile::open(rotating, talk).unwrap();
    sink.write(&Record::Session(samples::session())).unwrap();
    for id in 0..20 {
        let mut failure = samples::failure();
        failure.id = id;
        failure.worker = Worker { comm: "x".repeat(600), ..failure.worker };
        sink.write(&Record::Failure(Box::new(failure))).unwrap();
    }
    drop(sink);
    assert_eq!(failure_ids(&records(&path)), (0..20).collect::<Vec<_>>());
    assert!((1..=3).contains(&*said.lock().unwrap()));
    assert_eq!(fs::read(directory.file("a.jsonl.2")).unwrap(), b"older");
}
