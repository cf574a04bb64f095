// Marks messages as read: not each by itself, but several in one event.

import { sleep } from './line.js';

/** The least time between two of these events, in milliseconds. */
const EVERY = 700;
/** The most ids that an event may have. */
const AT_ONCE = 1_000;

export class Receipts {
  #line;
  #settled;
  /** By conversation: the waiting ids, and whether the whole conversation was read. */
  #waiting = new Map();
  #sentAt = 0;
  #isBusy = false;

  /** `settled(conversationId, ids)` follows the server's answer, with `null` for all ids. */
  constructor(line, settled) {
    this.#line = line;
    this.#settled = settled;
  }

  has(conversationId, id) {
    return Boolean(this.#waiting.get(conversationId)?.ids.has(id));
  }

  /** Takes messages as read; `isAll`: also those of the conversation that are not loaded. */
  add(conversationId, ids, isAll = false) {
    const waiting = this.#waiting.get(conversationId) ?? { ids: new Set(), isAll: false };
    ids.forEach((id) => waiting.ids.add(id));
    waiting.isAll ||= isAll;
    this.#waiting.set(conversationId, waiting);
    this.flush();
  }

  async flush() {
    if (this.#isBusy) return;
    this.#isBusy = true;
    for (let next; (next = this.#waiting.entries().next().value); ) {
      await sleep(this.#sentAt + EVERY - Date.now());
      const [conversationId, waiting] = next;
      const { ids, isAll } = waiting;
      const messageIds = isAll ? undefined : [...ids].slice(0, AT_ONCE);
      const covered = messageIds ?? [...ids];
      this.#sentAt = Date.now();
      waiting.isAll = false;
      const answer = await this.#line.ask('mark-as-read', { conversationId, messageIds });
      if (!answer.ok && !answer.error) {
        // After a lost connection, the next connection tries again.
        waiting.isAll ||= isAll;
        break;
      }
      if (answer.ok) this.#settled(conversationId, isAll ? null : covered);
      covered.forEach((id) => ids.delete(id));
      if (ids.size === 0 && !waiting.isAll) this.#waiting.delete(conversationId);
    }
    this.#isBusy = false;
  }
}
