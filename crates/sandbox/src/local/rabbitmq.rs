//! How a private RabbitMQ is made and called: loopback only, management on, a name server of its own.
//!
//! Not here: processes in general; the management API (`management.rs`).

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::process::Signal;

use super::place::{Launch, Place};
use super::process::Process;
use super::programs::Programs;
use super::{USER, ports};
use crate::rabbitmq::{ADVANCED_CONFIG, COMMON_CONFIG};
use crate::server::{Ports, lock};

const LOG: &str = "rabbitmq.log";
const NODE: &str = "paidonce@localhost";

#[derive(Debug)]
pub(super) struct Recipe {
    script: PathBuf,
    epmd: Option<PathBuf>,
    home: PathBuf,
    names: Mutex<Names>,
}

/// Erlang's name server: on a port of its own, else two sandboxes would have to agree on node names.
#[derive(Debug)]
struct Names {
    port: u16,
    process: Option<Process>,
}

impl Recipe {
    pub(super) fn new(place: &Place, programs: &Programs) -> anyhow::Result<Self> {
        place.begin_log(LOG);
        Ok(Self {
            script: programs.rabbitmq.clone(),
            epmd: programs.epmd.clone(),
            home: place.make_folder("rabbitmq")?,
            names: Mutex::new(Names {
                port: ports::free_port()?,
                process: None,
            }),
        })
    }

    /// In the foreground and before the broker, which would leave a daemon behind otherwise. Returns its port.
    fn serve_names(&self, place: &Place) -> anyhow::Result<u16> {
        let mut names = lock(&self.names);
        let alive = names
            .process
            .as_ref()
            .is_some_and(|process| matches!(process.ended(), Ok(None)));
        if let (false, Some(epmd)) = (alive, &self.epmd) {
            let process = place.spawn(&Launch {
                program: epmd.clone(),
                arguments: vec!["-port".into(), names.port.to_string().into()],
                environment: vec![("ERL_EPMD_ADDRESS", "127.0.0.1".into())],
                log: "epmd.log",
                end: "KILL",
            })?;
            names.process = Some(process);
        }
        Ok(names.port)
    }

    fn write_config(&self, place: &Place, ports: Ports) -> anyhow::Result<()> {
        let mut config = COMMON_CONFIG.to_owned();
        config.push_str(&format!("listeners.tcp.1 = {}\n", ports.main));
        if let Some(management) = ports.management {
            config.push_str(&format!("management.tcp.ip = {}\n", management.ip()));
            config.push_str(&format!("management.tcp.port = {}\n", management.port()));
        }
        config.push_str(&format!("default_user = {USER}\n"));
        config.push_str(&format!("default_pass = {}\n", place.password()));
        config.push_str("default_user_tags.administrator = true\nlog.file = false\n");
        place.write("rabbitmq/rabbitmq.conf", &config)?;
        place.write("rabbitmq/advanced.config", ADVANCED_CONFIG)?;
        place.write("rabbitmq/enabled_plugins", "[rabbitmq_management].\n")?;
        Ok(())
    }
}

impl super::Recipe for Recipe {
    fn prepare<'a>(&'a self, _: &'a Place) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn choose_ports(&self) -> anyhow::Result<Ports> {
        Ok(Ports::local(ports::free_port()?, Some(ports::free_port()?)))
    }

    fn launch(&self, place: &Place, ports: Ports) -> anyhow::Result<Launch> {
        let names_port = self.serve_names(place)?;
        self.write_config(place, ports)?;
        let at = |name: &str| OsString::from(self.home.join(name));
        let text = |text: &str| OsString::from(text);
        Ok(Launch {
            program: self.script.clone(),
            arguments: Vec::new(),
            environment: vec![
                ("LANG", text("C.UTF-8")),
                // The cookie is there.
                ("HOME", self.home.clone().into()),
                ("ERL_EPMD_PORT", names_port.to_string().into()),
                ("ERL_EPMD_ADDRESS", text("127.0.0.1")),
                // A kept folder belongs to the node of this name.
                ("RABBITMQ_NODENAME", text(NODE)),
                ("RABBITMQ_DIST_PORT", ports::free_port()?.to_string().into()),
                ("RABBITMQ_CONF_ENV_FILE", text("/dev/null")),
                ("RABBITMQ_CONFIG_FILE", at("rabbitmq.conf")),
                ("RABBITMQ_ADVANCED_CONFIG_FILE", at("advanced.config")),
                ("RABBITMQ_ENABLED_PLUGINS_FILE", at("enabled_plugins")),
                ("RABBITMQ_PLUGINS_EXPAND_DIR", at("plugins")),
                ("RABBITMQ_GENERATED_CONFIG_DIR", at("generated")),
                ("RABBITMQ_MNESIA_BASE", at("data")),
                ("RABBITMQ_LOG_BASE", at("log")),
                ("RABBITMQ_LOGS", text("-")),
                ("RABBITMQ_PID_FILE", at("pid")),
                // The script then becomes the virtual machine instead of waiting for it, so that this process's
                // number and exit status are the broker's own.
                ("RUNNING_UNDER_SYSTEMD", text("true")),
                (
                    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                    // Idle schedulers sleep at once: the services share the machine.
                    text(
                        "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
                    ),
                ),
            ],
            log: LOG,
            end: "KILL",
        })
    }

    fn control(&self, arguments: &[&str]) -> Option<Launch> {
        let text = |text: &str| OsString::from(text);
        Some(Launch {
            program: self.script.with_file_name("rabbitmqctl"),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: vec![
                ("LANG", text("C.UTF-8")),
                ("HOME", self.home.clone().into()),
                ("ERL_EPMD_PORT", lock(&self.names).port.to_string().into()),
                ("ERL_EPMD_ADDRESS", text("127.0.0.1")),
                ("RABBITMQ_NODENAME", text(NODE)),
                ("RABBITMQ_CONF_ENV_FILE", text("/dev/null")),
            ],
            log: "rabbitmqctl.log",
            end: "KILL",
        })
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }

    fn log(&self) -> &'static str {
        LOG
    }
}
