// The two lists: conversations with their last messages, and users who are online.

import { LOBBY } from './conversation.js';
import { avatar, byId, h, setText } from './dom.js';
import { icon } from './icons.js';
import { KeyedList } from './list.js';
import { shortTimeOf } from './text.js';

export class Sidebar {
  #chat;
  #element = byId('sidebar');
  #conversations = new KeyedList(byId('conversations'));
  #people = new KeyedList(byId('people'));
  #isPressed = false;

  /** `openConversation` and `openPerson` are called with an id, `released` when the lists may change again. */
  constructor(chat, { openConversation, openPerson, released }) {
    this.#chat = chat;
    onChoice(byId('conversations'), openConversation);
    onChoice(byId('people'), openPerson);
    // A pressed item must not move away before its release.
    this.#element.addEventListener('pointerdown', () => {
      this.#isPressed = true;
    });
    for (const end of ['pointerup', 'pointercancel']) {
      addEventListener(end, () => {
        if (!this.#isPressed) return;
        this.#isPressed = false;
        released();
      });
    }
  }

  render(current) {
    if (this.#isPressed) return;
    const { me, people } = this.#chat;
    const conversations = [...this.#chat.conversations.values()].sort(byActivity);
    this.#conversations.show(conversations.map((conversation) => this.#conversation(conversation, current)));
    const others = this.#chat.connected ? people.online.filter(({ id }) => id !== me.id) : [];
    others.sort((a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id));
    this.#people.show(others.map(person));
    byId('nobody').hidden = others.length > 0 || !this.#chat.connected;
  }

  /** Puts the focus on a conversation, or on the first one. */
  focus(conversation) {
    const element = (conversation && this.#conversations.get(conversation.id)) ?? byId('conversations').firstChild;
    element?.querySelector('button').focus();
  }

  titleOf(conversation) {
    if (conversation.id === LOBBY) return 'Lobby';
    return conversation.isOpen ? conversation.id : this.#chat.other(conversation).name;
  }

  #conversation(conversation, current) {
    const other = conversation.isOpen ? null : this.#chat.other(conversation);
    const last = this.#chat.last(conversation);
    const shown = {
      title: this.titleOf(conversation),
      face: other ?? conversation.id,
      isOnline: Boolean(other) && this.#chat.isOnline(other.id),
      isCurrent: conversation === current,
      last: last ? this.#introduction(last, conversation) + last.content : '',
      when: last?.timestamp,
      day: last && shortTimeOf(last.timestamp),
      unread: this.#chat.countUnread(conversation),
    };
    return {
      key: conversation.id,
      signature: JSON.stringify(shown),
      build: () => entry(conversation.id),
      update: (element) => update(element, shown),
    };
  }

  #introduction({ senderId, senderName, state }, { isOpen }) {
    if (state) return state === 'failed' ? 'Not sent: ' : 'Waiting: ';
    if (senderId === this.#chat.me.id) return 'You: ';
    return isOpen ? `${senderName}: ` : '';
  }
}

function person(user) {
  return {
    key: user.id,
    signature: user.name + user.avatar,
    build: () => entry(user.id),
    update: (element) => update(element, { title: user.name, face: user, isOnline: true }),
  };
}

function entry(id) {
  const parts = [
    h('span', { className: 'face-of' }),
    h('span', { className: 'what' }, h('span', { className: 'name' }), h('span', { className: 'last' })),
    h('span', { className: 'when' }, h('time'), h('span', { className: 'count', hidden: true })),
  ];
  const button = h('button', { className: 'entry', type: 'button' }, ...parts);
  button.dataset.id = id;
  return h('li', {}, button);
}

function update(element, { title, face, isOnline, isCurrent = false, last, when, day = '', unread = 0 }) {
  const part = (name) => element.querySelector(name);
  const isRoom = typeof face === 'string';
  const look = isRoom ? face : face.id + face.name + face.avatar;
  const holder = part('.face-of');
  if (holder.dataset.look !== look) {
    holder.dataset.look = look;
    holder.replaceChildren(isRoom ? h('span', { className: 'avatar room' }, icon('room')) : avatar(face));
  }
  holder.classList.toggle('online', isOnline);
  setText(part('.name'), title);
  setText(part('.last'), last ?? '');
  part('.last').hidden = last === undefined;
  setText(part('time'), day);
  if (when) part('time').dateTime = when;
  part('.count').hidden = unread === 0;
  part('.count').replaceChildren(String(unread), h('span', { className: 'unseen' }, ' unread'));
  if (isCurrent) part('button').setAttribute('aria-current', 'true');
  else part('button').removeAttribute('aria-current');
}

function onChoice(list, choose) {
  list.addEventListener('click', ({ target }) => {
    const button = target.closest('button');
    if (button) choose(button.dataset.id);
  });
}

function byActivity(a, b) {
  const time = ({ lastMessage }) => lastMessage?.timestamp ?? '';
  return (b.id === LOBBY) - (a.id === LOBBY) || time(b).localeCompare(time(a)) || a.id.localeCompare(b.id);
}
