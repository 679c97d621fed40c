//! Walks two sorted streams side by side, so that two databases can be compared in bounded
//! memory. Knows no SQL and no rule.

use futures::{Stream, StreamExt};
use std::pin::pin;

/// Pairs what has the same key. Both streams are sorted by key, upwards; keys may repeat on the
/// left and are unique on the right. `each` sees every left item once, with its partner if there is
/// one, and every right item that has no partner once.
pub(crate) async fn merge<K: Ord, L, R, E>(
    left: impl Stream<Item = Result<L, E>>,
    left_key: impl Fn(&L) -> K,
    right: impl Stream<Item = Result<R, E>>,
    right_key: impl Fn(&R) -> K,
    mut each: impl FnMut(Option<&L>, Option<&R>),
) -> Result<(), E> {
    let mut left = pin!(left);
    let mut right = pin!(right);
    let mut partner = right.next().await.transpose()?;
    let mut paired = false;
    while let Some(item) = left.next().await.transpose()? {
        let key = left_key(&item);
        while let Some(other) = &partner {
            if right_key(other) >= key {
                break;
            }
            if !paired {
                each(None, Some(other));
            }
            paired = false;
            partner = right.next().await.transpose()?;
        }
        let same = partner.as_ref().filter(|other| right_key(other) == key);
        paired |= same.is_some();
        each(Some(&item), same);
    }
    while let Some(other) = &partner {
        if !paired {
            each(None, Some(other));
        }
        paired = false;
        partner = right.next().await.transpose()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    async fn pairs(left: &[(i32, char)], right: &[i32]) -> Vec<(Option<char>, Option<i32>)> {
        let mut pairs = Vec::new();
        merge(
            stream::iter(left.iter().map(Ok::<_, ()>)),
            |l| l.0,
            stream::iter(right.iter().map(Ok)),
            |r| **r,
            |l, r| pairs.push((l.map(|l| l.1), r.map(|r| **r))),
        )
        .await
        .expect("no stream fails");
        pairs
    }

    #[tokio::test]
    async fn every_item_is_seen_once_with_its_partner() {
        assert_eq!(
            pairs(&[(2, 'a'), (3, 'b'), (3, 'c'), (5, 'd')], &[1, 3, 4, 6]).await,
            [
                (None, Some(1)),
                (Some('a'), None),
                (Some('b'), Some(3)),
                (Some('c'), Some(3)),
                (None, Some(4)),
                (Some('d'), None),
                (None, Some(6)),
            ]
        );
    }

    #[tokio::test]
    async fn an_empty_side_leaves_the_other_without_partners() {
        assert_eq!(
            pairs(&[], &[1, 2]).await,
            [(None, Some(1)), (None, Some(2))]
        );
        assert_eq!(pairs(&[(1, 'a')], &[]).await, [(Some('a'), None)]);
        assert_eq!(pairs(&[(1, 'a')], &[1]).await, [(Some('a'), Some(1))]);
    }

    #[tokio::test]
    async fn a_fault_of_a_stream_ends_the_walk() {
        let right = stream::iter([Ok(1), Err("gone")]);
        let walked = merge(
            stream::iter([Ok(2)]),
            |l: &i32| *l,
            right,
            |r| *r,
            |_, _| (),
        );
        assert_eq!(walked.await, Err("gone"));
    }
}
