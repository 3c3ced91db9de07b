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
