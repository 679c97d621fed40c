//! A service's post office as a whole: one description, from which its relay and its consumer
//! are made.

use std::sync::Arc;

use sqlx::PgPool;

use crate::config::{BrokerConfig, ConsumerConfig, RelayConfig};
use crate::consumer::Consumer;
use crate::dead_letters::DeadLetters;
use crate::hand_over::Outbox;
use crate::relay::Relay;
use crate::status::TaskStatus;
use crate::topology::Topology;

/// What a relay and a consumer of one service share.
#[derive(Clone, Debug)]
pub struct Office {
    /// AMQP `app_id`, and part of the connections' names.
    pub app_id: &'static str,
    /// What is read and where is sent to.
    pub topology: Topology,
    /// Which broker.
    pub broker: BrokerConfig,
    /// Where committed rows are handed over.
    pub outbox: Outbox,
}

impl Office {
    /// The relay, on a pool of its own.
    #[must_use]
    pub fn relay(&self, pool: PgPool, config: RelayConfig) -> Relay {
        Relay {
            pool,
            outbox: self.outbox.clone(),
            broker: self.broker.clone(),
            topology: self.topology,
            config,
            app_id: self.app_id,
            status: TaskStatus::default(),
        }
    }

    /// The consumer, on a pool of its own.
    #[must_use]
    pub fn consumer<H>(&self, pool: PgPool, config: ConsumerConfig, handler: H) -> Consumer<H> {
        Consumer {
            pool,
            outbox: self.outbox.clone(),
            broker: self.broker.clone(),
            topology: self.topology,
            config,
            handler: Arc::new(handler),
            app_id: self.app_id,
            status: TaskStatus::default(),
            dead_letters: DeadLetters::default(),
        }
    }
}
