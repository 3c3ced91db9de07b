//! `docs/tutorial.md` from top to bottom: its files are written, its commands run by one bash against a
//! real server and phones, and what they print is held against what it shows.
//!
//! `CONFAB_TUTORIAL=write` writes what they print into the document instead.
#![allow(clippy::disallowed_methods, reason = "other programs run by the real clock")]

mod document;
mod shell;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;

use document::{Part, alike, parts};
use shell::Shell;

/// The ports that the document names: SIP, HTTP, the webhook's receiver.
const PORTS: [u16; 3] = [5060, 8080, 9090];

/// A free port in place of one that the document names. All are held until all are found.
fn free_ports() -> Vec<u16> {
    let bound: Vec<(TcpListener, Option<UdpSocket>)> = PORTS
        .iter()
        .map(|_| {
            loop {
                let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
                let port = tcp.local_addr().expect("it is bound").port();
                if let Ok(udp) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
                    break (tcp, Some(udp));
                }
            }
        })
        .collect();
    bound.iter().map(|(tcp, _)| tcp.local_addr().expect("it is bound").port()).collect()
}

#[test]
fn the_tutorial_works_from_top_to_bottom_as_it_stands() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    assert!(
        root.join("models/encoder_model.onnx").exists(),
        "the speech models are needed: run `make models`"
    );
    let path = root.join("docs/tutorial.md");
    let text = fs::read_to_string(&path).expect("the tutorial");
    let ports = free_ports();
    let swap = |text: &str, to_ours: bool| {
        PORTS.iter().zip(&ports).fold(text.to_owned(), |text, (theirs, ours)| {
            let (from, to) = if to_ours { (theirs, ours) } else { (ours, theirs) };
            text.replace(&from.to_string(), &to.to_string())
        })
    };
    let mut shell = Shell::start(&root);
    let writes = std::env::var("CONFAB_TUTORIAL").is_ok_and(|what| what == "write");
    let mut written = String::new();
    let mut commands = 0;
    for part in parts(&text) {
        match part {
            Part::Prose(prose) => written.push_str(prose),
            Part::File { name, body } => {
                fs::write(shell.folder().join(name), swap(body, true)).expect("the folder is ours");
            }
            Part::Command { line, command, shown } => {
                commands += 1;
                let printed = shell.run(&swap(command, true));
                let printed = swap(&printed, false).replace(&*root.to_string_lossy(), "$CONFAB");
                if writes && !alike(shown, &printed) {
                    written.push_str(&printed);
                    continue;
                }
                written.push_str(shown);
                assert!(
                    writes || alike(shown, &printed),
                    "docs/tutorial.md, line {line}:\n$ {command}\nshows\n{shown}\nbut it printed\n{printed}\n{}",
                    shell.logs()
                );
            }
        }
    }
    assert!(commands > 20, "only {commands} commands were found");
    if writes {
        fs::write(&path, written).expect("the tutorial is writable");
    }
}
