//! Accepting orders: many requests, one statement, one commit.

use std::collections::HashMap;
use std::time::Duration;

use chassis::coalesce::Ticket;
use chassis::database::{again, bounded};
use contracts::{MessageId, OrderId, OrderUid};
use postbox::Outbox;
use sqlx::PgPool;
use uuid::Uuid;

use crate::order::NewOrder;
use crate::{planted, store};

/// Most orders in one transaction.
pub(crate) const BATCH_MAX: usize = 256;
/// More rows than this waiting for the relay, and the writers slow down to its pace.
const BACKLOG_MAX: usize = 2_000;
/// But no longer than this: with the broker away orders are accepted all the same.
const BACKLOG_WAIT: Duration = Duration::from_millis(100);
/// How often, and how far apart, the truth is asked for after a commit without an answer.
const LOOK_UPS: u32 = 3;

/// What a client hears.
pub(crate) type Placed = Result<OrderId, sqlx::Error>;

/// Stores a batch and answers each of its requests with what is true of it.
pub(crate) async fn place_orders(
    pool: &PgPool,
    outbox: &Outbox,
    redrive_after: Duration,
    tickets: Vec<Ticket<NewOrder, Placed>>,
) {
    outbox.room(BACKLOG_MAX, BACKLOG_WAIT).await;
    postbox::moment("orders.taken");
    let orders: Vec<NewOrder> = tickets.iter().map(|ticket| ticket.item.clone()).collect();
    match bounded(again(|| store::insert_orders(pool, &orders, redrive_after))).await {
        Ok(mut stored) => {
            let apart = postbox::planted("the_event_apart_from_the_order");
            if apart {
                planted::take_the_events_out(pool, &stored).await.ok();
            }
            postbox::moment("orders.stored");
            if apart {
                planted::put_the_events_in(pool, &mut stored).await.ok();
            }
            let mut rows = Vec::with_capacity(stored.len());
            for ticket in tickets {
                // By identity, never by position: the answer must be this request's own.
                let uid = match postbox::planted("answered_by_position") {
                    true => stored.keys().next().copied(),
                    false => Some(ticket.item.order_uid),
                };
                let answer = uid
                    .and_then(|uid| stored.remove(&uid))
                    .map(|(order_id, row)| {
                        rows.push(row);
                        order_id
                    });
                ticket.answer(answer.ok_or(sqlx::Error::RowNotFound));
            }
            postbox::moment("orders.answered");
            outbox.hand_over(rows);
        }
        // Refused before the commit: nothing is stored. If one row is to blame, only its own
        // client hears so.
        Err(sqlx::Error::Database(error))
            if tickets.len() > 1 && !postbox::is_transient_code(error.code().as_deref()) =>
        {
            for ticket in tickets {
                Box::pin(place_orders(pool, outbox, redrive_after, vec![ticket])).await;
            }
        }
        Err(error @ sqlx::Error::Database(_)) => {
            let text = error.to_string();
            let mut error = Some(error);
            for ticket in tickets {
                ticket.answer(Err(error.take().unwrap_or_else(|| unavailable(&text))));
            }
        }
        // Nothing was sent to the database.
        Err(sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed) => {
            for ticket in tickets {
                ticket.answer(Err(sqlx::Error::PoolTimedOut));
            }
        }
        Err(_) if postbox::planted("stored_again_after_an_unknown_commit") => {
            let mut tickets = tickets;
            for ticket in &mut tickets {
                ticket.item.order_uid = OrderUid::new();
                ticket.item.message_id = MessageId::new();
            }
            Box::pin(place_orders(pool, outbox, redrive_after, tickets)).await;
        }
        // The connection went away: the commit may or may not have been applied.
        Err(error) => answer_by_look_up(pool, tickets, &error).await,
    }
}

/// Finds out what an unanswered commit did. Rows that it stored are due in the outbox and leave
/// by the poll.
async fn answer_by_look_up(
    pool: &PgPool,
    tickets: Vec<Ticket<NewOrder, Placed>>,
    error: &sqlx::Error,
) {
    tracing::warn!(
        orders = tickets.len(),
        "a commit got no answer ({error}); looking it up"
    );
    let uids: Vec<Uuid> = tickets
        .iter()
        .map(|ticket| ticket.item.order_uid.0)
        .collect();
    let mut stored: HashMap<OrderUid, OrderId> = HashMap::new();
    for _ in 0..LOOK_UPS {
        // Each try waits for a connection up to the pool's own limit.
        if let Ok(found) = bounded(store::find_by_uid(pool, &uids)).await {
            stored = found;
            break;
        }
    }
    for ticket in tickets {
        let answer = stored.get(&ticket.item.order_uid).copied();
        ticket.answer(answer.ok_or_else(|| unavailable("the commit got no answer")));
    }
}

fn unavailable(text: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, ensure};
    use chassis::database::Role;
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::store_tests::{AFTER, new_order, pool};

    #[tokio::test]
    async fn a_plan_that_a_migration_has_put_out_of_date_is_made_anew() -> Result<()> {
        let pool = pool(Role::Api).await?;
        let options = (*pool.connect_options()).clone();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await?;
        let store = async || store::insert_orders(&pool, &[new_order(1, "5.00")], AFTER).await;
        store().await?;
        sqlx::raw_sql("alter table outbox_messages alter column body type varchar")
            .execute(&pool)
            .await?;
        ensure!(store().await.is_err(), "there is nothing to show");
        ensure!(store().await?.len() == 1);
        Ok(())
    }
}
