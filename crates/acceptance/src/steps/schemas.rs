//! Tables that change while the services work, or before they start.
//!
//! Not here: what an administrator does to a database otherwise (`database_faults`), and rows (`tampering`).

use anyhow::{Context as _, ensure};
use cucumber::{then, when};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::audit;
use crate::eventually::eventually;
use crate::failed::Step;
use crate::parameters::Which;
use crate::process::Service;
use crate::steps::services::until_orders_are_under_way;
use crate::world::World;

#[then(expr = "{service} had plans that were out of date")]
async fn plans_were_out_of_date(world: &mut World, service: Which) -> Step {
    let stack = world.stack()?;
    eventually("it is told", || async move {
        let log = std::fs::read_to_string(stack.log(service.0))?;
        ensure!(log.contains("a table has changed under"), "it is not");
        Ok(())
    })
    .await?;
    Ok(())
}

/// The next migration: a column that nobody needs, and its row in the list.
#[when("a version to come has migrated both databases")]
async fn a_version_to_come_migrates(world: &mut World) -> Step {
    for (service, table) in [(Service::Orders, "orders"), (Service::Payments, "accounts")] {
        let mut connection = audit::connect(world.stack()?, service).await?;
        let migrate = format!(
            "alter table {table} add column mood text; \
             insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values (9999, 'of a version to come', true, '\\x00', 1)"
        );
        sqlx::raw_sql(AssertSqlSafe(migrate))
            .execute(&mut connection)
            .await
            .with_context(|| format!("cannot migrate the database of {service}"))?;
        connection.close().await?;
    }
    Ok(())
}

#[when("columns are widened while orders are under way")]
async fn columns_are_widened(world: &mut World) -> Step {
    until_orders_are_under_way(world).await?;
    let stack = world.stack()?;
    for (service, change) in [
        (Service::Orders, WIDER_ORDERS),
        (Service::Payments, WIDER_ACCOUNTS),
    ] {
        let mut connection = audit::connect(stack, service).await?;
        for change in [change, WIDER_OUTBOX] {
            let mut transaction = connection.begin().await?;
            sqlx::raw_sql(change)
                .execute(&mut *transaction)
                .await
                .with_context(|| format!("cannot change a table of {service}"))?;
            transaction.commit().await?;
        }
        connection.close().await?;
    }
    Ok(())
}

/// As a migration would do it: what depends on a column steps aside for a moment.
const WIDER_ORDERS: &str = "
    create temporary table views on commit drop as
        select pg_get_viewdef('audit.orders') as orders,
               (select pg_get_triggerdef(oid) from pg_trigger where tgname = 'orders_facts_stay') as stay;
    drop view audit.orders;
    drop trigger orders_facts_stay on orders;
    alter table orders alter column amount type numeric(20, 2);
    do $$ begin
        execute 'create view audit.orders as ' || (select orders from views);
        execute (select stay from views);
    end $$;
    select audit_grant();";
const WIDER_ACCOUNTS: &str = "
    create temporary table views on commit drop as
        select pg_get_viewdef('audit.accounts') as accounts;
    drop view audit.accounts;
    alter table accounts alter column balance type numeric(20, 2);
    do $$ begin
        execute 'create view audit.accounts as ' || (select accounts from views);
    end $$;
    select audit_grant();";
/// `body` is what the statement that stores orders gives back.
const WIDER_OUTBOX: &str = "alter table outbox_messages
    alter column kind type varchar(64), alter column body type varchar";
