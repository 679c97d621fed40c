//! What one scenario knows: its system, its customers and their orders, what was answered last, what runs beside it.
//!
//! Not here: steps.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use anyhow::{Context, ensure};
use contracts::Money;
use prover::Seen;
use prover::amqp::{AmqpError, Stolen};
use prover::client::{Answer, Client, Order, Outcome};
use prover::duplicator::Duplicator;
use sandbox::{Alarm, Sandbox};
use sqlx::PgConnection;
use tempfile::NamedTempFile;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use crate::parameters::Person;
use crate::rush::Rush;
use crate::stack::{Settings, Stack};
use crate::watcher::Watcher;

/// The servers of this run, while they are up.
static SANDBOX: RwLock<Option<Arc<Sandbox>>> = RwLock::new(None);

/// Gives the scenarios to come their servers, or takes them away; returns what was there before.
pub(crate) fn set_sandbox(sandbox: Option<Arc<Sandbox>>) -> Option<Arc<Sandbox>> {
    std::mem::replace(
        &mut *SANDBOX.write().unwrap_or_else(PoisonError::into_inner),
        sandbox,
    )
}

/// A server that a scenario has taken down and not brought back yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Down {
    /// The broker's process.
    pub(crate) broker: bool,
    /// The databases' process.
    pub(crate) databases: bool,
    /// The broker's process stands still.
    pub(crate) broker_frozen: bool,
    /// The databases' process stands still.
    pub(crate) databases_frozen: bool,
    /// Or led past the engine.
    pub(crate) databases_cut_off: bool,
    /// The alarm that is raised at the broker.
    pub(crate) alarm: Option<Alarm>,
    /// The broker waits for acknowledgements for seconds only; how often it had given a consumer up before.
    pub(crate) patience: Option<usize>,
}

/// An order as it was placed.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// By whom.
    pub(crate) user_id: i64,
    /// Its number.
    pub(crate) id: i64,
    /// For how much.
    pub(crate) amount: Money,
}

/// One scenario.
#[derive(Debug, cucumber::World)]
#[world(init = Self::new)]
pub(crate) struct World {
    sandbox: Arc<Sandbox>,
    /// To be changed before the system is prepared.
    pub(crate) settings: Settings,
    stack: Option<Stack>,
    people: BTreeMap<Person, i64>,
    /// Customers without a name.
    pub(crate) customers: Vec<i64>,
    /// In the order they were placed in.
    pub(crate) placed: Vec<Placed>,
    /// For the rules on lost and phantom orders.
    pub(crate) seen: Seen,
    /// What the last raw request was answered.
    pub(crate) answer: Option<Answer>,
    /// Orders that keep coming in meanwhile.
    pub(crate) rush: Option<Rush>,
    /// Customers who keep paying in meanwhile.
    pub(crate) crowd: Option<JoinSet<()>>,
    /// An order whose answer is waited for.
    pub(crate) waits: Option<JoinHandle<Outcome<Order>>>,
    /// Delivers every message twice meanwhile.
    pub(crate) duplicator: Option<Duplicator>,
    /// What must be up again before anything is judged.
    pub(crate) down: Down,
    /// The node of the broker that was lost last.
    pub(crate) lost_node: Option<usize>,
    /// Connections of clients that say nothing.
    pub(crate) silent: Vec<TcpStream>,
    /// Clients that never come to the end of a request.
    pub(crate) slow: JoinSet<()>,
    /// Whether an answer that was cut short was seen to be; else what was taken for it.
    pub(crate) cut_short: Option<Result<(), String>>,
    /// A stranger's connection to the broker.
    pub(crate) outsider: Option<lapin::Connection>,
    /// Takes messages away meanwhile.
    pub(crate) thief: Option<JoinHandle<Result<Vec<Stolen>, AmqpError>>>,
    /// The database session whose client does not go on.
    pub(crate) held_up: Option<i32>,
    /// When the databases could be written last.
    pub(crate) read_only_since: Option<Instant>,
    /// A session of somebody else that holds what the services need.
    pub(crate) stranger: Option<PgConnection>,
    /// Deadlocks that the scenario itself has made, in the database of Payments.
    pub(crate) deadlocks: i64,
    /// Of the requests that were put back, or of all orders, the id of the one in the middle.
    pub(crate) middle: Option<Uuid>,
    /// The parked message that an operator saw, as the list names it.
    pub(crate) parked: Option<String>,
    /// How two commands at once ended.
    pub(crate) exit_codes: [i32; 2],
    /// Looks at the books of both services meanwhile.
    pub(crate) watcher: Option<Watcher>,
    /// Says by how many seconds the clock of a service is wrong.
    pub(crate) clock: Option<NamedTempFile>,
}

impl World {
    fn new() -> anyhow::Result<Self> {
        let sandbox = SANDBOX
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(Self {
            sandbox: sandbox.context("the servers are not up")?,
            settings: Settings::default(),
            stack: None,
            people: BTreeMap::new(),
            customers: Vec::new(),
            placed: Vec::new(),
            seen: Seen::default(),
            answer: None,
            rush: None,
            crowd: None,
            waits: None,
            duplicator: None,
            down: Down::default(),
            lost_node: None,
            silent: Vec::new(),
            slow: JoinSet::new(),
            cut_short: None,
            outsider: None,
            thief: None,
            held_up: None,
            read_only_since: None,
            stranger: None,
            deadlocks: 0,
            middle: None,
            parked: None,
            exit_codes: [-1; 2],
            watcher: None,
            clock: None,
        })
    }

    /// What is other than usual about the system, to be said before it is prepared.
    ///
    /// # Errors
    /// If it is prepared already.
    pub(crate) fn settings_mut(&mut self) -> anyhow::Result<&mut Settings> {
        ensure!(
            self.stack.is_none(),
            "the system has other settings already"
        );
        Ok(&mut self.settings)
    }

    /// Makes this scenario's databases and virtual host, unless that was done before.
    ///
    /// # Errors
    /// If a server does not answer.
    pub(crate) async fn prepare(&mut self) -> anyhow::Result<&mut Stack> {
        if self.stack.is_none() {
            let stack = Stack::prepare(Arc::clone(&self.sandbox), self.settings.clone()).await?;
            self.stack = Some(stack);
        }
        self.stack_mut()
    }

    /// The system of this scenario.
    ///
    /// # Errors
    /// If no step has prepared it.
    pub(crate) fn stack(&self) -> anyhow::Result<&Stack> {
        self.stack
            .as_ref()
            .context("the scenario has no system yet")
    }

    /// As [`stack`](Self::stack), to be changed.
    ///
    /// # Errors
    /// As [`stack`](Self::stack).
    pub(crate) fn stack_mut(&mut self) -> anyhow::Result<&mut Stack> {
        self.stack
            .as_mut()
            .context("the scenario has no system yet")
    }

    /// Takes the system away, to remove it.
    pub(crate) fn take_stack(&mut self) -> Option<Stack> {
        self.stack.take()
    }

    /// A client of this scenario's gateway.
    ///
    /// # Errors
    /// As [`stack`](Self::stack).
    pub(crate) fn client(&self) -> anyhow::Result<&Client> {
        Ok(self.stack()?.client())
    }

    /// The user id of a person. No two scenarios have the same.
    pub(crate) fn user_id(&mut self, person: &Person) -> i64 {
        *self.people.entry(person.clone()).or_insert_with(new_user)
    }

    /// A customer without a name.
    pub(crate) fn new_customer(&mut self) -> i64 {
        let user_id = new_user();
        self.customers.push(user_id);
        user_id
    }

    /// Places an order through the gateway, and remembers it.
    ///
    /// # Errors
    /// If it is not accepted at once.
    pub(crate) async fn place_order(
        &mut self,
        user_id: i64,
        amount: Money,
    ) -> anyhow::Result<Order> {
        self.seen.invoked(user_id, amount);
        let outcome = self
            .client()?
            .place_order(user_id, &amount.to_string(), "acceptance")
            .await;
        let order = outcome.ok().context("the order was not accepted")?;
        self.remember(&order, amount);
        Ok(order)
    }

    /// Remembers an order that was accepted.
    pub(crate) fn remember(&mut self, order: &Order, amount: Money) {
        let (user_id, id) = (order.user_id, order.id);
        self.seen.acknowledged(id, user_id, amount);
        self.placed.push(Placed {
            user_id,
            id,
            amount,
        });
    }

    /// The order that a person placed last.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn last_order(&mut self, person: &Person) -> anyhow::Result<Placed> {
        let user_id = self.user_id(person);
        let last = self.placed.iter().rfind(|placed| placed.user_id == user_id);
        last.cloned()
            .with_context(|| format!("{} has not ordered anything", person.0))
    }

    /// Brings back all that this scenario took down, cut or froze: the scenarios to come need the shared servers.
    ///
    /// # Errors
    /// If one does not come back.
    pub(crate) async fn restore_servers(&mut self) -> anyhow::Result<()> {
        if let Some(stack) = &self.stack {
            stack.heal();
        }
        self.sandbox.rabbitmq.link().heal();
        self.sandbox.postgres.link().heal();
        let (down, sandbox) = (&mut self.down, &self.sandbox);
        // Each is forgotten only when it is done: what fails here is tried once more by the end of the scenario.
        if down.broker_frozen {
            sandbox.rabbitmq.thaw().await?;
            down.broker_frozen = false;
        }
        if down.databases_frozen {
            sandbox.postgres.thaw().await?;
            down.databases_frozen = false;
        }
        if down.databases_cut_off {
            sandbox.postgres.rejoin().await?;
            down.databases_cut_off = false;
        }
        if down.broker {
            sandbox.rabbitmq.start().await?;
            down.broker = false;
        }
        if let Some(alarm) = down.alarm {
            sandbox.rabbitmq.end_alarm(alarm).await?;
            down.alarm = None;
        }
        if down.patience.is_some() {
            sandbox.rabbitmq.set_patience(None).await?;
            down.patience = None;
        }
        if down.databases {
            sandbox.postgres.start().await?;
            down.databases = false;
        }
        Ok(())
    }
}

fn new_user() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(1001);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
