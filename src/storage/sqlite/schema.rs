//! The SQLite file's schema: its versions, and the way from each to the next.
//!
//! `PRAGMA user_version` holds the number of migrations that were run. A file of another
//! application, or of a newer version of this one, is refused before anything is written to it.

use anyhow::{Context, Result, bail, ensure};
use rusqlite::Connection;

/// A step from one version of a file to the next. A released step never changes.
struct Migration {
    files: Files,
    sql: &'static str,
}

/// The files that a step concerns. An outbox has the tables of the chat beside its own, so one list
/// serves both, and neither can be forgotten.
#[derive(PartialEq, Eq)]
enum Files {
    All,
    Outboxes,
}

const MIGRATIONS: &[Migration] = &[
    Migration { files: Files::All, sql: TABLES },
    Migration { files: Files::Outboxes, sql: QUEUE },
    Migration { files: Files::Outboxes, sql: QUEUE_OF_WRITES },
];

/// Messages are clustered by conversation: a page of history is one range of neighbours. Ids sort
/// by creation, so no other column defines the order.
const TABLES: &str = "
    CREATE TABLE users (
        id     TEXT PRIMARY KEY,
        name   TEXT,
        email  TEXT,
        avatar TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE conversations (
        id           TEXT PRIMARY KEY,
        is_open      INTEGER NOT NULL,
        last_message BLOB
    ) STRICT, WITHOUT ROWID;

    -- In the order in which they joined, which is that of the rowids.
    CREATE TABLE participants (
        conversation TEXT NOT NULL REFERENCES conversations,
        user         TEXT NOT NULL,
        unread       INTEGER NOT NULL DEFAULT 0,
        read_through BLOB, -- the user has read all messages up to this one
        UNIQUE (user, conversation)
    ) STRICT;
    CREATE INDEX participants_by_conversation ON participants (conversation);

    CREATE TABLE messages (
        conversation      TEXT NOT NULL REFERENCES conversations,
        id                BLOB NOT NULL, -- an ObjectId, 12 bytes
        sender            TEXT NOT NULL,
        sender_name       TEXT NOT NULL,
        sender_avatar     TEXT,
        content           TEXT NOT NULL,
        created_at        INTEGER NOT NULL, -- milliseconds since 1970
        client_message_id TEXT,
        PRIMARY KEY (conversation, id)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX messages_by_client_id ON messages (conversation, sender, client_message_id)
        WHERE client_message_id IS NOT NULL;

    CREATE TABLE receipts (
        conversation TEXT NOT NULL,
        message      BLOB NOT NULL,
        user         TEXT NOT NULL,
        read_at      INTEGER NOT NULL, -- milliseconds since 1970
        PRIMARY KEY (conversation, message, user),
        FOREIGN KEY (conversation, message) REFERENCES messages
    ) STRICT, WITHOUT ROWID;
    ";

/// The changes that wait for MongoDB, and those that it refused.
const QUEUE: &str = "
    CREATE TABLE pending (
        number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which the changes were accepted
        change TEXT NOT NULL -- JSON
    ) STRICT;

    CREATE TABLE rejected (
        number   INTEGER PRIMARY KEY,
        document TEXT NOT NULL, -- JSON: the message, or the change
        reason   TEXT NOT NULL
    ) STRICT;

    -- Who is online here, or went offline, and whether MongoDB has been told.
    CREATE TABLE statuses (
        user      TEXT PRIMARY KEY,
        socket    TEXT NOT NULL, -- the one that MongoDB is told
        is_online INTEGER NOT NULL,
        at        INTEGER NOT NULL, -- milliseconds since 1970
        is_told   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    ";

/// An older queue named messages by their ids; the queue holds complete writes now.
const QUEUE_OF_WRITES: &str = "
    DELETE FROM pending WHERE change ->> '$.Send' IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM messages m WHERE m.id = unhex(change ->> '$.Send.message')
            AND m.conversation = change ->> '$.Send.conversation');
    UPDATE pending SET change = CASE
        WHEN change ->> '$.Begin' IS NOT NULL THEN json_object('conversation', json_object(
            'id', change ->> '$.Begin.conversation',
            'kind', iif(change ->> '$.Begin.is_open', 'open', 'direct'),
            'participants', json(change -> '$.Begin.participants')))
        WHEN change ->> '$.Join' IS NOT NULL THEN json_object('participants', json_object(
            'conversation', change ->> '$.Join.conversation',
            'users', json(change -> '$.Join.users')))
        WHEN change ->> '$.Send' IS NOT NULL THEN (
            SELECT json_object('message', json_object('message', json_object(
                'id', lower(hex(m.id)),
                'conversationId', m.conversation,
                'content', m.content,
                'senderId', m.sender,
                'senderName', m.sender_name,
                'senderAvatar', m.sender_avatar,
                'timestamp', strftime('%Y-%m-%dT%H:%M:%fZ', m.created_at / 1000.0, 'unixepoch'),
                'type', 'text',
                'readBy', json_array(),
                'clientMessageId', m.client_message_id)))
            FROM messages m WHERE m.id = unhex(change ->> '$.Send.message')
                AND m.conversation = change ->> '$.Send.conversation')
        WHEN change ->> '$.Read' IS NOT NULL THEN json_object('receipts', json_object(
            'conversation', change ->> '$.Read.conversation',
            'reader', change ->> '$.Read.reader',
            'messages', json(coalesce(nullif(change -> '$.Read.messages', 'null'), '[]')),
            'isAll', json(iif(change ->> '$.Read.messages' IS NULL, 'true', 'false')),
            'at', strftime('%Y-%m-%dT%H:%M:%fZ', (change ->> '$.Read.at') / 1000.0, 'unixepoch')))
        ELSE change
    END;
    ";

/// A kind of file.
pub struct Schema {
    application_id: i32,
    migrations: &'static [Migration],
    is_outbox: bool,
}

/// The file of a server that stores in SQLite: `rist` in the file's header.
pub const CHAT: Schema =
    Schema { application_id: 0x7269_7374, migrations: MIGRATIONS, is_outbox: false };

/// The outbox of a server that stores in MongoDB: `risx`, so that neither is taken for the other.
pub const OUTBOX: Schema =
    Schema { application_id: 0x7269_7378, migrations: MIGRATIONS, is_outbox: true };

impl Schema {
    /// The steps of this kind of file, oldest first. A file's version is the number of them.
    fn steps(&self) -> impl Iterator<Item = &'static str> {
        let is_outbox = self.is_outbox;
        let all = self.migrations.iter();
        all.filter(move |step| is_outbox || step.files == Files::All).map(|step| step.sql)
    }

    /// Refuses a file that this version must not touch. Only reads.
    pub fn check(&self, connection: &Connection) -> Result<()> {
        let application: i32 = pragma(connection, "application_id")?;
        let version: usize = pragma(connection, "user_version")?;
        let is_empty = || -> Result<bool> {
            let tables: u32 =
                connection.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            Ok(tables == 0)
        };
        if application != self.application_id {
            ensure!(
                application == 0 && version == 0 && is_empty()?,
                "this SQLite file belongs to another application"
            );
        }
        let newest = self.steps().count();
        if version > newest {
            bail!(
                "this file has schema version {version}, made by a newer radio-istic; \
                 this one knows versions up to {newest}"
            );
        }
        Ok(())
    }

    /// Refuses a file that is empty, or that only a start of the server would bring up to date.
    pub fn is_current(&self, connection: &Connection) -> Result<()> {
        let version: usize = pragma(connection, "user_version")?;
        match version {
            0 => bail!("this file is empty: no server has started on it yet"),
            version if version < self.steps().count() => {
                bail!("this file has schema version {version}: start the server on it once")
            }
            _ => Ok(()),
        }
    }

    /// Brings the file to the newest version.
    pub fn migrate(&self, connection: &mut Connection) -> Result<()> {
        let version: usize = pragma(connection, "user_version")?;
        for (from, migration) in self.steps().enumerate().skip(version) {
            let to = from + 1;
            let transaction = connection.transaction()?;
            transaction
                .execute_batch(migration)
                .and_then(|()| {
                    transaction.pragma_update(None, "application_id", self.application_id)
                })
                .and_then(|()| transaction.pragma_update(None, "user_version", to))
                .and_then(|()| transaction.commit())
                .with_context(|| format!("migrate the schema from version {from} to {to}"))?;
        }
        Ok(())
    }
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<T> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Write;

    const VERSIONS: &[Migration] = &[
        Migration { files: Files::All, sql: "CREATE TABLE notes (text TEXT) STRICT;" },
        Migration {
            files: Files::All,
            sql: "ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'unknown';",
        },
        Migration { files: Files::All, sql: "THIS IS NOT SQL" },
    ];

    fn schema(migrations: &'static [Migration]) -> Schema {
        Schema { application_id: 1, migrations, is_outbox: false }
    }

    #[test]
    fn a_file_moves_from_each_version_to_the_next_and_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema(&VERSIONS[..1]).migrate(&mut connection).unwrap();
        connection.execute("INSERT INTO notes VALUES ('old')", []).unwrap();

        schema(&VERSIONS[..2]).migrate(&mut connection).unwrap();
        schema(&VERSIONS[..2]).migrate(&mut connection).unwrap();

        let author: String =
            connection.query_one("SELECT author FROM notes", [], |row| row.get(0)).unwrap();
        assert_eq!(author, "unknown");
        assert_eq!(pragma::<usize>(&connection, "user_version").unwrap(), 2);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let error = schema(VERSIONS).migrate(&mut connection).unwrap_err();
        assert_eq!(error.to_string(), "migrate the schema from version 2 to 3");
        assert_eq!(pragma::<usize>(&connection, "user_version").unwrap(), 2);
    }

    #[test]
    fn changes_that_an_earlier_version_queued_are_writes() {
        let mut connection = Connection::open_in_memory().unwrap();
        for (version, step) in OUTBOX.steps().take(2).enumerate() {
            connection.execute_batch(step).unwrap();
            connection.pragma_update(None, "user_version", version + 1).unwrap();
        }
        connection
            .execute_batch(
                r#"INSERT INTO conversations VALUES ('c1', 0, NULL);
                INSERT INTO messages VALUES ('c1', x'65f0aaaaaaaaaaaaaaaaaaaa', 'alice', 'Alice', NULL,
                    'Say "hi"', 1762857000120, 'k1');
                INSERT INTO pending (change) VALUES
                    ('{"Begin":{"conversation":"c1","is_open":false,"participants":["alice","bob"]}}'),
                    ('{"Begin":{"conversation":"lobby","is_open":true,"participants":["alice"]}}'),
                    ('{"Join":{"conversation":"lobby","users":["bob"]}}'),
                    ('{"Send":{"conversation":"c1","message":"65f0aaaaaaaaaaaaaaaaaaaa"}}'),
                    ('{"Send":{"conversation":"c1","message":"65f0bbbbbbbbbbbbbbbbbbbb"}}'),
                    ('{"Read":{"conversation":"c1","reader":"bob","messages":["65f0aaaaaaaaaaaaaaaaaaaa"],"at":1762857000500}}'),
                    ('{"Read":{"conversation":"c1","reader":"bob","messages":null,"at":1762857000501}}');"#,
            )
            .unwrap();
        OUTBOX.migrate(&mut connection).unwrap();

        let mut queued = connection.prepare("SELECT change FROM pending ORDER BY number").unwrap();
        let writes: Vec<String> = queued
            .query_map([], |row| row.get::<_, String>(0))
            .unwrap()
            .map(|change| {
                let change = change.unwrap();
                let write: Write = serde_json::from_str(&change)
                    .unwrap_or_else(|error| panic!("{error}: {change}"));
                serde_json::to_string(&write).unwrap()
            })
            .collect();
        // A message that is gone is nothing to write.
        assert_eq!(
            writes,
            [
                r#"{"conversation":{"id":"c1","kind":"direct","participants":["alice","bob"]}}"#,
                r#"{"conversation":{"id":"lobby","kind":"open","participants":["alice"]}}"#,
                r#"{"participants":{"conversation":"lobby","users":["bob"]}}"#,
                r#"{"message":{"message":{"id":"65f0aaaaaaaaaaaaaaaaaaaa","conversationId":"c1","content":"Say \"hi\"","senderId":"alice","senderName":"Alice","senderAvatar":null,"timestamp":"2025-11-11T10:30:00.120Z","type":"text","readBy":[],"clientMessageId":"k1"}}}"#,
                r#"{"receipts":{"conversation":"c1","reader":"bob","messages":["65f0aaaaaaaaaaaaaaaaaaaa"],"isAll":false,"at":"2025-11-11T10:30:00.500Z"}}"#,
                r#"{"receipts":{"conversation":"c1","reader":"bob","messages":[],"isAll":true,"at":"2025-11-11T10:30:00.501Z"}}"#,
            ]
        );
    }

    #[test]
    fn a_newer_file_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema(&VERSIONS[..2]).migrate(&mut connection).unwrap();
        let error = schema(&VERSIONS[..1]).check(&connection).unwrap_err();
        assert!(error.to_string().contains("schema version 2"), "{error}");
    }

    #[test]
    fn a_file_of_another_application_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (id INTEGER)").unwrap();
        let error = CHAT.check(&connection).unwrap_err();
        assert!(error.to_string().contains("another application"), "{error}");
    }
}
