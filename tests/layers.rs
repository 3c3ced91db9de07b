//! The layers of ARCHITECTURE.md, held by reading the source: a module names only modules of lower
//! layers (the rooms of L1 not each other), and below the shell nothing touches the outside world.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module with its layer. A new one is placed here before it compiles its first test.
const LAYERS: &[(&str, u8)] = &[
    ("time", 0),
    ("id", 0),
    ("prefetch", 0),
    ("rng", 0),
    ("config", 0),
    ("audio", 0),
    ("sip", 1),
    ("sdp", 1),
    ("rtp", 1),
    ("codec", 1),
    ("mixer", 1),
    ("plane", 1),
    ("media", 2),
    ("bridge", 2),
    ("net", 3),
    ("store", 3),
    ("errand", 3),
    ("prompt", 3),
    ("record", 3),
    ("speech", 3),
    ("webhook", 3),
    ("api", 3),
    ("console", 3),
    ("cluster", 3),
    ("obs", 3),
    ("control", 3),
    ("app", 4),
    ("main", 4),
    ("load", 4),
    ("lib", 4),
];

/// The layer that talks to the outside world.
const SHELL: u8 = 3;

/// Paths that mean I/O, threads, clocks, global randomness or logging.
const OUTSIDE: &[&str] = &[
    "tokio::",
    "tokio_util::",
    "axum::",
    "sqlx::",
    "hyper::",
    "hyper_util::",
    "socket2::",
    "io_uring::",
    "libc::",
    "tracing::",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "Instant::now",
    "SystemTime",
    "thread::spawn",
    "Uuid::new_v4",
    "println!",
    "eprintln!",
];

/// One place that breaks the order.
#[derive(Debug, PartialEq)]
struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The source with comments, strings and characters blanked, line by line as it was.
fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let find = |from: usize, what: &str| {
        source.get(from..).and_then(|rest| rest.find(what)).map(|found| from + found)
    };
    while at < bytes.len() {
        let rest = &source.as_bytes()[at..];
        let end = if rest.starts_with(b"//") {
            find(at, "\n").unwrap_or(bytes.len())
        } else if rest.starts_with(b"/*") {
            find(at, "*/").map_or(bytes.len(), |end| end + 2)
        } else if rest.starts_with(b"r#\"") {
            find(at + 3, "\"#").map_or(bytes.len(), |end| end + 2)
        } else if rest[0] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            (end + 1).min(bytes.len())
        } else if rest[0] == b'\'' && (rest.get(2) == Some(&b'\'') || rest.get(1) == Some(&b'\\')) {
            let from = if rest[1] == b'\\' { at + 3 } else { at + 2 };
            find(from.min(bytes.len()), "'").map_or(bytes.len(), |end| end + 1)
        } else {
            code.push(rest[0]);
            at += 1;
            continue;
        };
        code.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The code outside of inline `mod … { … }` blocks named tests, blanked line by line.
fn without_inline_tests(code: &str) -> String {
    let mut kept = code.to_owned();
    while let Some(start) = kept.find("mod tests {") {
        let mut depth = 0usize;
        let length = kept[start..].bytes().position(|byte| {
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            byte == b'}' && depth == 0
        });
        let end = length.map_or(kept.len(), |length| start + length + 1);
        let blank: String = kept[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        kept.replace_range(start..end, &blank);
    }
    kept
}

/// The identifier that `text` begins with.
fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The top-level names after `crate::`: one, or those of a `{…}` group.
fn names_after_root(text: &str) -> Vec<&str> {
    let Some(group) = text.strip_prefix('{') else { return vec![identifier(text)] };
    let mut names = Vec::new();
    let mut depth = 1usize;
    let mut begins = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => begins = true,
            c if begins && !c.is_whitespace() => {
                names.push(identifier(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

/// Every module that the code names from the crate's root, with its byte offset. `depth` is how many
/// modules the file is below the root.
fn modules_named(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for root in ["crate::", "confab::"] {
        for (at, _) in code.match_indices(root) {
            let part_of_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
            if !part_of_word {
                let rest = &code[at + root.len()..];
                named.extend(names_after_root(rest).into_iter().map(|name| (at, name.to_owned())));
            }
        }
    }
    let to_root = "super::".repeat(depth);
    for (at, _) in code.match_indices(&to_root) {
        let is_longer = code[..at].ends_with("super::") || code[at + to_root.len()..].starts_with("super::");
        if !is_longer {
            let rest = &code[at + to_root.len()..];
            named.extend(names_after_root(rest).into_iter().map(|name| (at, name.to_owned())));
        }
    }
    named
}

/// What is wrong with one file; `path` is relative to `src`.
fn check(path: &Path, source: &str) -> Vec<Violation> {
    let parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let module = parts[0].as_str();
    let code = code_only(source);
    let line_of = |at: usize| code[..at].bytes().filter(|byte| *byte == b'\n').count() + 1;
    let violation =
        |at: usize, what: String| Violation { file: Path::new("src").join(path), line: line_of(at), what };
    let Some(own) = layer(module) else {
        return vec![violation(0, format!("module `{module}` has no layer; give it one in tests/layers.rs"))];
    };
    let mut found = Vec::new();
    let production = without_inline_tests(&code);
    for (at, name) in modules_named(&production, parts.len()) {
        // Macros and types of the root are no modules; a module without a layer is found by its file.
        let Some(other) = layer(&name).filter(|_| name != module) else { continue };
        if other > own {
            found.push(violation(at, format!("`{module}` (L{own}) names `{name}` (L{other}) above it")));
        } else if other == own && own == 1 {
            found.push(violation(
                at,
                format!("`{module}` names `{name}`: the rooms of L1 do not know each other"),
            ));
        }
    }
    let is_test = parts.iter().any(|part| part == "tests" || part.ends_with("_tests"));
    if own < SHELL && !is_test {
        for outside in OUTSIDE {
            for (at, _) in production.match_indices(outside) {
                let part_of_word = production[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if !part_of_word {
                    found.push(violation(
                        at,
                        format!("`{module}` (L{own}) names `{outside}`: that is the shell's"),
                    ));
                }
            }
        }
    }
    found
}

/// Every source file under `folder`, relative to `src`.
fn sources(src: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("its entry can be read").path();
        if path.is_dir() {
            sources(src, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path.strip_prefix(src).expect("it is under src").to_owned());
        }
    }
}

#[test]
fn every_module_names_only_what_is_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &src, &mut files);
    files.sort();
    assert!(files.len() > 50, "the source was found: {} files", files.len());
    let violations: Vec<String> = files
        .iter()
        .flat_map(|path| check(path, &fs::read_to_string(src.join(path)).expect("a source file is text")))
        .map(|violation| violation.to_string())
        .collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// What `check` says of `source` at `path`, one string a finding.
fn said(path: &str, source: &str) -> Vec<String> {
    check(Path::new(path), source).iter().map(ToString::to_string).collect()
}

#[test]
fn a_planted_violation_is_found_with_file_and_line() {
    assert_eq!(
        said("rtp/packet.rs", "//! Packets.\n\nuse crate::net::clock::Clock;\n"),
        ["src/rtp/packet.rs:3: `rtp` (L1) names `net` (L3) above it"]
    );
    assert_eq!(
        said("sip.rs", "use crate::{\n    time::Instant,\n    sdp::{Offer, rtp},\n};"),
        ["src/sip.rs:1: `sip` names `sdp`: the rooms of L1 do not know each other"]
    );
    assert_eq!(said("bridge/timers.rs", "fn f() {\n    let now = std::time::Instant::now();\n}").len(), 1);
    assert_eq!(said("bridge/x.rs", "fn f() { crate::store::open(); super::super::api::g(); }").len(), 2);
    assert_eq!(said("media.rs", "use super::net::clock;").len(), 1);
    assert_eq!(said("attic.rs", "").len(), 1, "a module without a layer");
}

#[test]
fn what_is_allowed_is_not_found() {
    for (path, source) in [
        ("bridge.rs", "use crate::{sip, sdp::answer, time::Instant};"),
        ("app/serve.rs", "use crate::{api, store}; use tokio::net::UdpSocket;"),
        (
            "sip/flow.rs",
            "// crate::net is the shell\nconst TEXT: &str = \"crate::net \\\" tokio::\"; /* std::fs */",
        ),
        ("sip/uri.rs", "fn f<'a>(c: &'a u8) -> char { '\"' } // crate::net::\nuse crate::sip::Flow;"),
        ("time.rs", "pub fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::*;\n    use std::fs;\n}"),
        ("net/udp.rs", "use crate::{plane, sip}; use super::transport::count;"),
    ] {
        assert_eq!(said(path, source), Vec::<String>::new(), "{path}: {source}");
    }
}
