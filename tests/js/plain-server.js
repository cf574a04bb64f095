// A chat server as the original document describes it, on the official library: no acknowledgements,
// ids and times of its own kind, nothing stored. It prints its port: node plain-server.js
'use strict';

const { randomUUID } = require('node:crypto');
const { Server } = require('socket.io');

const io = new Server(0);
const online = new Map();
const history = new Map();

io.use((socket, next) => next(socket.handshake.auth.token === 'wrong' ? new Error('invalid token') : undefined));

io.on('connection', (socket) => {
  let user;
  socket.on('authenticate', ({ id, name }) => {
    user = { id, name, online: true };
    online.set(id, user);
    io.emit('user-status-change', { userId: id, status: 'online', timestamp: Date.now() });
    socket.emit('online-users', [...online.values()]);
  });
  socket.on('join-conversation', ({ conversationId }) => {
    socket.join(conversationId);
    socket.emit('conversation-history', { conversationId, messages: history.get(conversationId) ?? [] });
  });
  socket.on('send-message', ({ conversationId, message: content }) => {
    if (!user) return;
    const message = {
      conversationId, id: randomUUID(), content, senderId: user.id, senderName: user.name,
      timestamp: new Date().toISOString(), type: 'text', readBy: [], via: socket.id,
    };
    history.set(conversationId, [...(history.get(conversationId) ?? []), message]);
    socket.emit('message-sent', message);
    io.to(conversationId).emit('receive-message', message);
  });
  socket.on('roll', (sides, label) => socket.emit('rolled', { sides, label }, 'for certain'));
  socket.on('ponder', (ack) => setTimeout(() => ack('late'), 700));
  socket.on('leave', () => socket.disconnect());
  socket.on('disconnect', () => {
    if (!user) return;
    online.delete(user.id);
    io.emit('user-status-change', { userId: user.id, status: 'offline', timestamp: Date.now() });
  });
});

io.engine.on('connection_error', (error) => console.error(error.message));
io.httpServer.on('listening', () => console.log(io.httpServer.address().port));
