//! Many requests, one batch: what waits while a batch is at work forms the next one, so nobody
//! lingers for company and a busy service does few, large transactions.
//!
//! The queue is bounded and refuses what is beyond. What a batch means is the handler's business.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;

/// Why an item got no answer. The client may try again: 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full; nothing happened.
    #[error("too many requests are waiting")]
    Full,
    /// The service is stopping; nothing happened.
    #[error("the service is stopping")]
    Closed,
    /// The batch ended without an answer; what happened is unknown.
    #[error("the batch ended without an answer")]
    Lost,
}

impl From<Refused> for ApiError {
    fn from(_: Refused) -> Self {
        ApiError::unavailable()
    }
}

/// A bounded queue of items that are answered in batches. Clones share the queue.
#[derive(Debug)]
pub struct Coalesce<I, O> {
    sender: mpsc::Sender<Ticket<I, O>>,
    receiver: Arc<Mutex<mpsc::Receiver<Ticket<I, O>>>>,
}

impl<I, O> Clone for Coalesce<I, O> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            receiver: Arc::clone(&self.receiver),
        }
    }
}

/// One item of a batch, to be answered. Dropping it answers [`Refused::Lost`].
#[derive(Debug)]
pub struct Ticket<I, O> {
    /// What was submitted.
    pub item: I,
    answer: oneshot::Sender<O>,
}

impl<I, O> Ticket<I, O> {
    /// Answers the one who submitted the item. One who has left meanwhile is no fault.
    pub fn answer(self, output: O) {
        drop(self.answer.send(output));
    }

    /// Takes the ticket apart: the item by itself, and the answer still owed.
    pub fn split(self) -> (I, Ticket<(), O>) {
        let owed = Ticket {
            item: (),
            answer: self.answer,
        };
        (self.item, owed)
    }
}

impl<I, O> Coalesce<I, O> {
    /// A queue for at most `queue` waiting items.
    ///
    /// # Panics
    /// If `queue` is zero.
    pub fn new(queue: usize) -> Self {
        let (sender, receiver) = mpsc::channel(queue);
        Self {
            sender,
            receiver: Arc::new(Mutex::new(receiver)),
        }
    }

    /// Puts an item into the next batch and waits for its answer. An item once taken is worked on
    /// even when the caller leaves.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn submit(&self, item: I) -> Result<O, Refused> {
        let (answer, answered) = oneshot::channel();
        self.sender
            .try_send(Ticket { item, answer })
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Refused::Full,
                mpsc::error::TrySendError::Closed(_) => Refused::Closed,
            })?;
        answered.await.map_err(|_| Refused::Lost)
    }

    /// How many items wait for a batch.
    pub fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// The loop for a supervised task: takes what is there, at most `batch_max` items, and hands
    /// it to `handler`, which answers each ticket. Several workers may share one queue.
    ///
    /// On `shutdown` the queue takes nothing more, is worked off, and the loop returns.
    pub async fn work<F, Fut>(&self, batch_max: usize, shutdown: CancellationToken, handler: F)
    where
        F: Fn(Vec<Ticket<I, O>>) -> Fut,
        Fut: Future<Output = ()>,
    {
        loop {
            let batch = self.take(batch_max.max(1), &shutdown).await;
            if batch.is_empty() {
                return;
            }
            handler(batch).await;
        }
    }

    /// The next batch; empty only when the queue is closed and worked off.
    async fn take(&self, batch_max: usize, shutdown: &CancellationToken) -> Vec<Ticket<I, O>> {
        let mut batch = Vec::new();
        // Held only while taking, so that another worker can fill its batch during the work.
        let mut receiver = self.receiver.lock().await;
        let in_time = shutdown
            .run_until_cancelled(receiver.recv_many(&mut batch, batch_max))
            .await;
        if in_time.is_none() {
            receiver.close();
            receiver.recv_many(&mut batch, batch_max).await;
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    async fn double(batch: Vec<Ticket<u32, u32>>) {
        for ticket in batch {
            let answer = ticket.item * 2;
            ticket.answer(answer);
        }
    }

    /// Puts items into the queue and gives what they wait for, each already waiting.
    async fn submit_all(
        coalesce: &Coalesce<u32, u32>,
        items: std::ops::Range<u32>,
    ) -> Vec<tokio::task::JoinHandle<Result<u32, Refused>>> {
        let mut waiting = Vec::new();
        for item in items {
            let coalesce = coalesce.clone();
            waiting.push(tokio::spawn(async move { coalesce.submit(item).await }));
        }
        tokio::task::yield_now().await;
        waiting
    }

    #[tokio::test]
    async fn what_waits_together_is_one_batch_and_everybody_gets_his_own_answer() {
        let coalesce = Coalesce::new(100);
        let waiting = submit_all(&coalesce, 0..10).await;
        assert_eq!(coalesce.waiting(), 10);
        let shutdown = CancellationToken::new();
        let batches = Arc::new(AtomicUsize::new(0));
        let worker = tokio::spawn({
            let (coalesce, shutdown) = (coalesce.clone(), shutdown.clone());
            let batches = Arc::clone(&batches);
            async move {
                coalesce
                    .work(8, shutdown, |batch| {
                        batches.fetch_add(1, Ordering::SeqCst);
                        double(batch)
                    })
                    .await;
            }
        });
        for (item, answer) in (0..).zip(waiting) {
            assert_eq!(answer.await.expect("no panic"), Ok(item * 2));
        }
        assert_eq!(batches.load(Ordering::SeqCst), 2, "eight and two");
        shutdown.cancel();
        worker.await.expect("returns after shutdown");
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let coalesce = Coalesce::<u32, u32>::new(1);
        let waiting = submit_all(&coalesce, 0..1).await;
        assert_eq!(coalesce.submit(1).await, Err(Refused::Full));
        drop(waiting);
    }

    #[tokio::test]
    async fn shutdown_works_the_queue_off_and_then_refuses() {
        let coalesce = Coalesce::new(100);
        let waiting = submit_all(&coalesce, 0..5).await;
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        coalesce.work(2, shutdown, double).await;
        for (item, answer) in (0..).zip(waiting) {
            assert_eq!(answer.await.expect("no panic"), Ok(item * 2));
        }
        assert_eq!(coalesce.submit(1).await, Err(Refused::Closed));
    }

    #[tokio::test]
    async fn a_dropped_ticket_is_told_as_lost() {
        let coalesce = Coalesce::<u32, u32>::new(10);
        let waiting = submit_all(&coalesce, 0..1).await;
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        coalesce
            .work(10, shutdown, |batch| async move { drop(batch) })
            .await;
        for answer in waiting {
            assert_eq!(answer.await.expect("no panic"), Err(Refused::Lost));
        }
    }

    #[tokio::test]
    async fn two_workers_share_one_queue() {
        let coalesce = Coalesce::<u32, u32>::new(10);
        let shutdown = CancellationToken::new();
        // Both handlers must be inside at once, or the barrier never opens.
        let barrier = Arc::new(tokio::sync::Barrier::new(2));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (coalesce, shutdown) = (coalesce.clone(), shutdown.clone());
                let barrier = Arc::clone(&barrier);
                tokio::spawn(async move {
                    coalesce
                        .work(1, shutdown, |batch| {
                            let barrier = Arc::clone(&barrier);
                            async move {
                                barrier.wait().await;
                                double(batch).await;
                            }
                        })
                        .await;
                })
            })
            .collect();
        for answer in submit_all(&coalesce, 0..2).await {
            answer.await.expect("no panic").expect("is answered");
        }
        shutdown.cancel();
        for worker in workers {
            worker.await.expect("returns after shutdown");
        }
    }
}
