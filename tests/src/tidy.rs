//! Rules about the tree itself: layout, lengths, import order, headers, purity. Each rule returns what breaks it, as `file:line: sentence`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines of a Rust file: beyond it, it is more than one noun.
pub const FILE_LINES_MAX: usize = 600;
/// Lines of code in a function, without blank lines and comments (as clippy counts).
pub const FUNCTION_LINES_MAX: usize = 70;

/// The only names at the top of the repository.
const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".git",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "agent",
    "ansible",
    "clippy.toml",
    "coordinator",
    "docs",
    "proto",
    "systemd",
    "target",
    "tests",
];

/// A group of modules and the groups to its right; a module may import from its own group's siblings only if the group says so.
struct Layers {
    /// The crate's source folder.
    source: &'static str,
    /// From left to right: who may import whom. Modules of one group do not import each other.
    groups: &'static [&'static [&'static str]],
}

const LAYERS: &[Layers] = &[
    Layers {
        source: "coordinator/src",
        groups: &[
            &["main"],
            &["lib"],
            &["app"],
            &["api", "http", "relay"],
            &["restore"],
            &["node"],
            &["news", "raft", "storage", "first"],
            &["logging"],
            &["config", "metrics", "dial", "panics"],
        ],
    },
    Layers {
        source: "proto/tls/src",
        groups: &[
            &["lib"],
            &["listen"],
            &["live", "dial"],
            &["files"],
            &["trust"],
            &["role", "metrics"],
        ],
    },
    Layers {
        source: "coordinator/core/src",
        groups: &[
            &["member", "joining"],
            &["lib"],
            &["intent", "restore"],
            &["invariants"],
            &["desired", "routing"],
            &["failover"],
            &[
                "health",
                "durability",
                "members",
                "rounds",
                "deliveries",
                "window",
                "lost",
                "unprotected",
                "mass_failure",
            ],
            &["effect"],
            &["event"],
            &["peer", "apply"],
            &["codec"],
            &["state"],
            &["requests"],
            &["command"],
            &["refusal"],
            &["records"],
            &["format", "audit"],
        ],
    },
    Layers {
        source: "agent/src",
        groups: &[
            &["main"],
            &["lib"],
            &["app"],
            &["http"],
            &["supervisor", "router"],
            &["replication"],
            &["mysqld"],
            &["uplink", "state_file"],
            &["guard", "disk_writes"],
            &["logging"],
            &["config", "metrics"],
        ],
    },
    Layers {
        source: "agent/src/router",
        groups: &[
            &["listener"],
            &["session"],
            &["executor"],
            &["rights"],
            &["state"],
            &["pool"],
            &["socket"],
            &["buffer"],
            &["topology"],
            &[
                "users",
                "metrics",
                "tls",
                "error",
                "config",
                "processlist",
                "digests",
                "pace",
                "variables",
                "statement_log",
            ],
        ],
    },
];

/// The crates that decide: what their dependency lists may name.
const PURE: &[(&str, &[&str])] = &[
    (
        "proto",
        &[
            "crc32fast",
            "prost",
            "sha2",
            "thiserror",
            "tonic",
            "tonic-prost",
        ],
    ),
    (
        "coordinator/core",
        &[
            "vt-proto",
            "prost",
            "raft",
            "protobuf",
            "slog",
            "thiserror",
            "crc32fast",
        ],
    ),
    ("agent/core", &["vt-proto", "thiserror"]),
    ("agent/planner", &["vt-proto", "thiserror"]),
    (
        "agent/wire",
        &[
            "bytes",
            "thiserror",
            "sha1",
            "sha2",
            "crc32fast",
            "flate2",
            "zstd",
        ],
    ),
];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate lies in the repository")
        .to_owned()
}

/// Every rule, and what breaks it.
pub fn violations(root: &Path) -> Vec<String> {
    let files = rust_files(root);
    let mut found = top_level(root);
    for file in &files {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        found.extend(file_shape(file, &text));
        found.extend(function_lengths(file, &text));
    }
    for layers in LAYERS {
        found.extend(import_order(root, &files, layers));
    }
    found.extend(
        PURE.iter()
            .flat_map(|(folder, allowed)| purity(root, folder, allowed)),
    );
    found.extend(dependency_arguments(root));
    found
}

fn top_level(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}: not part of the top level; put it in a folder of its owner"))
        .collect()
}

/// All Rust files of the repository, as paths relative to its root.
fn rust_files(root: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["proto", "coordinator", "agent", "tests"]
        .map(PathBuf::from)
        .into();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                if !["target", "node_modules"]
                    .contains(&entry.file_name().to_string_lossy().as_ref())
                {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn file_shape(file: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let name = file.display();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!(
            "{name}: {lines} lines, more than {FILE_LINES_MAX}: split it by noun"
        ));
    }
    if !text.starts_with("//!") {
        found.push(format!(
            "{name}:1: say in a //! line what it is and what it never does"
        ));
    }
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        found.push(format!(
            "{name}: name the module's file after the module, not mod.rs"
        ));
    }
    if ["utils.rs", "common.rs", "helpers.rs", "manager.rs"]
        .iter()
        .any(|bad| file.ends_with(bad))
    {
        found.push(format!("{name}: give it the name of what it is"));
    }
    found
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn starts_function(line: &str) -> bool {
    let line = line.trim_start();
    let line = line
        .strip_prefix("pub")
        .map_or(line, |rest| match rest.strip_prefix('(') {
            Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
            None => rest,
        });
    let mut words = line
        .split_whitespace()
        .skip_while(|word| ["const", "async", "unsafe"].contains(word));
    words.next() == Some("fn")
}

/// Counts code lines of each function; relies on rustfmt: a function ends at the first `}` of its own indentation.
fn function_lengths(file: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (start, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| starts_function(line))
    {
        let depth = indentation(line);
        let body = &lines[start..];
        let ends = |line: &&str| indentation(line) == depth && line.trim_start().starts_with('}');
        if line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let length = body.iter().position(ends).unwrap_or(0);
        let is_code =
            |line: &&&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let code = body[..length].iter().filter(is_code).count();
        if code > FUNCTION_LINES_MAX + 1 {
            found.push(format!(
                "{}:{}: a function of {code} lines, more than {FUNCTION_LINES_MAX}",
                file.display(),
                start + 1
            ));
        }
    }
    found
}

/// The module directly under `source` that a file belongs to.
fn module_of(source: &str, file: &Path) -> Option<String> {
    let inside = file.strip_prefix(source).ok()?;
    let first = inside
        .components()
        .next()?
        .as_os_str()
        .to_string_lossy()
        .into_owned();
    Some(first.trim_end_matches(".rs").to_owned())
}

/// The modules named after `prefix` in a line, as in `use crate::{a, b::c}` or `crate::a::f()`.
fn named_modules(line: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    line.match_indices(prefix)
        .map(|(at, _)| word(&line[at + prefix.len()..]))
        .filter(|name| !name.is_empty())
        .collect()
}

/// `use crate::{ ... }` over several lines, flattened to one line per import at depth one.
fn flatten_imports(text: &str, prefix: &str) -> Vec<(usize, String)> {
    let open = format!("use {prefix}{{");
    let mut inside: Option<usize> = None;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        if let Some(depth) = inside {
            if indentation(line) == depth {
                inside = None;
            } else if indentation(line) == depth + 4 {
                found.push((number + 1, format!("{prefix}{}", line.trim_start())));
            }
        } else if let Some(rest) = line.trim_start().strip_prefix(&open) {
            match rest.strip_suffix("};") {
                Some(one_line) => found.extend(
                    split_depth_one(one_line).map(|part| (number + 1, format!("{prefix}{part}"))),
                ),
                None => inside = Some(indentation(line)),
            }
        } else {
            found.push((number + 1, line.to_owned()));
        }
    }
    found
}

fn split_depth_one(list: &str) -> impl Iterator<Item = String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match parts.last_mut() {
            _ if c == ',' && depth == 0 => parts.push(String::new()),
            Some(part) => part.push(c),
            None => {}
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
}

fn import_order(root: &Path, files: &[PathBuf], layers: &Layers) -> Vec<String> {
    let rank = |module: &str| {
        layers
            .groups
            .iter()
            .position(|group| group.contains(&module))
    };
    let nested = layers
        .source
        .rsplit_once("/src/")
        .map(|(_, path)| path.replace('/', "::"));
    let prefix = nested.map_or("crate::".to_owned(), |path| format!("crate::{path}::"));
    let mut found = Vec::new();
    for file in files {
        let Some(module) = module_of(layers.source, file) else {
            continue;
        };
        if module == "tests" {
            continue;
        }
        let Some(mine) = rank(&module) else {
            found.push(format!(
                "{}: module {module} has no place in the import order of tests/src/tidy.rs",
                file.display()
            ));
            continue;
        };
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        for (number, line) in flatten_imports(&text, &prefix) {
            for other in named_modules(&line, &prefix) {
                if rank(&other).is_some_and(|theirs| theirs <= mine && other != module) {
                    found.push(format!(
                        "{}:{number}: {module} imports {other}, which stands beside or above it",
                        file.display()
                    ));
                }
            }
        }
    }
    found
}

fn purity(root: &Path, folder: &str, allowed: &[&str]) -> Vec<String> {
    let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap_or_default();
    let section = manifest
        .split("\n[dependencies]")
        .nth(1)
        .unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty());
    names
        .filter(|name| !name.starts_with('#') && !allowed.contains(name))
        .map(|name| format!("{folder}/Cargo.toml: a pure crate may not depend on {name}"))
        .collect()
}

/// Each dependency is argued: a comment stands above it or above the group it belongs to.
fn dependency_arguments(root: &Path) -> Vec<String> {
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .unwrap_or_default();
    let mut argued = false;
    let mut found = Vec::new();
    for line in section.split("\n[").next().unwrap_or_default().lines() {
        match line {
            _ if line.trim().is_empty() => argued = false,
            _ if line.starts_with('#') => argued = true,
            _ if !argued => found.push(format!("Cargo.toml: no argument stands above {line}")),
            _ => {}
        }
    }
    found
}
