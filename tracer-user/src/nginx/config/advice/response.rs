//! Causes that a size or a time of nginx's decides.

use super::{
    Advice, Question, Scope, of_module,
    setting::{Measure, Setting},
};
use crate::{
    model::configured::Module,
    nginx::config::{advice::scope::described, defaults, value},
};

/// The buffer in force, one that is larger, and whether its companions must grow with it.
pub(super) fn header_too_big(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let in_force = question.configured.and_then(|configured| configured.pass.as_ref()).map(|pass| pass.buffer_size);
    let size = of_module(scope, "buffer_size", in_force.map(Measure::Bytes));
    let (Some(size), Some(module)) = (size, scope.module) else {
        return Advice { hint: None, settings: scope.leads(), ..Advice::default() };
    };
    let now = in_force.or_else(|| value::bytes(size.value_in_force()?));
    let raise = now.map(|now| now.saturating_mul(2).max(16 * 1024));
    let buffers = of_module(scope, "buffers", None);
    let busy = of_module(scope, "busy_buffers_size", None);
    let raised = raise.map(|raise| {
        let prefix = module.prefix();
        let raised = value::size(raise);
        let more = match module {
            Module::Grpc | Module::Memcached => Vec::new(),
            _ => companions(raise, buffers.as_ref(), busy.as_ref()),
        };
        let more: Vec<String> = more.into_iter().map(|more| format!("{prefix}_{more}")).collect();
        let more = if more.is_empty() { String::new() } else { format!(" with {}", more.join(" and ")) };
        format!(": raise it to {raised}{more}, or send fewer cookies")
    });
    let hint = format!("{}{}", size.sentence(scope.home().as_deref()), raised.unwrap_or_default());
    let settings = [Some(size), buffers, busy].into_iter().flatten().chain(scope.leads()).collect();
    Advice { hint: Some(hint), settings, ..Advice::default() }
}

/// What nginx demands of the other buffers (ngx_http_proxy_merge_loc_conf(), src/http/modules/ngx_http_proxy_module.c,
/// 1.22): busy_buffers_size, twice the largest buffer unless it is set, holds one of each kind and leaves one free.
fn companions(buffer_size: u64, buffers: Option<&Setting>, busy: Option<&Setting>) -> Vec<String> {
    let known = buffers.and_then(|buffers| {
        let (count, each) = buffers.value.as_deref()?.split_once(' ')?;
        Some((count.parse::<u64>().ok()?, value::bytes(each)?))
    });
    // Where they are not known, those that do in any case are named.
    let (count, each) = known.unwrap_or((0, 0));
    let largest = buffer_size.max(each);
    let written = busy.and_then(|busy| value::bytes(busy.value.as_deref()?));
    let raised = written.filter(|written| *written < largest).map(|_| largest);
    let busy = raised.or(written).unwrap_or_else(|| largest.saturating_mul(2));
    let free = each.saturating_mul(count.saturating_sub(1));
    // As many as hold what is busy, and one.
    let count = count.max(8).max(busy.div_ceil(largest.max(1)) + 1);
    let buffers = (busy > free).then(|| format!("buffers {count} {}", value::size(largest)));
    let busy = raised.map(|raised| format!("busy_buffers_size {}", value::size(raised)));
    busy.into_iter().chain(buffers).collect()
}

/// nginx's own patience with idle connections against the one that was seen.
pub(super) fn stale_keepalive(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let (Some(view), Some(block)) = (&scope.view, scope.block) else {
        return Advice { hint: None, settings: scope.leads(), ..Advice::default() };
    };
    let of_block = |name: &str| {
        let said = view.said_in(block.block.as_deref().unwrap_or_default(), name);
        Setting::of(Some(view), name, &said, defaults::of_upstream(name).map(str::to_owned), None)
    };
    let (timeout, keepalive) = (of_block("keepalive_timeout"), of_block("keepalive"));
    let hint = timeout.as_ref().map(|timeout| {
        let sentence = timeout.sentence(Some(&described(view, block)));
        match question.idle() {
            Some(idle) => format!(
                "{sentence}, and the upstream had closed the connection by the time it was idle for {idle}: set it lower \
                 than the upstream's own, or raise that"
            ),
            None => format!("{sentence}: set it lower than the upstream's own, or raise that"),
        }
    });
    let settings = [timeout, keepalive].into_iter().flatten().chain(scope.leads()).collect();
    Advice { hint, settings, ..Advice::default() }
}

#[cfg(test)]
mod tests {
    use super::{Setting, companions};

    #[test]
    fn what_is_named_together_nginx_takes() {
        let setting = |value: &str| Setting {
            directive: String::new(),
            value: Some(value.to_owned()),
            place: None,
            in_force: None,
        };
        let named = |kilobytes: u64, buffers: Option<&str>, busy: Option<&str>| {
            let (buffers, busy) = (buffers.map(setting), busy.map(setting));
            companions(kilobytes * 1024, buffers.as_ref(), busy.as_ref()).join(" and ")
        };
        assert_eq!(named(16, Some("8 4k"), None), "buffers 8 16k");
        assert_eq!(named(16, Some("8 4k"), Some("8k")), "busy_buffers_size 16k");
        assert_eq!(named(32, Some("8 4k"), Some("16k")), "busy_buffers_size 32k and buffers 8 32k");
        assert_eq!(named(16, Some("8 64k"), None), "");
        assert_eq!(named(16, None, None), "buffers 8 16k");
    }
}
