// The messages of one conversation: grouped by day and sender, and where the reader is in them.

import { avatar, byId, dayOf, h, linked, timeOf } from './dom.js';

/** Messages of one sender that are closer than this stand together. */
const TOGETHER = 5 * 60_000;
/** Whoever is this close to the end, in pixels, goes on with it. */
const NEAR = 80;

export class Messages {
  #chat;
  #conversation;
  #scroller = byId('scroller');
  #list = byId('messages');
  #jump = byId('jump');
  /** The elements that are shown, by key, each with what it was made of. */
  #shown = new Map();
  /** The message above which "New messages" stands. */
  #newFrom = null;
  /** The oldest message that is shown. */
  #first = null;
  #opens = false;
  /** Whether the reader goes on with the end. */
  #stays = true;

  constructor(chat) {
    this.#chat = chat;
    this.#scroller.addEventListener('scroll', () => this.#scrolled());
    this.#jump.addEventListener('click', () => {
      this.#scroller.focus();
      this.toEnd();
    });
    // A phone's keyboard, and a composer that grows, take their space from here.
    new ResizeObserver(() => this.#stays && this.toEnd()).observe(this.#scroller);
  }

  /** Shows another conversation, from its end. */
  async open(conversation) {
    this.#conversation = conversation;
    this.#newFrom = null;
    this.#first = null;
    this.#stays = true;
    this.#shown.clear();
    this.#list.replaceChildren();
    // Nothing is read before it is known what is new.
    this.#opens = true;
    await this.#chat.load(conversation);
    if (this.#conversation !== conversation) return;
    this.#opens = false;
    this.#newFrom = this.#chat.unread(conversation)[0]?.id ?? null;
    this.render();
  }

  /** Shows none. */
  close() {
    this.#conversation = null;
  }

  /** Whether what is said last is seen. */
  get atEnd() {
    return Boolean(this.#conversation) && this.#stays && document.visibilityState === 'visible' && document.hasFocus();
  }

  /** Somebody has said something that was not seen. */
  unseen(message) {
    this.#newFrom ??= message.id;
  }

  /** The user has said something, and has seen all above. */
  answered() {
    this.#newFrom = null;
    this.toEnd();
  }

  toEnd() {
    this.#stays = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#seen();
  }

  render() {
    const conversation = this.#conversation;
    if (!conversation) return;
    const messages = this.#chat.messages(conversation);
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    const first = messages[0]?.id;
    const hasOlder = this.#first && first !== this.#first;
    this.#first = first;
    this.#place(this.#items(messages));
    byId('older').hidden = !conversation.loading;
    byId('empty').hidden = messages.length > 0 || !conversation.loaded;
    if (this.#stays) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    // Older messages have come in above: what is read stays where it is.
    else if (hasOlder) this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
    const unread = this.#chat.unread(conversation).length;
    this.#jump.hidden = this.#stays;
    this.#jump.textContent = unread > 0 ? `${unread} new ↓` : 'To the end ↓';
    this.#seen();
  }

  /** What is to be shown: keys in their order, each with a signature and how to build it. */
  #items(messages) {
    const items = [];
    let before = null;
    for (const message of messages) {
      const key = message.id ?? message.clientMessageId;
      const day = dayOf(message.timestamp);
      const isNewDay = !before || dayOf(before.timestamp) !== day;
      if (isNewDay) items.push([`day ${day}`, day, () => h('li', { className: 'day' }, h('span', {}, day))]);
      const isNew = message.id && message.id === this.#newFrom;
      if (isNew) items.push(['new', '', () => h('li', { className: 'new' }, h('span', {}, 'New messages'))]);
      const follows = !isNewDay && !isNew && before?.senderId === message.senderId
        && new Date(message.timestamp) - new Date(before.timestamp) < TOGETHER;
      const tick = this.#tick(message);
      const sender = this.#chat.user(message.senderId);
      const signature = JSON.stringify([follows, tick?.label, message.reason, sender.avatar, sender.name]);
      items.push([key, signature, () => this.#message(message, follows, tick)]);
      before = message;
    }
    return items;
  }

  /** Puts the items into the list, and touches only what has changed. */
  #place(items) {
    const shown = new Map();
    let next = this.#list.firstChild;
    for (const [key, signature, build] of items) {
      const known = this.#shown.get(key);
      const element = known?.signature === signature ? known.element : build();
      if (known && known.element !== element) {
        if (next === known.element) next = next.nextSibling;
        known.element.remove();
      }
      if (element === next) next = next.nextSibling;
      else this.#list.insertBefore(element, next);
      shown.set(key, { signature, element });
    }
    for (const [key, { element }] of this.#shown) if (!shown.has(key)) element.remove();
    this.#shown = shown;
  }

  #message(message, follows, tick) {
    const isOwn = message.senderId === this.#chat.me.id;
    const sender = { ...this.#chat.user(message.senderId), id: message.senderId };
    const meta = h('span', { className: 'meta' }, h('time', { dateTime: message.timestamp }, timeOf(message.timestamp)));
    if (tick) {
      const mark = h('span', { className: `tick ${tick.name}`, textContent: tick.sign, title: tick.label });
      mark.setAttribute('role', 'img');
      mark.setAttribute('aria-label', tick.label);
      meta.append(' ', mark);
    }
    const author = h('span', { className: isOwn || follows ? 'unseen' : 'author' }, isOwn ? 'You' : message.senderName || sender.name);
    const bubble = h('div', { className: 'bubble' }, author, h('p', { className: 'content' }, ...linked(message.content)), meta);
    const item = h('li', { className: `message ${isOwn ? 'own' : 'other'} ${follows ? 'follows' : ''}` });
    if (!isOwn) item.append(follows ? h('span', { className: 'avatar' }) : avatar(sender));
    item.append(bubble);
    if (message.state === 'failed') bubble.append(this.#failed(message));
    return item;
  }

  #failed({ clientMessageId, reason }) {
    const again = h('button', { type: 'button', textContent: 'Send again' });
    again.addEventListener('click', () => this.#chat.resend(clientMessageId));
    const discard = h('button', { type: 'button', textContent: 'Discard' });
    discard.addEventListener('click', () => this.#chat.discard(clientMessageId));
    return h('p', { className: 'failed' }, `Not sent: ${reason} `, again, ' ', discard);
  }

  /** How far an own message has come. */
  #tick({ id, senderId, readBy, delivered, state }) {
    const { me } = this.#chat;
    if (senderId !== me.id) return null;
    if (state === 'failed') return { name: 'failing', sign: '!', label: 'Not sent' };
    if (!id) return { name: 'waiting', sign: '◷', label: 'Waiting to be sent' };
    if (readBy.some((reader) => reader !== me.id)) return { name: 'read', sign: '✓✓', label: 'Read' };
    return delivered ? { name: 'delivered', sign: '✓✓', label: 'Delivered' } : { name: 'sent', sign: '✓', label: 'Sent' };
  }

  async #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#stays = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#jump.hidden = this.#stays;
    this.#seen();
    if (scrollTop < 2 * clientHeight && this.#conversation?.hasMore) await this.#chat.loadOlder(this.#conversation);
  }

  #seen() {
    if (this.atEnd && !this.#opens) this.#chat.markRead(this.#conversation);
  }
}
