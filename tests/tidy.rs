//! The house rules as a test: what ARCHITECTURE.md says about layers, confined crates, file and
//! function sizes, first lines and panics is checked here, so that it stays true.

use std::fs;
use std::path::{Path, PathBuf};

/// A module and the modules its code may name. Lowest first: no module names a later one.
const LAYERS: [(&str, &[&str]); 15] = [
    ("types", &[]),
    ("error", &["types"]),
    ("config", &["types", "error"]),
    ("env", &["types", "error"]),
    ("metrics", &["types", "error", "env"]),
    ("meta", &["types", "error", "config", "env"]),
    ("chunk", &["types", "error", "config", "env", "metrics"]),
    ("replication", &["types", "error", "config", "env", "metrics", "meta", "chunk"]),
    ("vfs", &["types", "error", "config", "env", "meta", "chunk", "replication"]),
    ("web", &["types", "error", "metrics"]),
    ("fuse", &["types", "error", "config", "metrics", "vfs"]),
    ("s3", &["types", "error", "config", "vfs", "web"]),
    ("rest", &["types", "error", "config", "metrics", "vfs", "replication", "web"]),
    (
        "node",
        &[
            "types",
            "error",
            "config",
            "env",
            "metrics",
            "meta",
            "chunk",
            "replication",
            "vfs",
            "web",
            "fuse",
            "s3",
            "rest",
        ],
    ),
    ("cli", &["types", "error", "config", "node"]),
];

/// A crate and the only places that name it.
const CONFINED: [(&str, &[&str]); 19] = [
    ("fuser", &["src/fuse/"]),
    ("s3s", &["src/s3/"]),
    ("s3s_multipart", &["src/s3/"]),
    ("sled", &["src/meta/engine/sled"]),
    ("redb", &["src/meta/engine/redb"]),
    ("bincode", &["src/meta/codec.rs"]),
    ("openraft", &["src/replication/"]),
    ("clap", &["src/cli/"]),
    ("indicatif", &["src/cli/"]),
    ("axum", &["src/node/admin/", "src/replication/peers/", "src/rest/", "src/s3/"]),
    ("reqwest", &["src/replication/peers/"]),
    ("rcgen", &["src/replication/peers/"]),
    ("rustls", &["src/replication/peers/", "src/web/"]),
    ("tokio_rustls", &["src/replication/peers/", "src/web/"]),
    ("hyper", &["src/node/admin/", "src/web/"]),
    ("getrandom", &["src/env/"]),
    ("prometheus_client", &["src/metrics/"]),
    ("utoipa", &["src/rest/"]),
    ("chacha20poly1305", &["src/vfs/sealing.rs"]),
];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Ways to stop the program that an error should have taken.
const PANICS: [&str; 6] =
    [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("];

/// A source file without what the rules do not look at.
struct Source {
    /// From the top of the repository, with `/`.
    path: String,
    first_line: String,
    /// Comments and the insides of literals blanked, lines kept.
    code: String,
    /// As `code`, items under `#[cfg(test)]` blanked as well.
    main: String,
}

#[test]
fn layers_point_downwards() {
    let rule = |source: &Source| {
        let Some(module) = top_module(&source.path) else { return Vec::new() };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            return vec![format!("module `{module}` is in no layer: add it to the table")];
        };
        let named = names_after(&source.main, "crate::");
        named
            .filter(|(_, name)| LAYERS.iter().any(|(layer, _)| layer == name))
            .filter(|(_, name)| *name != module && !allowed.contains(name))
            .map(|(line, name)| format!("line {line}: `{module}` must not name `{name}`"))
            .collect()
    };
    check("src", &rule);
    for (index, (name, allowed)) in LAYERS.iter().enumerate() {
        let lower = &LAYERS[..index];
        let known = allowed.iter().all(|below| lower.iter().any(|(layer, _)| layer == below));
        assert!(known, "{name} names a layer that is not below it");
    }
}

#[test]
fn modules_are_named_from_the_root() {
    let rule = |source: &Source| {
        let parts = source.path.split('/').count();
        let depth = if source.path.ends_with("/mod.rs") { parts - 2 } else { parts - 1 };
        let climb = "super::".repeat(depth);
        let escapes = source.main.lines().zip(1..).filter(|(line, _)| line.contains(&climb));
        escapes.map(|(_, line)| format!("line {line}: leaves its module by `super`")).collect()
    };
    check("src", &rule);
}

#[test]
fn crates_stay_where_they_are_confined() {
    let rule = |source: &Source| {
        let stray = CONFINED
            .iter()
            .filter(|(_, homes)| !homes.iter().any(|home| source.path.starts_with(home)));
        stray
            .filter(|(krate, _)| names_crate(&source.code, krate))
            .map(|(krate, homes)| format!("names `{krate}`, which belongs to {homes:?}"))
            .collect()
    };
    check("src", &rule);
}

/// A promise without a test is a hope: docs/semantics.md names some for each, and one of them quotes it.
#[test]
fn every_promise_names_tests_that_exist_and_quote_it() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let promises = fs::read_to_string(top.join("docs/semantics.md")).unwrap();
    let mut files = Vec::new();
    ["src", "tests"].iter().for_each(|dir| rust_files(&top.join(dir), &mut files));
    let code: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.filter(|row| *row != "| promise | test |").collect();
    assert!(rows.len() > 40, "{} promises", rows.len());
    let broken: Vec<String> = rows.iter().filter_map(|row| broken_promise(row, &code)).collect();
    assert!(broken.is_empty(), "docs/semantics.md:\n{}\n", broken.join("\n"));
}

/// What is wrong with a row of promises, `| PROMISE | `TEST`, … |`.
fn broken_promise(row: &str, code: &str) -> Option<String> {
    let cells = row.strip_prefix("| ").and_then(|row| row.strip_suffix(" |"));
    let Some((promise, tests)) = cells.and_then(|cells| cells.rsplit_once(" | ")) else {
        return Some(format!("{row}: no promise with tests"));
    };
    let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
    let docs = names.iter().map(|name| doc_of(code, name));
    let Some(docs) = docs.collect::<Option<Vec<String>>>().filter(|docs| !docs.is_empty()) else {
        return Some(format!("{promise}: not all of {names:?} are there"));
    };
    match docs.iter().any(|doc| doc.contains(&in_one_line(promise))) {
        true => None,
        false => Some(format!("{promise}: none of {names:?} quotes it")),
    }
}

/// What the comments above a function say, in one line; none where there is no such function.
fn doc_of(code: &str, name: &str) -> Option<String> {
    let before = &code[..code.find(&format!("fn {name}("))?];
    let before = before.rsplit('\n').skip(1).map(str::trim);
    let above = before.take_while(|line| line.starts_with("///") || line.starts_with("#["));
    let mut doc: Vec<&str> = above.filter_map(|line| line.strip_prefix("///")).collect();
    doc.reverse();
    let unquoted = doc.iter().map(|line| line.trim().trim_start_matches("> "));
    Some(in_one_line(&unquoted.collect::<Vec<_>>().join(" ")))
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_file_says_what_it_owns() {
    let rule = |source: &Source| {
        let said = source.first_line.starts_with("//! ");
        if said { Vec::new() } else { vec!["does not begin with a `//!` sentence".into()] }
    };
    ["src", "mount-helper", "tests", "benches"].iter().for_each(|top| check(top, &rule));
}

#[test]
fn files_and_functions_are_short() {
    let rule = |source: &Source| {
        let mut broken = long_functions(&source.main);
        let lines = source.main.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > FILE_LINES_MAX {
            broken.push(format!("has {lines} lines of code, more than {FILE_LINES_MAX}"));
        }
        broken
    };
    ["src", "mount-helper"].iter().for_each(|top| check(top, &rule));
}

#[test]
fn main_code_does_not_panic() {
    let rule = |source: &Source| {
        let lines = source.main.lines().zip(1..);
        let found = lines.flat_map(|(text, line)| {
            let used = PANICS.iter().filter(move |panic| text.contains(**panic));
            used.map(move |panic| format!("line {line}: `{panic}` in main code"))
        });
        found.collect()
    };
    ["src", "mount-helper"].iter().for_each(|top| check(top, &rule));
}

#[test]
fn no_test_is_switched_off() {
    let rule = |source: &Source| {
        let ignored = source.code.lines().zip(1..).filter(|(text, _)| text.contains("#[ignore"));
        ignored.map(|(_, line)| format!("line {line}: a test is ignored")).collect()
    };
    ["src", "mount-helper", "tests", "benches"].iter().for_each(|top| check(top, &rule));
}

fn check(top: &str, rule: &dyn Fn(&Source) -> Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    rust_files(&root.join(top), &mut paths);
    let test_modules: Vec<PathBuf> = paths.iter().flat_map(|path| test_modules(path)).collect();
    let is_test = |path: &Path| test_modules.iter().any(|module| path.starts_with(module));
    let broken: Vec<String> = paths
        .iter()
        .map(|path| read(root, path, is_test(path) || is_test(&path.with_extension(""))))
        .flat_map(|source| rule(&source).into_iter().map(move |text| (source.path.clone(), text)))
        .map(|(path, text)| format!("{path}: {text}"))
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What a file declares as `#[cfg(test)] mod NAME;`: the module's directory, or its file without
/// the extension.
fn test_modules(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(path).unwrap();
    let inside = if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
        path.parent().unwrap().to_path_buf()
    } else {
        path.with_extension("")
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let names = declared.filter_map(|pair| pair[1].split_once("mod ")?.1.strip_suffix(';'));
    names.map(|name| inside.join(name)).collect()
}

fn read(root: &Path, path: &Path, is_test: bool) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
    let code = blank_comments_and_literals(&text);
    let is_test = is_test || path.starts_with("tests/");
    let main = if is_test { String::new() } else { blank_tests(&code) };
    Source { path, first_line: text.lines().next().unwrap_or_default().into(), code, main }
}

/// `meta` for `src/meta/keys.rs` and for `src/meta.rs`; none for `src/lib.rs` and `src/main.rs`.
fn top_module(path: &str) -> Option<&str> {
    let name = path.strip_prefix("src/")?.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name)).filter(|name| !["lib", "main"].contains(name))
}

/// The identifiers that follow `prefix`, with their line; `prefix{a, b::c}` gives `a` and `b`.
fn names_after<'a>(code: &'a str, prefix: &str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(prefix).flat_map(move |(at, found)| {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + found.len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => group_heads(group),
            None => vec![identifier(rest)],
        };
        names.into_iter().map(move |name| (line, name))
    })
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// First identifiers of the members of a `use` group whose opening brace was just passed.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut depth, mut at_start, mut heads) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                heads.push(identifier(&group[at..]));
                at_start = false;
            }
            _ => {}
        }
    }
    heads
}

fn names_crate(code: &str, krate: &str) -> bool {
    if code.contains(&format!("mod {krate};")) {
        // A module of ours with that name hides the crate.
        return false;
    }
    code.match_indices(&format!("{krate}::")).any(|(at, _)| {
        let before = code[..at].trim_end_matches("::");
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // `self::sled::` and `engines::sled::` are modules of ours.
        whole && (before.len() == at || before.ends_with(char::is_whitespace))
    }) || code.contains(&format!("use {krate};"))
}

/// rustfmt puts a function's last brace under the column of its first line.
fn long_functions(code: &str) -> Vec<String> {
    let lines: Vec<&str> = code.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let is_function =
            words.starts_with("fn ") || words.contains(" fn ") && !words.contains('=');
        if !is_function {
            continue;
        }
        let indent = &line[..line.len() - words.len()];
        let ends = |line: &&str| {
            line.strip_prefix(indent)
                .is_some_and(|rest| rest.starts_with('}') || rest.ends_with(';'))
                && !line[indent.len()..].starts_with(' ')
        };
        let one_line = line.ends_with('}') || line.ends_with(';');
        let length = 1 + lines[start + 1..].iter().position(ends).map_or(0, |at| at + 1);
        if !one_line && length > FUNCTION_LINES_MAX {
            long.push(format!("line {}: a function of {length} lines", start + 1));
        }
    }
    long
}

/// Blanks each item under `#[cfg(test)]`: to the brace in the attribute's column, or to `;`.
fn blank_tests(code: &str) -> String {
    let (mut kept, mut end): (String, Option<String>) = (String::new(), None);
    for line in code.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        match &end {
            None if line.trim_start().starts_with("#[cfg(test)]") => {
                let rest = line.trim_start().trim_start_matches("#[cfg(test)]");
                end = (!rest.ends_with(';')).then_some(indent);
            }
            None => kept.push_str(line),
            Some(column) => {
                let closes = line.starts_with(&format!("{column}}}"));
                let ends_early = indent == *column && line.ends_with([';', '}']);
                if closes || ends_early {
                    end = None;
                }
            }
        }
        kept.push('\n');
    }
    kept
}

/// Replaces comments and what stands inside of literals by blanks; line breaks stay.
fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_or_comment_end(bytes, at);
        if let Some(end) = end {
            let blank = |byte: &mut u8| *byte = if *byte == b'\n' { b'\n' } else { b' ' };
            code[at..end].iter_mut().for_each(blank);
        }
        at = end.unwrap_or(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// Where the comment or literal that begins at `at` ends, if one begins there.
fn literal_or_comment_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let find = |pattern: &[u8], from: usize| {
        let found =
            rest.get(from..)?.windows(pattern.len()).position(|window| window == pattern)?;
        Some(at + from + found + pattern.len())
    };
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return Some(find(b"\n", 2).map_or(bytes.len(), |end| end - 1));
    }
    if rest.starts_with(b"/*") {
        return find(b"*/", 2);
    }
    if !word_before && (rest[0] == b'r' || rest.starts_with(b"br")) {
        let start = if rest[0] == b'b' { 2 } else { 1 };
        let hashes = rest[start..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(start + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            return find(&close, start + hashes + 1);
        }
    }
    match rest[0] {
        b'"' => Some(at + quoted(rest, b'"')),
        b'\'' if rest.get(1) == Some(&b'\\') || rest.get(2) == Some(&b'\'') => {
            Some(at + quoted(rest, b'\''))
        }
        _ => None,
    }
}

/// Length of the literal at the start of `rest`, both quotes included.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

#[test]
fn the_rules_see_what_they_look_for() {
    let text = "use crate::{meta, vfs::Vfs};\nfn f() { \"crate::node\"; } // crate::cli\n\
                #[cfg(test)]\nmod tests {\n    x.unwrap()\n}\nlet c = '\"'; y.unwrap();\n";
    let code = blank_comments_and_literals(text);
    let main = blank_tests(&code);
    let names: Vec<_> = names_after(&main, "crate::").collect();
    assert_eq!(names, [(1, "meta"), (1, "vfs")]);
    assert_eq!(main.matches(".unwrap()").count(), 1);
    assert!(main.lines().nth(6).unwrap().contains("y.unwrap()"));
    assert!(names_crate("use sled::Db;", "sled") && names_crate("x: sled::Db", "sled"));
    assert!(!names_crate("super::sled::Db", "sled") && !names_crate("unsled::Db", "sled"));
    let body = "    x;\n".repeat(70);
    assert_eq!(long_functions(&format!("fn long() {{\n{body}}}\n")).len(), 1);
    assert!(long_functions("fn short() {\n    x;\n}\n").is_empty());
}

#[test]
fn a_broken_promise_is_seen() {
    let code =
        "/// > It holds,\n/// > always.\n///\n/// Why.\n#[test]\nasync fn a() {\n}\nfn b() {\n";
    let is_broken = |row: &str| broken_promise(row, code).is_some();
    assert!(!is_broken("| It holds, always. | `b`, `a` |"));
    for row in ["It holds, always. | `b`", "It holds. | `a`", "It holds, always. | `a`, `c`"] {
        assert!(is_broken(&format!("| {row} |")), "{row}");
    }
    assert!(is_broken("| It holds, always. | |"));
}
