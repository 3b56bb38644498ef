//! Which part of the configuration a failure belongs to: the location, its `…_pass`, the upstream block, the server line.

use super::setting::{Measure, Setting, at, shortened};
use crate::{
    model::{
        address::Address,
        configured::{Block, Configured, Module, Place},
    },
    nginx::config::{
        defaults,
        target::{Fit, Target, module},
        tree::Directive,
        view::{Chain, Said, View},
    },
};

/// What is certain; everything may be missing.
#[derive(Default)]
pub(super) struct Scope<'a> {
    pub(super) view: Option<View<'a>>,
    /// Blocks that took the request, outermost first. More than one: they are called the same, and what they do not agree
    /// on is not known.
    chains: Vec<Chain<'a>>,
    pub(super) module: Option<Module>,
    pub(super) pass: Option<&'a Directive>,
    /// The `upstream` block.
    pub(super) block: Option<&'a Directive>,
    /// The line of the block that has the address.
    pub(super) peer: Option<&'a Directive>,
}

impl<'a> Scope<'a> {
    /// As far as memory and files go; without memory, what only one line can mean.
    pub(super) fn find(view: Option<View<'a>>, upstream: Option<&Address>, configured: Option<&Configured>) -> Self {
        let Some(view) = view else {
            let module = configured.and_then(|configured| Some(configured.pass.as_ref()?.module));
            return Self { module, ..Self::default() };
        };
        let mut scope = match configured {
            Some(configured) => Self::by_memory(view, configured),
            None if view.knows_everything() => Self::by_address(view, upstream),
            None => Self { view: Some(view), ..Self::default() },
        };
        if let (Some(block), Some(address)) = (scope.block, upstream) {
            scope.peer = peer(&view, block, address).or(scope.peer);
        }
        scope
    }

    fn by_memory(view: View<'a>, configured: &Configured) -> Self {
        let place = configured.server.as_ref().and_then(|server| server.place.as_ref());
        let mut chains = Vec::new();
        if let (Some(place), Some(location)) = (place, &configured.location) {
            for server in view.servers(place) {
                chains.extend(view.locations(&server, location));
            }
        }
        let known = configured.pass.as_ref();
        if let Some(known) = known {
            chains.retain(|chain| {
                pass_of(&view, chain)
                    .is_some_and(|pass| module(pass) == Some(known.module) && leads_to(pass, known.block.as_ref()))
            });
        }
        let pass = agreed(chains.iter().map(|chain| pass_of(&view, chain)));
        let named = match known.and_then(|known| known.block.as_ref()) {
            Some(block) => view.upstream(&block.name),
            None => None,
        };
        let module = known.map(|known| known.module).or_else(|| pass.and_then(module));
        Self { view: Some(view), chains, module, pass, block: named, peer: None }
    }

    /// The only lines that the address, or the name, can have come from.
    fn by_address(view: View<'a>, upstream: Option<&Address>) -> Self {
        let mut passes: Vec<(&'a Directive, Target)> = Vec::new();
        let mut peers: Vec<(&'a Directive, &'a Directive, Target)> = Vec::new();
        view.each(|chain, directive| {
            if let Some(target) = Target::of_pass(directive) {
                passes.push((directive, target));
            } else if let Some(block) = chain.last()
                && (block.name.as_str(), directive.name.as_str()) == ("upstream", "server")
                && let Some(target) = Target::of_server(directive)
            {
                peers.push((block, directive, target));
            }
        });
        let mut scope = Self { view: Some(view), ..Self::default() };
        let Some(address) = upstream else { return scope };
        // Such a request could have gone anywhere.
        if passes.iter().any(|(_, target)| *target == Target::Variable) {
            return scope;
        }
        let blocks = view.upstreams();
        let block_of = |target: &Target| blocks.get(&target.block_name()?.to_ascii_lowercase()).copied();
        peers.retain(|(.., target)| target.fit(address) != Fit::No);
        let direct = |target: &Target| target.fit(address) != Fit::No && block_of(target).is_none();
        let directly = passes.iter().filter(|(_, target)| direct(target)).count();
        match (address, peers.as_slice(), directly) {
            (Address::Name(name), ..) => scope.block = view.upstream(name),
            (_, [(block, peer, target)], 0) if target.fit(address) == Fit::Address => {
                scope.block = Some(block);
                scope.peer = Some(peer);
            }
            (_, [], 1) => {}
            _ => return scope,
        }
        let leads = |target: &Target| match scope.block {
            Some(block) => block_of(target).is_some_and(|other| std::ptr::eq(block, other)),
            None => direct(target) && target.fit(address) == Fit::Address,
        };
        let mut leading = passes.iter().filter(|(_, target)| leads(target));
        if let (Some((pass, _)), None) = (leading.next(), leading.next()) {
            scope.module = module(pass);
            scope.pass = Some(pass);
            view.each(|chain, directive| {
                if std::ptr::eq(directive, *pass) {
                    scope.chains.push(chain.to_vec());
                }
            });
        }
        scope
    }

    /// A directive of http, server or location, as it is in force for the request.
    pub(super) fn setting(&self, name: &str, in_force: Option<Measure>) -> Option<Setting> {
        let said = self.said(name, in_force);
        Setting::of(self.view.as_ref(), name, &said, defaults::of_location(name), in_force)
    }

    /// What the blocks agree on; where they do not, what those say that agree with memory.
    fn said(&self, name: &str, in_force: Option<Measure>) -> Said<'a> {
        let Some(view) = &self.view else { return Said::Unknown };
        let mut all: Vec<Said<'a>> = self.chains.iter().map(|chain| view.said(chain, name)).collect();
        if let Some(measure) = in_force
            && !all.windows(2).all(|pair| same(&pair[0], &pair[1]))
        {
            all.retain(|said| match said {
                Said::Set(lines) => {
                    lines.first().and_then(|line| line.arguments.first()).is_some_and(|value| measure.is(value))
                }
                Said::Unset => defaults::of_location(name).is_some_and(|value| measure.is(&value)),
                Said::Unknown => true,
            });
        }
        let Some(first) = all.first() else { return Said::Unknown };
        if all.iter().all(|said| same(first, said)) { first.clone() } else { Said::Unknown }
    }

    /// Is it certain that a directive is nowhere?
    pub(super) fn lacks(&self, name: &str) -> bool {
        matches!(self.said(name, None), Said::Unset)
    }

    /// Blocks of the request, innermost last, where that is certain.
    pub(super) fn blocks(&self) -> &[&'a Directive] {
        match self.chains.as_slice() {
            [chain] => chain,
            _ => &[],
        }
    }

    /// Where a directive for this request would go: `location /api/ at FILE:12`.
    pub(super) fn home(&self) -> Option<String> {
        let view = self.view.as_ref()?;
        let block = |chain: &Chain<'a>| chain.iter().rev().find(|block| block.name != "if").copied();
        let block = agreed(self.chains.iter().map(block))?;
        Some(described(view, block))
    }

    /// The `server` block of the request.
    pub(super) fn server_home(&self) -> Option<String> {
        let view = self.view.as_ref()?;
        let server = |chain: &Chain<'a>| chain.iter().find(|block| block.name == "server").copied();
        Some(described(view, agreed(self.chains.iter().map(server))?))
    }

    /// The lines that lead to the address: of the upstream block, and the `…_pass`.
    pub(super) fn leads(&self) -> Vec<Setting> {
        let Some(view) = &self.view else { return Vec::new() };
        [self.peer, self.pass].into_iter().flatten().map(|line| Setting::written(view, line)).collect()
    }

    pub(super) fn place(&self, directive: &Directive) -> Option<Place> {
        self.view.as_ref().map(|view| view.place(directive))
    }
}

/// `location /api/ at FILE:12`.
pub(super) fn described(view: &View<'_>, block: &Directive) -> String {
    let words: Vec<&str> = std::iter::once(&block.name).chain(&block.arguments).map(String::as_str).collect();
    format!("{} at {}", shortened(&words.join(" ")), at(&view.place(block)))
}

fn same(one: &Said<'_>, other: &Said<'_>) -> bool {
    match (one, other) {
        (Said::Set(one), Said::Set(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_same_line(other))
        }
        (Said::Unset, Said::Unset) | (Said::Unknown, Said::Unknown) => true,
        _ => false,
    }
}

/// What all say; None where they differ, or nobody says anything.
fn agreed<'a>(mut all: impl Iterator<Item = Option<&'a Directive>>) -> Option<&'a Directive> {
    let first = all.next()??;
    all.all(|other| other.is_some_and(|other| first.is_same_line(other))).then_some(first)
}

/// The `…_pass` of a location; an `if` block without one has that of the location it stands in
/// (ngx_http_proxy_merge_loc_conf(), src/http/modules/ngx_http_proxy_module.c, 1.22).
fn pass_of<'a>(view: &View<'a>, chain: &Chain<'a>) -> Option<&'a Directive> {
    for block in chain.iter().rev() {
        let pass = view.inside(block).find(|directive| directive.block.is_none() && module(directive).is_some());
        if pass.is_some() || block.name != "if" {
            return pass;
        }
    }
    None
}

/// Does a `…_pass` lead where memory says that the location's requests go? Without a block its URL has variables.
fn leads_to(pass: &Directive, block: Option<&Block>) -> bool {
    let target = Target::of_pass(pass);
    match (target, block) {
        (Some(Target::Variable), None) => true,
        (Some(target), Some(block)) => target.host().is_some_and(|host| {
            let host = host.strip_prefix("unix:").unwrap_or(&host);
            let name = block.name.strip_prefix("unix:").unwrap_or(&block.name);
            host.eq_ignore_ascii_case(name)
        }),
        _ => false,
    }
}

/// The line of a block that has the address: written out, or the only name with its port.
fn peer<'a>(view: &View<'a>, block: &'a Directive, address: &Address) -> Option<&'a Directive> {
    let Said::Set(lines) = view.said_in(block.block.as_deref()?, "server") else { return None };
    let fitting = |fit: Fit| {
        let fits = |line: &&&Directive| Target::of_server(line).is_some_and(|target| target.fit(address) == fit);
        let mut found = lines.iter().filter(fits);
        (found.next().copied(), found.next().is_none())
    };
    match fitting(Fit::Address) {
        (Some(line), true) => Some(line),
        (Some(_), false) => None,
        (None, _) => match fitting(Fit::Name) {
            (Some(line), true) => Some(line),
            _ => None,
        },
    }
}
