//! No server is left to try: when nginx will try one again.

use crate::{model::address::Address, nginx::config::Advice};

/// When these peers failed last (before `time_ns`), and for how long nginx still leaves them alone: it tries one again a
/// fail_timeout after its last failure (ngx_http_upstream_get_peer(), src/http/ngx_http_upstream_round_robin.c).
pub(super) fn told(last_failed: &[(Address, u64)], time_ns: u64, advice: &Advice) -> String {
    let of_peer = |(peer, failed_ns): &(Address, u64)| {
        let ago_ms = time_ns.saturating_sub(*failed_ns) / 1_000_000;
        let failed = format!("; {peer} failed last {} before", seconds(ago_ms));
        match advice.fail_timeout_ms(peer).and_then(|timeout| timeout.checked_sub(ago_ms)) {
            Some(left) => format!("{failed}, left alone for {} more", seconds(left)),
            None => failed,
        }
    };
    last_failed.iter().map(of_peer).collect()
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms / 100 % 10)
}

#[cfg(test)]
mod tests {
    use super::told;
    use crate::{model::address::Address, nginx::config::Advice};

    #[test]
    fn as_long_as_fail_timeout_has_it() {
        let peer = |name: &str| Address::from_nginx(name);
        let left_alone = vec![(peer("10.0.0.1:80"), 10_000), (peer("10.0.0.2:80"), 1000)];
        let advice = Advice { left_alone, ..Advice::default() };
        let failed = [(peer("10.0.0.1:80"), 7_850_000_000), (peer("10.0.0.2:80"), 8_000_000_000)];
        let expected =
            "; 10.0.0.1:80 failed last 2.1 s before, left alone for 7.8 s more; 10.0.0.2:80 failed last 2.0 s before";
        assert_eq!(told(&failed, 10_000_000_000, &advice), expected);
        assert_eq!(told(&failed[..1], 10_000_000_000, &Advice::default()), "; 10.0.0.1:80 failed last 2.1 s before");
        assert_eq!(told(&[], 1, &advice), "");
    }
}
