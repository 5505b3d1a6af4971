//! Finds cycles of imports between the files of a crate.
//!
//! An import is any path that begins with `crate`, `super` or `self`, in a `use` declaration or in
//! code, outside of comments, strings and unit tests. Among the modules with the same parent, each
//! counts as one node together with everything below it, so that a module and its children may
//! import each other. A path that ends at the crate's root stands for the module from which the root
//! reexports the name.

use super::{SourceFile, compile};
use regex::Captures;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A path of module names below the crate's root.
type Module = Vec<String>;

/// Checks the crates in `crates`. Returns the imports that are part of a cycle.
pub(super) fn check(files: &[SourceFile]) -> Vec<String> {
    let mut crates: BTreeMap<&str, Vec<(Module, &SourceFile)>> = BTreeMap::new();
    for file in files {
        let inside = file.path.split_once("/src/");
        let is_code = file.path.ends_with(".rs") && !file.path.ends_with("tests.rs");
        if let Some((package, path)) =
            inside.filter(|_| file.path.starts_with("crates/") && is_code)
        {
            let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
            let root = path == "lib" || path == "main";
            let module = path.split('/').filter(|_| !root).map(str::to_owned);
            crates
                .entry(package)
                .or_default()
                .push((module.collect(), file));
        }
    }
    crates.values().flat_map(|files| cycles(files)).collect()
}

/// An import of one node by another, which has the same parent.
struct Import {
    from: Module,
    to: Module,
    text: String,
}

fn cycles(files: &[(Module, &SourceFile)]) -> Vec<String> {
    let modules: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    let mut reexports = BTreeMap::new();
    for (_, file) in files.iter().filter(|(module, _)| module.is_empty()) {
        for found in compile(r"\buse\s+([^;]+);").captures_iter(&expanded(file)) {
            for path in found[1].split(',') {
                let path = resolve(path.split(" as ").next().unwrap_or(path).trim(), &[]);
                reexports.extend(path.last().cloned().map(|name| (name, path)));
            }
        }
    }
    let paths = compile(r"(?:^|[^:\w])((?:crate|super|self)(?:::\w+)+)");
    let mut imports = Vec::new();
    for (from, file) in files {
        for found in paths.captures_iter(&expanded(file)) {
            let mut to = resolve(&found[1], from);
            if let Some(path) = to.first().and_then(|name| reexports.get(name))
                && !modules.contains(&to[..1].to_vec())
            {
                to.clone_from(path);
            }
            while !to.is_empty() && !modules.contains(&to) {
                to.pop();
            }
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len().min(to.len()) {
                imports.push(Import {
                    from: from[..=common].to_vec(),
                    to: to[..=common].to_vec(),
                    text: format!("{}: {} is part of an import cycle", file.path, &found[1]),
                });
            }
        }
    }
    let in_cycle = |import: &&Import| {
        let mut reached = vec![&import.to];
        let mut next = 0;
        while let Some(&node) = reached.get(next) {
            for further in imports.iter().filter(|further| further.from == *node) {
                if !reached.contains(&&further.to) {
                    reached.push(&further.to);
                }
            }
            next += 1;
        }
        reached.contains(&&import.from)
    };
    let found: BTreeSet<_> = imports
        .iter()
        .filter(in_cycle)
        .map(|import| &import.text)
        .collect();
    found.into_iter().cloned().collect()
}

/// The module or name that `path` stands for in the module `from`.
fn resolve(path: &str, from: &[String]) -> Module {
    let mut module = if path.starts_with("crate") {
        Vec::new()
    } else {
        from.to_vec()
    };
    for name in path.split("::") {
        match name {
            "super" => drop(module.pop()),
            "crate" | "self" => {}
            name => module.push(name.to_owned()),
        }
    }
    module
}

/// The code of a file without comments and strings, with `a::b, a::c` for `a::{b, c}`.
fn expanded(file: &SourceFile) -> String {
    let skipped =
        r###"(?s)//[^\n]*|/\*.*?\*/|r#".*?"#|r"[^"]*"|"(\\.|[^"\\])*"|'(\\.[^']*|[^'\\])'"###;
    let mut code = compile(skipped).replace_all(file.code(), "").into_owned();
    let group = compile(r"((?:\w+::)+)\{([^{}]*)\}");
    let expand = |found: &Captures<'_>| {
        let items = found[2].split(',').map(str::trim);
        items
            .map(|item| format!("{}{item},", &found[1]))
            .collect::<String>()
    };
    while let Cow::Owned(further) = group.replace_all(&code, expand) {
        code = further;
    }
    code
}
