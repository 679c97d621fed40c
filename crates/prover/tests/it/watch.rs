//! Looking again and again: a breach is named once, with its order, and it ends; what is right is
//! never named, whatever moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use prover::watch::{Breach, Change, Recent, Watch};

use crate::live_traffic::settle_orders;
use crate::planted::System;

/// No change takes so long to be noticed.
const LIMIT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(10);

/// What Payments committed for order 1 is gone, as after a fail-over that has lost it.
const LOSE: &str = "
    delete from audit.payments where order_id = 1;
    delete from audit.ledger where order_uid = uid(1);
    update audit.accounts set balance = 100.00 where user_id = 7;";
const BRING_BACK: &str = "
    insert into audit.payments (order_uid, order_id, user_id, amount, outcome)
    values (uid(1), 1, 7, 30.00, 'paid');
    insert into audit.ledger (entry_id, user_id, kind, amount, order_uid)
    values (2, 7, 'charge', -30.00, uid(1));
    update audit.accounts set balance = 70.00 where user_id = 7;";

fn lost() -> Breach {
    Breach {
        rule: "S4",
        subject: "order 1 of user 7 for 30.00".to_owned(),
        detail: "FINISHED and never debited".to_owned(),
    }
}

/// Looks until something changes: the whole is not looked at each time.
async fn next_changes(watch: &mut Watch) -> Result<Vec<Change>> {
    let changes = async {
        loop {
            let looked = watch.look().await;
            if !looked.changes.is_empty() {
                return looked.changes;
            }
        }
    };
    Ok(tokio::time::timeout(LIMIT, changes).await?)
}

#[tokio::test]
async fn a_lost_commit_is_named_once_with_its_order_and_ends() -> Result<()> {
    let system = System::correct().await?;
    let mut watch = Watch::new(system.databases.clone());
    assert_eq!(watch.look().await.changes, []);
    system.in_payments(LOSE).await?;
    assert_eq!(watch.look().await.changes, [], "a first look may be wrong");
    assert_eq!(watch.look().await.changes, [Change::Began(lost())]);
    assert_eq!((watch.named("S4"), watch.named("S1")), (1, 0));
    for _ in 0..20 {
        assert_eq!(watch.look().await.changes, [], "it is named already");
    }
    system.in_payments(BRING_BACK).await?;
    assert_eq!(next_changes(&mut watch).await?, [Change::Ended(lost())]);
    assert!(watch.named("S4") == 0 && watch.has_named());
    Ok(())
}

#[tokio::test]
async fn what_is_over_before_the_second_look_is_never_named() -> Result<()> {
    let system = System::correct().await?;
    let mut watch = Watch::new(system.databases.clone());
    system.in_payments(LOSE).await?;
    assert_eq!(watch.look().await.changes, []);
    assert!(
        watch.pause(INTERVAL) < INTERVAL,
        "it is looked at again soon"
    );
    system.in_payments(BRING_BACK).await?;
    while watch.pause(INTERVAL) < INTERVAL {
        assert_eq!(watch.look().await.changes, []);
    }
    assert!(!watch.has_named());
    Ok(())
}

/// The look at what is new, by itself: the whole one sees the same, and would hide that it does not.
#[tokio::test]
async fn what_is_new_is_looked_at_by_itself() -> Result<()> {
    let cases = [
        ("", LOSE, lost()),
        (
            "update audit.orders set status = 'CANCELLED' where order_id = 1",
            "",
            Breach {
                rule: "S5",
                subject: "order 1 of user 7 for 30.00".to_owned(),
                detail: "CANCELLED and debited with 30.00".to_owned(),
            },
        ),
        (
            "delete from audit.orders where order_id = 1",
            "",
            Breach {
                rule: "S6",
                subject: "order_uid 00000000-0000-7000-8000-000000000001".to_owned(),
                detail: "30.00 debited from user 7, no order".to_owned(),
            },
        ),
    ];
    for (in_orders, in_payments, breach) in cases {
        let system = System::correct().await?;
        let mut recent = Recent::default();
        assert_eq!(recent.look(&system.databases).await?, []);
        system.in_orders(in_orders).await?;
        system.in_payments(in_payments).await?;
        for _ in 0..2 {
            let found = recent.look(&system.databases).await?;
            assert_eq!(found.as_slice(), std::slice::from_ref(&breach));
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_order_that_was_open_for_long_is_looked_at_when_it_ends() -> Result<()> {
    let system = System::correct().await?;
    system
        .in_orders(
            "insert into audit.orders (order_id, order_uid, user_id, amount, status)
             values (4, uid(4), 7, 8.00, 'NEW');
             insert into audit.orders (order_id, order_uid, user_id, amount, status)
             select n, gen_random_uuid(), 9, 1.00, 'CANCELLED' from generate_series(5, 40000) n",
        )
        .await?;
    let mut recent = Recent::default();
    assert_eq!(recent.look(&system.databases).await?, []);
    system
        .in_orders("update audit.orders set status = 'FINISHED' where order_id = 4")
        .await?;
    let found = recent.look(&system.databases).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].subject, "order 4 of user 7 for 8.00");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traffic_gives_no_alarm() -> Result<()> {
    let system = Arc::new(System::correct().await?);
    system
        .in_orders("create index on audit.orders (order_id)")
        .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn(settle_orders(Arc::clone(&system), 1000, Arc::clone(&stop)));
    let mut watch = Watch::new(system.databases.clone());
    let mut recent = Recent::default();
    for _ in 0..8 {
        // The first suspicion would be wrong already, not only what it comes to.
        assert_eq!(recent.look(&system.databases).await?, []);
        let looked = watch.look().await;
        ensure!(looked.blind.is_none(), "{:?}", looked.blind);
        assert_eq!(looked.changes, []);
    }
    stop.store(true, Ordering::Relaxed);
    let settled = traffic.await??;
    assert!(settled >= 20, "{settled} orders settled meanwhile");
    Ok(())
}

#[tokio::test]
async fn a_database_that_is_away_is_told_and_what_was_known_stays_known() -> Result<()> {
    let system = System::correct().await?;
    let mut watch = Watch::new(system.databases.clone());
    system.in_payments(LOSE).await?;
    for _ in 0..2 {
        watch.look().await;
    }
    assert_eq!(watch.named("S4"), 1);
    system
        .in_payments("alter schema audit rename to away")
        .await?;
    let looked = watch.look().await;
    let why = looked.blind.unwrap_or_default();
    assert!(why.contains("payments database"), "{why}");
    assert_eq!((looked.changes, watch.named("S4")), (Vec::new(), 1));
    system
        .in_payments("alter schema away rename to audit")
        .await?;
    system.in_payments(BRING_BACK).await?;
    assert_eq!(next_changes(&mut watch).await?, [Change::Ended(lost())]);
    assert_eq!(watch.look().await.blind, None);
    Ok(())
}
