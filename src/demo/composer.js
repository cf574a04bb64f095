// The text field for messages. It keeps a draft for each conversation, also over a reload.

import { byId } from './dom.js';
import { icon } from './icons.js';
import { windowMemory } from './memory.js';

export class Composer {
  #text = byId('text');
  #memory;
  #drafts;
  #conversation = null;

  /** `written` gets whether the field has text, `send` gets the text. */
  constructor(userId, { written, send }) {
    this.#memory = `drafts ${userId}`;
    this.#drafts = windowMemory.get(this.#memory) ?? {};
    const button = byId('send');
    button.append(icon('send'));
    // The focus stays in the text: on a phone, the keyboard would close and open again.
    button.addEventListener('mousedown', (event) => event.preventDefault());
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit(send);
    });
    this.#text.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit(send);
    });
    this.#text.addEventListener('input', () => {
      this.#keep();
      this.#grow();
      written(Boolean(this.#text.value.trim()));
    });
  }

  open(conversation) {
    this.#conversation = conversation;
    this.#text.value = this.#drafts[conversation.id] ?? '';
    this.#grow();
  }

  focus() {
    this.#text.focus();
  }

  #submit(send) {
    const content = this.#text.value.trim();
    if (!content) return;
    this.#text.value = '';
    this.#keep();
    this.#grow();
    send(content);
  }

  #keep() {
    const { value } = this.#text;
    if (value) this.#drafts[this.#conversation.id] = value;
    else delete this.#drafts[this.#conversation.id];
    windowMemory.set(this.#memory, this.#drafts);
  }

  /** Makes the field as high as its text, up to a third of the window. */
  #grow() {
    this.#text.style.height = 'auto';
    const borders = this.#text.offsetHeight - this.#text.clientHeight;
    this.#text.style.height = `${this.#text.scrollHeight + borders}px`;
  }
}
