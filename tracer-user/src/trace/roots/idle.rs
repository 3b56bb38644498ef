//! A reused connection that its upstream had given up: after how long it does that, as measured.

use super::{Found, text};
use crate::{collect::idle::Timeout, model::verdict::Failure, record};

/// The rules found that it was idle; `timeout` is what this upstream's closes agree on.
pub(super) fn root(failure: &Failure, timeout: Timeout) -> Option<Found> {
    let Timeout { idle_us, agreeing, closes } = timeout;
    let own = failure.connection.idle_us?;
    // A close much earlier than usual has another reason.
    if own < idle_us / 2 {
        return None;
    }
    let usual = text::duration(idle_us * 1000);
    let root = record::Root {
        kind: record::RootKind::PeerIdleClose,
        text: format!(
            "the upstream closes connections that were idle for {usual} ({agreeing} of {closes} closes seen); this one was \
             for {}",
            text::duration(own * 1000)
        ),
        process: None,
        listener: None,
    };
    let hint = format!(
        "set keepalive_timeout in nginx's upstream block below {usual} (its default is 60s), or let the upstream keep \
         connections longer than nginx does"
    );
    Some(Found { root, hint: Some(hint), evidence: None })
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{collect::idle::Timeout, model::cause::Cause, trace::roots::samples::failure};

    #[test]
    fn the_number_to_set() {
        let timeout = Timeout { idle_us: 5_010_000, agreeing: 9, closes: 10 };
        let mut failure = failure(Cause::StaleKeepalive);
        failure.connection.idle_us = Some(5_020_000);
        let found = root(&failure, timeout).expect("a reason");
        assert_eq!(
            found.root.text,
            "the upstream closes connections that were idle for 5.0 s (9 of 10 closes seen); this one was for 5.0 s"
        );
        assert!(found.hint.expect("a hint").contains("below 5.0 s"));
        failure.connection.idle_us = Some(1_000_000);
        assert!(root(&failure, timeout).is_none(), "closed long before its time: for another reason");
    }
}
