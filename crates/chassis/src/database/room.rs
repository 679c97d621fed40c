//! Whether the pools of a service fit into what the server grants its login. Asked at the start:
//! later it shows as requests that are turned away under load, when nobody thinks of a limit.

use super::bounded;
use sqlx::{PgPool, Row as _};

/// The pools can never be filled, whoever else leaves.
#[derive(Debug, thiserror::Error)]
#[error(
    "{variable}={pool} is too much: all pools of this service together hold up to {need} connections, \
     and the server grants at most {most} ({why}). {mend}"
)]
pub struct NoRoom {
    /// `DB_ORDERS__POOL` or its like.
    variable: &'static str,
    pool: u32,
    need: i64,
    most: i64,
    why: &'static str,
    mend: String,
}

/// What the server says about connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Server {
    /// All that a login like ours may ever use: `max_connections` without the reserved ones.
    whole: Share,
    /// `CONNECTION LIMIT` of the role, where it has one.
    role: Option<Share>,
    /// `CONNECTION LIMIT` of the database, where it has one.
    database: Option<Share>,
}

/// A limit, and how much of it others use now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    limit: i64,
    others: i64,
}

/// Where the pools do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Every pool can be filled.
    Room,
    /// Not while the others stay connected: so much is left.
    Tight { left: i64, why: &'static str },
    /// Never: so much is the most.
    Never { most: i64, why: &'static str },
}

const WHOLE: &str = "max_connections without the reserved ones";
pub(super) const ROLE: &str = "CONNECTION LIMIT of the role";
const DATABASE: &str = "CONNECTION LIMIT of the database";

impl Server {
    fn shares(&self) -> impl Iterator<Item = (Share, &'static str)> {
        [
            (Some(self.whole), WHOLE),
            (self.role, ROLE),
            (self.database, DATABASE),
        ]
        .into_iter()
        .filter_map(|(share, why)| Some((share?, why)))
    }

    fn fit(&self, need: i64) -> Fit {
        let most = self.shares().map(|(share, why)| (share.limit, why)).min();
        let left = self.shares().map(|(share, why)| (share.left(), why)).min();
        match (most, left) {
            (Some((most, why)), _) if most < need => Fit::Never { most, why },
            (_, Some((left, why))) if left < need => Fit::Tight { left, why },
            _ => Fit::Room,
        }
    }
}

impl Share {
    fn left(self) -> i64 {
        (self.limit - self.others).max(0)
    }
}

/// Compares what `pools` may hold together with what the server grants; the first of them is
/// asked, and has the size that `variable` sets. Too little room now is a warning; a server that
/// does not answer is none of this check's business.
///
/// # Errors
/// They can never fit.
pub async fn check_room(pools: &[&PgPool], variable: &'static str) -> Result<(), NoRoom> {
    let Some(first) = pools.first() else {
        return Ok(());
    };
    let pool = first.options().get_max_connections();
    let need = needed(pools);
    let fit = match bounded(fit(pools)).await {
        Ok(fit) => fit,
        Err(error) => {
            tracing::warn!("cannot ask how many connections are allowed: {error}");
            return Ok(());
        }
    };
    match fit {
        Fit::Room => Ok(()),
        Fit::Tight { left, why } => {
            tracing::warn!(
                "the pools of this service hold up to {need} connections, and {left} are left \
                 ({why}, less what others use now): under load requests will be turned away. {}",
                mend(variable, pool, need - left)
            );
            Ok(())
        }
        Fit::Never { most, why } => Err(NoRoom {
            variable,
            pool,
            need,
            most,
            why,
            mend: mend(variable, pool, need - most),
        }),
    }
}

fn needed(pools: &[&PgPool]) -> i64 {
    let most = |pool: &&PgPool| i64::from(pool.options().get_max_connections());
    pools.iter().map(most).sum()
}

/// How the pools fit as things are.
pub(super) async fn fit(pools: &[&PgPool]) -> Result<Fit, sqlx::Error> {
    let Some(first) = pools.first() else {
        return Ok(Fit::Room);
    };
    let ours = pools.iter().map(|pool| i64::from(pool.size())).sum();
    Ok(ask(first, ours).await?.fit(needed(pools)))
}

/// What to do when `short` connections are missing.
fn mend(variable: &str, pool: u32, short: i64) -> String {
    let smaller = i64::from(pool) - short;
    if smaller >= 1 {
        format!("Set {variable} to {smaller}, or raise that limit by {short}")
    } else {
        format!("Raise that limit by {short}: a smaller {variable} alone does not help")
    }
}

/// `ours`: connections that the pools hold already, which are no others.
async fn ask(pool: &PgPool, ours: i64) -> Result<Server, sqlx::Error> {
    // Of other logins' sessions an ordinary role sees database and role, but not the kind.
    let row = sqlx::query(
        "with sessions as (
             select usesysid, datid from pg_stat_activity
              where datid is not null and coalesce(backend_type, 'client backend') = 'client backend'
         )
         select current_setting('max_connections')::bigint as max_connections,
                current_setting('superuser_reserved_connections')::bigint
                    + coalesce(current_setting('reserved_connections', true), '0')::bigint as reserved,
                r.rolsuper, r.rolconnlimit::bigint as role_limit, d.datconnlimit::bigint as database_limit,
                (select count(*) from sessions) as all_sessions,
                (select count(*) from sessions where usesysid = r.oid) as role_sessions,
                (select count(*) from sessions where datid = d.oid) as database_sessions
           from pg_roles r, pg_database d
          where r.rolname = current_user and d.datname = current_database()",
    )
    .fetch_one(pool)
    .await?;
    let number = |name: &str| row.try_get::<i64, _>(name);
    let superuser: bool = row.try_get("rolsuper")?;
    // The connection that asks may have been made just now.
    let ours = ours.max(1);
    let share = |limit: i64, sessions: i64| Share {
        limit,
        others: (sessions - ours).max(0),
    };
    // A superuser is bound by the server's own limit alone; -1 is no limit.
    let limited =
        |limit: i64, sessions: i64| (limit >= 0 && !superuser).then(|| share(limit, sessions));
    let reserved = if superuser { 0 } else { number("reserved")? };
    Ok(Server {
        whole: share(
            number("max_connections")? - reserved,
            number("all_sessions")?,
        ),
        role: limited(number("role_limit")?, number("role_sessions")?),
        database: limited(number("database_limit")?, number("database_sessions")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(limit: i64, others: i64) -> Share {
        Share { limit, others }
    }

    fn server(whole: Share, role: Option<Share>, database: Option<Share>) -> Server {
        Server {
            whole,
            role,
            database,
        }
    }

    #[test]
    fn the_smallest_limit_decides() {
        let roomy = server(share(97, 40), None, None);
        assert_eq!(roomy.fit(16), Fit::Room);
        assert_eq!(roomy.fit(57), Fit::Room);
        assert_eq!(
            roomy.fit(58),
            Fit::Tight {
                left: 57,
                why: WHOLE
            }
        );
        assert_eq!(
            roomy.fit(98),
            Fit::Never {
                most: 97,
                why: WHOLE
            }
        );
        let bound = server(share(97, 40), Some(share(20, 5)), Some(share(30, 30)));
        assert_eq!(
            bound.fit(1),
            Fit::Tight {
                left: 0,
                why: DATABASE
            }
        );
        assert_eq!(
            bound.fit(21),
            Fit::Never {
                most: 20,
                why: ROLE
            }
        );
        // A limit may have been lowered below what is in use.
        let lowered = server(share(97, 0), Some(share(2, 9)), None);
        assert_eq!(lowered.fit(1), Fit::Tight { left: 0, why: ROLE });
        let closed = server(share(97, 0), None, Some(share(0, 0)));
        assert_eq!(
            closed.fit(1),
            Fit::Never {
                most: 0,
                why: DATABASE
            }
        );
    }

    #[test]
    fn the_mend_is_a_number_that_fits() {
        assert_eq!(
            mend("DB_ORDERS__POOL", 10, 4),
            "Set DB_ORDERS__POOL to 6, or raise that limit by 4"
        );
        assert_eq!(
            mend("DB_ORDERS__POOL", 10, 10),
            "Raise that limit by 10: a smaller DB_ORDERS__POOL alone does not help"
        );
    }
}
