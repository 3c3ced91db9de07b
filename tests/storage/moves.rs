//! What is moved when, and what becomes of it when the storage or the server fails.

use crate::s3::{Line, SECRET};
use crate::world::{LIMIT, World, id, key, noise, record, wait_for};

/// More than two parts.
const LARGE: usize = 20 << 20;

#[test]
fn files_are_moved_and_come_back_whole_or_in_parts() {
    let (small, large) = (noise(1, 100_000), noise(2, LARGE));
    let mut world = World::with(&[(1, small.clone()), (2, large.clone()), (3, Vec::new())]);
    world.start();
    world.wait_until_moved();
    let objects = world.s3.objects();
    assert_eq!(objects.len(), 3, "{:?}", objects.keys());
    assert!(objects[&key(id(1))] == small && objects[&key(id(2))] == large);
    assert_eq!(world.s3.begun_uploads(), 0);
    assert_eq!(world.metric("confab_storage_bytes_uploaded_total "), (small.len() + large.len()) as f64);
    assert_eq!(world.get("/health"), serde_json::json!({"status": "ready", "notes": []}));

    let whole = world.file(id(2), &[]);
    assert!(whole.status == 200 && whole.body == large);
    assert_eq!(whole.header("content-type"), Some("audio/wav"));
    assert_eq!(
        whole.header("content-disposition"),
        Some(format!("attachment; filename=\"{}.wav\"", id(2)).as_str())
    );
    let etag = whole.header("etag").expect("a tag").to_owned();
    let at = LARGE - 1000;
    let part = world.file(id(2), &[("Range", &format!("bytes={at}-")), ("If-Range", &etag)]);
    assert!(part.status == 206 && part.body == large[at..]);
    assert_eq!(part.header("content-range"), Some(format!("bytes {at}-{}/{LARGE}", LARGE - 1).as_str()));
    assert_eq!(world.file(id(1), &[("Range", "bytes=10-19")]).body, small[10..20]);
    assert_eq!(world.file(id(1), &[("Range", "bytes=-5")]).body, small[small.len() - 5..]);
    let other = world.file(id(1), &[("Range", "bytes=10-19"), ("If-Range", "\"another\"")]);
    assert_eq!((other.status, other.body.len()), (200, small.len()));
    let beyond = world.file(id(1), &[("Range", "bytes=100000-")]);
    assert_eq!((beyond.status, &beyond.json()["error"]["reason"]), (416, &"RANGE_NOT_SATISFIABLE".into()));
    assert_eq!((world.file(id(3), &[]).status, world.file(id(3), &[]).body.len()), (200, 0));

    assert_eq!(world.delete(id(2)), 200);
    assert_eq!(world.file(id(2), &[]).status, 404);
    wait_for("the object to go", || (world.s3.objects().len() == 2).then_some(()));
    assert!(!world.logged().contains(SECRET), "{}", world.logged());
}

#[test]
fn recordings_go_on_while_the_storage_fails_and_are_moved_when_it_works_again() {
    for line in [Line::Broken, Line::Answers(503), Line::Answers(403)] {
        let old = noise(3, 5000);
        let mut world = World::with(&[(1, old.clone())]);
        world.line.set(line);
        world.start();
        wait_for("a failure", || (world.metric("confab_storage_works ") == 0.0).then_some(()));
        let new = record(&world);
        let note = wait_for("both to be told of", || {
            let health = world.get("/health");
            assert_eq!(health["status"], "ready", "calls can be taken all the same");
            let note = health["notes"][0].as_str()?.to_owned();
            note.starts_with("2 files of recordings").then_some(note)
        });
        assert!(note.contains("the storage fails") && !note.contains("http"), "{note}");
        assert_eq!(world.local().len(), 2);
        assert_eq!(world.file(id(1), &[]).body, old, "from the data folder");
        let fresh = world.file(new, &[]).body;
        world.line.set(Line::Good);
        world.wait_until_moved();
        assert_eq!(world.metric("confab_storage_works "), 1.0);
        let objects = world.s3.objects();
        assert!(objects[&key(id(1))] == old && objects[&key(new)] == fresh);
        assert_eq!(world.file(new, &[]).body, fresh, "from the storage");
        let logged = world.logged();
        assert_eq!(
            logged.matches("the storage fails; recordings stay").count(),
            1,
            "once, not at every try: {logged}"
        );
        assert!(logged.contains("the storage of recordings works again"), "{logged}");
        assert!(!logged.contains(SECRET));
    }
}

#[test]
fn a_server_killed_while_it_uploads_loses_nothing_and_leaves_nothing_behind() {
    let large = noise(4, LARGE);
    let mut world = World::with(&[(1, large.clone()), (2, noise(5, 1000))]);
    // Before the first part, within one, within the last; and, last, with all of it there and not yet known.
    for line in [
        Line::StopsAfter(1_000),
        Line::StopsAfter(5 << 20),
        Line::StopsAfter(LARGE as u64 - 100_000),
        Line::DeafToCompletion,
    ] {
        world.line.set(line);
        world.start();
        world.line.wait_until_stopped(LIMIT);
        assert!(world.local().contains(&format!("{}.wav", id(1))), "{line:?}");
        world.kill();
    }
    world.line.set(Line::Good);
    world.start();
    world.wait_until_moved();
    let objects = world.s3.objects();
    assert_eq!(objects.len(), 2);
    assert!(objects[&key(id(1))] == large);
    assert!(world.file(id(1), &[]).body == large);
    assert_eq!(world.s3.begun_uploads(), 0, "parts that nobody completes cost money for ever");
    assert_eq!(world.metric("confab_storage_files_lost_total "), 0.0);
}

#[test]
fn an_upload_whose_line_breaks_begins_anew() {
    let large = noise(6, LARGE);
    let mut world = World::with(&[(1, large.clone())]);
    world.line.set(Line::StopsAfter(10 << 20));
    world.start();
    world.line.wait_until_stopped(LIMIT);
    world.line.set(Line::Good);
    world.wait_until_moved();
    assert!(world.s3.objects()[&key(id(1))] == large);
    assert_eq!(world.s3.begun_uploads(), 0);
}

#[test]
fn a_slow_storage_holds_nobody_up() {
    let large = noise(10, LARGE);
    let mut world = World::with(&[(1, large.clone())]);
    world.line.set(Line::Slow);
    world.start();
    wait_for("the upload", || (world.metric("confab_storage_files_under_way ") == 1.0).then_some(()));
    let new = record(&world);
    let sound = world.file(new, &[]).body;
    world.wait_until_moved();
    assert!(world.file(id(1), &[]).body == large);
    assert!(world.file(new, &[]).body == sound);
    assert_eq!(world.metric("confab_storage_failures_total "), 0.0);
}

#[test]
fn what_is_deleted_while_the_storage_is_down_goes_when_it_is_back() {
    let mut world = World::with(&[(1, noise(7, 3000)), (2, noise(8, 3000))]);
    world.start();
    world.wait_until_moved();
    world.line.set(Line::Answers(503));
    assert_eq!(world.delete(id(1)), 200, "its owner does not wait for the storage");
    assert_eq!(world.file(id(1), &[]).status, 404);
    assert_eq!(world.file(id(2), &[]).status, 503);
    assert_eq!(world.file(id(2), &[]).json()["error"]["reason"], "STORAGE_UNAVAILABLE");
    wait_for("a failure", || (world.metric("confab_storage_works ") == 0.0).then_some(()));
    world.kill();
    assert_eq!(world.s3.objects().len(), 2);
    world.line.set(Line::Good);
    world.start();
    world.wait_until_moved();
    assert_eq!(world.s3.objects().into_keys().collect::<Vec<_>>(), [key(id(2))]);
    assert_eq!(world.delete(id(1)), 200, "twice is once");
}

#[test]
fn a_storage_that_says_yes_and_keeps_nothing_is_not_believed() {
    let bytes = noise(9, 5000);
    let mut world = World::with(&[(1, bytes.clone())]);
    world.line.set(Line::Answers(200));
    world.start();
    wait_for("a failure", || (world.metric("confab_storage_failures_total ") > 0.0).then_some(()));
    assert_eq!(world.local().len(), 1);
    assert_eq!(world.file(id(1), &[]).body, bytes);
    world.line.set(Line::Good);
    world.wait_until_moved();
    assert!(world.s3.objects()[&key(id(1))] == bytes);
}

#[test]
fn few_files_are_under_way_at_once() {
    let files: Vec<(u64, Vec<u8>)> = (0..10).map(|number| (number, noise(number, 200_000))).collect();
    let mut world = World::with(&files);
    world.line.set(Line::StopsAfter(1_000));
    world.start();
    world.line.wait_until_stopped(LIMIT);
    let most = confab::record::storage::UNDER_WAY_MAX as f64;
    wait_for("as many as may", || (world.metric("confab_storage_files_under_way ") == most).then_some(()));
    assert_eq!(world.metric("confab_storage_files_waiting "), 10.0);
    world.line.set(Line::Good);
    world.wait_until_moved();
    assert_eq!(world.s3.objects().len(), 10);
}
