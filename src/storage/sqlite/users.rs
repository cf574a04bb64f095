//! The profiles that users gave.

use std::collections::HashMap;

use anyhow::Result;
use rusqlite::{Connection, Row, named_params};

use crate::model::{Id, Profile};

/// The columns that [`profile`] reads.
pub const COLUMNS: &str = "id, name, email, avatar";

pub fn profile(row: &Row) -> rusqlite::Result<Profile> {
    Ok(Profile { id: row.get(0)?, name: row.get(1)?, email: row.get(2)?, avatar: row.get(3)? })
}

pub fn save(connection: &Connection, profile: &Profile) -> Result<()> {
    // The condition saves a login without new data a write to disk.
    let sql = "
        INSERT INTO users (id, name, email, avatar) VALUES (:id, :name, :email, :avatar)
        ON CONFLICT (id) DO UPDATE SET
            name   = coalesce(:name, name),
            email  = coalesce(:email, email),
            avatar = coalesce(:avatar, avatar)
        WHERE coalesce(:name, name) IS NOT name
           OR coalesce(:email, email) IS NOT email
           OR coalesce(:avatar, avatar) IS NOT avatar";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": profile.id, ":name": profile.name, ":email": profile.email, ":avatar": profile.avatar,
    })?;
    Ok(())
}

/// The profiles of the known users among `users`.
pub fn find(connection: &Connection, users: &[Id]) -> Result<HashMap<Id, Profile>> {
    // One parameter for any number of users, so the statement is cached.
    let sql = format!("SELECT {COLUMNS} FROM users WHERE id IN (SELECT value FROM json_each(?))");
    let mut statement = connection.prepare_cached(&sql)?;
    let profiles = statement.query_map([serde_json::to_string(users)?], profile)?;
    let keyed = profiles.map(|profile| profile.map(|profile| (profile.id.clone(), profile)));
    Ok(keyed.collect::<rusqlite::Result<_>>()?)
}
