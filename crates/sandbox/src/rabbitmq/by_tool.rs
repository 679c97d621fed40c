//! What nobody but the server's own tool, `rabbitmqctl`, can do to it.
//!
//! Not here: what the management API can do.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Rabbitmq, ask};

/// What a broker can have too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Memory.
    Memory,
    /// Free disk.
    Disk,
}

/// Default of `consumer_timeout`.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Default of `channel_tick_interval`, the time between two looks at what is not acknowledged.
const LOOKS_EVERY: Duration = Duration::from_secs(60);

impl Rabbitmq {
    /// Raises an alarm, which blocks every connection that publishes; returns when the broker says that it is raised.
    ///
    /// # Errors
    /// If the broker does not run, is given, or does not raise it.
    pub async fn raise_alarm(&self, alarm: Alarm) -> anyhow::Result<()> {
        let limit = match alarm {
            Alarm::Memory => "0.00001",
            Alarm::Disk => "900000GB",
        };
        self.set_limit(alarm, limit, true).await
    }

    /// Ends the alarm.
    ///
    /// # Errors
    /// As [`raise_alarm`](Self::raise_alarm).
    pub async fn end_alarm(&self, alarm: Alarm) -> anyhow::Result<()> {
        let limit = match alarm {
            Alarm::Memory => "0.4",
            // As in `COMMON_CONFIG`.
            Alarm::Disk => "50MB",
        };
        self.set_limit(alarm, limit, false).await
    }

    async fn set_limit(&self, alarm: Alarm, limit: &str, raised: bool) -> anyhow::Result<()> {
        let (command, key) = match alarm {
            Alarm::Memory => ("set_vm_memory_high_watermark", "mem_alarm"),
            Alarm::Disk => ("set_disk_free_limit", "disk_free_alarm"),
        };
        let done = self.lifecycle.control(&[command, limit]).await;
        done.with_context(|| format!("cannot {command}"))?;
        let ask = || async move {
            let nodes = self.management("GET", "/api/nodes", None).await?;
            let alarm = nodes[0][key].as_bool();
            ensure!(alarm == Some(raised), "the alarm is {alarm:?}");
            Ok(())
        };
        self.lifecycle.first_answer(ask).await
    }

    /// Takes all that it has away, virtual hosts, logins and messages, as a new disk does; returns when it answers
    /// again. Only [`user`](Self::user) is as before.
    ///
    /// # Errors
    /// If the broker does not run, is given, or does not come back.
    pub async fn wipe(&self) -> anyhow::Result<()> {
        let stopped = self.lifecycle.control(&["stop_app"]).await;
        let wiped = match stopped.is_ok() {
            true => self.lifecycle.control(&["reset"]).await,
            false => Ok(()),
        };
        // Whatever became of it: others may need the broker.
        let started = self.lifecycle.control(&["start_app"]).await;
        let done = stopped.and(wiped).and(started);
        done.context("cannot wipe RabbitMQ")?;
        let ports = self.lifecycle.ports();
        self.lifecycle
            .first_answer(|| ask(ports.main, &self.management))
            .await
            .context("RabbitMQ does not come back")?;
        Ok(())
    }

    /// How long channels opened from now on may leave a message without an acknowledgement; `None`: as installed.
    ///
    /// # Errors
    /// If the broker does not run, or is given.
    pub async fn set_patience(&self, patience: Option<Duration>) -> anyhow::Result<()> {
        let looks = patience.map_or(LOOKS_EVERY, |patience| patience / 4);
        let patience = patience.unwrap_or(ACKNOWLEDGED_WITHIN);
        let set = format!(
            "application:set_env(rabbit, consumer_timeout, {}), \
             application:set_env(rabbit, channel_tick_interval, {}).",
            patience.as_millis(),
            looks.as_millis()
        );
        let done = self.lifecycle.control(&["eval", &set]).await;
        done.context("cannot set the broker's patience")
    }
}
