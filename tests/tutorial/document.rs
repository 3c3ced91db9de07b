//! The document: what of it is run, and when what is printed is what it shows.

/// A part of the document. Together they are the whole of it.
pub enum Part<'a> {
    /// What is only read, and what is typed.
    Prose(&'a str),
    /// A file to be written (the fence and the body are prose as well).
    File { name: &'a str, body: &'a str },
    /// A command to be run, and what the document shows of what it prints.
    Command { line: usize, command: &'a str, shown: &'a str },
}

/// Splits a document into its parts.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut lines = Lines { text, at: 0, number: 0 };
    while let Some(line) = lines.next() {
        parts.push(Part::Prose(line));
        let Some(info) = line.strip_prefix("```").map(str::trim) else { continue };
        match info.split_once(' ') {
            Some((_, name)) => {
                let body = lines.until(|line| line.starts_with("```"));
                parts.push(Part::Prose(body));
                parts.push(Part::File { name, body });
            }
            None if info == "console" => console(&mut lines, &mut parts),
            None => parts.push(Part::Prose(lines.until(|line| line.starts_with("```")))),
        }
        parts.extend(lines.next().map(Part::Prose));
    }
    parts
}

/// The commands of one block.
fn console<'a>(lines: &mut Lines<'a>, parts: &mut Vec<Part<'a>>) {
    while let Some(command) = lines.peek().and_then(|line| line.strip_prefix("$ ")) {
        let line = lines.number + 1;
        parts.extend(lines.next().map(Part::Prose));
        let shown = lines.until(|line| line.starts_with("$ ") || line.starts_with("```"));
        parts.push(Part::Command { line, command: command.trim_end(), shown });
    }
}

/// Lines with their ends, counted.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.text[self.at..].split_inclusive('\n').next()
    }

    fn next(&mut self) -> Option<&'a str> {
        let line = self.peek()?;
        self.at += line.len();
        self.number += 1;
        Some(line)
    }

    /// All up to a line like this.
    fn until(&mut self, ends: impl Fn(&str) -> bool) -> &'a str {
        let from = self.at;
        while self.peek().is_some_and(|line| !ends(line)) {
            self.next();
        }
        &self.text[from..self.at]
    }
}

/// Whether what was printed is what is shown, but for ids, hashes and times; `…` stands for anything in
/// a line, and a line of it alone for any lines.
pub fn alike(shown: &str, printed: &str) -> bool {
    let shown: Vec<String> = shown.lines().map(plain).collect();
    let printed: Vec<String> = printed.lines().map(plain).collect();
    lines_alike(&shown, &printed)
}

fn lines_alike(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((any, rest)) if any == "…" => {
            (0..=printed.len()).any(|skip| lines_alike(rest, &printed[skip..]))
        }
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, others)| line_alike(line, first) && lines_alike(rest, others)),
    }
}

fn line_alike(shown: &str, printed: &str) -> bool {
    let mut pieces = shown.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A line with every id, hash and time in one form: words of hexadecimal digits and hyphens of their
/// lengths, and times of day.
fn plain(line: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let mut result = String::new();
    let mut word = String::new();
    for c in line.trim_end().chars().chain(['\n']) {
        if is_part(c) {
            word.push(c);
            continue;
        }
        result.push_str(form(&word));
        word.clear();
        if c != '\n' {
            result.push(c);
        }
    }
    result
}

fn form(word: &str) -> &str {
    let bare = word.rsplit('.').next().unwrap_or(word);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let shape: Vec<usize> = word.split('-').map(str::len).collect();
    match shape.as_slice() {
        [8, 4, 4, 4, 12] if is_hex(&word.replace('-', "")) => "<id>",
        [4, 2, 2] => "<date>",
        [15] if word.as_bytes().get(2) == Some(&b':') => "<time>",
        _ if bare.len() == 12 && is_hex(bare) => "<hash>",
        _ => word,
    }
}

#[test]
fn ids_hashes_and_times_may_differ_and_nothing_else() {
    let shown = "{\"id\":\"0f4f7f4e-6c3b-4f6e-9a53-0d6a35a0f3d1\",\"direct_hash\":\"5858edb23848\"} 2026-11-23 06:11:30.317922\n";
    let other = "{\"id\":\"ffffffff-6c3b-4f6e-9a53-0d6a35a0f3d1\",\"direct_hash\":\"000000000000\"} 2027-01-02 01:01:01.000000\n";
    assert!(alike(shown, other));
    assert!(!alike(shown, &other.replace("id", "di")));
    assert!(!alike(shown, &other.replace('-', "_")));
    assert!(alike("received … packets, loss 0.00 %…\n", "received 150 packets, loss 0.00 %, and more\n"));
    assert!(!alike("received … packets\n", "received 150 packages\n"));
    assert!(alike("1 a\n…\n3 c\n", "1 a\n2 b\n2 bb\n3 c\n") && alike("…\n", ""));
    assert!(!alike("1 a\n…\n3 c\n", "1 a\n4 d\n") && !alike("1\n", "1\n2\n") && !alike("", "2\n"));
}
