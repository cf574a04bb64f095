// The messages of one conversation, grouped by day and sender, and the position of the reader.

import { byId, h } from './dom.js';
import { KeyedList } from './list.js';
import { messageElement, progress } from './message.js';
import { dayName, dayOf } from './text.js';

/** Messages of one sender that are closer in time than this form a group. */
const TOGETHER = 5 * 60_000;
/** A reader who is this close to the end, in pixels, follows it. */
const NEAR = 80;
/** The most messages that are shown, and the number of others that scrolling to an edge brings. */
const SHOWN = 500;
const STEP = 100;

const keyOf = ({ id, clientMessageId }) => id ?? clientMessageId;

export class Messages {
  #chat;
  #acts;
  #conversation;
  #scroller = byId('scroller');
  #list = new KeyedList(byId('messages'));
  #jump = byId('jump');
  /** The message above which "New messages" stands. */
  #newFrom = null;
  /** Whether the first new message at the time of opening is known. */
  #isKnown = false;
  /** Whether the reader follows the end. */
  #stays = true;
  /** The last message that is shown, if it is not the last one of all. */
  #end = null;
  /** The number of messages before the ones that are shown. */
  #before = 0;

  constructor(chat, acts) {
    this.#chat = chat;
    this.#acts = acts;
    this.#scroller.addEventListener('scroll', () => this.#scrolled());
    this.#jump.addEventListener('click', () => {
      this.#scroller.focus();
      this.toEnd();
    });
    // A phone's keyboard and a growing composer take their space from the list.
    new ResizeObserver(() => this.#stays && this.#scrollToEnd()).observe(this.#scroller);
  }

  /** Shows another conversation: from its first new message, or from its end. */
  open(conversation) {
    this.close();
    this.#conversation = conversation;
    this.#newFrom = null;
    this.#isKnown = false;
    this.#stays = true;
    this.#end = null;
    this.#list.clear();
    this.#chat.load(conversation);
  }

  /** Shows no conversation. */
  close() {
    if (this.#conversation) this.#conversation.follows = true;
    this.#conversation = null;
  }

  /** Whether the last message is in sight. */
  get atEnd() {
    return Boolean(this.#conversation) && this.#stays && isLookedAt();
  }

  /** A message of another user has arrived out of sight. */
  unseen(message) {
    const hasOthers = this.#chat.unread(this.#conversation).some(({ id }) => id !== message.id);
    if (!hasOthers || !this.#conversation.has(this.#newFrom)) this.#newFrom = message.id;
  }

  /** The user has sent a message, and so has seen all above. */
  answered() {
    this.#newFrom = null;
    this.toEnd();
  }

  toEnd() {
    this.#stays = true;
    this.#end = null;
    this.render();
  }

  /** Notes the messages that are in sight now. */
  look() {
    const conversation = this.#conversation;
    if (!conversation || !this.#isKnown || !isLookedAt() || this.#chat.countUnread(conversation) === 0) return;
    const last = this.#stays ? conversation.messages.at(-1)?.id : this.#lastInSight();
    if (last) this.#chat.markRead(conversation, last, this.#stays);
  }

  render() {
    const conversation = this.#conversation;
    if (!conversation) return;
    const opens = !this.#isKnown && conversation.loaded;
    // No message is read before the new ones are known.
    if (opens) this.#newFrom = this.#chat.unread(conversation)[0]?.id ?? null;
    this.#isKnown ||= opens;
    const messages = this.#chat.messages(conversation);
    const end = this.#indexOfEnd(messages);
    this.#before = Math.max(0, end - SHOWN);
    const anchor = this.#stays ? null : this.#anchor();
    this.#list.show(this.#items(messages.slice(this.#before, end)));
    byId('older').hidden = !conversation.loading;
    byId('empty').hidden = messages.length > 0 || !conversation.loaded;
    if (opens && this.#newFrom) this.#scrollToMark();
    else if (this.#stays) this.#scrollToEnd();
    else if (anchor) this.#hold(anchor);
    this.look();
    this.#offerJump();
    // A list that is at the top already gets no scroll event.
    if (opens) this.#scrolled();
  }

  /** The items to show: keys in their order, each with a signature and a function to build it. */
  #items(messages) {
    const items = [];
    let before = null;
    for (const message of messages) {
      const day = dayOf(message.timestamp);
      const isNewDay = !before || dayOf(before.timestamp) !== day;
      if (isNewDay) items.push(line(`day ${keyOf(message)}`, 'day', dayName(day)));
      const isNew = message.id && message.id === this.#newFrom;
      if (isNew) items.push(line('new', 'new', 'New messages'));
      const follows = !isNewDay && !isNew && before?.senderId === message.senderId
        && new Date(message.timestamp) - new Date(before.timestamp) < TOGETHER;
      items.push(this.#item(message, follows));
      before = message;
    }
    return items;
  }

  #item(message, follows) {
    const isOwn = message.senderId === this.#chat.me.id;
    const tick = progress(this.#chat, message);
    const sender = this.#chat.people.get(message.senderId);
    const signature = [follows, tick, message.reason, sender.avatar, sender.name].join('\n');
    const build = () => messageElement(message, { sender, isOwn, follows, tick, acts: this.#acts });
    return { key: keyOf(message), signature, build };
  }

  #indexOfEnd(messages) {
    const index = this.#end === null ? -1 : messages.findLastIndex((message) => keyOf(message) === this.#end);
    if (index < 0) this.#end = null;
    return index < 0 ? messages.length : index + 1;
  }

  /** Shows another part of the loaded messages, `by` this many later. */
  #shift(by) {
    const messages = this.#chat.messages(this.#conversation);
    const end = Math.min(messages.length, Math.max(SHOWN, this.#indexOfEnd(messages) + by));
    const last = end === messages.length ? null : keyOf(messages[end - 1]);
    if (last === this.#end) return;
    this.#end = last;
    this.render();
  }

  /** The first message in sight, and its lower edge: its name may go when others come above. */
  #anchor() {
    const { top } = this.#scroller.getBoundingClientRect();
    for (const [key, element] of this.#list.entries()) {
      const { bottom } = element.getBoundingClientRect();
      if (bottom > top && element.classList.contains('message')) return { key, bottom };
    }
    return null;
  }

  /** Keeps the read message in its place, whatever changes above it. */
  #hold({ key, bottom }) {
    const element = this.#list.get(key);
    const moved = element ? element.getBoundingClientRect().bottom - bottom : 0;
    if (Math.abs(moved) >= 1) this.#scroller.scrollTop += moved;
  }

  #lastInSight() {
    const { bottom } = this.#scroller.getBoundingClientRect();
    const messages = this.#list.entries().filter(([, element]) => element.classList.contains('message'));
    return messages.findLast(([, element]) => element.getBoundingClientRect().bottom <= bottom + 4)?.[0];
  }

  #scrollToMark() {
    const mark = this.#list.get('new');
    if (!mark) return this.#scrollToEnd();
    const offset = mark.getBoundingClientRect().top - this.#scroller.getBoundingClientRect().top;
    this.#scroller.scrollTop += offset - this.#scroller.clientHeight / 4;
    this.#locate();
  }

  #scrollToEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  /** Returns the distance to the end of the shown messages. */
  #locate() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const left = scrollHeight - scrollTop - clientHeight;
    this.#stays = this.#end === null && left < NEAR;
    this.#conversation.follows = this.#stays;
    return left;
  }

  async #scrolled() {
    const conversation = this.#conversation;
    if (!conversation) return;
    const left = this.#locate();
    this.look();
    this.#offerJump();
    const { scrollTop, clientHeight } = this.#scroller;
    if (scrollTop < 2 * clientHeight) {
      if (this.#before === 0) await this.#chat.loadOlder(conversation);
      const isAbove = this.#chat.messages(conversation).length > SHOWN;
      if (conversation === this.#conversation && isAbove) this.#shift(-STEP);
    } else if (this.#end !== null && left < clientHeight) {
      this.#shift(STEP);
    }
  }

  #offerJump() {
    this.#jump.hidden = this.#stays;
    if (this.#stays) return;
    const unread = this.#chat.countUnread(this.#conversation);
    const words = unread > 0 ? `${unread} new ↓` : 'To the end ↓';
    if (this.#jump.textContent !== words) this.#jump.textContent = words;
  }
}

const isLookedAt = () => document.visibilityState === 'visible' && document.hasFocus();

const line = (key, className, text) => ({ key, signature: text, build: () => h('li', { className }, h('span', {}, text)) });
