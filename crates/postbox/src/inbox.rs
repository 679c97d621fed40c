//! Taking a batch in: one transaction holds the inbox rows, the handler's effect, its answers'
//! outbox rows and what is parked. Only its commit yields what an acknowledgement needs.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::Future;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::attempts;
use crate::failpoints::{moment, planted};
use crate::fault;
use crate::message::{Envelope, OutboxRow};
use crate::parked::{self, ParkReason, Parked, Unreadable};

/// A message of a batch, in delivery order.
#[derive(Clone, Debug)]
pub struct Incoming<M> {
    /// AMQP `message_id`.
    pub message_id: Uuid,
    /// Business key.
    pub key: Uuid,
    /// What the handler made of the body.
    pub message: M,
    /// False if this `message_id` was taken in before, or stands earlier in this batch.
    pub first_time: bool,
    /// Of the sender's cause; to be handed on with an answer.
    pub traceparent: Option<String>,
    /// Of the sender's cause; to be handed on with an answer.
    pub request_id: Option<String>,
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its effect is in the transaction.
    Applied,
    /// Its effect was there already.
    Duplicate,
    /// Cannot be applied as things are.
    Park(Unreadable),
}

/// What became of a batch: a verdict for each message, in the same order, and the answers that
/// were appended to the outbox.
#[derive(Debug)]
pub struct Handled {
    /// One for each message.
    pub verdicts: Vec<Verdict>,
    /// Handed to the relay after the commit.
    pub answers: Vec<OutboxRow>,
}

/// Why a batch could not be handled; its transaction is rolled back.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The database's error: waited out if it passes by itself, else the messages are tried one
    /// by one.
    #[error("cannot apply a batch")]
    Store(#[from] sqlx::Error),
    /// The handler's own doubt: a row count that does not fit, a broken rule.
    #[error("a batch breaks a rule: {0}")]
    Broken(String),
}

/// What a service does with the messages of its queue.
pub trait Handler: Send + Sync + 'static {
    /// A body, read.
    type Message: Clone + Send + Sync + 'static;

    /// Reads a body as from a stranger and names its business key. Called before any
    /// transaction is open.
    ///
    /// # Errors
    /// Why the message is to be parked.
    fn read(&self, envelope: &Envelope<'_>) -> Result<(Uuid, Self::Message), Unreadable>;

    /// Applies a batch inside the open transaction, in delivery order. Duplicates are among the
    /// messages: they may need an answer again. Called again with the same batch after a
    /// failure, each time in a new transaction.
    fn handle(
        &self,
        transaction: &mut PgConnection,
        batch: &[Incoming<Self::Message>],
    ) -> impl Future<Output = Result<Handled, HandleError>> + Send;

    /// Called after the commit with the messages that were applied: to wake those who wait.
    fn committed(&self, _applied: &[Incoming<Self::Message>]) {}
}

/// Proof that everything up to a delivery tag is committed, parked ones included.
#[derive(Debug)]
pub struct Committed {
    pub(crate) last_tag: u64,
}

/// A delivery, read or to be parked.
pub(crate) struct Read<M> {
    pub(crate) raw: Parked,
    pub(crate) message: Option<Incoming<M>>,
}

/// Outcome of a batch's transaction.
pub(crate) struct Taken<M> {
    pub(crate) committed: Committed,
    pub(crate) answers: Vec<OutboxRow>,
    pub(crate) applied: Vec<Incoming<M>>,
    pub(crate) duplicates: usize,
}

/// Takes a batch in: begin to commit on one screen. `alone` is the identity under which a try
/// of its only message was counted.
pub(crate) async fn take_in<H: Handler>(
    pool: &PgPool,
    handler: &H,
    queue: &str,
    reads: &[Read<H::Message>],
    last_tag: u64,
    alone: Option<&str>,
) -> Result<Taken<H::Message>, HandleError> {
    let mut parked: Vec<Parked> = reads
        .iter()
        .filter(|read| read.message.is_none())
        .map(|read| read.raw.clone())
        .collect();
    let mut batch: Vec<(&Parked, Incoming<H::Message>)> = reads
        .iter()
        .filter_map(|read| Some((&read.raw, read.message.clone()?)))
        .collect();

    let mut transaction = pool.begin().await?;
    moment("consumer.begun");
    let relatives_parked = mark_first_times(&mut transaction, queue, &mut batch).await?;
    if planted("the_inbox_apart_from_the_effect") {
        transaction.commit().await?;
        transaction = pool.begin().await?;
    }
    moment("consumer.marked");
    if planted("the_inbox_apart_from_the_effect")
        || planted("duplicates_are_not_answered")
        || planted("parking_is_processing")
    {
        batch.retain(|(_, message)| message.first_time);
    }
    parked.extend(remove_impostors(&mut transaction, &mut batch).await?);
    let (raws, mut batch): (Vec<&Parked>, Vec<Incoming<H::Message>>) = batch.into_iter().unzip();
    let handled = if batch.is_empty() {
        Handled {
            verdicts: Vec::new(),
            answers: Vec::new(),
        }
    } else {
        match handler.handle(&mut transaction, &batch).await {
            Ok(handled) => handled,
            Err(error) => {
                if let HandleError::Store(error) = &error {
                    fault::forget_stale_plans(&mut transaction, error).await;
                }
                return Err(error);
            }
        }
    };
    if handled.verdicts.len() != batch.len() {
        return Err(HandleError::Broken("one verdict for each message".into()));
    }
    let mut corrections = Corrections::default();
    for ((incoming, raw), verdict) in batch.iter().zip(raws).zip(&handled.verdicts) {
        match verdict {
            Verdict::Applied => {}
            Verdict::Duplicate => corrections.known(incoming),
            Verdict::Park(why) => {
                corrections.parked(incoming);
                parked.push(Parked {
                    why: why.clone(),
                    ..raw.clone()
                });
            }
        }
    }
    corrections.write(&mut transaction).await?;
    if relatives_parked {
        let (mut applied, mut known) = (parked::Settled::default(), parked::Settled::default());
        for (incoming, verdict) in batch.iter().zip(&handled.verdicts) {
            match verdict {
                Verdict::Applied => applied.push(incoming.message_id, incoming.key),
                Verdict::Duplicate => known.push(incoming.message_id, incoming.key),
                Verdict::Park(_) => {}
            }
        }
        parked::close(&mut transaction, queue, &applied, &known).await?;
    }
    let mut verdicts = handled.verdicts.iter();
    batch.retain(|_| verdicts.next() == Some(&Verdict::Applied));
    parked::park(&mut transaction, queue, parked).await?;
    if let Some(identity) = alone {
        attempts::forget(&mut transaction, queue, identity).await?;
    }
    moment("consumer.handled");
    transaction.commit().await?;
    moment("consumer.committed");

    let duplicates = handled
        .verdicts
        .iter()
        .filter(|v| **v == Verdict::Duplicate)
        .count();
    Ok(Taken {
        committed: Committed { last_tag },
        answers: handled.answers,
        applied: batch,
        duplicates,
    })
}

/// Inserts the inbox rows, sorted: two consumers with the same messages in opposite order would
/// else wait for each other. A copy in another transaction is waited for here.
///
/// Returns whether anything is parked under one of these ids or about one of these keys: asked
/// in the same statement, so that a batch without such relatives costs no further one.
async fn mark_first_times<M>(
    transaction: &mut PgConnection,
    queue: &str,
    batch: &mut [(&Parked, Incoming<M>)],
) -> Result<bool, sqlx::Error> {
    if batch.is_empty() {
        return Ok(false);
    }
    let mut ids: Vec<(Uuid, Uuid)> = batch.iter().map(|(_, m)| (m.message_id, m.key)).collect();
    // Stable, so that of two copies in this batch the first one's key stays.
    if !planted("inserts_in_no_order") {
        ids.sort_by_key(|(message_id, _)| *message_id);
    }
    ids.dedup_by_key(|(message_id, _)| *message_id);
    let (message_ids, keys): (Vec<Uuid>, Vec<Uuid>) = ids.into_iter().unzip();
    let rows = sqlx::query_scalar!(
        r#"
        with new as (
            insert into inbox_messages (message_id, key, outcome)
            select message_id, key, 'applied'
              from unnest($1::uuid[], $2::uuid[]) as m (message_id, key)
                on conflict (message_id) do nothing
            returning message_id
        )
        select message_id from new
         union all
        select null
         where exists (
               select from parked_messages
                where queue = $3 and state in ('open', 'replayed')
                  and identity = any ($1::uuid[]::text[]))
            or exists (
               select from parked_messages
                where state in ('open', 'replayed') and key = any ($2))
        "#,
        &message_ids,
        &keys,
        queue,
    )
    .fetch_all(&mut *transaction)
    .await;
    let rows = fault::minding_plans(transaction, rows).await?;
    let relatives_parked = rows.contains(&None);
    let mut new: HashSet<Uuid> = rows.into_iter().flatten().collect();
    for (_, message) in batch {
        // Removed, so that a second copy in this batch is not the first time again.
        message.first_time = new.remove(&message.message_id);
    }
    Ok(relatives_parked)
}

/// Takes out what came under the `message_id` of another message, about something else: the
/// first one's effect stands. Asked only where a batch holds something that is not new.
async fn remove_impostors<M>(
    transaction: &mut PgConnection,
    batch: &mut Vec<(&Parked, Incoming<M>)>,
) -> Result<Vec<Parked>, sqlx::Error> {
    let known: Vec<Uuid> = batch
        .iter()
        .filter(|(_, message)| !message.first_time)
        .map(|(_, message)| message.message_id)
        .collect();
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let keys: HashMap<Uuid, Uuid> = sqlx::query!(
        "select message_id, key from inbox_messages where message_id = any ($1)",
        &known,
    )
    .fetch_all(transaction)
    .await?
    .into_iter()
    .map(|row| (row.message_id, row.key))
    .collect();
    let mut impostors = Vec::new();
    batch.retain(|(raw, message)| {
        let known = keys.get(&message.message_id);
        let genuine = known.is_none_or(|key| *key == message.key);
        if !genuine {
            let detail = "its message_id is that of a message about something else";
            impostors.push(Parked {
                why: Unreadable::new(ParkReason::Conflict, detail),
                ..(*raw).clone()
            });
        }
        genuine
    });
    Ok(impostors)
}

/// What the inbox rows of this batch must say otherwise than 'applied'.
#[derive(Default)]
struct Corrections {
    known: Vec<Uuid>,
    parked: Vec<Uuid>,
}

impl Corrections {
    fn known<M>(&mut self, incoming: &Incoming<M>) {
        if incoming.first_time {
            self.known.push(incoming.message_id);
        }
    }

    fn parked<M>(&mut self, incoming: &Incoming<M>) {
        if incoming.first_time {
            self.parked.push(incoming.message_id);
        }
    }

    async fn write(self, transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
        if !self.known.is_empty() {
            sqlx::query!(
                "update inbox_messages set outcome = 'duplicate' where message_id = any ($1)",
                &self.known,
            )
            .execute(&mut *transaction)
            .await?;
        }
        if !self.parked.is_empty() && !planted("parking_is_processing") {
            sqlx::query!(
                "delete from inbox_messages where message_id = any ($1)",
                &self.parked,
            )
            .execute(transaction)
            .await?;
        }
        Ok(())
    }
}

impl HandleError {
    /// Whether waiting may help, see [`fault::is_transient`].
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if fault::is_transient(error))
    }

    /// Whether a few tries may help, see [`fault::is_collision`].
    pub(crate) fn is_collision(&self) -> bool {
        matches!(self, Self::Store(error) if fault::is_collision(error))
    }

    /// Why the message is parked after its last try.
    pub(crate) fn exhausted(&self) -> Unreadable {
        let mut detail = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            detail = format!("{detail}: {error}");
            source = error.source();
        }
        Unreadable::new(ParkReason::Attempts, detail)
    }
}
