// The values that the browser keeps for this user. Without storage they live as long as the page.

/** A value by its name, in one of the browser's storages. */
class Memory {
  #storage;

  constructor(storage) {
    this.#storage = storage;
  }

  get(name) {
    try {
      return JSON.parse(this.#storage().getItem(`radio-istic ${name}`));
    } catch {
      return null;
    }
  }

  set(name, value) {
    try {
      this.#storage().setItem(`radio-istic ${name}`, JSON.stringify(value));
    } catch {
      // The storage is full or forbidden.
    }
  }
}

// A browser that forbids its storage throws as soon as code names the storage.
/** For this window, until it is closed. */
export const windowMemory = new Memory(() => sessionStorage);
/** For all windows, until the user clears it. */
export const lastingMemory = new Memory(() => localStorage);

/** The progress in each conversation: ids of messages, which sort by creation. */
export class Marks {
  #name;
  #ids;

  constructor(name) {
    this.#name = name;
    this.#ids = new Map(Object.entries(lastingMemory.get(name) ?? {}));
  }

  get(conversationId) {
    return this.#ids.get(conversationId);
  }

  /** Moves a mark on, never back. */
  raise(conversationId, id) {
    if (!id || this.#ids.get(conversationId) >= id) return;
    this.#ids.set(conversationId, id);
    // Other windows of this user keep their progress in the same place.
    const all = new Map(Object.entries(lastingMemory.get(this.#name) ?? {}));
    if (!(all.get(conversationId) >= id)) all.set(conversationId, id);
    lastingMemory.set(this.#name, Object.fromEntries(all));
  }
}
