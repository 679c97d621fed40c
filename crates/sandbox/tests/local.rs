//! Servers as child processes: what can be done to them, and what is kept.

mod promises;

use sandbox::{Backend, Data, Options, Sandbox, Unreachable};
use sqlx::{Connection, PgConnection};

async fn local() -> anyhow::Result<Sandbox> {
    Sandbox::start(Options::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_or_stopped_server_comes_back_with_what_it_had_confirmed() -> anyhow::Result<()> {
    let sandbox = local().await?;
    assert!(sandbox.describe().starts_with("local (PostgreSQL "));
    promises::postgres_comes_back_with_its_data(&sandbox).await?;
    promises::rabbitmq_comes_back_with_its_messages(&sandbox).await?;
    sandbox.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_or_a_broken_link_is_felt_and_ends() -> anyhow::Result<()> {
    let sandbox = local().await?;
    promises::a_frozen_server_is_silent(&sandbox).await?;
    promises::a_link_stalls_breaks_and_slows(&sandbox).await?;
    sandbox.stop().await
}

#[tokio::test]
async fn kept_data_is_taken_up_by_the_next_sandbox() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("paidonce-kept-")
        .tempdir_in("/tmp")?;
    set_mode(folder.path(), 0o755)?;
    let options = Options {
        backend: Backend::Local,
        data: Data::Kept(folder.path().join("data")),
    };
    let first = Sandbox::start(options.clone()).await?;
    first.postgres.create_database("kept").await?;
    first.rabbitmq.create_vhost("kept").await?;
    first.stop().await?;

    let second = Sandbox::start(options).await?;
    PgConnection::connect(&second.postgres.url("kept")).await?;
    let vhost = second
        .rabbitmq
        .management("GET", "/api/vhosts/kept", None)
        .await?;
    assert_eq!(vhost["name"], "kept");
    // Without an orderly stop, too.
    drop(second);
    assert!(folder.path().join("data/postgres").exists());
    Ok(())
}

#[tokio::test]
async fn a_folder_that_the_servers_cannot_enter_is_said_to_be_one() -> anyhow::Result<()> {
    if !is_root()? {
        println!("not root: the servers run as this user and reach what it reaches");
        return Ok(());
    }
    let folder = tempfile::tempdir_in("/tmp")?;
    set_mode(folder.path(), 0o700)?;
    let wanted = folder.path().join("data");
    let refused = Sandbox::start(Options {
        backend: Backend::Local,
        data: Data::Kept(wanted.clone()),
    })
    .await;
    let error = refused.expect_err("the folder is root's alone");
    let unreachable = error.downcast_ref::<Unreachable>().expect("its own kind");
    assert_eq!(unreachable.path, wanted);
    assert_eq!(unreachable.user, "nobody");
    Ok(())
}

/// Whether new files belong to root.
fn is_root() -> anyhow::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(tempfile::tempfile()?.metadata()?.uid() == 0)
}

fn set_mode(folder: &std::path::Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}
