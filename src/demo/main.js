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
let settled = false;
let noticeTimer;

byId('app').hidden = false;
byId('me').append(avatar(me), h('div', {}, h('strong', {}, me.name), h('p', { className: 'hint', id: 'state' })));
byId('other').href = `/?user=${newId('guest')}&name=Guest`;
byId('other').textContent = 'be a guest';
/** Whether there is room for one thing only: the list, or a conversation. */
const narrow = matchMedia('(max-width: 700px)');

// The conversation stands in the address, so that a phone's back button leads back to the list.
addEventListener('popstate', follow);
narrow.addEventListener('change', follow);
chat.addEventListener('change', render);
chat.addEventListener('message', ({ detail }) => heard(detail));
chat.addEventListener('notice', ({ detail }) => notice(detail));
addEventListener('focus', () => messages.atEnd && messages.toEnd());
chat.addEventListener('missed', ({ detail: { conversation, first } }) => {
  if (conversation === current && first.senderId !== me.id) messages.unseen(first);
});
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
  if (event.key === 'Escape' && !event.isComposing) close();
});
follow();

/** The conversation that the address names. The server may not have told of it yet. */
function wanted() {
  let id = '';
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    // No conversation has this address.
  }
  return id || (narrow.matches ? '' : LOBBY);
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
}

function leave() {
  if (!current) return;
  drafts.set(current.id, text.value);
  chat.stopTyping(current);
  messages.close();
  current = null;
}

function open(conversation) {
  if (conversation !== current || !location.hash) {
    history.pushState({ fromList: true }, '', `#${encodeURIComponent(conversation.id)}`);
    follow();
  }
  // A phone's keyboard comes when it is asked for.
  (narrow.matches ? byId('title') : text).focus();
}

/** Back to the list; on a wide window, to the lobby. */
function close() {
  const left = current;
  if (narrow.matches && history.state?.fromList) {
    addEventListener('popstate', () => focusEntry(left), { once: true });
    history.back();
    return;
  }
  history.replaceState(null, '', location.pathname + location.search);
  follow();
  focusEntry(left);
}

function focusEntry(conversation) {
  const key = conversation && CSS.escape(`conversation ${conversation.id}`);
  byId('conversations').querySelector(key ? `[data-key="${key}"]` : 'button')?.focus();
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
  const where = conversation === current ? '' : `, in ${titleOf(conversation)}`;
  const announcer = byId('announcer');
  announcer.append(h('p', {}, `${message.senderName}${where}: ${message.content}`));
  while (announcer.children.length > 20) announcer.firstChild.remove();
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
  settle();
  const conversations = [...chat.conversations.values()].sort(byActivity);
  replace(byId('conversations'), conversations.map(conversationItem));
  const people = [...chat.users.values()].filter(({ id, online }) => online && id !== me.id);
  people.sort((a, b) => a.name.localeCompare(b.name));
  replace(byId('people'), people.map(personItem));
  byId('nobody').hidden = people.length > 0 || !chat.connected;
  byId('state').textContent = chat.connected ? 'online' : 'connecting…';
  const banner = byId('banner');
  banner.hidden = chat.connected || !(chat.wasConnected || chat.refusal);
  banner.textContent = chat.refusal
    ? `The server does not let you in: ${chat.refusal}`
    : 'The connection is lost. What you write is sent as soon as it is back.';
  const unread = conversations.reduce((sum, { unreadCount }) => sum + unreadCount, 0);
  document.title = unread > 0 ? `(${unread}) radio-istic` : 'radio-istic';
  if (current) renderCurrent();
}

/** Shows what the address named at the start, as soon as it is known. Later nobody is moved. */
function settle() {
  if (settled) return;
  const isKnown = chat.conversations.has(wanted());
  if (!isKnown && !chat.listed) return;
  settled = true;
  if (!isKnown && wanted()) history.replaceState(null, '', location.pathname + location.search);
  follow();
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
  const time = ({ lastMessage }) => lastMessage?.timestamp ?? '';
  return (b.id === LOBBY) - (a.id === LOBBY) || time(b).localeCompare(time(a)) || a.id.localeCompare(b.id);
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
