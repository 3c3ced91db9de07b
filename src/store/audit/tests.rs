//! The audit log's limits.

use super::*;
use crate::store::tests::{Folder, open};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn entry(customer: u128, second: u64) -> Audit {
    Audit {
        id: Uuid::from_u128(u128::from(second) << 16 | customer),
        customer_id: CustomerId(Uuid::from_u128(customer)),
        accesskey_id: Uuid::from_u128(9),
        method: "POST".to_owned(),
        path: "/v1.0/conferences".to_owned(),
        status: 200,
        request_id: "r".to_owned(),
        source: "192.0.2.1".to_owned(),
        tm_create: NOW.plus(Duration::from_secs(second)),
    }
}

#[tokio::test]
async fn the_log_is_trimmed_by_age_by_customer_and_in_all() {
    let folder = Folder::new();
    let store = open(&folder).await;
    let mut batch = store.begin().await.expect("a transaction");
    for second in 0..20 {
        for customer in [1, 2] {
            insert(&mut batch, &entry(customer, second)).await.expect("a write");
        }
    }
    let one = CustomerId(Uuid::from_u128(1));
    let late = NOW.plus(AUDITS_KEPT + Duration::from_secs(2));
    assert_eq!(trim(&mut batch, one, late, 100, 100).await.expect("a trim"), 4, "two seconds of both");
    assert_eq!(trim(&mut batch, one, late, 10, 100).await.expect("a trim"), 8, "of one customer only");
    assert_eq!(trim(&mut batch, one, late, 10, 12).await.expect("a trim"), 16, "all but the last twelve");
    batch.commit().await.expect("a commit");
    let left = store.audits(None, None, 100).await.expect("a read").rows;
    assert_eq!(left.len(), 12);
    assert_eq!(left[0], entry(2, 19));
    assert_eq!(store.audits(Some(one), None, 100).await.expect("a read").rows.len(), 6);
}
