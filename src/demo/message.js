// One message, as an element.

import { avatar, h } from './dom.js';
import { icon } from './icons.js';
import { linked, timeOf } from './text.js';

const LABELS = {
  waiting: 'Waiting to be sent', failing: 'Not sent', sent: 'Sent', delivered: 'Delivered', read: 'Read',
};

/** The progress of an own message; `null` for a message of another user. */
export function progress(chat, message) {
  const { id, senderId, readBy, state } = message;
  if (senderId !== chat.me.id) return null;
  if (state === 'failed') return 'failing';
  if (!id) return 'waiting';
  if (readBy.some((reader) => reader !== chat.me.id)) return 'read';
  return chat.isDelivered(message) ? 'delivered' : 'sent';
}

/** `follows`: the message above has the same sender. `acts`: the actions of its buttons. */
export function messageElement(message, { sender, isOwn, follows, tick, acts }) {
  const time = h('time', { dateTime: message.timestamp }, timeOf(message.timestamp));
  const meta = h('span', { className: 'meta' }, time, tick && tickElement(tick));
  const author = h('span', { className: isOwn || follows ? 'unseen' : 'author' }, isOwn ? 'You' : message.senderName || sender.name);
  const content = h('p', { className: 'content' }, ...linked(message.content));
  const bubble = h('div', { className: 'bubble' }, author, h('div', { className: 'said' }, content, meta));
  const item = h('li', { className: `message ${isOwn ? 'own' : 'other'} ${follows ? 'follows' : ''}` });
  if (!isOwn) item.append(follows ? h('span', { className: 'avatar' }) : avatar(sender));
  item.append(bubble);
  if (message.state === 'failed') bubble.append(failed(message, acts));
  return item;
}

function tickElement(name) {
  const tick = h('span', { className: `tick ${name}`, title: LABELS[name] }, icon(name));
  tick.setAttribute('role', 'img');
  tick.setAttribute('aria-label', LABELS[name]);
  return tick;
}

function failed({ clientMessageId, reason }, { resend, discard }) {
  const button = (textContent, act) => {
    const button = h('button', { type: 'button', textContent });
    button.addEventListener('click', () => act(clientMessageId));
    return button;
  };
  const why = h('p', {}, `Not sent: ${reason}`);
  return h('div', { className: 'failed' }, why, button('Send again', resend), button('Discard', discard));
}
