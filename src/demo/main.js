// The page: its parts, and the reactions to typing, clicks and keys.

import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { LOBBY } from './conversation.js';
import { avatar, byId, h, setText } from './dom.js';
import { icon } from './icons.js';
import { TOKEN, identity, newId } from './identity.js';
import { Messages } from './messages.js';
import { Sidebar } from './sidebar.js';

/** The delay of an update in a hidden window, in milliseconds. */
const UNSEEN = 300;

const me = await identity();
const chat = new Chat(me);
const messages = new Messages(chat, {
  resend: (id) => act(() => chat.resend(id)),
  discard: (id) => act(() => chat.discard(id)),
});
const composer = new Composer(me.id, {
  written: (isSomething) => (isSomething ? chat.typing(current) : chat.stopTyping(current)),
  send: (content) => {
    chat.send(current, content);
    messages.answered();
  },
});
const sidebar = new Sidebar(chat, {
  openConversation: (id) => open(chat.conversations.get(id)),
  openPerson: (id) => open(chat.with(id)),
  released: schedule,
});
/** Whether there is room for only the list or a conversation. */
const narrow = matchMedia('(max-width: 700px)');
let current = null;
let settled = false;
let noticeTimer;
let scheduled = false;

byId('app').hidden = false;
byId('me').append(avatar(me), h('div', {}, h('strong', {}, me.name), h('p', { className: 'hint', id: 'state' })));
byId('other').href = `/?user=${newId('guest')}&name=Guest`;
byId('other').textContent = 'be a guest';
// A guest has no token, so a page with a token offers no guest.
if (me.token) byId('nobody').textContent = 'Nobody else is here yet.';
byId('back').append(icon('back'));

// The conversation stands in the address, so that a phone's back button leads back to the list.
addEventListener('popstate', follow);
narrow.addEventListener('change', follow);
chat.addEventListener('change', schedule);
chat.addEventListener('message', ({ detail }) => heard(detail));
chat.addEventListener('notice', ({ detail }) => notice(detail));
chat.addEventListener('failed', ({ detail }) => announce(`Not sent: ${detail.content}. ${detail.reason}`));
chat.addEventListener('missed', ({ detail: { conversation, first } }) => {
  if (conversation === current && first.senderId !== me.id) messages.unseen(first);
});
addEventListener('focus', () => messages.look());
document.addEventListener('visibilitychange', schedule);
byId('back').addEventListener('click', close);
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !event.isComposing) close();
});
follow();
// The focus of a new user moves to the first thing to do.
if (me.isNew && narrow.matches) sidebar.focus();
else if (me.isNew) composer.focus();

/** The conversation that the address names. The server may not have listed it yet. */
function wanted() {
  let id = '';
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    // No conversation has this address.
  }
  return id || (narrow.matches ? '' : LOBBY);
}

/** Shows the conversation in the address. */
function follow() {
  // Another token is another user, so the page starts anew.
  if (location.hash.startsWith(TOKEN)) return location.reload();
  const conversation = chat.conversations.get(wanted());
  document.body.classList.toggle('reading', Boolean(conversation && location.hash));
  if (!conversation && narrow.matches) leave();
  else show(conversation ?? chat.conversations.get(LOBBY));
  render();
}

function show(conversation) {
  if (current === conversation) return;
  leave();
  current = conversation;
  composer.open(conversation);
  messages.open(conversation);
}

function leave() {
  if (!current) return;
  chat.stopTyping(current);
  messages.close();
  current = null;
}

function open(conversation) {
  if (conversation !== current || !location.hash) {
    history.pushState({ fromList: true }, '', `#${encodeURIComponent(conversation.id)}`);
    follow();
  }
  // A focused text opens a phone's keyboard, so the title gets the focus there.
  if (narrow.matches) byId('title').focus();
  else composer.focus();
}

/** Goes back to the list; on a wide window, to the lobby. */
function close() {
  const left = current;
  if (narrow.matches && history.state?.fromList) {
    addEventListener('popstate', () => sidebar.focus(left), { once: true });
    history.back();
    return;
  }
  history.replaceState(null, '', location.pathname + location.search);
  follow();
  sidebar.focus(left);
}

/** Runs the action of a button that disappears by it: the focus moves to the text. */
function act(what) {
  what();
  composer.focus();
}

function heard({ message, conversation }) {
  if (conversation === current && !messages.atEnd) messages.unseen(message);
  const where = conversation === current ? '' : `, in ${sidebar.titleOf(conversation)}`;
  announce(`${message.senderName}${where}: ${message.content}`);
}

/** Announces words to screen readers. */
function announce(words) {
  const announcer = byId('announcer');
  announcer.append(h('p', {}, words));
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

/** Shows all changes with the next frame, once for all that happen until then. */
function schedule() {
  if (scheduled) return;
  scheduled = true;
  const frame = requestAnimationFrame(() => perform());
  // A hidden window has no frames, but its title shows new messages.
  const timer = setTimeout(() => perform(), UNSEEN);
  const perform = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    scheduled = false;
    render();
  };
}

function render() {
  settle();
  sidebar.render(current);
  setText(byId('state'), chat.connected ? 'online' : chat.refusal ? 'not let in' : 'connecting…');
  const banner = byId('banner');
  banner.hidden = chat.connected || !(chat.wasConnected || chat.refusal);
  setText(banner, chat.refusal ? refused(chat.refusal) : 'The connection is lost. What you write is sent as soon as it is back.');
  const unread = [...chat.conversations.values()].reduce((sum, conversation) => sum + chat.countUnread(conversation), 0);
  document.title = unread > 0 ? `(${unread}) radio-istic` : 'radio-istic';
  if (current) renderCurrent();
}

function refused({ code, message }) {
  const wantsToken = code === 'unauthenticated' || code === 'invalid_token';
  if (!wantsToken) return `The server does not let you in: ${message}`;
  const why = me.token ? message : 'This server lets in only who has a token.';
  return `${why} Where it runs, “radio-istic token --sub alice” makes one; `
    + `open this page with ${TOKEN} and the token behind its address.`;
}

/** Shows the conversation of the first address once it is known. Later the view does not move. */
function settle() {
  if (settled) return;
  const isKnown = chat.conversations.has(wanted());
  if (!isKnown && !chat.listed) return;
  settled = true;
  if (!isKnown && wanted()) history.replaceState(null, '', location.pathname + location.search);
  follow();
}

function renderCurrent() {
  setText(byId('title'), sidebar.titleOf(current));
  const other = current.isOpen ? null : chat.other(current);
  const presence = !chat.connected ? '' : chat.isOnline(other?.id) ? 'online' : 'offline';
  setText(byId('subtitle'), other ? presence : 'an open room: everybody may come in');
  setText(byId('empty'), current.isOpen
    ? 'Nobody has said anything yet. Be the first: it stays here for whoever comes later.'
    : `This is the beginning of what you and ${other.name} have to say to each other.`);
  // Names are cut, so that the end of the sentence stays in sight.
  const names = [...current.typing.values()].map((name) => (name.length > 30 ? `${name.slice(0, 30)}…` : name));
  const verb = names.length === 1 ? 'is' : 'are';
  setText(byId('typing'), names.length > 0 ? `${names.join(', ')} ${verb} typing…` : '');
  messages.render();
}
