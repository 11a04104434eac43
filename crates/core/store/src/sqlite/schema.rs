//! The tables' version, and the steps that raise an older file to it.
//!
//! **Invariant:** a release opens the file of every release before it. A change that older releases
//! could not read (a table, a column, a row's member with a new meaning, a word of an enum) is a step
//! here with the next number and a test on a stored corpus (`tests/corpus`); a step is never edited
//! once it was released. A member that came later and has a default needs none.
//!
//! Steps run in one transaction with the new version number, so a file is at one version or another
//! and never between. A file of a newer version is refused by the name of the release that wrote it.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::OpenError;

/// `LSRG`: tells `file` and people whose database this is.
const APPLICATION_ID: i64 = 0x4c53_5247;

/// What brings a file to a version from the one before.
struct Step {
    version: i64,
    run: fn(&Transaction<'_>) -> Result<(), rusqlite::Error>,
}

/// In order; the last one's number is the version of this release.
const STEPS: &[Step] = &[
    Step { version: 1, run: create_rows },
    Step { version: 2, run: create_about },
    Step { version: 3, run: make_rows_a_log },
    Step { version: 4, run: take_rows_of_iam },
    Step { version: 5, run: take_rows_of_secrets },
    Step { version: 6, run: take_registry_policies },
    Step { version: 7, run: take_access_keys_of_the_root },
    Step { version: 8, run: take_registry_rules },
    Step { version: 9, run: take_nodes },
    Step { version: 10, run: take_security_groups },
    Step { version: 11, run: take_rows_of_elb },
    Step { version: 12, run: take_rows_of_acm },
    Step { version: 13, run: take_rows_of_vpcs },
    Step { version: 14, run: take_rows_of_cloud_map },
    Step { version: 15, run: take_prefix_lists },
    Step { version: 16, run: take_activations },
    Step { version: 17, run: take_vpc_endpoints },
    Step { version: 18, run: take_flow_logs },
    Step { version: 19, run: take_tunnel_secrets },
    Step { version: 20, run: take_vpc_peerings },
    Step { version: 21, run: take_scanning_rules },
    Step { version: 22, run: take_second_factors },
    Step { version: 23, run: take_log_policies },
    Step { version: 24, run: take_alarms },
    Step { version: 25, run: take_scalable_targets },
    Step { version: 26, run: take_changed_default_vpcs },
    Step { version: 27, run: take_balancers_as_targets },
    Step { version: 28, run: take_event_rules },
    Step { version: 29, run: take_names_that_lead_to_others },
    Step { version: 30, run: take_secondary_addresses },
    Step { version: 31, run: take_hooks_that_ask },
];

/// The version that this release writes.
pub(super) const VERSION: i64 = STEPS[STEPS.len() - 1].version;

/// The release that this is, for whoever finds a file that is too new.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

fn create_rows(transaction: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    transaction.execute_batch(
        "CREATE TABLE rows (
            kind    TEXT NOT NULL,
            account TEXT NOT NULL,
            id      TEXT NOT NULL,
            seq     INTEGER NOT NULL,  -- the commit that wrote it
            value   TEXT NOT NULL,     -- JSON
            PRIMARY KEY (kind, account, id)
        ) STRICT;",
    )
}

/// Rows of users, roles and policies come to be: a release that does not know them must not write here.
fn take_rows_of_iam(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of keys, secrets and parameters come to be: a release that does not know them must not write here.
fn take_rows_of_secrets(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of registries' policies come to be: a release that does not know them must not write here.
fn take_registry_policies(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Users' secret access keys are sealed under the root key, which the region does to those of before when it starts
/// (`Control::raise_access_keys`); and a secret's version may have no key yet. A release that knows neither must not write
/// here.
fn take_access_keys_of_the_root(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of pull-through cache rules and of templates of repositories come to be: a release that does not know them
/// must not write here.
fn take_registry_rules(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of hosts that joined come to be: a release that does not know them must not write here.
fn take_nodes(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of security groups come to be: a release that does not know them must not write here, nor let pass
/// what they shut out.
fn take_security_groups(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of load balancers come to be: a release that does not know them must not write here.
fn take_rows_of_elb(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of certificates come to be, and listeners that show them: a release that does not know them must not write
/// here.
fn take_rows_of_acm(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of VPCs and of what they are made of come to be, and interfaces in them, whose addresses are not one
/// region's alone: a release that does not know them must not write here.
fn take_rows_of_vpcs(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of Cloud Map come to be, and revisions of services that register there: a release that does not know them must
/// not write here.
fn take_rows_of_cloud_map(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of prefix lists come to be, and rules and routes that name them: a release that does not know them must not write
/// here, nor let pass what they shut out.
fn take_prefix_lists(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of activations come to be, and hosts that joined by one, with the permissions of a role instead of a host's own: a
/// release that does not know them must not write here, nor take such a host for one of the owner's.
fn take_activations(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of VPC endpoints come to be, and interfaces that are theirs: a release that does not know them must not write
/// here, nor answer by an endpoint whose policy it does not read.
fn take_vpc_endpoints(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of flow logs come to be: a release that does not know them must not write here, nor leave unwritten what they
/// promise.
fn take_flow_logs(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of connections between VPCs come to be, routes by them, and rules that name groups of peers: a release that does
/// not know them must not write here.
fn take_vpc_peerings(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of registries' scanning rules come to be: a release that does not know them must not write here.
fn take_scanning_rules(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of second factors come to be, which sessions are made by: a release that does not know them must not write here,
/// nor let in without them.
fn take_second_factors(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows come to be that say which services may write to log groups: a release that does not know them must not write here.
fn take_log_policies(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// A row comes to be that hosts' keys follow from: a release that does not know it must not write here.
fn take_tunnel_secrets(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of alarms come to be: a release that does not know them must not write here, nor leave unwatched what they watch.
fn take_alarms(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of scaled services come to be: a release that does not know them must not write here, nor leave undone what they
/// promise.
fn take_scalable_targets(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Default VPCs come to be changed: a release that does not know that must not write here, nor let pass what they stop.
fn take_changed_default_vpcs(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Target groups come to be whose targets are load balancers, and interfaces that are left: a release that does not know them
/// must not write here.
fn take_balancers_as_targets(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Rows of EventBridge come to be: a release that does not know them must not write here, nor leave undone what they promise.
fn take_event_rules(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Services of Cloud Map come to be whose names lead to others: a release that does not know them must not write here.
fn take_names_that_lead_to_others(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Interfaces come to have more addresses than one: a release that does not know them must not write here.
fn take_secondary_addresses(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// Lifecycle hooks come to be that ask somebody: a release that does not know them would take them for pauses.
fn take_hooks_that_ask(_: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    Ok(())
}

/// `release`: the one that raised the file to its version.
fn create_about(transaction: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    transaction.execute_batch(
        "CREATE TABLE about (
            name  TEXT NOT NULL PRIMARY KEY,
            value TEXT NOT NULL
        ) STRICT;",
    )
}

/// From here on a row is not changed in its place: its versions follow each other, see [`super::log`]. What
/// is empty in a task is left out of it. `rows` is there for people to read.
fn make_rows_a_log(transaction: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    transaction.execute_batch(
        "CREATE TABLE log (
            n       INTEGER PRIMARY KEY,  -- in the order in which they were written
            kind    TEXT NOT NULL,
            account TEXT NOT NULL,
            id      TEXT NOT NULL,
            seq     INTEGER NOT NULL,     -- the commit that wrote it
            value   TEXT                  -- JSON; none: the row is no more
        ) STRICT;
        INSERT INTO log (kind, account, id, seq, value)
            SELECT kind, account, id, seq, value FROM rows ORDER BY seq;
        DROP TABLE rows;
        CREATE VIEW rows AS
            SELECT kind, account, id, seq, value
            FROM (SELECT kind, account, id, seq, value, max(n) FROM log GROUP BY kind, account, id)
            WHERE value IS NOT NULL;",
    )
}

/// Creates the tables of a new file, raises an older one, and refuses one that is not ours or newer.
pub(super) fn prepare(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let number = |connection: &Connection, sql| {
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed)
    };
    let tables = number(connection, "SELECT count(*) FROM sqlite_schema")?;
    let application = number(connection, "PRAGMA application_id")?;
    let version = number(connection, "PRAGMA user_version")?;
    match (tables, application, version) {
        (0, 0, 0) => raise(connection, 0).map_err(failed),
        (_, APPLICATION_ID, VERSION) => Ok(()),
        (_, APPLICATION_ID, older) if (1..VERSION).contains(&older) => {
            raise(connection, older).map_err(failed)?;
            tracing::info!(path = %path.display(), from = older, to = VERSION, "store raised");
            Ok(())
        }
        (_, APPLICATION_ID, found) if found > VERSION => {
            let release = writer_of(connection).map_err(failed)?;
            Err(OpenError::TooNew { path: path.to_owned(), found, known: VERSION, release })
        }
        _ => Err(OpenError::NotOurs { path: path.to_owned() }),
    }
}

/// Runs every step after `from`, all or none.
fn raise(connection: &mut Connection, from: i64) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    for step in STEPS.iter().filter(|step| step.version > from) {
        (step.run)(&transaction)?;
    }
    transaction.execute_batch(&format!(
        "INSERT OR REPLACE INTO about (name, value) VALUES ('release', '{RELEASE}');
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    ))?;
    transaction.commit()
}

/// The release that last raised the file, if it says so.
fn writer_of(connection: &Connection) -> Result<Option<String>, rusqlite::Error> {
    let has_about = connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE name = 'about'", [], |_| Ok(()))
        .optional()?;
    if has_about.is_none() {
        return Ok(None);
    }
    connection
        .query_row("SELECT value FROM about WHERE name = 'release'", [], |row| row.get(0))
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_numbered_without_a_gap() {
        let numbers: Vec<i64> = STEPS.iter().map(|step| step.version).collect();
        assert_eq!(numbers, (1..=VERSION).collect::<Vec<_>>());
    }
}
