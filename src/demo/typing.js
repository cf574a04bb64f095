// Typing indicators of this user.

/** The event is repeated while the user types; the server forgets it after six seconds. */
const EVERY = 3_000;

export class Typing {
  #line;
  #since = 0;

  constructor(line) {
    this.#line = line;
  }

  async go(conversationId, recipientId) {
    if (Date.now() - this.#since < EVERY) return;
    this.#since = Date.now();
    const wasTaken = await this.#line.tell('typing-start', { conversationId, recipientId });
    // The next key sends it again.
    if (!wasTaken) this.#since = 0;
  }

  stop(conversationId, recipientId) {
    if (this.#since) this.#line.tell('typing-stop', { conversationId, recipientId });
    this.#since = 0;
  }
}
