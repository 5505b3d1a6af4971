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

/// The folder of a crate, and the names of modules below its root.
type Module = Vec<String>;

/// Returns the imports in the crates in `crates` that are part of a cycle.
pub(super) fn check(files: &[SourceFile]) -> Vec<String> {
    let layout = compile(r"^(crates/\w+)/src/(?:lib|main|(.+?)(?:/mod)?)\.rs$");
    let files: Vec<(Module, &str, String)> = files
        .iter()
        .filter(|file| !file.path.ends_with("tests.rs"))
        .filter_map(|file| {
            let found = layout.captures(&file.path)?;
            let mut module = vec![found[1].to_owned()];
            if let Some(names) = found.get(2) {
                module.extend(names.as_str().split('/').map(str::to_owned));
            }
            Some((module, file.path.as_str(), expanded(file)))
        })
        .collect();
    let modules: BTreeSet<&Module> = files.iter().map(|(module, ..)| module).collect();

    let mut reexports = BTreeMap::new();
    let declaration = compile(r"\buse\s+([^;]+);");
    for (root, _, code) in files.iter().filter(|(module, ..)| module.len() == 1) {
        for declared in declaration.captures_iter(code) {
            for path in declared[1].split(',') {
                let path = path.split(" as ").next().unwrap_or(path).trim();
                let name = path.rsplit("::").next().unwrap_or(path).to_owned();
                reexports.insert(vec![root[0].clone(), name], resolve(path, root));
            }
        }
    }

    // The imports between modules with the same parent.
    let paths = compile(r"(?:^|[^:\w])((?:crate|super|self)(?:::\w+)+)");
    let mut imports = BTreeSet::new();
    for (from, path, code) in &files {
        for found in paths.captures_iter(code) {
            let mut to = resolve(&found[1], from);
            let name = &to[..to.len().min(2)];
            if !modules.contains(&name.to_vec()) {
                to = reexports.get(name).unwrap_or(&to).clone();
            }
            while to.len() > 1 && !modules.contains(&to) {
                to.pop();
            }
            let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if common < from.len().min(to.len()) {
                let text = format!("{path}: {} is part of an import cycle", &found[1]);
                imports.insert((text, from[..=common].to_vec(), to[..=common].to_vec()));
            }
        }
    }

    let mut edges: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (_, from, to) in &imports {
        edges.entry(from).or_default().insert(to);
    }
    let mut findings = Vec::new();
    for (text, from, to) in &imports {
        let mut reached = BTreeSet::new();
        let mut next = vec![to];
        while let Some(module) = next.pop() {
            if reached.insert(module) {
                next.extend(edges.get(module).into_iter().flatten());
            }
        }
        if reached.contains(from) {
            findings.push(text.clone());
        }
    }
    findings
}

/// The module or name that `path` stands for in the module `from`.
fn resolve(path: &str, from: &[String]) -> Module {
    let mut module = from.to_vec();
    for name in path.split("::") {
        match name {
            "crate" => module.truncate(1),
            "super" => drop(module.pop()),
            "self" => {}
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
