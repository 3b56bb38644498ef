//! Causes of the nginx host itself, and statuses that the configuration orders.

use super::{Advice, Question, Scope, setting::Setting};
use crate::nginx::config::{defaults, tree::Directive};

fn of_events(scope: &Scope<'_>) -> Option<Setting> {
    let view = scope.view.as_ref()?;
    let name = "worker_connections";
    Setting::of(Some(view), name, &view.said_in_events(name), defaults::of_events(name).map(str::to_owned), None)
}

fn of_main(scope: &Scope<'_>, name: &str) -> Option<Setting> {
    let view = scope.view.as_ref()?;
    Setting::of(Some(view), name, &view.said_in_main(name), None, None)
}

/// The limit of descriptors, and what it should be above.
pub(super) fn descriptors(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let (limit, connections) = (of_main(scope, "worker_rlimit_nofile"), of_events(scope));
    let settings: Vec<Setting> = [limit, connections].into_iter().flatten().collect();
    let sentences: Vec<String> = settings.iter().map(|setting| setting.sentence(None)).collect();
    let hint = (!sentences.is_empty()).then(|| format!("{}; {}", question.general, sentences.join(", ")));
    Advice { hint, settings, ..Advice::default() }
}

/// The limit of connections.
pub(super) fn connections(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let (connections, limit) = (of_events(scope), of_main(scope, "worker_rlimit_nofile"));
    let hint = connections.as_ref().map(|setting| format!("{}: {}", setting.sentence(None), question.general));
    Advice { hint, settings: [connections, limit].into_iter().flatten().collect(), ..Advice::default() }
}

/// The address that connections are made from.
pub(super) fn bind(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let bind = super::of_module(scope, "bind", None);
    let hint = bind.as_ref().map(|bind| format!("{}: {}", question.general, bind.line()));
    Advice { hint, settings: bind.into_iter().chain(scope.leads()).collect(), ..Advice::default() }
}

/// Where files are written for a while.
pub(super) fn temporary(scope: &Scope<'_>) -> Advice {
    let paths = [super::of_module(scope, "temp_path", None), scope.setting("client_body_temp_path", None)];
    let size = super::of_module(scope, "max_temp_file_size", None);
    Advice { hint: None, settings: paths.into_iter().flatten().chain(size).collect(), ..Advice::default() }
}

/// The line that orders this status, where there is one only.
pub(super) fn configured_status(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let (Some(view), Some(status)) = (&scope.view, question.status) else { return Advice::default() };
    let mut found: Vec<&Directive> = Vec::new();
    for block in scope.blocks() {
        let lines = view.inside(block);
        let conditional = view.inside(block).filter(|inner| inner.name == "if").flat_map(|inner| view.inside(inner));
        for line in lines.chain(conditional).filter(|line| orders(line, status)) {
            if !found.iter().any(|known| known.is_same_line(line)) {
                found.push(line);
            }
        }
    }
    let settings: Vec<Setting> = found.iter().map(|line| Setting::written(view, line)).collect();
    let hint = match settings.as_slice() {
        [line] => Some(format!("{}: {}", question.general, line.line())),
        _ => None,
    };
    Advice { hint, settings, ..Advice::default() }
}

/// `return 502 …`, `try_files … =502`.
fn orders(line: &Directive, status: u16) -> bool {
    match line.name.as_str() {
        "return" => line.arguments.first().is_some_and(|code| *code == status.to_string()),
        "try_files" => line.arguments.last().is_some_and(|code| *code == format!("={status}")),
        _ => false,
    }
}
