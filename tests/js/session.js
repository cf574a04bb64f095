// A session that is recorded: node session.js URL TRANSPORT[,TRANSPORT]
'use strict';

const { io } = require('socket.io-client');
const [url, transports] = process.argv.slice(2);

const connect = (auth, query) => io(url, { transports: transports.split(','), forceNew: true, reconnection: false, auth, query });
const next = (socket, event) => new Promise((resolve) => socket.once(event, resolve));
const ask = (socket, event, ...payload) => new Promise((resolve) => socket.emit(event, ...payload, resolve));

async function main() {
  // All of this is emitted at once, ahead of the connection.
  const alice = connect({ token: 'of Alice' });
  alice.emit('authenticate', { id: 'alice', name: 'Alice' });
  alice.emit('join-conversation', { conversationId: 'c1' });
  await ask(alice, 'send-message', { conversationId: 'c1', recipientId: 'bob smith', message: 'Hi' });

  const bob = connect(undefined, { from: 'the <message-1> test' });
  await ask(bob, 'authenticate', { id: 'bob smith' });
  const { messages: [hi] } = await ask(bob, 'join-conversation', { conversationId: 'c1' });
  await ask(bob, 'mark-as-read', { conversationId: 'c1', messageIds: [hi.id] });
  bob.emit('typing-start', { conversationId: 'c1' });
  await next(alice, 'user-typing');
  const typingEnds = next(alice, 'user-typing');
  await typingEnds;

  // A second tab, a text that looks like a variable, and two who speak at once.
  const tab = connect();
  await ask(tab, 'authenticate', { id: 'alice', name: 'Alice' });
  await Promise.all([
    ask(bob, 'send-message', { conversationId: 'c1', message: '<message-1> or <time>?' }),
    ask(tab, 'send-message', { conversationId: 'c1', message: '<time>' }),
  ]);
  await ask(bob, 'no such event', 1, { of: hi.timestamp });

  // A tab is closed without a word, and comes back.
  const gone = next(bob, 'user-status-change');
  alice.disconnect();
  tab.io.engine.transport.ws?.terminate?.();
  tab.io.engine.close();
  await gone;
  tab.connect();
  await ask(tab, 'authenticate', { id: 'alice' });
  tab.disconnect();
  await next(bob, 'user-status-change');

  bob.disconnect();
  // Whoever says something and is gone at once has said it; over polling it takes a moment.
  const last = connect();
  await next(last, 'connect');
  for (let number = 1; number <= 3; number += 1) {
    last.emit('send-message', { conversationId: 'c2', senderId: 'last', message: `Going ${number}` });
  }
  if (transports === 'polling') await ask(last, 'leave-conversation', { conversationId: 'c2' });
  setTimeout(() => process.exit(0), 50);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
