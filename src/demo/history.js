// Loads messages: the newest of a conversation, older ones, and the ones that were missed while
// there was no connection.

import { Marks } from './memory.js';

/** A client that has missed more pages than this continues with the newest page. */
const MISSED_PAGES = 10;

export class History {
  #chat;
  #line;
  /** The newest message of each open room at the time when the user entered it. */
  #found;

  constructor(chat, line) {
    this.#chat = chat;
    this.#line = line;
    this.#found = new Marks(`found ${chat.me.id}`);
  }

  /** Loads the newest messages, once. */
  async load(conversation) {
    conversation.wanted = true;
    if (conversation.loaded || !this.#chat.listed || !this.#chat.connected) return;
    const answer = await this.#join(conversation);
    // After a lost connection, the next connection tries again.
    if (answer.ok && !conversation.loaded) this.#begin(conversation, answer);
  }

  /** Takes the newest messages, where none are loaded. */
  #begin(conversation, answer) {
    conversation.loaded = true;
    conversation.hasMore = answer.hasMore;
    const known = this.#chat.unread(conversation).length;
    this.#chat.take(conversation, answer.messages);
    if (conversation.isOpen) conversation.since = this.#since(conversation);
    // The counted unread messages that are loaded now.
    const loaded = this.#chat.unread(conversation).length;
    conversation.beyond = conversation.isOpen || !conversation.hasMore ? 0 : Math.max(0, conversation.beyond + known - loaded);
  }

  /** Loads older messages. */
  async loadOlder(conversation) {
    const [oldest] = conversation.messages;
    if (!oldest || !conversation.hasMore || conversation.loading || !this.#chat.connected) return;
    conversation.loading = true;
    this.#chat.change();
    const answer = await this.#join(conversation, { before: oldest.id, limit: 50 });
    conversation.loading = false;
    this.#chat.change();
    // The old messages may have been dropped meanwhile.
    if (!answer.ok || conversation.messages[0]?.id !== oldest.id) return;
    const known = this.#chat.unread(conversation).length;
    conversation.hasMore = answer.hasMore;
    this.#chat.take(conversation, answer.messages);
    conversation.beyond = Math.max(0, conversation.beyond + known - this.#chat.unread(conversation).length);
  }

  /** Loads the missed messages, and then the newest ones again, because they may have been read. */
  async catchUp(conversation, after) {
    if (!after || !conversation.loaded) return this.load(conversation);
    for (let pages = 0, hasMore = true; hasMore; pages += 1) {
      if (pages === MISSED_PAGES) return this.#startOver(conversation);
      const answer = await this.#join(conversation, { after });
      // A server with an empty storage has none of the known messages.
      if (answer.error) return this.#startOver(conversation);
      if (!answer.ok) return;
      const [first] = answer.messages;
      if (first && pages === 0) this.#chat.tell('missed', { conversation, first });
      this.#chat.take(conversation, answer.messages);
      after = answer.messages.at(-1)?.id;
      hasMore = answer.hasMore && after;
    }
    const newest = await this.#join(conversation);
    if (newest.ok) this.#chat.take(conversation, newest.messages);
  }

  /** Drops the loaded messages, because the gap to the newest ones is too long. */
  async #startOver(conversation) {
    const answer = await this.#join(conversation);
    if (!answer.ok) return;
    conversation.forget();
    conversation.beyond = conversation.told;
    this.#begin(conversation, answer);
    const [first] = conversation.messages;
    if (first) this.#chat.tell('missed', { conversation, first });
  }

  /** The start of the new messages in a room that is opened for the first time. */
  #since({ id, listed, hasMore, messages }) {
    // A user who enters a room has not missed its earlier messages.
    if (!listed) this.#found.raise(id, messages.at(-1)?.id);
    // In a room with a long history, old messages that the reader scrolls to are not new.
    return this.#found.get(id) ?? (hasMore ? messages[0].id : '');
  }

  #join(conversation, range = {}) {
    return this.#line.ask('join-conversation', { conversationId: conversation.id, ...range });
  }
}
