use super::*;

/// What `resolve` says of a file alone, as lines.
fn faults(file: &str) -> Vec<String> {
    let sources = Sources { file: Some(file.to_owned()), ..Sources::default() };
    let errors = resolve(&sources).expect_err("a fault was planted");
    errors.iter().map(ToString::to_string).collect()
}

fn env(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

#[test]
fn nothing_given_gives_the_defaults() {
    let resolved = resolve(&Sources::default()).expect("defaults hold");
    assert_eq!(resolved.config, Config::default());
    assert!(resolved.warnings.is_empty());
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let mut sources = Sources { file: Some("[rtp]\nports = \"30000-30100\"\n".into()), ..Sources::default() };
    let ports = |sources: &Sources| resolve(sources).expect("good").config.rtp.ports;
    assert_eq!(ports(&sources), 30000..=30100);
    sources.env = env("CONFAB_RTP_PORTS", "40000-40100");
    assert_eq!(ports(&sources), 40000..=40100);
    sources.flags = vec![("--rtp-ports", "50000-50100".into())];
    assert_eq!(ports(&sources), 50000..=50100);
    sources.set = vec!["rtp.ports=60000-60100".into()];
    assert_eq!(ports(&sources), 60000..=60100);
}

#[test]
fn faults_in_the_file_carry_line_and_key() {
    assert_eq!(
        faults("# first\n\n[sip]\nlisten = \"0.0.0.0:5060\"\n\n\nmax_calls = 0\n"),
        ["line 7: sip.max_calls: must be 1 to 100000"]
    );
    assert_eq!(
        faults("[sip]\nmax_cals = 7\n"),
        ["line 2: sip.max_cals: unknown key; did you mean sip.max_calls?"]
    );
    assert_eq!(
        faults("[sip]\nlisten = 5060\n"),
        ["line 2: sip.listen: must be a string in quotes, not a number"]
    );
    assert_eq!(faults("rtp.ports = \"5-4\""), ["line 1: rtp.ports: must begin at 1024 or above"]);
    assert_eq!(
        faults("[sip]\ndomains = [1]"),
        [
            "line 2: sip.domains: must be a list of strings such as [\"a\", \"b\"], not a list of something else"
        ]
    );
}

#[test]
fn every_fault_is_told_in_the_order_of_the_file() {
    let lines = faults("[sip]\nlisten = \"x\"\n[http]\nlisten = \"y\"\n[colour]\nblue = 1\n");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("line 2: sip.listen: must be ADDRESS:PORT"), "{lines:?}");
    assert!(lines[1].starts_with("line 4: http.listen: "), "{lines:?}");
    assert!(lines[2].starts_with("line 6: colour.blue: unknown key"), "{lines:?}");
}

#[test]
fn text_that_is_no_toml_names_its_line() {
    for (text, line) in [("a = 1\nb == 2\n", 2), ("[sip\n", 1), ("x = \"\n", 1), ("a = 1\na = 2\n", 2)] {
        let lines = faults(text);
        let want = format!("line {line}: not valid TOML: ");
        assert!(lines.iter().any(|fault| fault.starts_with(&want)), "{text:?}: {lines:?}");
    }
}

#[test]
fn faults_elsewhere_name_the_variable_or_the_flag() {
    let told = |sources: Sources| resolve(&sources).expect_err("planted")[0].to_string();
    assert_eq!(
        told(Sources { env: env("CONFAB_SIP", "5060"), ..Sources::default() }),
        "CONFAB_SIP: must be ADDRESS:PORT such as 0.0.0.0:5060 or [::]:5060"
    );
    assert_eq!(
        told(Sources { flags: vec![("--media-threads", "many".into())], ..Sources::default() }),
        "--media-threads: must be 0 to 256"
    );
    assert_eq!(
        told(Sources { set: vec!["sip.max_calls=x".into()], ..Sources::default() }),
        "--set: sip.max_calls: must be 1 to 100000"
    );
    let secret = told(Sources { set: vec!["keys.admin_key=0123456789abcdef".into()], ..Sources::default() });
    assert!(secret.ends_with("use CONFAB_ADMIN_KEY"), "{secret}");
}

#[test]
fn a_variable_that_means_nothing_is_a_warning_not_an_error() {
    let sources = Sources { env: env("CONFAB_SIPP", "1"), ..Sources::default() };
    let resolved = resolve(&sources).expect("goes on");
    assert_eq!(resolved.warnings, ["the environment variable CONFAB_SIPP means nothing to confab"]);
    let sources = Sources { env: env("CONFAB_CONFIG", "x.toml"), ..Sources::default() };
    assert!(resolve(&sources).expect("goes on").warnings.is_empty());
}

#[test]
fn several_domains_come_from_several_flags() {
    let sources = Sources {
        flags: vec![("--domain", "A.example".into()), ("--domain", "b.example".into())],
        ..Sources::default()
    };
    let resolved = resolve(&sources).expect("good");
    assert_eq!(resolved.config.sip.domains, ["a.example", "b.example"]);
}

#[test]
fn sip_and_http_cannot_share_a_tcp_port() {
    let sources = Sources {
        flags: vec![("--sip", "0.0.0.0:8080".into()), ("--http", "127.0.0.1:8080".into())],
        ..Sources::default()
    };
    let told = resolve(&sources).expect_err("planted")[0].to_string();
    assert_eq!(told, "sip.listen and http.listen both take TCP port 8080; change one of them");
    let any = Sources {
        flags: vec![("--sip", "0.0.0.0:0".into()), ("--http", "127.0.0.1:0".into())],
        ..Sources::default()
    };
    assert!(resolve(&any).is_ok(), "port 0 is any free one");
}

#[test]
fn storage_needs_credentials_which_are_not_shown() {
    let mut sources = Sources { set: vec!["record.storage=s3://calls/eu".into()], ..Sources::default() };
    let told = resolve(&sources).expect_err("planted")[0].to_string();
    assert!(told.contains("CONFAB_S3_ACCESS_KEY_ID and CONFAB_S3_SECRET_ACCESS_KEY"), "{told}");
    sources.env = env("CONFAB_S3_ACCESS_KEY_ID", "an-id");
    assert!(resolve(&sources).is_err());
    sources.env.extend(env("CONFAB_S3_SECRET_ACCESS_KEY", "very/secret"));
    let config = resolve(&sources).expect("good").config;
    assert!(!config.record.s3.names_bucket_in_path(), "Amazon's own");
    assert!(!format!("{config:?}").contains("secret"));
    sources.set.push("record.s3_endpoint=http://127.0.0.1:9000".into());
    assert!(resolve(&sources).expect("good").config.record.s3.names_bucket_in_path());
    sources.set.push("keys.s3_secret_access_key=x".into());
    assert!(resolve(&sources).is_err(), "every user could read it");
    sources.set.pop();
    sources.file = Some("[keys]\ns3_secret_access_key = \"x\"\n".to_owned());
    assert_eq!(
        resolve(&sources).expect_err("planted")[0].to_string(),
        "line 2: keys.s3_secret_access_key: is taken from the environment only"
    );
}

#[test]
fn metrics_are_open_only_on_loopback_unless_set() {
    let mut http = Config::default().http;
    assert!(http.metrics_need_no_key());
    http.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080));
    assert!(!http.metrics_need_no_key());
    http.metrics_open = Some(true);
    assert!(http.metrics_need_no_key());
}

#[test]
fn debug_output_shows_no_key() {
    let key = format!("vb_{}", "0a".repeat(16));
    let sources = Sources { env: env("CONFAB_ACCESSKEY", &key), ..Sources::default() };
    let resolved = resolve(&sources).expect("good");
    assert_eq!(resolved.config.keys.accesskey.as_deref(), Some(key.as_str()));
    assert!(!format!("{resolved:?}").contains(&key));
}
