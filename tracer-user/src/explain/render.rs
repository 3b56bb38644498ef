//! Explanations as text for a terminal and as Markdown for docs/causes.md. Pure.

use std::fmt::Write as _;

use super::{
    Check, Explanation, GROUPS,
    reasons::{REASONS, Reason},
    wrap,
};

const FRONT: &str = "\
# Causes

Every verdict of why502 names one of these. The ids are stable: scripts, filters (`--cause`) and dashboards may rely on
them. `why502 explain CAUSE` prints the same text in a terminal.

*Status* is what nginx gives the client when it does not pass the request on to another server
(`proxy_next_upstream`). What is said of `proxy_…` directives holds for their `fastcgi_…`, `uwsgi_…`, `scgi_…` and `grpc_…`
siblings.

<!-- Made from tracer-user/src/explain: change the text there. -->
";

/// One cause, in lines of at most so many columns.
pub(super) fn text(explanation: &Explanation, columns: usize) -> String {
    let Explanation { cause, status, meaning, kernel, nginx, check, change, hint: _ } = explanation;
    let mut out = format!("{cause}: {status}\n\n");
    paragraph(meaning, "", "", columns, &mut out);
    out.push_str("\nWhat the kernel sees\n");
    paragraph(kernel, "  ", "  ", columns, &mut out);
    if !nginx.is_empty() {
        out.push_str("\nWhat nginx writes\n");
        nginx.iter().for_each(|message| paragraph(message, "  ", "    ", columns, &mut out));
    }
    to_do(check, change, columns, &mut out);
    out
}

/// One reason.
pub(super) fn of_reason(reason: &Reason, columns: usize) -> String {
    let Reason { kind, meaning, known, check, change } = reason;
    let mut out = format!("{kind}: a reason behind a cause (root)\n\n");
    paragraph(meaning, "", "", columns, &mut out);
    out.push_str("\nHow it is known\n");
    paragraph(known, "  ", "  ", columns, &mut out);
    to_do(check, change, columns, &mut out);
    out
}

fn to_do(check: &[Check], change: &[&str], columns: usize, out: &mut String) {
    if !check.is_empty() {
        out.push_str("\nWhat to check\n");
        for check in check {
            paragraph(check.what, "  - ", "    ", columns, out);
            if !check.command.is_empty() {
                // Never wrapped: commands are there to be copied.
                put(out, format_args!("      {}\n", check.command));
            }
        }
    }
    if !change.is_empty() {
        out.push_str("\nWhat to change\n");
        change.iter().for_each(|change| paragraph(change, "  - ", "    ", columns, out));
    }
}

/// All causes by group, one line each.
pub(super) fn list(columns: usize) -> String {
    let mut out = String::new();
    for group in GROUPS {
        put(&mut out, format_args!("{}\n", group.title));
        for explanation in group.explanations {
            let head = format!("  {:<24}", explanation.cause);
            paragraph(first_sentence(explanation.meaning), &head, &" ".repeat(26), columns, &mut out);
        }
        out.push('\n');
    }
    out.push_str("Reasons behind a cause\n");
    for reason in REASONS {
        let head = format!("  {:<24}", reason.kind);
        paragraph(first_sentence(reason.meaning), &head, &" ".repeat(26), columns, &mut out);
    }
    out.push_str("\nwhy502 explain ID says more.\n");
    out
}

/// The whole of docs/causes.md.
pub fn markdown() -> String {
    let mut out = FRONT.to_owned();
    for group in GROUPS {
        put(&mut out, format_args!("\n## {}\n\n{}\n", group.title, group.about));
        for explanation in group.explanations {
            section(explanation, &mut out);
        }
    }
    out.push_str(REASONS_FRONT);
    for reason in REASONS {
        let Reason { kind, meaning, known, check, change } = reason;
        put(&mut out, format_args!("\n### `{kind}`\n\n{meaning}\n\n- **How it is known:** {known}\n"));
        to_do_markdown(check, change, &mut out);
    }
    out
}

const REASONS_FRONT: &str = "
## Reasons

Behind a cause there is a reason where it could be established on this host: `root` in records, the words after the cause in a
terminal. It is named only where it belongs to this very connection, or to the place it was refused at.
";

fn section(explanation: &Explanation, out: &mut String) {
    let Explanation { cause, status, meaning, kernel, nginx, check, change, hint } = explanation;
    put(out, format_args!("\n### `{cause}`\n\n{meaning}\n\n- **Status:** {status}\n- **The kernel sees:** {kernel}\n"));
    let messages: Vec<_> = nginx.iter().map(|message| format!("`{message}`")).collect();
    if !messages.is_empty() {
        put(out, format_args!("- **nginx writes:** {}\n", messages.join(" · ")));
    }
    put(out, format_args!("- **In short:** {hint}\n"));
    to_do_markdown(check, change, out);
}

fn to_do_markdown(check: &[Check], change: &[&str], out: &mut String) {
    if !check.is_empty() {
        out.push_str("\nCheck:\n\n");
        for check in check {
            match check.command {
                "" => put(out, format_args!("- {}\n", check.what)),
                command => put(out, format_args!("- {}: `{command}`\n", check.what)),
            }
        }
    }
    if !change.is_empty() {
        out.push_str("\nChange:\n\n");
        change.iter().for_each(|change| put(out, format_args!("- {change}\n")));
    }
}

fn paragraph(text: &str, first: &str, others: &str, columns: usize, out: &mut String) {
    for (index, line) in wrap(text, columns.saturating_sub(others.len()).max(20)).iter().enumerate() {
        put(out, format_args!("{}{line}\n", if index == 0 { first } else { others }));
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

/// Up to the first full stop or colon that ends a clause.
fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(sentence, _)| sentence).trim_end_matches('.')
}
