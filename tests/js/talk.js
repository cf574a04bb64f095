// Two people talk through an official client: node talk.js URL CLIENT TRANSPORT[,TRANSPORT]
'use strict';

const assert = require('node:assert');
const [url, client, transports] = process.argv.slice(2);
const io = require(client);

const connect = () => io(url, { transports: transports.split(','), forceNew: true });
const next = (socket, event) => new Promise((resolve) => socket.once(event, resolve));
const ask = (socket, event, payload) => new Promise((resolve) => socket.emit(event, payload, resolve));

async function main() {
  const alice = connect();
  const bob = connect();
  // Emitted before the connection stands: the client keeps it, and sends it ahead of `connect`.
  const joined = await ask(bob, 'join-conversation', { conversationId: 'c1', userId: 'bob' });
  assert.deepStrictEqual(joined, { ok: true, conversationId: 'c1', messages: [], hasMore: false });

  const list = next(alice, 'online-users');
  const { user } = await ask(alice, 'authenticate', { id: 'alice', name: 'Alice' });
  assert.deepStrictEqual(await list, [user]);
  await ask(bob, 'authenticate', { id: 'bob' });

  const received = next(bob, 'receive-message');
  const sent = next(alice, 'message-sent');
  const delivered = next(alice, 'message-delivered');
  const { message } = await ask(alice, 'send-message', {
    conversationId: 'c1', recipientId: 'bob', message: 'Ünïcödé 🎉',
  });
  assert.strictEqual(message.content, 'Ünïcödé 🎉');
  assert.deepStrictEqual(await received, message);
  assert.deepStrictEqual(await sent, message);
  assert.deepStrictEqual(await delivered, { messageId: message.id, status: 'delivered' });

  const error = next(bob, 'error');
  const refused = await ask(bob, 'send-message', { conversationId: 'c1', message: Buffer.from('binary') });
  assert.strictEqual(refused.error.code, 'invalid_payload');
  assert.strictEqual((await error).event, 'send-message');

  const gone = next(bob, 'user-status-change');
  alice.disconnect();
  assert.strictEqual((await gone).status, 'offline');
  bob.disconnect();
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
