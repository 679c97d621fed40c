//! Judging and waiting while the system moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::planted::System;
use anyhow::Result;
use prover::{At, judge, quiescence};
use sqlx::{Connection, Executor, PgConnection};

/// Places orders and settles them, one after the other, each step in its own transaction, as the
/// real services do.
pub(crate) async fn settle_orders(
    system: Arc<System>,
    first: i32,
    stop: Arc<AtomicBool>,
) -> Result<i32> {
    let mut orders = PgConnection::connect(&system.orders_url).await?;
    let mut payments = PgConnection::connect(&system.payments_url).await?;
    let mut order = first;
    while !stop.load(Ordering::Relaxed) {
        orders
            .execute(
                sqlx::query(
                    "with placed as (insert into audit.orders (order_id, order_uid, user_id, amount, status)
                                     values ($1, uid($1), 7, 0.01, 'NEW'))
                     insert into audit.outbox values (uid($1), uid($1), true, false, 1)",
                )
                .bind(order),
            )
            .await?;
        payments
            .execute(
                sqlx::query(
                    "with paid as (update audit.accounts set balance = balance - 0.01 where user_id = 7),
                          decided as (insert into audit.payments (order_uid, order_id, user_id, amount, outcome)
                                      values (uid($1), $1, 7, 0.01, 'paid'))
                     insert into audit.ledger (entry_id, user_id, kind, amount, order_uid)
                     values ($1, 7, 'charge', -0.01, uid($1))",
                )
                .bind(order),
            )
            .await?;
        orders
            .execute(
                sqlx::query("update audit.orders set status = 'FINISHED' where order_id = $1")
                    .bind(order),
            )
            .await?;
        order += 1;
    }
    Ok(order - first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_traffic_gives_no_false_alarm() -> Result<()> {
    let system = Arc::new(System::correct().await?);
    system
        .in_orders("create index on audit.orders (order_id)")
        .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn(settle_orders(Arc::clone(&system), 1000, Arc::clone(&stop)));
    for _ in 0..8 {
        let report = judge(&system.databases, At::Live, None).await?;
        assert!(report.holds(), "{}", report.to_table());
    }
    stop.store(true, Ordering::Relaxed);
    let settled = traffic.await??;
    assert!(settled >= 20, "{settled} orders settled meanwhile");
    Ok(())
}

#[tokio::test]
async fn rest_is_waited_for_and_what_is_missing_is_told() -> Result<()> {
    let system = System::correct().await?;
    quiescence::until_at_rest(&system.databases, Duration::from_secs(10)).await?;

    system
        .in_orders("update audit.orders set status = 'NEW' where order_id = 2")
        .await?;
    system
        .in_payments("update audit.outbox set sent = false")
        .await?;
    let error = quiescence::until_at_rest(&system.databases, Duration::from_secs(3))
        .await
        .expect_err("an order is open");
    assert_eq!(
        error.last,
        "1 orders open (the oldest is 2), 0 messages unsent by orders, 3 by payments, 0 parked"
    );

    let comes_to_rest = async {
        system
            .in_orders("update audit.orders set status = 'CANCELLED' where order_id = 2")
            .await?;
        system
            .in_payments("update audit.outbox set sent = true")
            .await
    };
    let (waited, changed) = tokio::join!(
        quiescence::until_at_rest(&system.databases, Duration::from_secs(10)),
        comes_to_rest
    );
    changed?;
    waited?;
    Ok(())
}
