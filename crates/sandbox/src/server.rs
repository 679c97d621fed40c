//! What every backend can do to a server, and the rules around it: what may follow what, and that it bit.
//!
//! Not here: what PostgreSQL or RabbitMQ is, and how a backend does it.

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::BoxFuture;

/// How long a server may take to answer. Generous: a busy machine doubles every time, and nothing is measured here.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(120);

/// Where a server listens, without a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) main: SocketAddr,
    /// RabbitMQ's management API.
    pub(crate) management: Option<SocketAddr>,
}

impl Ports {
    pub(crate) fn local(main: u16, management: Option<u16>) -> Self {
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            main: address(main),
            management: management.map(address),
        }
    }
}

/// A server of one backend. The calls do what they say and wait for it; [`Lifecycle`] decides which is allowed.
pub(crate) trait Server: Debug + Send + Sync {
    /// Starts it on the data that it has, and says where. Does not wait until it answers.
    fn start(&self) -> BoxFuture<'_, anyhow::Result<Ports>>;
    /// Ends it as an operator would, within 60 s.
    fn stop(&self) -> BoxFuture<'_, anyhow::Result<()>>;
    /// Ends it as a loss of power would.
    fn kill(&self) -> BoxFuture<'_, anyhow::Result<()>>;
    /// Holds it: connections stay open and nothing answers.
    fn freeze(&self) -> BoxFuture<'_, anyhow::Result<()>>;
    /// Lets a held one go on.
    fn thaw(&self) -> BoxFuture<'_, anyhow::Result<()>>;
    /// Where it listens on its network, with nobody in between who could say good-bye for it.
    fn own_address(&self) -> BoxFuture<'_, anyhow::Result<SocketAddr>> {
        async { bail!("this server has no network of its own") }.boxed()
    }
    /// Takes it off its network.
    fn cut_off(&self) -> BoxFuture<'_, anyhow::Result<()>> {
        async { bail!("this server has no network of its own") }.boxed()
    }
    /// Puts it back, and says where it listens now.
    fn rejoin(&self) -> BoxFuture<'_, anyhow::Result<Ports>> {
        async { bail!("this server has no network of its own") }.boxed()
    }
    /// Runs the server's own tool of control with these arguments, and returns when it is done.
    fn control<'a>(&'a self, _arguments: &'a [&'a str]) -> BoxFuture<'a, anyhow::Result<()>> {
        async { bail!("this server has no tool of control here") }.boxed()
    }
    /// Whether it still runs; a server that has ended will not come up any more.
    fn is_alive(&self) -> BoxFuture<'_, bool>;
    /// Whether it may be started, stopped and harmed.
    fn is_ours(&self) -> bool {
        true
    }
    /// All that it has written to its log so far.
    fn log(&self) -> anyhow::Result<String>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Down,
    Running,
    Frozen,
    CutOff,
}

/// A server and what was last done to it. One call at a time.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    server: Box<dyn Server>,
    state: tokio::sync::Mutex<State>,
    ports: Mutex<Ports>,
}

impl Lifecycle {
    /// Starts the server for the first time.
    pub(crate) async fn start_new(server: Box<dyn Server>) -> anyhow::Result<Self> {
        let ports = server.start().await?;
        Ok(Self {
            server,
            state: tokio::sync::Mutex::new(State::Running),
            ports: Mutex::new(ports),
        })
    }

    pub(crate) fn ports(&self) -> Ports {
        *lock(&self.ports)
    }

    pub(crate) async fn start(&self) -> anyhow::Result<Ports> {
        let mut state = self.expect(&[State::Down]).await?;
        let ports = self.server.start().await?;
        *lock(&self.ports) = ports;
        *state = State::Running;
        Ok(ports)
    }

    pub(crate) async fn kill(&self) -> anyhow::Result<()> {
        let mut state = self.expect(&[State::Running, State::Frozen]).await?;
        self.server.kill().await?;
        *state = State::Down;
        self.refuses().await
    }

    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let mut state = self.expect(&[State::Running]).await?;
        self.server.stop().await?;
        *state = State::Down;
        self.refuses().await
    }

    pub(crate) async fn freeze(&self) -> anyhow::Result<()> {
        let mut state = self.expect(&[State::Running]).await?;
        self.server.freeze().await?;
        *state = State::Frozen;
        Ok(())
    }

    /// From within, so that no network is needed.
    pub(crate) async fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let _running = self.expect(&[State::Running, State::CutOff]).await?;
        self.server.control(arguments).await
    }

    pub(crate) async fn thaw(&self) -> anyhow::Result<()> {
        let mut state = self.expect(&[State::Frozen]).await?;
        self.server.thaw().await?;
        *state = State::Running;
        Ok(())
    }

    pub(crate) async fn own_address(&self) -> anyhow::Result<SocketAddr> {
        let _running = self.expect(&[State::Running]).await?;
        self.server.own_address().await
    }

    pub(crate) async fn cut_off(&self) -> anyhow::Result<()> {
        let mut state = self.expect(&[State::Running]).await?;
        // Also if it fails half-way: to put it back does no harm where it is.
        *state = State::CutOff;
        self.server.cut_off().await
    }

    pub(crate) async fn rejoin(&self) -> anyhow::Result<Ports> {
        let mut state = self.expect(&[State::CutOff]).await?;
        let ports = self.server.rejoin().await?;
        *lock(&self.ports) = ports;
        *state = State::Running;
        Ok(ports)
    }

    /// What was last done to it.
    pub(crate) async fn state(&self) -> State {
        *self.state.lock().await
    }

    /// For the end of the sandbox: whatever state it is in, stopped after.
    pub(crate) async fn wind_up(&self) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        if *state == State::Frozen {
            self.server.thaw().await?;
            *state = State::Running;
        }
        let runs = matches!(*state, State::Running | State::CutOff);
        if runs && self.server.is_ours() && self.server.is_alive().await {
            self.server.stop().await?;
        }
        *state = State::Down;
        Ok(())
    }

    pub(crate) fn log(&self) -> anyhow::Result<String> {
        self.server.log()
    }

    /// Asks until `answer` gives a value.
    ///
    /// # Errors
    /// If the server ends before that, or does not answer in time; with the last of its log.
    pub(crate) async fn first_answer<T, F>(&self, answer: impl Fn() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let begin = Instant::now();
        loop {
            let refusal = match answer().await {
                Ok(value) => return Ok(value),
                Err(refusal) => refusal,
            };
            if !self.server.is_alive().await {
                bail!("the server ended while it started\n{}", self.last_lines());
            }
            if begin.elapsed() > START_PATIENCE {
                let patience = START_PATIENCE.as_secs();
                return Err(refusal).with_context(|| {
                    format!(
                        "the server did not answer within {patience} s\n{}",
                        self.last_lines()
                    )
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_lines(&self) -> String {
        last_lines(&self.log().unwrap_or_default())
    }

    async fn expect(
        &self,
        allowed: &[State],
    ) -> anyhow::Result<tokio::sync::MutexGuard<'_, State>> {
        let state = self.state.lock().await;
        if !allowed.contains(&state) {
            bail!(
                "the server is {:?} and must be {allowed:?} for this",
                *state
            );
        }
        Ok(state)
    }

    async fn refuses(&self) -> anyhow::Result<()> {
        let address = self.ports().main;
        // A connect on loopback is answered at once, whether someone listens or not.
        eventually(Duration::from_secs(10), "the port refuses", || {
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err())
        })
        .await
    }
}

/// Asks every 10 ms until `condition` is true.
///
/// # Errors
/// Of the condition, or that `what` was not seen within `patience`.
pub(crate) async fn eventually(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !condition()? {
        if begin.elapsed() > patience {
            bail!("not seen within {patience:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The end of a log, for an error's text.
pub(crate) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A lock whose holder panicked still holds plain values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
