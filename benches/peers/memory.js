// The last 100 messages of each conversation, and nothing else: no message survives.
'use strict';

const kept = new Map();

exports.store = (message) => {
  const messages = kept.get(message.conversationId) ?? [];
  messages.push(message);
  if (messages.length > 100) messages.shift();
  kept.set(message.conversationId, messages);
};
exports.newest = (conversationId) => kept.get(conversationId) ?? [];
