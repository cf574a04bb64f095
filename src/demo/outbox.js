// The messages that wait to be sent. The outbox sends them in order, each once, and survives a
// reload.

import { windowMemory } from './memory.js';

/** The pause before another try after a lost answer. */
const PAUSE = 1_000;

export class Outbox {
  messages;
  #name;
  #send;
  #isBusy = false;
  #timer;

  /** `send` resolves to the server's answer, or `{ ok: false }` without an error if there is none. */
  constructor(userId, send) {
    this.#name = `outbox ${userId}`;
    this.#send = send;
    this.messages = windowMemory.get(this.#name) ?? [];
  }

  of(conversationId) {
    return this.messages.filter((message) => message.conversationId === conversationId);
  }

  add(message) {
    this.messages.push(message);
    this.#save();
  }

  update(clientMessageId, change) {
    this.messages = this.messages.map((message) => (message.clientMessageId === clientMessageId ? { ...message, ...change } : message));
    this.#save();
  }

  remove(clientMessageId) {
    const rest = this.messages.filter((message) => message.clientMessageId !== clientMessageId);
    if (rest.length === this.messages.length) return;
    this.messages = rest;
    this.#save();
  }

  /** Sends the waiting messages one after the other: later ones must not overtake a refused one. */
  async flush() {
    if (this.#isBusy) return;
    this.#isBusy = true;
    clearTimeout(this.#timer);
    for (let message; (message = this.messages.find(({ state }) => state === 'waiting')); ) {
      const answer = await this.#send(message);
      const { clientMessageId } = message;
      if (answer.ok) this.remove(clientMessageId);
      else if (answer.error) this.update(clientMessageId, { state: 'failed', reason: answer.error.message });
      else {
        // The message is sent again under the same id, at the latest after the reconnect.
        this.#timer = setTimeout(() => this.flush(), PAUSE);
        break;
      }
    }
    this.#isBusy = false;
  }

  #save() {
    windowMemory.set(this.#name, this.messages);
  }
}
