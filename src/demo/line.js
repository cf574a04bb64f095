// The line to the server: questions and their answers. A question that the server cannot take at
// the moment is repeated after the time that the server asks for, and all others wait with it.

/** The time after which an event without an answer counts as lost. */
const PATIENCE = 10_000;
/** The pause before another try if the server names none, because its storage is away. */
const PAUSE = 2_000;
/** The server disconnects a client that it refuses repeatedly in less than two seconds. */
const QUIET = 2_100;

export class Line {
  #socket;
  #heldUntil = 0;
  #refusedAt = -Infinity;

  constructor(token) {
    // The server disconnects a socket without a user, so the handshake has the token.
    this.#socket = io({ reconnectionDelayMax: 3_000, ...(token && { auth: { token } }) });
  }

  on(event, listener) {
    this.#socket.on(event, listener);
  }

  get isOpen() {
    return this.#socket.connected;
  }

  /** The server's answer; `{ ok: false }` without an error if the connection ends before it. */
  async ask(event, payload) {
    const { id } = this.#socket;
    for (;;) {
      await this.#held();
      // A question from another connection may make no sense on this one.
      if (!this.isOpen || this.#socket.id !== id) return { ok: false };
      const answer = await this.#emit(event, payload);
      const pause = pauseAfter(answer);
      if (!pause) return answer;
      this.#hold(pause);
    }
  }

  /** Sends an event that may get lost. Returns whether the server accepted it. */
  async tell(event, payload) {
    if (!this.isOpen || Date.now() < this.#heldUntil) return false;
    return (await this.#emit(event, payload)).ok;
  }

  #emit(event, payload) {
    return new Promise((resolve) => {
      this.#socket.timeout(PATIENCE).emit(event, payload, (lost, answer) => resolve(lost ? { ok: false } : answer));
    });
  }

  /** Holds all questions for this long; for longer, if this is not the first refusal in a row. */
  #hold(pause) {
    const now = Date.now();
    const isFirst = now - this.#refusedAt > QUIET;
    this.#refusedAt = now;
    this.#heldUntil = now + (isFirst ? pause : Math.max(pause, QUIET));
  }

  async #held() {
    for (let left; (left = this.#heldUntil - Date.now()) > 0; ) await sleep(left);
  }
}

/** The pause after which the same event may succeed; 0 if it cannot. */
function pauseAfter({ error }) {
  if (error?.code === 'rate_limited') return error.retryAfterMs ?? PAUSE;
  return error?.code === 'storage_unavailable' ? PAUSE : 0;
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
