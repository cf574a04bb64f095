// The page: what is where, and what happens when somebody types, clicks or presses a key.

import { Chat, LOBBY } from './chat.js';
import { avatar, byId, h, shortTimeOf } from './dom.js';
import { identity, newId } from './identity.js';
import { Messages } from './messages.js';

const me = await identity();
const chat = new Chat(me);
const messages = new Messages(chat);
const text = byId('text');
/** What was begun to be written, by conversation. */
const drafts = new Map();
let current = null;
let noticeTimer;

byId('app').hidden = false;
byId('me').append(avatar(me), h('div', {}, h('strong', {}, me.name), h('p', { className: 'hint', id: 'state' })));
byId('other').href = `/?user=${newId('guest')}&name=Guest`;
byId('other').textContent = 'be a guest';
/** Whether there is room for one thing only: the list, or a conversation. */
const narrow = matchMedia('(max-width: 700px)');

// The conversation stands in the address, so that a phone's back button leads back to the list.
addEventListener('hashchange', follow);
narrow.addEventListener('change', follow);
chat.addEventListener('change', render);
chat.addEventListener('message', ({ detail }) => heard(detail));
chat.addEventListener('notice', ({ detail }) => notice(detail));
addEventListener('focus', () => messages.atEnd && messages.toEnd());
byId('back').addEventListener('click', close);
byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  submit();
});
text.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  }
});
text.addEventListener('input', () => {
  grow();
  if (text.value.trim()) chat.typing(current);
  else chat.stopTyping(current);
});
addEventListener('keydown', (event) => {
  if (event.key === 'Escape') close();
});
follow();

/** The conversation that the address names. The server may not have told of it yet. */
function wanted() {
  return decodeURIComponent(location.hash.slice(1)) || (narrow.matches ? '' : LOBBY);
}

/** Shows what the address says. */
function follow() {
  const conversation = chat.conversations.get(wanted());
  document.body.classList.toggle('reading', Boolean(conversation && location.hash));
  if (!conversation && narrow.matches) {
    leave();
    return render();
  }
  show(conversation ?? chat.conversations.get(LOBBY));
}

function show(conversation) {
  if (current === conversation) return;
  leave();
  current = conversation;
  text.value = drafts.get(conversation.id) ?? '';
  grow();
  messages.open(conversation);
  render();
  if (!narrow.matches) text.focus();
}

function leave() {
  if (!current) return;
  drafts.set(current.id, text.value);
  chat.stopTyping(current);
  current = null;
}

function open(conversation) {
  const hash = `#${encodeURIComponent(conversation.id)}`;
  if (location.hash === hash) text.focus();
  else location.hash = hash;
}

/** Back to the list; on a wide window, to the lobby. */
function close() {
  if (location.hash) location.hash = '';
  byId('conversations').querySelector('button')?.focus();
}

function submit() {
  const content = text.value.trim();
  if (!content || !current) return;
  chat.send(current, content);
  text.value = '';
  grow();
  messages.answered();
}

/** As high as what is written, up to a third of the window. */
function grow() {
  text.style.height = 'auto';
  text.style.height = `${text.scrollHeight}px`;
}

function heard({ message, conversation }) {
  const isSeen = conversation === current && messages.atEnd;
  if (conversation === current && !isSeen) messages.unseen(message);
  byId('announcer').replaceChildren(h('p', {}, `${message.senderName}: ${message.content}`));
}

function notice(words) {
  const element = byId('notice');
  element.textContent = words;
  element.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => {
    element.hidden = true;
  }, 6_000);
}

function titleOf(conversation) {
  if (conversation.id === LOBBY) return 'Lobby';
  return conversation.isOpen ? conversation.id : chat.other(conversation).name;
}

function render() {
  if (current?.id !== wanted() && chat.conversations.has(wanted())) return follow();
  const conversations = [...chat.conversations.values()].sort(byActivity);
  replace(byId('conversations'), conversations.map(conversationItem));
  const people = [...chat.users.values()].filter(({ id, online }) => online && id !== me.id);
  people.sort((a, b) => a.name.localeCompare(b.name));
  replace(byId('people'), people.map(personItem));
  byId('nobody').hidden = people.length > 0 || !chat.connected;
  byId('state').textContent = chat.connected ? 'online' : 'connecting…';
  const banner = byId('banner');
  banner.hidden = chat.connected || !chat.wasConnected;
  banner.textContent = 'The connection is lost. What you write is sent as soon as it is back.';
  const unread = conversations.reduce((sum, { unreadCount }) => sum + unreadCount, 0);
  document.title = unread > 0 ? `(${unread}) radio-istic` : 'radio-istic';
  if (current) renderCurrent();
}

function renderCurrent() {
  byId('title').textContent = titleOf(current);
  const other = current.isOpen ? null : chat.other(current);
  byId('subtitle').textContent = other ? (other.online ? 'online' : 'offline') : 'an open room: everybody may come in';
  byId('empty').textContent = current.isOpen
    ? 'Nobody has said anything yet. Be the first: it stays here for whoever comes later.'
    : `This is the beginning of what you and ${other.name} have to say to each other.`;
  const names = [...current.typing.values()];
  const verb = names.length === 1 ? 'is' : 'are';
  byId('typing').textContent = names.length > 0 ? `${names.join(', ')} ${verb} typing…` : '';
  messages.render();
}

function byActivity(a, b) {
  const time = ({ id, lastMessage }) => (id === LOBBY ? '~' : lastMessage?.timestamp ?? '');
  return time(b).localeCompare(time(a), 'en') || a.id.localeCompare(b.id);
}

function conversationItem(conversation) {
  const { lastMessage: last, unreadCount } = conversation;
  const title = titleOf(conversation);
  const who = conversation.isOpen ? { id: conversation.id, name: title } : chat.other(conversation);
  const author = last && (last.senderId === me.id ? 'You: ' : conversation.isOpen ? `${last.senderName}: ` : '');
  const count = unreadCount > 0 ? h('span', { className: 'count' }, String(unreadCount), h('span', { className: 'unseen' }, ' unread')) : null;
  const button = h('button', { className: 'entry' },
    avatar(who),
    h('span', { className: 'what' }, h('span', { className: 'name' }, title), h('span', { className: 'last' }, last ? author + last.content : '')),
    h('span', { className: 'when' }, last ? h('time', { dateTime: last.timestamp }, shortTimeOf(last.timestamp)) : null, count));
  button.dataset.key = `conversation ${conversation.id}`;
  if (conversation === current) button.setAttribute('aria-current', 'true');
  button.addEventListener('click', () => open(conversation));
  return h('li', {}, button);
}

function personItem(user) {
  const button = h('button', { className: 'entry' }, avatar(user), h('span', { className: 'name' }, user.name));
  button.dataset.key = `person ${user.id}`;
  button.addEventListener('click', () => open(chat.with(user.id)));
  return h('li', {}, button);
}

/** Replaces a list. Whoever has the focus in it keeps it. */
function replace(list, items) {
  const same = items.length === list.children.length && items.every((item, index) => item.isEqualNode(list.children[index]));
  if (same) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...items);
  if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}
