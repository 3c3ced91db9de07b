//! Pages of lists: newest first, by creation time and id, so that a page's end is a place that
//! neither inserts nor equal times can move.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::time::Timestamp;

/// The place in a list after which a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the last one seen was created.
    pub tm_create: Timestamp,
    /// Its id.
    pub id: Uuid,
}

/// Bytes of a cursor: eight of time, sixteen of id.
const CURSOR_BYTES: usize = 24;

impl Cursor {
    /// The token that stands for this place in requests.
    pub fn to_token(self) -> String {
        let mut bytes = [0; CURSOR_BYTES];
        let (time, id) = bytes.split_at_mut(8);
        time.copy_from_slice(&self.tm_create.as_micros().to_be_bytes());
        id.copy_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that [`Cursor::to_token`] made; `None` for anything else.
    pub fn from_token(token: &str) -> Option<Cursor> {
        let bytes: [u8; CURSOR_BYTES] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let (time, id) = bytes.split_first_chunk::<8>()?;
        Some(Cursor {
            tm_create: Timestamp::from_micros(i64::from_be_bytes(*time)),
            id: Uuid::from_slice(id).ok()?,
        })
    }

    /// The bind values for `(tm_create, id) < (?, ?)`; without a cursor, a place before every row.
    pub(super) fn bounds(after: Option<Cursor>) -> (i64, String) {
        after.map_or((i64::MAX, String::new()), |cursor| {
            (cursor.tm_create.as_micros(), cursor.id.hyphenated().to_string())
        })
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` when this is the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// A page from up to `size` + 1 rows, of which one too many tells that there are more.
    pub(super) fn from_rows(mut rows: Vec<T>, size: u32, place: impl Fn(&T) -> Cursor) -> Page<T> {
        let size = size as usize;
        let more = rows.len() > size;
        rows.truncate(size);
        let next = if more { rows.last().map(place) } else { None };
        Page { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_token_goes_there_and_back() {
        let mut rng = Rng::from_number(1);
        for _ in 0..100 {
            let cursor = Cursor { tm_create: Timestamp::from_micros(rng.next_u64() as i64), id: rng.uuid() };
            assert_eq!(Cursor::from_token(&cursor.to_token()), Some(cursor));
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "x", "====", "2022-02-03 06:08:56.672025", &"A".repeat(31), &"A".repeat(33), "é"] {
            assert_eq!(Cursor::from_token(text), None, "{text:?}");
        }
    }
}
