//! Pages: whole, in order, and stable while the list grows.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ADMIN, Api};

fn ids(page: &Value) -> Vec<String> {
    page["result"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["id"].as_str().expect("an id").to_owned())
        .collect()
}

#[tokio::test]
async fn pages_hold_every_conference_once_while_others_are_made_at_the_same_instant() {
    let api = Api::new().await;
    let mut first = BTreeSet::new();
    // The clock stands still: every conference of a group has the same tm_create.
    for _ in 0..10 {
        for _ in 0..7 {
            first.insert(
                api.own("POST", "/v1.0/conferences", None).await.json["id"]
                    .as_str()
                    .expect("an id")
                    .to_owned(),
            );
        }
        api.advance(Duration::from_secs(1));
    }
    assert_eq!(first.len(), 70);
    for size in [1, 3, 10, 69, 70, 71, 100] {
        let (mut seen, mut token, mut times) = (Vec::new(), String::new(), Vec::new());
        loop {
            let page = api
                .own("GET", &format!("/v1.0/conferences?page_size={size}&page_token={token}"), None)
                .await
                .json;
            assert!(ids(&page).len() <= size);
            seen.extend(ids(&page));
            times.extend(
                page["result"].as_array().expect("rows").iter().map(|row| row["tm_create"].to_string()),
            );
            api.own("POST", "/v1.0/conferences", None).await;
            token = page["next_page_token"].as_str().expect("a token").to_owned();
            if token.is_empty() {
                break;
            }
        }
        assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
        let distinct: BTreeSet<String> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "none twice");
        assert!(first.is_subset(&distinct), "none missed");
        api.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn filters_choose_and_empty_ones_do_not() {
    let api = Api::new().await;
    for r#type in ["conference", "connect", "connect"] {
        api.own("POST", "/v1.0/conferences", Some(json!({"type": r#type}))).await;
        api.advance(Duration::from_secs(1));
    }
    for (query, rows) in [
        ("", 3),
        ("type=connect", 2),
        ("type=conference&status=progressing", 1),
        ("status=terminated", 0),
        ("type=&status=", 3),
    ] {
        let page = api.own("GET", &format!("/v1.0/conferences?{query}"), None).await.json;
        assert_eq!((ids(&page).len(), &page["next_page_token"]), (rows, &json!("")), "{query}");
    }
}

#[tokio::test]
async fn customers_and_access_keys_are_paged_too() {
    let api = Api::new().await;
    let (other, _) = api.other_customer().await;
    for (path, rows) in [("customers", 2), ("accesskeys", 2)] {
        let first = api.keyed(ADMIN, "GET", &format!("/v1.0/{path}?page_size=1"), None).await.json;
        let token = first["next_page_token"].as_str().expect("a token");
        let second =
            api.keyed(ADMIN, "GET", &format!("/v1.0/{path}?page_size=1&page_token={token}"), None).await.json;
        let both: BTreeSet<String> = ids(&first).into_iter().chain(ids(&second)).collect();
        assert_eq!(both.len(), rows, "{path}");
        assert_eq!(second["next_page_token"], "");
    }
    let keys = api.keyed(ADMIN, "GET", &format!("/v1.0/accesskeys?customer_id={other}"), None).await.json;
    assert_eq!(ids(&keys).len(), 1);
}
