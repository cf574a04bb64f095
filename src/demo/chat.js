// A client of the server's contract: it keeps what it is told, and sends what it is asked to.
// It knows nothing of the page. Whoever shows it listens to `change`, `message` and `notice`.

import { newId } from './identity.js';

export const LOBBY = 'lobby';

/** How long an answer may take before the event counts as lost. */
const PATIENCE = 10_000;
/** Typing is told again as long as it goes on; the server forgets it after six seconds. */
const TYPING_EVERY = 3_000;

export class Chat extends EventTarget {
  /** Users by id: `{ id, name, avatar, online }`. */
  users = new Map();
  /** Conversations by id. */
  conversations = new Map();
  /** Whether the server knows who this is. */
  connected = false;
  /** Whether it ever did. */
  wasConnected = false;
  /** Whether all conversations are known. */
  listed = false;
  /** Why the server does not take this user. */
  refusal = null;

  #socket;
  #outbox;
  #typingSince = 0;
  #changed = false;
  #asking = null;

  constructor(me) {
    super();
    this.me = me;
    this.#outbox = new Outbox(me.id);
    this.#open(LOBBY, { isOpen: true });
    for (const message of this.#outbox.messages) this.#open(message.conversationId, message.open);
    this.#socket = io({ reconnectionDelayMax: 3_000 });
    this.#listen();
  }

  /** The conversation with one other person, which the first message begins. */
  with(userId) {
    for (const conversation of this.conversations.values()) {
      const { isOpen, participants } = conversation;
      if (!isOpen && participants.length === 2 && participants.includes(userId)) return conversation;
    }
    return this.#open(directId(this.me.id, userId), { participants: [this.me.id, userId] });
  }

  /** The other one in a conversation of two. */
  other(conversation) {
    const id = conversation.participants.find((participant) => participant !== this.me.id);
    return this.user(id ?? this.me.id);
  }

  user(id) {
    return this.users.get(id) ?? { id, name: id, avatar: null, online: false };
  }

  /** The messages of a conversation, those that wait to be sent at the end. */
  messages(conversation) {
    return [...conversation.messages, ...this.#outbox.of(conversation.id)];
  }

  /** Loads the newest messages, once. */
  async load(conversation) {
    conversation.wanted = true;
    if (conversation.loaded || !this.connected) return;
    const answer = await this.#ask('join-conversation', { conversationId: conversation.id });
    // After a lost connection it is tried again.
    if (!answer.ok || conversation.loaded) return;
    conversation.loaded = true;
    conversation.hasMore = answer.hasMore;
    conversation.since = answer.messages[0]?.id ?? '';
    this.#take(conversation, answer.messages);
  }

  /** Loads older messages. Returns whether there were any. */
  async loadOlder(conversation) {
    const [oldest] = conversation.messages;
    if (!oldest || !conversation.hasMore || conversation.loading || !this.connected) return false;
    conversation.loading = true;
    this.#change();
    const before = { conversationId: conversation.id, before: oldest.id, limit: 50 };
    const answer = await this.#ask('join-conversation', before);
    conversation.loading = false;
    if (answer.ok) {
      conversation.hasMore = answer.hasMore;
      this.#take(conversation, answer.messages);
    }
    this.#change();
    return answer.ok;
  }

  /** Sends a message, as soon as there is a connection, and once, however often it is tried. */
  send(conversation, content) {
    this.stopTyping(conversation);
    const { isOpen, participants } = conversation;
    this.#outbox.add({
      clientMessageId: newId('message'), conversationId: conversation.id, content, state: 'waiting',
      senderId: this.me.id, senderName: this.me.name, timestamp: new Date().toISOString(), readBy: [],
      open: { isOpen, participants },
    });
    this.#change();
    this.#flush();
  }

  /** Sends a message again that was refused. */
  resend(clientMessageId) {
    this.#outbox.update(clientMessageId, { state: 'waiting', reason: undefined });
    this.#change();
    this.#flush();
  }

  discard(clientMessageId) {
    this.#outbox.remove(clientMessageId);
    this.#change();
  }

  typing(conversation) {
    if (!this.connected || Date.now() - this.#typingSince < TYPING_EVERY) return;
    this.#typingSince = Date.now();
    this.#socket.emit('typing-start', { conversationId: conversation.id, recipientId: this.#recipient(conversation) });
  }

  stopTyping(conversation) {
    if (this.connected && this.#typingSince) {
      this.#socket.emit('typing-stop', { conversationId: conversation.id, recipientId: this.#recipient(conversation) });
    }
    this.#typingSince = 0;
  }

  /** Everything that is loaded has been read. */
  markRead(conversation) {
    if (!this.connected) return;
    const unread = this.unread(conversation).slice(-1_000);
    if (unread.length === 0 && (conversation.isOpen || conversation.unreadCount === 0)) return;
    conversation.unreadCount = 0;
    for (const message of unread) message.readBy.push(this.me.id);
    // Without ids, all that is left: what was deleted meanwhile still counts.
    const messageIds = unread.length > 0 ? unread.map((message) => message.id) : undefined;
    this.#socket.emit('mark-as-read', { conversationId: conversation.id, messageIds });
    this.#change();
  }

  /** The messages of others that this user has not read. What was scrolled up to is history. */
  unread({ messages, since }) {
    const { id } = this.me;
    return messages.filter((message) => message.id >= since && message.senderId !== id && !message.readBy.includes(id));
  }

  #listen() {
    const socket = this.#socket;
    socket.on('connect', () => this.#start());
    socket.on('disconnect', () => this.#setConnected(false));
    socket.on('connect_error', () => this.#change());
    socket.on('online-users', (users) => {
      for (const user of this.users.values()) user.online = false;
      users.forEach((user) => this.#meet(user));
      this.#change();
    });
    socket.on('user-status-change', ({ userId, status }) => {
      const isNew = !this.users.has(userId);
      this.#meet({ id: userId, online: status === 'online' });
      if (isNew && status === 'online') this.#askForNames();
      this.#change();
    });
    socket.on('receive-message', (message) => this.#received(message));
    socket.on('message-sent', (message) => this.#received(message));
    socket.on('message-delivered', ({ messageId }) => {
      for (const { messages } of this.conversations.values()) {
        const message = messages.find(({ id }) => id === messageId);
        if (message) message.delivered = true;
      }
      this.#change();
    });
    socket.on('messages-read', ({ conversationId, messageIds, readBy }) => {
      const conversation = this.conversations.get(conversationId);
      if (!conversation) return;
      const read = new Set(messageIds);
      for (const message of conversation.messages) {
        if (read.has(message.id) && !message.readBy.includes(readBy)) message.readBy.push(readBy);
      }
      if (readBy === this.me.id) conversation.unreadCount = this.#countUnread(conversation);
      this.#change();
    });
    socket.on('user-typing', ({ conversationId, userId, userName, isTyping }) => {
      const conversation = this.conversations.get(conversationId);
      if (!conversation) return;
      if (isTyping) conversation.typing.set(userId, userName);
      else conversation.typing.delete(userId);
      this.#change();
    });
    socket.on('error', ({ message, event }) => {
      // What became of a message stands beside it.
      if (event !== 'send-message') this.#notice(message);
    });
  }

  /** After each connect: says who this is, and catches up. */
  async #start() {
    // From where on something may be missing. What comes from now on leaves no gap before it.
    const since = new Map();
    for (const conversation of this.conversations.values()) {
      if (!conversation.loaded) conversation.messages = [];
      since.set(conversation, conversation.messages.at(-1)?.id);
    }
    const answer = await this.#authenticate();
    if (!answer.ok) {
      this.refusal = answer.error?.message ?? null;
      if (!answer.error && this.#socket.connected) setTimeout(() => this.#start(), 1_000);
      return this.#change();
    }
    this.refusal = null;
    this.#setConnected(true);
    this.#flush();
    await this.#list();
    this.listed = true;
    const wanted = [...this.conversations.values()].filter(({ id, wanted }) => wanted || id === LOBBY);
    await Promise.all(wanted.map((conversation) => this.#catchUp(conversation, since.get(conversation))));
    this.#change();
  }

  #authenticate() {
    const { id, name, avatar } = this.me;
    return this.#ask('authenticate', { id, name, avatar });
  }

  /** A status has no name; the list that follows an authentication has. Once for all newcomers. */
  #askForNames() {
    this.#asking ??= setTimeout(() => {
      this.#asking = null;
      if (this.connected) this.#authenticate();
    }, 300);
  }

  async #list() {
    let before;
    do {
      const answer = await this.#ask('list-conversations', { before, limit: 100 });
      if (!answer.ok) return;
      for (const { conversationId, isOpen, participants, lastMessage, unreadCount } of answer.conversations) {
        participants.forEach((participant) => this.#meet(participant));
        const ids = participants.map(({ id }) => id);
        const conversation = this.#open(conversationId, { isOpen, participants: ids });
        conversation.lastMessage = lastMessage;
        if (!isOpen) conversation.unreadCount = unreadCount;
        before = conversationId;
      }
      if (!answer.hasMore) return;
    } while (before);
  }

  /** Loads what was said meanwhile, and then the newest messages again: somebody may have read them. */
  async #catchUp(conversation, after) {
    if (!after) return this.load(conversation);
    for (let hasMore = true; hasMore; ) {
      const answer = await this.#ask('join-conversation', { conversationId: conversation.id, after });
      if (!answer.ok) return;
      const [first] = answer.messages;
      if (first) this.dispatchEvent(new CustomEvent('missed', { detail: { conversation, first } }));
      this.#take(conversation, answer.messages);
      after = answer.messages.at(-1)?.id;
      hasMore = answer.hasMore && after;
    }
    const newest = await this.#ask('join-conversation', { conversationId: conversation.id });
    if (newest.ok) this.#take(conversation, newest.messages);
  }

  /** Sends what waits, in its order. */
  #flush() {
    if (!this.connected) return;
    for (const { clientMessageId, conversationId, content } of this.#outbox.take()) {
      const recipientId = this.#recipient(this.conversations.get(conversationId));
      const message = { conversationId, recipientId, message: content, clientMessageId };
      this.#ask('send-message', message).then((answer) => {
        if (answer.ok) this.#received(answer.message);
        else if (!answer.error) this.#retry(clientMessageId);
        else this.#outbox.fail(clientMessageId, answer.error.message);
        this.#change();
      });
    }
  }

  /** No answer: it goes out again, at the latest after the reconnect, under the same id. */
  #retry(clientMessageId) {
    this.#outbox.putBack(clientMessageId);
    setTimeout(() => this.#flush(), 1_000);
  }

  #received(message) {
    // Who takes part in a conversation that is new here, the server knows.
    if (!this.conversations.has(message.conversationId)) this.#list();
    const conversation = this.#open(message.conversationId, {});
    const isNew = !conversation.messages.some(({ id }) => id === message.id);
    if (!conversation.isOpen && !conversation.participants.includes(message.senderId)) {
      conversation.participants.push(message.senderId);
    }
    this.#meet({ id: message.senderId, name: message.senderName, avatar: message.senderAvatar });
    this.#take(conversation, [message]);
    conversation.typing.delete(message.senderId);
    if (isNew && message.senderId !== this.me.id) {
      if (!conversation.isOpen) conversation.unreadCount += 1;
      this.dispatchEvent(new CustomEvent('message', { detail: { message, conversation } }));
    }
    this.#change();
  }

  /** Puts messages to those that are there: by their ids, which are in the order of their creation. */
  #take(conversation, messages) {
    for (const message of messages) {
      this.#outbox.remove(message.clientMessageId);
      const { messages: known } = conversation;
      const at = known.findLastIndex(({ id }) => id <= message.id);
      if (known[at]?.id === message.id) {
        known[at] = { ...message, delivered: known[at].delivered };
      } else {
        known.splice(at + 1, 0, message);
      }
      if (!this.users.has(message.senderId)) {
        this.#meet({ id: message.senderId, name: message.senderName, avatar: message.senderAvatar });
      }
    }
    const last = conversation.messages.at(-1);
    if (last && !(conversation.lastMessage?.id > last.id)) conversation.lastMessage = last;
    if (conversation.isOpen) conversation.unreadCount = this.#countUnread(conversation);
    this.#change();
  }

  #countUnread(conversation) {
    return this.unread(conversation).length;
  }

  #open(id, { isOpen = false, participants = [] }) {
    let conversation = this.conversations.get(id);
    if (!conversation) {
      conversation = {
        id, isOpen, participants: [...participants], messages: [], lastMessage: null, unreadCount: 0,
        typing: new Map(), hasMore: false, wanted: false, loaded: false, loading: false,
        // The oldest message that may count as unread.
        since: '',
      };
      this.conversations.set(id, conversation);
    } else if (participants.length > 0) {
      conversation.participants = [...participants];
      conversation.isOpen = isOpen;
    }
    return conversation;
  }

  /** Learns about a user; what is `null` or missing stays as it was. */
  #meet({ id, name, avatar, online }) {
    const known = this.users.get(id) ?? { id, name: id, avatar: null, online: false };
    this.users.set(id, { ...known, name: name || known.name, avatar: avatar ?? known.avatar, online: online ?? known.online });
  }

  #recipient(conversation) {
    return conversation.isOpen ? undefined : conversation.participants.find((id) => id !== this.me.id) ?? this.me.id;
  }

  /** The server's answer; `{ ok: false }` without an error if there is none. */
  #ask(event, payload) {
    return new Promise((resolve) => {
      if (!this.#socket.connected) resolve({ ok: false });
      else this.#socket.timeout(PATIENCE).emit(event, payload, (lost, answer) => resolve(lost ? { ok: false } : answer));
    });
  }

  #setConnected(connected) {
    this.connected = connected;
    this.wasConnected ||= connected;
    if (!connected) {
      this.#typingSince = 0;
      for (const { typing } of this.conversations.values()) typing.clear();
    }
    this.#change();
  }

  #notice(text) {
    this.dispatchEvent(new CustomEvent('notice', { detail: text }));
  }

  /** Tells of changes, once for all that happen together. */
  #change() {
    if (this.#changed) return;
    this.#changed = true;
    queueMicrotask(() => {
      this.#changed = false;
      this.dispatchEvent(new Event('change'));
    });
  }
}

/** What waits to be sent. It survives a reload of the page. */
class Outbox {
  messages = [];
  #key;
  #underWay = new Set();

  constructor(userId) {
    this.#key = `radio-istic outbox ${userId}`;
    try {
      this.messages = JSON.parse(sessionStorage.getItem(this.#key)) ?? [];
    } catch {
      // Without storage it lives as long as the page.
    }
  }

  of(conversationId) {
    return this.messages.filter((message) => message.conversationId === conversationId);
  }

  /** Those that are to be sent now. */
  take() {
    const ready = this.messages.filter(({ state, clientMessageId }) => state === 'waiting' && !this.#underWay.has(clientMessageId));
    ready.forEach(({ clientMessageId }) => this.#underWay.add(clientMessageId));
    return ready;
  }

  add(message) {
    this.messages.push(message);
    this.#save();
  }

  putBack(clientMessageId) {
    this.#underWay.delete(clientMessageId);
  }

  fail(clientMessageId, reason) {
    this.putBack(clientMessageId);
    this.update(clientMessageId, { state: 'failed', reason });
  }

  update(clientMessageId, change) {
    this.messages = this.messages.map((message) => (message.clientMessageId === clientMessageId ? { ...message, ...change } : message));
    this.#save();
  }

  remove(clientMessageId) {
    if (!this.messages.some((message) => message.clientMessageId === clientMessageId)) return;
    this.#underWay.delete(clientMessageId);
    this.messages = this.messages.filter((message) => message.clientMessageId !== clientMessageId);
    this.#save();
  }

  #save() {
    try {
      sessionStorage.setItem(this.#key, JSON.stringify(this.messages));
    } catch {
      // As above.
    }
  }
}

/** The id of the conversation of two people, the same for both; ids have at most 128 bytes. */
function directId(...users) {
  const id = `direct:${JSON.stringify(users.sort())}`;
  return new TextEncoder().encode(id).length <= 128 ? id : `direct:${hash(id)}`;
}

/** 128 bits of a text, good enough to tell conversations apart. */
function hash(text) {
  const words = [0x9e3779b9, 0x243f6a88, 0xb7e15162, 0xdeadbeef];
  for (const byte of new TextEncoder().encode(text)) {
    words.forEach((word, index) => {
      const mixed = Math.imul(word ^ byte ^ (words[(index + 1) % 4] >>> 15), 0x5bd1e995 + 2 * index);
      words[index] = (mixed ^ (mixed >>> 13)) >>> 0;
    });
  }
  return words.map((word) => word.toString(16).padStart(8, '0')).join('');
}
