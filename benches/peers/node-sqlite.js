// The yardstick: what a good engineer would write in an afternoon with Socket.IO and SQLite. Each
// message is on disk before it is confirmed.
'use strict';

const { randomBytes } = require('node:crypto');
const { Server } = require('socket.io');
const Database = require('better-sqlite3');

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
const newest = db.prepare('SELECT * FROM messages WHERE conversation = ? ORDER BY created_at DESC LIMIT 100');
const store = db.transaction((message, recipientId) => {
  insert.run(message.id, message.conversationId, message.senderId, message.senderName, message.content, Date.now());
  touch.run(message.conversationId, JSON.stringify([message.senderId, recipientId]), message.id);
});

const io = new Server(Number(process.env.PORT), { serveClient: false });
const online = new Map();

io.on('connection', (socket) => {
  let user;
  socket.on('authenticate', ({ id, name }, ack) => {
    user = { id, name: name ?? id, online: true };
    online.set(id, user);
    socket.join(`user:${id}`);
    io.emit('user-status-change', { userId: id, status: 'online', timestamp: new Date().toISOString() });
    socket.emit('online-users', [...online.values()]);
    ack?.({ ok: true, user });
  });
  socket.on('join-conversation', ({ conversationId }, ack) => {
    socket.join(conversationId);
    const messages = newest.all(conversationId).reverse();
    socket.emit('conversation-history', { conversationId, messages });
    ack?.({ ok: true, messages });
  });
  socket.on('send-message', ({ conversationId, recipientId, message: content }, ack) => {
    const message = {
      id: randomBytes(12).toString('hex'), conversationId, content, senderId: user.id, senderName: user.name,
      senderAvatar: null, timestamp: new Date().toISOString(), type: 'text', readBy: [],
    };
    store(message, recipientId);
    socket.emit('message-sent', message);
    io.to(conversationId).to(`user:${recipientId}`).emit('receive-message', message);
    if (online.has(recipientId)) socket.emit('message-delivered', { messageId: message.id, status: 'delivered' });
    ack?.({ ok: true, message });
  });
  socket.on('disconnect', () => {
    if (!user) return;
    online.delete(user.id);
    io.emit('user-status-change', { userId: user.id, status: 'offline', timestamp: new Date().toISOString() });
  });
});
