//! What the files say about a place of the configuration, as of the moment when the workers were started.
//!
//! A file that was changed since says nothing, neither that a directive is there nor that it is not.

use std::collections::HashMap;

use super::tree::{Directive, Gap, Tree};
use crate::model::configured::Place;

/// A block and all that it stands in, outermost first.
pub(super) type Chain<'a> = Vec<&'a Directive>;

/// The files, and when they were read by nginx.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    tree: &'a Tree,
    /// Wall clock, ns since 1970: what was changed later is not what the workers have.
    loaded_ns: i128,
}

/// What is said of a directive.
#[derive(Clone, Debug)]
pub(super) enum Said<'a> {
    /// All that is in force together, of the nearest block that has any.
    Set(Vec<&'a Directive>),
    /// No block has it: the default is in force.
    Unset,
    /// Where it would stand could not be read.
    Unknown,
}

impl<'a> View<'a> {
    pub(super) const fn new(tree: &'a Tree, loaded_ns: i128) -> Self {
        Self { tree, loaded_ns }
    }

    pub(super) fn place(&self, directive: &Directive) -> Place {
        self.tree.place(directive)
    }

    /// The first file that was changed since, if any.
    pub(super) fn changed(&self) -> Option<&'a str> {
        self.tree.changed_after(self.loaded_ns).next()
    }

    fn is_stale(&self, directive: &Directive) -> bool {
        self.tree.changed_ns(directive) > self.loaded_ns
    }

    /// Is all that stands here known?
    fn is_whole(&self, block: &[Directive]) -> bool {
        block.iter().all(|directive| {
            !self.is_stale(directive)
                && match &directive.gap {
                    None => true,
                    Some(Gap::Unread) => false,
                    Some(Gap::Listed { changed_ns }) => *changed_ns <= self.loaded_ns,
                }
        })
    }

    /// Is all that stands in these blocks and below known, as far as blocks of these names go?
    pub(super) fn knows_everything(&self) -> bool {
        fn whole(view: &View<'_>, block: &[Directive]) -> bool {
            view.is_whole(block)
                && block.iter().filter_map(|directive| directive.block.as_deref()).all(|inner| whole(view, inner))
        }
        whole(self, &self.tree.main)
    }

    /// Directives of a block which are as nginx read them.
    pub(super) fn inside<'b>(&'b self, block: &'a Directive) -> impl Iterator<Item = &'a Directive> + use<'a, 'b> {
        block.block.iter().flatten().filter(|directive| !self.is_stale(directive))
    }

    /// Everything in `http`, block by block, each directive with the blocks it stands in.
    pub(super) fn each(&self, mut visit: impl FnMut(&[&'a Directive], &'a Directive)) {
        fn walk<'a>(
            view: &View<'a>,
            block: &'a [Directive],
            chain: &mut Chain<'a>,
            visit: &mut dyn FnMut(&[&'a Directive], &'a Directive),
        ) {
            for directive in block {
                if !view.is_stale(directive) {
                    visit(chain, directive);
                }
                if let Some(inner) = &directive.block {
                    chain.push(directive);
                    walk(view, inner, chain, visit);
                    chain.pop();
                }
            }
        }
        let mut chain = Vec::new();
        for http in self.tree.main.iter().filter(|directive| directive.name == "http") {
            chain.push(http);
            walk(self, http.block.as_deref().unwrap_or_default(), &mut chain, &mut visit);
            chain.pop();
        }
    }

    /// Blocks that stand in `http` itself and are as nginx read them, with it.
    fn blocks(&self, name: &'static str) -> impl Iterator<Item = (&'a Directive, &'a Directive)> + use<'a, '_> {
        let http = self.tree.main.iter().filter(|directive| directive.name == "http");
        http.flat_map(|http| http.block.iter().flatten().map(move |inner| (http, inner)))
            .filter(move |(_, inner)| inner.name == name && inner.block.is_some() && !self.is_stale(inner))
    }

    /// The `server` blocks which nginx calls by this place: one, but for a file that is included twice.
    pub(super) fn servers(&self, place: &Place) -> Vec<Chain<'a>> {
        let called = |(_, server): &(&Directive, &Directive)| self.tree.is_at(server, place);
        self.blocks("server").filter(called).map(|(http, server)| vec![http, server]).collect()
    }

    /// The locations of a server whose name, as nginx has it, is this; empty is the server itself. An `if` block has the
    /// name of what it stands in (ngx_http_rewrite_if(), src/http/modules/ngx_http_rewrite_module.c, 1.22).
    pub(super) fn locations(&self, server: &Chain<'a>, name: &str) -> Vec<Chain<'a>> {
        fn walk<'a>(view: &View<'a>, chain: &Chain<'a>, here: bool, name: &str, found: &mut Vec<Chain<'a>>) {
            if here {
                found.push(chain.clone());
            }
            let Some(block) = chain.last() else { return };
            for directive in view.inside(block) {
                if directive.block.is_none() {
                    continue;
                }
                let here = match directive.name.as_str() {
                    "location" => location_name(directive) == Some(name),
                    "if" | "limit_except" => here,
                    _ => continue,
                };
                walk(view, &[chain.as_slice(), &[directive]].concat(), here, name, found);
            }
        }
        let mut found = Vec::new();
        walk(self, server, name.is_empty(), name, &mut found);
        found
    }

    /// The `upstream` block of this name. None: there is none, or its file was changed.
    pub(super) fn upstream(&self, name: &str) -> Option<&'a Directive> {
        let named = |argument: &String| argument.eq_ignore_ascii_case(name);
        self.blocks("upstream").map(|(_, block)| block).find(|block| block.arguments.first().is_some_and(named))
    }

    /// All `upstream` blocks by name, in lower case.
    pub(super) fn upstreams(&self) -> HashMap<String, &'a Directive> {
        let name = |block: &'a Directive| Some((block.arguments.first()?.to_ascii_lowercase(), block));
        self.blocks("upstream").filter_map(|(_, block)| name(block)).collect()
    }

    /// What is in force for a directive in the innermost block of a chain: it is inherited from outer blocks unless an
    /// inner one has any of its own.
    pub(super) fn said(&self, chain: &[&'a Directive], name: &str) -> Said<'a> {
        for block in chain.iter().rev() {
            match self.said_in(block.block.as_deref().unwrap_or_default(), name) {
                Said::Unset => {}
                other => return other,
            }
        }
        Said::Unset
    }

    /// As `said`, of this block alone.
    pub(super) fn said_in(&self, block: &'a [Directive], name: &str) -> Said<'a> {
        let named = |directive: &&'a Directive| directive.name == name && !self.is_stale(directive);
        let found: Vec<_> = block.iter().filter(named).collect();
        if !found.is_empty() {
            return Said::Set(found);
        }
        if self.is_whole(block) { Said::Unset } else { Said::Unknown }
    }

    /// As `said`, outside of all blocks.
    pub(super) fn said_in_main(&self, name: &str) -> Said<'a> {
        self.said_in(&self.tree.main, name)
    }

    /// As `said`, in the `events` block.
    pub(super) fn said_in_events(&self, name: &str) -> Said<'a> {
        match self.tree.main.iter().find(|directive| directive.name == "events") {
            Some(events) => self.said_in(events.block.as_deref().unwrap_or_default(), name),
            None => Said::Unknown,
        }
    }
}

/// Name of a location as nginx has it: without what comes before it (ngx_http_core_location(),
/// src/http/ngx_http_core_module.c, 1.22).
fn location_name(location: &Directive) -> Option<&str> {
    match location.arguments.as_slice() {
        [_, name] => Some(name),
        [name] => {
            let modifiers = ["=", "^~", "~*", "~"];
            Some(modifiers.iter().find_map(|modifier| name.strip_prefix(modifier)).unwrap_or(name))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
