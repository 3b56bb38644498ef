//! Causes of the handshake with the upstream.

use super::{Advice, Question, Scope, of_module, setting::Setting};

fn settings(scope: &Scope<'_>, suffixes: &[&str]) -> Vec<Setting> {
    let found = suffixes.iter().filter_map(|suffix| of_module(scope, suffix, None));
    found.chain(scope.leads()).collect()
}

/// Whether a server name is sent, and which versions and ciphers are allowed.
pub(super) fn handshake(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let settings = settings(scope, &["ssl_server_name", "ssl_name", "ssl_protocols", "ssl_ciphers", "ssl_certificate"]);
    let unnamed = settings
        .iter()
        .find(|setting| setting.directive.ends_with("_ssl_server_name") && setting.value_in_force() == Some("off"));
    let hint = match (unnamed, settings.iter().rev().find(|setting| setting.directive.ends_with("_pass"))) {
        (Some(unnamed), _) => {
            let sentence = unnamed.sentence(scope.home().as_deref());
            Some(format!("{sentence}, so that no server name is sent: {}", question.general))
        }
        (None, Some(pass)) => Some(format!("{}: {}", question.general, pass.line())),
        (None, None) => None,
    };
    Advice { hint, settings, ..Advice::default() }
}

/// What is verified, against what.
pub(super) fn verify(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let settings = settings(
        scope,
        &["ssl_trusted_certificate", "ssl_name", "ssl_verify", "ssl_verify_depth", "ssl_crl", "ssl_server_name"],
    );
    let written =
        |suffix: &str| settings.iter().find(|setting| setting.directive.ends_with(suffix) && setting.place.is_some());
    let line = written("_ssl_trusted_certificate").or_else(|| written("_ssl_verify"));
    let hint = line.map(|line| format!("{}: {}", question.general, line.line()));
    Advice { hint, settings, ..Advice::default() }
}
