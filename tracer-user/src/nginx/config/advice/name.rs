//! Causes without a connection: no server is left to try, or a name does not resolve.

use super::{
    Advice, Question, Scope,
    setting::{Setting, at},
};
use crate::{
    model::address::Address,
    nginx::config::{
        advice::scope::described,
        defaults,
        target::{Target, has_flag, parameter},
        tree::Directive,
        value::milliseconds,
        view::Said,
    },
};

/// Servers that a sentence names.
const NAMED: usize = 4;

/// Each server of the block, and for how long it is left alone after how many failures.
pub(super) fn no_live(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let (Some(view), Some(block)) = (&scope.view, scope.block) else { return Advice::default() };
    let Said::Set(lines) = view.said_in(block.block.as_deref().unwrap_or_default(), "server") else {
        return Advice::default();
    };
    let mut named: Vec<String> = lines.iter().take(NAMED).map(|line| server(line, view.place(line).line)).collect();
    if lines.len() > NAMED {
        named.push(format!("and {} more", lines.len() - NAMED));
    }
    let other = without_failures(&lines);
    let answers = super::of_module(scope, "next_upstream", None).filter(|next| other.is_none() && counts_answers(next));
    let also = answers.as_ref().map(|next| format!("; answers count as failures, too: {}", next.line()));
    let also = also.unwrap_or_default();
    let lead = other.unwrap_or_else(|| match lines.iter().any(|line| is_limited(line)) {
        true => format!("{}; or its servers are at max_conns", question.general),
        false => question.general.to_owned(),
    });
    let hint = format!("{lead}{also}; {}: {}", described(view, block), named.join(", "));
    let settings = lines.iter().map(|line| Setting::written(view, line)).chain(answers).collect();
    Advice { hint: Some(hint), settings, left_alone: lines.iter().filter_map(|line| left_alone(line)).collect() }
}

/// Why none is left although none can be out for its failures; None: some can.
fn without_failures(lines: &[&Directive]) -> Option<String> {
    let mut tried = lines.iter().filter(|line| !has_flag(line, "down")).peekable();
    if tried.peek().is_none() {
        return Some("every server is marked down: take that off one of them".to_owned());
    }
    // A single address is never left alone (ngx_http_upstream_get_round_robin_peer(), 1.22).
    if let [line] = lines
        && is_limited(line)
        && matches!(Target::of_server(line), Some(Target::Address(_)))
    {
        return Some("its only server is at max_conns: raise it, or add a server".to_owned());
    }
    if tried.clone().any(|line| parameter(line, "max_fails") != Some("0")) {
        return None;
    }
    let why = if tried.any(|line| is_limited(line)) {
        "they are at max_conns, or were tried already for this request"
    } else {
        "each was tried already for this request"
    };
    Some(format!("no server is left alone after failures (max_fails=0): {why}"))
}

fn is_limited(line: &Directive) -> bool {
    !has_flag(line, "down") && parameter(line, "max_conns").is_some_and(|limit| limit != "0")
}

/// Are there statuses of answers that nginx takes for failures of the server? (403 and 404 are not among them:
/// ngx_http_upstream_next(), src/http/ngx_http_upstream.c, 1.22.)
fn counts_answers(next: &Setting) -> bool {
    let counted = |word: &str| word.starts_with("http_5") || word == "http_429";
    next.value.as_deref().is_some_and(|value| value.split(' ').any(counted))
}

/// Its address, and `fail_timeout` in ms; None: it is never left alone, or never asked.
fn left_alone(line: &Directive) -> Option<(Address, u64)> {
    if has_flag(line, "down") || parameter(line, "max_fails") == Some("0") {
        return None;
    }
    let time = parameter(line, "fail_timeout").or(defaults::of_server("fail_timeout"))?;
    let address = line.arguments.first()?;
    let with_port = format!("{address}:80");
    let server = match Address::from_nginx(address) {
        // Without a port it is 80's.
        Address::Name(_) => Address::from_nginx(&with_port),
        known => known,
    };
    Some((server, milliseconds(time)?))
}

/// `10.0.0.1:80 (line 4) max_fails=1 fail_timeout=10s`, or why it is never tried.
fn server(line: &Directive, number: u32) -> String {
    let address = line.arguments.first().map_or("", String::as_str);
    let name = format!("{} (line {number})", super::setting::shortened(address));
    if has_flag(line, "down") {
        return format!("{name} is marked down");
    }
    let value = |name: &str| {
        let (value, default) = (parameter(line, name), defaults::of_server(name));
        value.or(default).map(|value| format!(" {name}={value}"))
    };
    let limit = parameter(line, "max_conns").map(|limit| format!(" max_conns={limit}"));
    let parts = [value("max_fails"), value("fail_timeout"), limit];
    let parts: String = parts.into_iter().flatten().collect();
    format!("{name}{parts}{}", if has_flag(line, "backup") { " backup" } else { "" })
}

/// Whom nginx asks, and for how long.
pub(super) fn resolver(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let resolver = scope.setting("resolver", None);
    let timeout = scope.setting("resolver_timeout", None);
    let hint = resolver.as_ref().map(|resolver| {
        let patience = timeout.as_ref().and_then(Setting::value_in_force);
        let patience = patience.map(|timeout| format!(" (resolver_timeout {timeout})")).unwrap_or_default();
        format!("{}: {}{patience}", question.general, resolver.line())
    });
    Advice {
        hint,
        settings: [resolver, timeout].into_iter().flatten().chain(scope.leads()).collect(),
        ..Advice::default()
    }
}

/// Where a resolver is missing.
pub(super) fn no_resolver(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let home = scope.server_home().filter(|_| scope.lacks("resolver"));
    let hint = match (home, scope.pass) {
        (Some(home), Some(pass)) => {
            let place = scope.place(pass).map(|place| format!(" at {}", at(&place))).unwrap_or_default();
            let name = &pass.name;
            Some(format!("add a resolver directive to {home}, or take the variable out of {name}{place}"))
        }
        (None, Some(_)) => scope.leads().first().map(|line| format!("{}: {}", question.general, line.line())),
        _ => None,
    };
    Advice { hint, settings: scope.leads(), ..Advice::default() }
}
