// Node, and each message is on disk before it is confirmed.
'use strict';

const { Server } = require('socket.io');
const Database = require('better-sqlite3');
const chat = require('./chat');

const db = new Database(process.env.SQLITE_PATH);
db.pragma('journal_mode = WAL');
db.pragma('synchronous = FULL');
db.exec(`
  CREATE TABLE IF NOT EXISTS conversations (id TEXT PRIMARY KEY, participants TEXT, last_message TEXT);
  CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, conversation TEXT, sender TEXT, sender_name TEXT, content TEXT, created_at INTEGER);
  CREATE INDEX IF NOT EXISTS history ON messages (conversation, created_at);
`);
const insert = db.prepare('INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)');
const touch = db.prepare(`
  INSERT INTO conversations VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET last_message = excluded.last_message`);
const page = db.prepare('SELECT * FROM messages WHERE conversation = ? ORDER BY created_at DESC LIMIT 100');
const store = db.transaction((message, recipientId) => {
  insert.run(message.id, message.conversationId, message.senderId, message.senderName, message.content, Date.now());
  touch.run(message.conversationId, JSON.stringify([message.senderId, recipientId]), message.id);
});
const newest = (conversationId) => page.all(conversationId).reverse().map((row) => ({
  id: row.id, conversationId, content: row.content, senderId: row.sender, senderName: row.sender_name,
  senderAvatar: null, timestamp: new Date(row.created_at).toISOString(), type: 'text', readBy: [],
}));

chat(new Server(Number(process.env.PORT), { serveClient: false }), { store, newest });
