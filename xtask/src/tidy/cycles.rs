//! Finds cycles of imports between the files of a crate.
//!
//! An import is any path that begins with `crate`, `super` or `self`, in a `use` declaration or in
//! code, outside of comments, strings and unit tests. Among the modules with the same parent, each
//! counts as one node together with everything below it, so that a module and its children may
//! import each other. A path that ends at the crate's root stands for the module from which the root
//! reexports the name.

use super::{Finding, SourceFile};
use regex::{Captures, Regex};
use std::collections::{BTreeMap, BTreeSet};

/// A path of module names below the crate's root.
type Path = Vec<String>;

/// An import: the file and line, and the written path.
type Import = (String, usize, String);

/// Checks the crates in `crates`.
pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<&SourceFile>> = BTreeMap::new();
    for file in files {
        let inside = file
            .path
            .split_once("/src/")
            .filter(|_| file.path.starts_with("crates/"));
        let is_test = file.path.ends_with("tests.rs");
        if let Some((package, _)) = inside.filter(|_| file.path.ends_with(".rs") && !is_test) {
            crates.entry(package).or_default().push(file);
        }
    }
    let mut findings = Vec::new();
    for (package, files) in crates {
        for (modules, imports) in cycles(&files) {
            let mut message = format!("import cycle of {}:", modules.join(", "));
            for (path, line, written) in imports {
                message += &format!("\n    {path}:{line}: {written}");
            }
            findings.push(Finding {
                path: package.to_owned(),
                line: 0,
                message,
            });
        }
    }
    findings
}

/// The strongly connected modules of a crate, each set with one import for every edge.
fn cycles(files: &[&SourceFile]) -> Vec<(Vec<String>, Vec<Import>)> {
    let modules: BTreeSet<Path> = files.iter().map(|file| module(&file.path)).collect();
    let mut reexports = BTreeMap::new();
    for file in files
        .iter()
        .filter(|file| file.path.ends_with("src/lib.rs"))
    {
        for (_, path) in paths(file, r"\buse\s+(\w+)::") {
            reexports.extend(path.last().cloned().map(|name| (name, path)));
        }
    }
    // For each parent, the imports between its children.
    let mut edges: BTreeMap<Path, BTreeMap<(String, String), Import>> = BTreeMap::new();
    for file in files {
        let from = module(&file.path);
        for (line, path) in paths(file, r"(?:^|[^:\w])(crate|super|self)::") {
            let mut target = match path[0].as_str() {
                "crate" => Vec::new(),
                _ => from.clone(),
            };
            for name in &path {
                match name.as_str() {
                    "super" => drop(target.pop()),
                    "crate" | "self" => {}
                    name => target.push(name.to_owned()),
                }
            }
            if let Some(path) = target
                .first()
                .filter(|name| !modules.contains(&vec![(*name).clone()]))
                .and_then(|name| reexports.get(name))
            {
                target = path.clone();
            }
            while !target.is_empty() && !modules.contains(&target) {
                target.pop();
            }
            let common = from.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(common), target.get(common)) {
                let siblings = edges.entry(from[..common].to_vec()).or_default();
                let import = (file.path.clone(), line, path.join("::"));
                siblings.entry((a.clone(), b.clone())).or_insert(import);
            }
        }
    }
    edges
        .into_iter()
        .flat_map(|(parent, edges)| components(&parent, &edges))
        .collect()
}

/// The strongly connected components of more than one node.
fn components(
    parent: &Path,
    edges: &BTreeMap<(String, String), Import>,
) -> Vec<(Vec<String>, Vec<Import>)> {
    let mut reach: BTreeSet<(&str, &str)> = edges
        .keys()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let nodes: BTreeSet<&str> = reach.iter().flat_map(|&(a, b)| [a, b]).collect();
    for &middle in &nodes {
        for &a in &nodes {
            if reach.contains(&(a, middle)) {
                let further: Vec<_> = nodes
                    .iter()
                    .filter(|b| reach.contains(&(middle, **b)))
                    .collect();
                reach.extend(further.into_iter().map(|&b| (a, b)));
            }
        }
    }
    let mut found = BTreeMap::new();
    for node in nodes.iter().filter(|&&node| reach.contains(&(node, node))) {
        let connected =
            |other: &&&str| reach.contains(&(node, **other)) && reach.contains(&(**other, node));
        let component: Vec<&str> = nodes.iter().filter(connected).copied().collect();
        let inside = edges.iter().filter(|((a, b), _)| {
            component.contains(&a.as_str()) && component.contains(&b.as_str())
        });
        let imports = inside.map(|(_, import)| import.clone()).collect();
        let names = component
            .iter()
            .map(|name| [&parent[..], &[(*name).to_owned()]].concat().join("::"));
        found.insert(component.clone(), (names.collect(), imports));
    }
    found.into_values().collect()
}

/// The module of a file. The root is empty.
fn module(path: &str) -> Path {
    let (_, inside) = path.split_once("/src/").expect("the path contains src");
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    match inside {
        "lib" | "main" => Vec::new(),
        _ => inside.split('/').map(str::to_owned).collect(),
    }
}

/// The paths in the code of a file that begin where the first group of `start` matches, with line
/// numbers. `use` trees are expanded.
fn paths(file: &SourceFile, start: &str) -> Vec<(usize, Path)> {
    let compile = |pattern| Regex::new(pattern).expect("a valid pattern");
    let skipped = compile(
        r###"(?s)//[^\n]*|/\*.*?\*/|r#".*?"#|r"[^"]*"|"(\\.|[^"\\])*"|'(\\.[^']*|[^'\\])'"###,
    );
    let blank = |found: &Captures<'_>| "\n".repeat(found[0].matches('\n').count());
    let code = skipped.replace_all(file.code(), blank);
    let token = compile(r"::|\w+|[{},*]|\S");
    let mut found = Vec::new();
    for start in compile(start).captures_iter(&code) {
        let at = start.get(1).expect("the pattern has a group").start();
        let line = 1 + code[..at].matches('\n').count();
        let mut tokens = token.find_iter(&code[at..]).map(|found| found.as_str());
        let mut expanded = Vec::new();
        tree(&mut tokens, Vec::new(), &mut expanded);
        found.extend(expanded.into_iter().map(|path| (line, path)));
    }
    found
}

/// Parses a path or a `use` tree after `prefix`. Returns the first token after it.
fn tree<'a>(
    tokens: &mut impl Iterator<Item = &'a str>,
    mut prefix: Path,
    found: &mut Vec<Path>,
) -> Option<&'a str> {
    loop {
        let next = match tokens.next()? {
            "{" => {
                while tree(tokens, prefix.clone(), found)? == "," {}
                return tokens.next();
            }
            "}" => return Some("}"),
            "*" => tokens.next(),
            name => {
                prefix.push(name.to_owned());
                tokens.next()
            }
        };
        match next {
            Some("::") => {}
            Some("as") => {
                found.push(prefix);
                tokens.next();
                return tokens.next();
            }
            next => {
                found.push(prefix);
                return next;
            }
        }
    }
}
