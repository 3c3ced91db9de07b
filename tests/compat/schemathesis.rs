//! Schemathesis: thousands of requests made from the OpenAPI document, right ones and wrong ones. No
//! answer is a 5xx, none has a status, a type or a body that the document does not have, wrong requests
//! are refused and right ones taken. The exceptions, with their reasons, are in `schemathesis.toml`.

use std::path::Path;
use std::time::Duration;

use crate::furnish::furnish;
use crate::process::{Program, command};
use crate::server::{ACCESS_KEY, ADMIN_KEY, Server, python_program};

/// What all is drawn from, unless `CONFAB_SCHEMATHESIS_SEED` says otherwise.
const SEED: &str = "1";
/// Random requests per operation, beside those for every edge of the schema.
const EXAMPLES: &str = "25";
/// When it must have ended, on a machine that does other things as well.
const LIMIT: Duration = Duration::from_secs(400);
/// Requests that a run makes at least; otherwise it tested something else than our API.
const REQUESTS_MIN: u64 = 2_000;
/// What it says of operations whose every edge our own hooks filtered out.
const FILTERED: &str = "No coverage cases could be generated";

#[test]
fn with_an_access_key() {
    let server = server();
    let _phone = furnish(&server);
    run(&server, "with_an_access_key", ACCESS_KEY);
}

#[test]
fn with_the_admin_key() {
    run(&server(), "with_the_admin_key", ADMIN_KEY);
}

/// A server for one run: what the admin key deletes is not missed by the other.
fn server() -> Server {
    Server::start(&["http.requests_per_s_per_key=1000000", "http.requests_per_s_per_source=1000000"])
}

/// Runs it with this key.
fn run(server: &Server, test: &str, key: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
    let seed = std::env::var("CONFAB_SCHEMATHESIS_SEED").unwrap_or_else(|_| SEED.to_owned());
    let only = std::env::var("CONFAB_SCHEMATHESIS_ONLY").ok();
    let mut st = command(python_program("st").to_str().expect("a path of ours"));
    st.arg("--config-file").arg(here.join("schemathesis.toml"));
    st.args(["run", &format!("{}/openapi.json", server.url())]);
    st.args(["--seed", &seed, "--max-examples", EXAMPLES, "--no-color"]);
    // No memory of earlier runs; curl lines that can be used as they are: the keys are the tests' own.
    st.args(["--generation-database", "none", "--output-sanitize", "false", "--continue-on-failure"]);
    // Missing rows and the wrong kind of key are part of the test.
    st.args(["--warnings", "off"]);
    if let Some(only) = &only {
        st.args(["--include-name", only]);
    }
    st.env("SCHEMATHESIS_HOOKS", here.join("hooks.py")).env("CONFAB_TEST_KEY", key);
    let mut program = Program::start("schemathesis", "none: `make deps-test`", server.folder.path(), &mut st);
    let status = program.wait(LIMIT);
    let said = program.said_in_full();
    assert!(
        status.success(),
        "Schemathesis ({status}) says:\n{said}\n\n\
         One operation again: CONFAB_SCHEMATHESIS_ONLY='POST /v1.0/flows' CONFAB_SCHEMATHESIS_SEED={seed} \
         cargo test --test compat {test}\n\
         One request again: the curl line above, to a `confab serve` with CONFAB_ACCESSKEY={ACCESS_KEY} \
         CONFAB_ADMIN_KEY={ADMIN_KEY}"
    );
    if only.is_none() {
        assert!(!said.contains(FILTERED), "the hooks leave nothing of some operations:\n{said}");
        let requests = requests(&said).unwrap_or_else(|| panic!("it does not say how many:\n{said}"));
        assert!(requests >= REQUESTS_MIN, "only {requests} requests:\n{said}");
        println!("{requests} requests");
    }
}

/// How many requests it says it made.
fn requests(said: &str) -> Option<u64> {
    said.split_once("Test cases:")?.1.split_once(" generated")?.0.trim().parse().ok()
}
