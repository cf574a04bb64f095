// The chat of the yardsticks: what a good engineer would write in an afternoon with Socket.IO.
'use strict';

const { randomBytes } = require('node:crypto');

/** Serves `io`. `store(message, recipientId)` returns once a message is kept, `newest(conversationId)` reads. */
module.exports = function chat(io, { store, newest }) {
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
      const messages = newest(conversationId);
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
    socket.on('typing-start', ({ conversationId, recipientId }, ack) => {
      const typing = { conversationId, userId: user.id, userName: user.name, isTyping: true };
      socket.to(conversationId).to(`user:${recipientId}`).emit('user-typing', typing);
      ack?.({ ok: true });
    });
    socket.on('mark-as-read', ({ conversationId, messageIds }, ack) => {
      const readAt = new Date().toISOString();
      io.to(conversationId).emit('messages-read', { conversationId, messageIds, readBy: user.id, readAt });
      ack?.({ ok: true, messageIds, readAt });
    });
    socket.on('disconnect', () => {
      if (!user) return;
      online.delete(user.id);
      io.emit('user-status-change', { userId: user.id, status: 'offline', timestamp: new Date().toISOString() });
    });
  });
};
