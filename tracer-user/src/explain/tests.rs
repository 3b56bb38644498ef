//! The table is complete and in good order, and the document is its copy.

use std::path::Path;

use unicode_width::UnicodeWidthStr;

use super::{
    GROUPS, explanation, hint, list, markdown,
    reasons::{REASONS, reason},
    render::of_reason,
    text,
};
use crate::model::{cause::Cause, root::RootKind};

#[test]
fn every_cause_is_explained_once_and_in_order() {
    let explained: Vec<_> = GROUPS.iter().flat_map(|group| group.explanations).map(|each| each.cause).collect();
    assert_eq!(explained, Cause::ALL);
}

#[test]
fn the_status_agrees_with_the_taxonomy() {
    for cause in Cause::ALL.iter().filter(|cause| !cause.after_header()) {
        if let Some(status) = cause.status() {
            assert!(explanation(*cause).unwrap().status.starts_with(&status.to_string()), "{cause}");
        }
    }
}

#[test]
fn texts_are_whole_and_hints_are_short() {
    for cause in Cause::ALL {
        let each = explanation(*cause).unwrap();
        assert!(each.meaning.ends_with('.') && each.kernel.ends_with('.'), "{cause}");
        assert!(each.change.iter().all(|change| change.ends_with('.')), "{cause}");
        assert!(!hint(*cause).is_empty() && hint(*cause).width() <= 100 && !hint(*cause).ends_with('.'), "{cause}");
        assert!(!each.check.is_empty() && !each.change.is_empty(), "{cause}");
        let parts = [each.meaning, each.kernel, each.hint].into_iter().chain(each.change.iter().copied());
        for part in parts.chain(each.check.iter().map(|check| check.what)) {
            assert!(!part.contains("  ") && !part.contains('\n') && !part.contains('`'), "{cause}: {part}");
        }
    }
}

#[test]
fn lines_keep_to_their_columns_but_for_commands_and_log_lines() {
    for cause in Cause::ALL {
        let text = text(explanation(*cause).unwrap(), 80);
        assert!(text.starts_with(&format!("{cause}: ")), "{text}");
        for line in text.lines().skip(1).filter(|line| !line.starts_with("      ")) {
            assert!(line.width() <= 80, "{line}");
        }
    }
}

#[test]
fn every_reason_is_explained_once_and_in_order() {
    let explained: Vec<_> = REASONS.iter().map(|each| each.kind).collect();
    assert_eq!(explained, RootKind::ALL);
    for kind in RootKind::ALL {
        let each = reason(*kind).unwrap();
        assert!(each.meaning.ends_with('.') && each.known.ends_with('.'), "{kind}");
        assert!(!each.check.is_empty() && !each.change.is_empty(), "{kind}");
        assert!(each.change.iter().all(|change| change.ends_with('.')), "{kind}");
        let parts = [each.meaning, each.known].into_iter().chain(each.change.iter().copied());
        for part in parts.chain(each.check.iter().map(|check| check.what)) {
            assert!(!part.contains("  ") && !part.contains('\n') && !part.contains('`'), "{kind}: {part}");
        }
        let text = of_reason(each, 80);
        assert!(text.starts_with(&format!("{kind}: ")), "{text}");
        for line in text.lines().skip(1).filter(|line| !line.starts_with("      ")) {
            assert!(line.width() <= 80, "{line}");
        }
    }
}

#[test]
fn the_list_names_all() {
    let list = list(80);
    for cause in Cause::ALL {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(cause.id())), "{cause}\n{list}");
    }
    for kind in RootKind::ALL {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(kind.id())), "{kind}\n{list}");
    }
    assert!(list.lines().all(|line| line.width() <= 80), "{list}");
}

/// `WHY502_UPDATE_DOCS=1 cargo test` writes it anew.
#[test]
fn the_document_is_a_copy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/causes.md");
    if std::env::var_os("WHY502_UPDATE_DOCS").is_some() {
        std::fs::write(&path, markdown()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == markdown(), "docs/causes.md is old: run WHY502_UPDATE_DOCS=1 cargo test -p tracer-user explain");
}
