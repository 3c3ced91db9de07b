//! The example configuration is right: as it is, and with every commented key in force.

use confab::config::{Config, Key, Sources, resolve};

const EXAMPLE: &str = include_str!("../deploy/confab.toml");

/// The lines that show a key, `#name = value`, with the `#` gone.
fn uncommented() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) && rest.contains(" = ") => {
            rest
        }
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn read(text: String) -> Config {
    let sources = Sources { file: Some(text), ..Sources::default() };
    resolve(&sources).unwrap_or_else(|errors| panic!("deploy/confab.toml: {errors:#?}")).config
}

#[test]
fn the_example_as_it_is_changes_nothing() {
    assert_eq!(read(EXAMPLE.to_owned()), Config::default());
}

#[test]
fn every_commented_key_shows_its_default() {
    assert_eq!(read(uncommented()), Config::default());
}

/// The comment above the line that shows a key, in one line.
fn comment_of(key: &Key) -> String {
    let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
    let from =
        if section.is_empty() { 0 } else { EXAMPLE.find(&format!("\n[{section}]")).expect("a section") };
    let shown = EXAMPLE[from..].find(&format!("\n#{name} = ")).expect("it is shown") + from;
    let above: Vec<&str> = EXAMPLE[..shown].lines().rev().take_while(|line| line.starts_with("# ")).collect();
    above.into_iter().rev().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_key_says_when_a_change_takes_effect() {
    for key in Key::ALL {
        let comment = comment_of(key);
        let mark = key.takes.mark();
        assert!(comment.ends_with(mark), "{}: the comment must end in {mark}: {comment}", key.name);
    }
}

#[test]
fn every_key_is_shown_with_its_variable_and_flag() {
    let mut section = String::new();
    let mut shown = Vec::new();
    for line in uncommented().lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            shown.push(format!("{section}{name}"));
        }
    }
    let keys: Vec<&str> = Key::ALL.iter().map(|key| key.name).collect();
    assert_eq!(shown, keys, "the example shows every key, in the order of the table");
    for key in Key::ALL {
        assert!(EXAMPLE.contains(key.env), "{} is not named", key.env);
        assert!(key.flag.is_none_or(|flag| EXAMPLE.contains(flag)), "{:?} is not named", key.flag);
    }
}
