// Loads what was said: the newest messages of a conversation, older ones, and those that were
// missed while there was no connection.

import { Marks } from './memory.js';

/** Whoever has missed more pages than this goes on with the newest one. */
const MISSED_PAGES = 10;

export class History {
  #chat;
  #line;
  /** The newest message of each open room that a newcomer has found there. */
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
    // After a lost connection it is tried again.
    if (answer.ok && !conversation.loaded) this.#begin(conversation, answer);
  }

  /** Takes the newest messages, where none are loaded. */
  #begin(conversation, answer) {
    conversation.loaded = true;
    conversation.hasMore = answer.hasMore;
    const known = this.#chat.unread(conversation).length;
    this.#chat.take(conversation, answer.messages);
    if (conversation.isOpen) conversation.since = this.#since(conversation);
    // Those that were counted and are here now.
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
    // Meanwhile the old ones may have been forgotten.
    if (!answer.ok || conversation.messages[0]?.id !== oldest.id) return;
    const known = this.#chat.unread(conversation).length;
    conversation.hasMore = answer.hasMore;
    this.#chat.take(conversation, answer.messages);
    conversation.beyond = Math.max(0, conversation.beyond + known - this.#chat.unread(conversation).length);
  }

  /** Loads what was said meanwhile, and then the newest messages again: somebody may have read them. */
  async catchUp(conversation, after) {
    if (!after || !conversation.loaded) return this.load(conversation);
    for (let pages = 0, hasMore = true; hasMore; pages += 1) {
      if (pages === MISSED_PAGES) return this.#startOver(conversation);
      const answer = await this.#join(conversation, { after });
      // Of a server that was begun anew, nothing is left that was known.
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

  /** Forgets what is loaded, because the way from there to the newest messages is too long. */
  async #startOver(conversation) {
    const answer = await this.#join(conversation);
    if (!answer.ok) return;
    conversation.forget();
    conversation.beyond = conversation.told;
    this.#begin(conversation, answer);
    const [first] = conversation.messages;
    if (first) this.#chat.tell('missed', { conversation, first });
  }

  /** Where what is new begins in a room that is opened for the first time. */
  #since({ id, listed, hasMore, messages }) {
    // Whoever comes into a room has not missed what was said before.
    if (!listed) this.#found.raise(id, messages.at(-1)?.id);
    // Of a room with a long history, what is scrolled up to is no news.
    return this.#found.get(id) ?? (hasMore ? messages[0].id : '');
  }

  #join(conversation, range = {}) {
    return this.#line.ask('join-conversation', { conversationId: conversation.id, ...range });
  }
}
