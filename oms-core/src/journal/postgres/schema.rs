//! The journal's tables.

use super::failure;
use crate::journal::JournalError;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Column};

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

/// The longest name of a schema, in bytes: the channel's name is made of it and has 63.
const NAME_BYTES_MAX: usize = 40;

/// A schema's name, of a form that needs no quotation.
#[derive(Clone, Debug)]
pub(super) struct Schema(String);

impl Schema {
    pub(super) fn new(name: &str) -> Result<Self, JournalError> {
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && !name.starts_with("pg_")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if fits {
            return Ok(Self(name.to_owned()));
        }
        let reason = format!(
            "schema `{name}` is not 1 to {NAME_BYTES_MAX} of a-z 0-9 _ that begin with a letter \
             and not with pg_"
        );
        Err(JournalError::Setup { reason })
    }

    /// A query over this schema's tables, which `text` names after `@`.
    pub(super) fn query(&self, text: &str) -> String {
        text.replace('@', &format!("\"{}\".", self.0))
    }

    /// Where new positions are announced.
    pub(super) fn channel(&self) -> String {
        format!("oms_journal_{}", self.0)
    }
}

/// `"C"` sorts by bytes whatever the database's own order is. Text in which a zero byte is
/// possible is escaped before it comes here; bodies are text, since `jsonb` rounds no number but
/// refuses some strings and forgets the order of keys.
const TABLES: &str = r#"
CREATE TABLE @log (
    is_one boolean PRIMARY KEY DEFAULT true CHECK (is_one),
    format integer NOT NULL,
    head bigint NOT NULL,
    histories bigint NOT NULL
);
CREATE TABLE @history (
    id bigint PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    UNIQUE (kind, key)
);
CREATE TABLE @event (
    position bigint PRIMARY KEY,
    history bigint NOT NULL,
    version bigint NOT NULL,
    kind text NOT NULL,
    format integer NOT NULL,
    time text NOT NULL,
    actor text NOT NULL,
    correlation text,
    body text NOT NULL,
    checksum bytea NOT NULL,
    UNIQUE (history, version)
);
CREATE TABLE @snapshot (
    history bigint PRIMARY KEY,
    version bigint NOT NULL,
    format integer NOT NULL,
    body text NOT NULL,
    checksum bytea NOT NULL
);
"#;

/// One query for each table and every column, with the columns' types, to see at the opening that
/// they are there.
const CHECKS: [(&str, &[Type]); 4] = [
    (
        "SELECT is_one, format, head, histories FROM @log",
        &[Type::BOOL, Type::INT4, Type::INT8, Type::INT8],
    ),
    (
        "SELECT id, kind, key, version FROM @history",
        &[Type::INT8, Type::TEXT, Type::TEXT, Type::INT8],
    ),
    (
        "SELECT position, history, version, kind, format, time, actor, correlation, body, checksum
         FROM @event",
        &[
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::TEXT,
            Type::INT4,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::TEXT,
            Type::BYTEA,
        ],
    ),
    (
        "SELECT history, version, format, body, checksum FROM @snapshot",
        &[Type::INT8, Type::INT8, Type::INT4, Type::TEXT, Type::BYTEA],
    ),
];

/// Makes the tables if there are none, and checks the format of those that are there.
pub(super) async fn open(client: &Client, schema: &Schema) -> Result<(), JournalError> {
    if !is_there(client, schema).await? {
        let created = create(client, schema).await;
        if created.is_err() {
            // The error that counts is the first one.
            let _ = client.batch_execute("ROLLBACK").await;
        }
        created?;
    }
    let query = schema.query("SELECT format FROM @log");
    let rows = client.query(&query, &[]).await.map_err(|error| failure(&error))?;
    let [row] = rows.as_slice() else {
        let reason = format!("its table log has {} rows, not one", rows.len());
        return Err(JournalError::Corrupt { reason });
    };
    check_format(super::column(row, 0)?)?;
    for (query, types) in CHECKS {
        let query = schema.query(query);
        let statement = client.prepare(&query).await.map_err(|error| failure(&error))?;
        if !statement.columns().iter().map(Column::type_).eq(types) {
            let reason = format!("a column is of another type. query=`{query}`");
            return Err(JournalError::Corrupt { reason });
        }
    }
    Ok(())
}

/// Whether this version reads and writes `format`.
pub(super) fn check_format(format: i32) -> Result<(), JournalError> {
    match u32::try_from(format) {
        Ok(FORMAT) => Ok(()),
        Ok(found) if found > FORMAT => Err(JournalError::Newer { found, known: FORMAT }),
        _ => Err(JournalError::Corrupt { reason: format!("no such format: {format}") }),
    }
}

async fn is_there(client: &Client, schema: &Schema) -> Result<bool, JournalError> {
    let query = "SELECT EXISTS (
        SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'log')";
    let row = client.query_one(query, &[&schema.0]).await.map_err(|error| failure(&error))?;
    super::column(&row, 0)
}

/// All tables or none. An advisory lock, for there is no row yet that could be locked: of several
/// processes that begin the journal one makes it and the others find it.
async fn create(client: &Client, schema: &Schema) -> Result<(), JournalError> {
    let failed = |error: tokio_postgres::Error| failure(&error);
    client.batch_execute("BEGIN").await.map_err(failed)?;
    let lock = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))";
    client.query_one(lock, &[&schema.channel()]).await.map_err(failed)?;
    if !is_there(client, schema).await? {
        let query = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)";
        let row = client.query_one(query, &[&schema.0]).await.map_err(failed)?;
        // Where an administrator made the schema, the right to make another is not needed.
        if !super::column::<bool>(&row, 0)? {
            let query = format!("CREATE SCHEMA \"{}\"", schema.0);
            client.batch_execute(&query).await.map_err(failed)?;
        }
        client.batch_execute(&schema.query(TABLES)).await.map_err(failed)?;
        let query = "INSERT INTO @log (format, head, histories) VALUES ($1, 0, 0)";
        let format = FORMAT.cast_signed();
        client.execute(&schema.query(query), &[&format]).await.map_err(failed)?;
    }
    client.batch_execute("COMMIT").await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_a_plain_name() {
        let schema = Schema::new("oms_2").expect("a name");
        assert_eq!(schema.query("SELECT 1 FROM @log, @event"), {
            r#"SELECT 1 FROM "oms_2".log, "oms_2".event"#
        });
        assert_eq!(schema.channel(), "oms_journal_oms_2");
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "Oms", "1a", "_a", "a-b", "a\"b", "ä", "pg_a", &long] {
            assert!(matches!(Schema::new(name), Err(JournalError::Setup { .. })), "{name}");
        }
    }

    #[test]
    fn a_format_of_later_is_newer_and_one_of_never_is_damage() {
        assert!(check_format(1).is_ok());
        assert!(matches!(check_format(2), Err(JournalError::Newer { found: 2, known: FORMAT })));
        for none in [0, -1] {
            assert!(matches!(check_format(none), Err(JournalError::Corrupt { .. })), "{none}");
        }
    }
}
