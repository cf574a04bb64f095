// The line to the server: questions and their answers. A question that the server cannot take
// at the moment is asked again, after as long as the server wants, and all others wait with it.

/** How long an answer may take before the event counts as lost. */
const PATIENCE = 10_000;
/** When to try again where the server does not say: its storage is away. */
const PAUSE = 2_000;
/** Whoever is refused again and again in less than two seconds seems not to listen, and is cut off. */
const QUIET = 2_100;

export class Line {
  #socket;
  #heldUntil = 0;
  #refusedAt = -Infinity;

  constructor(token) {
    // The server closes with whom it does not know, so the token comes first of all.
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
      // What was asked on another connection may make no sense on this one.
      if (!this.isOpen || this.#socket.id !== id) return { ok: false };
      const answer = await this.#emit(event, payload);
      const pause = pauseAfter(answer);
      if (!pause) return answer;
      this.#hold(pause);
    }
  }

  /** Tells what may get lost. Returns whether it was taken. */
  async tell(event, payload) {
    if (!this.isOpen || Date.now() < this.#heldUntil) return false;
    return (await this.#emit(event, payload)).ok;
  }

  #emit(event, payload) {
    return new Promise((resolve) => {
      this.#socket.timeout(PATIENCE).emit(event, payload, (lost, answer) => resolve(lost ? { ok: false } : answer));
    });
  }

  /** Nothing is asked for so long; for longer, if this is not the first refusal in a row. */
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

/** Whether the same event may be taken later, and when. */
function pauseAfter({ error }) {
  if (error?.code === 'rate_limited') return error.retryAfterMs ?? PAUSE;
  return error?.code === 'storage_unavailable' ? PAUSE : 0;
}

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
