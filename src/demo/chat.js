// A client of the server's contract: it keeps the state that it receives, and sends events. It
// knows nothing of the page, which listens to `change`, `message`, `missed`, `failed` and `notice`.

import { Conversations, LOBBY, directId } from './conversation.js';
import { History } from './history.js';
import { newId } from './identity.js';
import { Line } from './line.js';
import { Marks, windowMemory } from './memory.js';
import { Outbox } from './outbox.js';
import { People } from './people.js';
import { Receipts } from './receipts.js';
import { Typing } from './typing.js';

/** Refusals of these events need no notice: the page shows them, or the client sends them again. */
const QUIET_EVENTS = new Set(['authenticate', 'send-message', 'mark-as-read', 'typing-start', 'typing-stop']);
/** After these codes, the client repeats the request, or makes another one. */
const QUIET_CODES = new Set(['rate_limited', 'storage_unavailable', 'message_not_found']);

export class Chat extends EventTarget {
  people = new People();
  /** Conversations by id. */
  conversations = new Conversations();
  /** Whether the server knows the user of this page. */
  connected = false;
  /** Whether the server has ever known the user of this page. */
  wasConnected = false;
  /** Whether all conversations are known. */
  listed = false;
  /** The server's reason to refuse this user: `{ code, message }`. */
  refusal = null;

  #line;
  #outbox;
  #receipts;
  /** The newest delivered message of each conversation; all before it are delivered too. */
  #delivered;
  #history;
  #typing;
  #changed = false;
  #asking = null;

  constructor(me) {
    super();
    this.me = me;
    this.#delivered = new Marks(`delivered ${me.id}`);
    this.#line = new Line(me.token);
    this.#history = new History(this, this.#line);
    this.#typing = new Typing(this.#line);
    this.#outbox = new Outbox(me.id, (message) => this.#post(message));
    this.#receipts = new Receipts(this.#line, (id, ids) => this.#settle(id, ids));
    this.conversations.open(LOBBY, { isOpen: true });
    const begun = windowMemory.get(`begun ${me.id}`);
    if (begun) this.conversations.open(begun.id, begun);
    for (const message of this.#outbox.messages) this.conversations.open(message.conversationId, message.open);
    this.#listen();
  }

  /** The conversation with one other person, which the first message begins. */
  with(userId) {
    const known = this.conversations.between(this.me.id, userId);
    if (known) return known;
    const begun = { id: directId(this.me.id, userId), participants: [this.me.id, userId] };
    windowMemory.set(`begun ${this.me.id}`, begun);
    return this.conversations.open(begun.id, begun);
  }

  /** The other user in a conversation of two. */
  other({ participants }) {
    return this.people.get(participants.find((id) => id !== this.me.id) ?? this.me.id);
  }

  /** Whether a user is online, as far as the client can know. */
  isOnline(id) {
    return this.connected && this.people.get(id).online;
  }

  /** The messages of a conversation, with the waiting ones at the end. */
  messages(conversation) {
    return [...conversation.messages, ...this.#outbox.of(conversation.id)];
  }

  /** The last message, which may still wait to be sent. */
  last(conversation) {
    return this.#outbox.of(conversation.id).at(-1) ?? conversation.lastMessage;
  }

  isDelivered({ conversationId, id }) {
    return this.#delivered.get(conversationId) >= id;
  }

  /** The messages of others that this user has not read. */
  unread({ id: conversationId, messages, since }) {
    const me = this.me.id;
    return messages.filter(({ id, senderId, readBy }) =>
      id > since && senderId !== me && !readBy.includes(me) && !this.#receipts.has(conversationId, id));
  }

  countUnread(conversation) {
    return this.unread(conversation).length + conversation.beyond;
  }

  /** Loads older messages. */
  loadOlder(conversation) {
    return this.#history.loadOlder(conversation);
  }

  /** Loads the newest messages, once. */
  load(conversation) {
    return this.#history.load(conversation);
  }

  /** Sends a message once, as soon as there is a connection, with any number of tries. */
  send(conversation, content) {
    this.stopTyping(conversation);
    const { id, isOpen, participants } = conversation;
    this.#outbox.add({
      clientMessageId: newId('message'), conversationId: id, content, state: 'waiting',
      senderId: this.me.id, senderName: this.me.name, timestamp: new Date().toISOString(), readBy: [],
      open: { isOpen, participants },
    });
    this.change();
    if (this.connected) this.#outbox.flush();
  }

  /** Sends a refused message again. */
  resend(clientMessageId) {
    this.#outbox.update(clientMessageId, { state: 'waiting', reason: undefined });
    this.change();
    if (this.connected) this.#outbox.flush();
  }

  discard(clientMessageId) {
    this.#outbox.remove(clientMessageId);
    this.change();
  }

  typing(conversation) {
    this.#typing.go(conversation.id, this.#recipient(conversation));
  }

  stopTyping(conversation) {
    this.#typing.stop(conversation.id, this.#recipient(conversation));
  }

  /** Marks all up to this message as read; with `isAll`, all others of the conversation too. */
  markRead(conversation, upTo, isAll) {
    const unread = this.unread(conversation).filter(({ id }) => id <= upTo).map(({ id }) => id);
    const hasBeyond = isAll && conversation.beyond > 0;
    if (!this.connected || (unread.length === 0 && !hasBeyond)) return;
    if (hasBeyond) conversation.beyond = 0;
    this.#receipts.add(conversation.id, unread, hasBeyond);
    this.change();
  }

  #listen() {
    const on = (event, listener) => this.#line.on(event, (payload) => {
      listener(payload);
      this.change();
    });
    on('connect', () => this.#start());
    on('disconnect', () => this.#setConnected(false));
    on('connect_error', ({ message }) => {
      // A server that is away gives no reason; a server that refuses the token does.
      if (message === 'invalid_token') this.refusal = { code: message, message: 'The token is not valid, or no longer.' };
    });
    on('online-users', (users) => {
      this.people.leave();
      users.forEach((user) => this.people.meet(user));
      this.conversations.forEach((conversation) => this.#reached(conversation));
    });
    on('user-status-change', ({ userId, status }) => {
      if (!this.people.has(userId) && status === 'online') this.#askForNames();
      this.people.meet({ id: userId, online: status === 'online' });
      this.conversations.forEach((conversation) => this.#reached(conversation));
    });
    on('receive-message', (message) => this.#received(message));
    on('message-sent', (message) => this.#received(message));
    on('message-delivered', ({ messageId }) => {
      for (const conversation of this.conversations.values()) {
        if (conversation.has(messageId)) this.#delivered.raise(conversation.id, messageId);
      }
    });
    on('messages-read', ({ conversationId, messageIds, readBy }) => {
      const conversation = this.conversations.get(conversationId);
      if (!conversation) return;
      if (readBy === this.me.id) {
        const elsewhere = messageIds.filter((id) => !conversation.has(id)).length;
        conversation.beyond = Math.max(0, conversation.beyond - elsewhere);
      }
      conversation.markRead(messageIds, readBy);
    });
    on('user-typing', ({ conversationId, userId, userName, isTyping }) => {
      const typing = this.conversations.get(conversationId)?.typing;
      if (isTyping) typing?.set(userId, userName);
      else typing?.delete(userId);
    });
    on('error', ({ code, message, event }) => {
      if (!QUIET_EVENTS.has(event) && !(event && QUIET_CODES.has(code))) this.tell('notice', message);
    });
  }

  /** After each connect: authenticates, and catches up. */
  async #start() {
    // The points after which messages may be missing. Messages that arrive from now on leave no
    // gap.
    const since = new Map();
    for (const conversation of this.conversations.values()) {
      if (!conversation.loaded) conversation.forget();
      since.set(conversation, conversation.messages.at(-1)?.id);
    }
    const answer = await this.#authenticate();
    if (!answer.ok) {
      this.refusal = answer.error ?? null;
      if (!answer.error && this.#line.isOpen && !this.connected) setTimeout(() => this.#start(), 1_000);
      return this.change();
    }
    this.refusal = null;
    this.#setConnected(true);
    this.#outbox.flush();
    await this.#list();
    this.listed = true;
    const wanted = [...this.conversations.values()].filter(({ id, wanted }) => wanted || id === LOBBY);
    await Promise.all(wanted.map((conversation) => this.#history.catchUp(conversation, since.get(conversation))));
    this.#receipts.flush();
    this.change();
  }

  #authenticate() {
    const { id, name, avatar, token } = this.me;
    return this.#line.ask('authenticate', { id, name, avatar, token });
  }

  /** A status has no name; the list after an authentication has. One request for all newcomers. */
  #askForNames() {
    this.#asking ??= setTimeout(() => {
      this.#asking = null;
      if (this.connected) this.#authenticate();
    }, 300);
  }

  async #list() {
    for (let before, hasMore = true; hasMore; ) {
      const answer = await this.#line.ask('list-conversations', { before, limit: 100 });
      if (!answer.ok) return;
      for (const { conversationId, isOpen, participants, lastMessage, unreadCount } of answer.conversations) {
        participants.forEach((participant) => this.people.meet(participant));
        const ids = participants.map(({ id }) => id);
        const conversation = this.conversations.open(conversationId, { isOpen, participants: ids });
        conversation.listed = true;
        conversation.lastMessage = lastMessage;
        conversation.told = isOpen ? 0 : unreadCount;
        if (!conversation.loaded) conversation.beyond = Math.max(0, conversation.told - this.unread(conversation).length);
        before = conversationId;
      }
      hasMore = answer.hasMore;
    }
  }

  async #post({ clientMessageId, conversationId, content }) {
    if (!this.connected) return { ok: false };
    const recipientId = this.#recipient(this.conversations.get(conversationId));
    const message = { conversationId, recipientId, message: content, clientMessageId };
    const answer = await this.#line.ask('send-message', message);
    if (answer.ok) this.#received(answer.message);
    if (answer.error) this.tell('failed', { content, reason: answer.error.message });
    this.change();
    return answer;
  }

  #received(message) {
    // Only the server knows the participants of a new conversation.
    if (!this.conversations.has(message.conversationId)) this.#list();
    const conversation = this.conversations.open(message.conversationId);
    if (!conversation.isOpen && !conversation.participants.includes(message.senderId)) {
      conversation.participants.push(message.senderId);
    }
    this.people.meet({ id: message.senderId, name: message.senderName, avatar: message.senderAvatar });
    const isNew = this.take(conversation, [message]) > 0;
    conversation.typing.delete(message.senderId);
    if (isNew && message.senderId !== this.me.id) this.tell('message', { message, conversation });
  }

  /** Adds messages to a conversation. Returns the number of new ones. */
  take(conversation, messages) {
    for (const { clientMessageId, senderId, senderName, senderAvatar } of messages) {
      if (senderId === this.me.id) this.#outbox.remove(clientMessageId);
      if (!this.people.has(senderId)) this.people.meet({ id: senderId, name: senderName, avatar: senderAvatar });
    }
    const added = conversation.take(messages);
    this.#reached(conversation);
    this.change();
    return added;
  }

  /** The messages of a conversation of two are delivered while the other user is online. */
  #reached(conversation) {
    if (conversation.isOpen || !this.isOnline(this.other(conversation).id)) return;
    this.#delivered.raise(conversation.id, conversation.messages.at(-1)?.id);
  }

  /** The server knows these messages as read. */
  #settle(id, ids) {
    const conversation = this.conversations.get(id);
    conversation.markRead(ids ?? conversation.messages.map(({ id }) => id), this.me.id);
    this.change();
  }

  #recipient({ isOpen, participants }) {
    return isOpen ? undefined : participants.find((id) => id !== this.me.id) ?? this.me.id;
  }

  #setConnected(connected) {
    this.connected = connected;
    this.wasConnected ||= connected;
    if (!connected) this.conversations.forEach(({ typing }) => typing.clear());
    this.change();
  }

  tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  /** Announces changes, once for all that happen together. */
  change() {
    if (this.#changed) return;
    this.#changed = true;
    queueMicrotask(() => {
      this.#changed = false;
      this.dispatchEvent(new Event('change'));
    });
  }
}
