//! What the engine is asked for: each server's settings, ports and disks.
//!
//! Not here: which image; when the container is made.

use testcontainers::bollard::models::{HostConfig, PortBinding};
use testcontainers::core::Mount;
use testcontainers::{ContainerRequest, GenericImage, ImageExt};

use super::{AMQP_PORT, MANAGEMENT_PORT, POSTGRES_PORT};
use crate::postgres::SMALL_DISK;
use crate::rabbitmq::{ADVANCED_CONFIG, COMMON_CONFIG};
use crate::sandbox::Login;
use crate::variables;

/// Several times a fresh database, and quickly filled.
const SMALL_DISK_BYTES: i64 = 64 << 20;

pub(super) fn postgres_request(
    image: GenericImage,
    login: &Login,
) -> ContainerRequest<GenericImage> {
    image
        .with_env_var("POSTGRES_USER", &login.user)
        .with_env_var("POSTGRES_PASSWORD", &login.password)
        .with_env_var("POSTGRES_DB", "postgres")
        .with_cmd(["postgres", "-c", "max_connections=300"])
        .with_mount(small_disk())
        .with_host_config_modifier(|config| publish(config, &[POSTGRES_PORT]))
}

/// Where everybody may make folders, as in `/tmp`.
fn small_disk() -> Mount {
    Mount::tmpfs_mount(SMALL_DISK)
        .with_size_bytes(SMALL_DISK_BYTES)
        .with_mode(0o1777)
}

pub(super) fn rabbitmq_request(
    image: GenericImage,
    login: &Login,
) -> ContainerRequest<GenericImage> {
    image
        .with_env_var("RABBITMQ_DEFAULT_USER", &login.user)
        .with_env_var("RABBITMQ_DEFAULT_PASS", &login.password)
        .with_env_var(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+sbwt none +sbwtdcpu none +sbwtdio none",
        )
        .with_copy_to(
            "/etc/rabbitmq/conf.d/90-sandbox.conf",
            COMMON_CONFIG.as_bytes().to_vec(),
        )
        .with_copy_to(
            "/etc/rabbitmq/advanced.config",
            ADVANCED_CONFIG.as_bytes().to_vec(),
        )
        // The node, and with it the data folder, is named after the host.
        .with_hostname("rabbitmq")
        .with_host_config_modifier(|config| publish(config, &[AMQP_PORT, MANAGEMENT_PORT]))
}

/// Free ports of loopback alone; an engine on another machine has to listen to more.
fn publish(config: &mut HostConfig, ports: &[u16]) {
    let address = if remote_engine() {
        "0.0.0.0"
    } else {
        "127.0.0.1"
    };
    let bindings = ports.iter().map(|port| {
        let binding = PortBinding {
            host_ip: Some(address.to_owned()),
            host_port: None,
        };
        (format!("{port}/tcp"), Some(vec![binding]))
    });
    config.publish_all_ports = Some(false);
    config.port_bindings = Some(bindings.collect());
}

pub(super) fn remote_engine() -> bool {
    matches!(variables::text(variables::DOCKER_HOST), Ok(Some(host)) if !host.starts_with("unix:"))
}
