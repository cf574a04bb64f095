// The user of this page: from a token or the address, else from memory, else from a form.

import { AVATARS, byId, h } from './dom.js';
import { lastingMemory, windowMemory } from './memory.js';

/** The prefix of a token in the address. */
export const TOKEN = '#token=';

/**
 * `{ id, name, avatar, token, isNew }`. `/?user=alice&name=Alice` is another user than in the other
 * windows; a token names its user itself.
 */
export async function identity() {
  const query = new URLSearchParams(location.search);
  const token = takeToken();
  const id = (token && userOf(token)) ?? query.get('user');
  const given = id && (query.get('name') || !token);
  if (given) return { id, name: query.get('name') || id, avatar: query.get('avatar') ?? faceOf(id), token };
  const memory = id ? `me ${id}` : 'me';
  const known = lastingMemory.get(memory);
  const me = known ?? await ask(id);
  if (!known) lastingMemory.set(memory, me);
  return { ...me, token, isNew: !known };
}

/** A token is a secret: it does not stay in the address. */
function takeToken() {
  if (location.hash.startsWith(TOKEN)) {
    windowMemory.set('token', location.hash.slice(TOKEN.length));
    history.replaceState(null, '', location.pathname + location.search);
  }
  return windowMemory.get('token') ?? undefined;
}

/** The user that a token names, as the server reads it. Only the server can verify the token. */
function userOf(token) {
  try {
    const bytes = atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'));
    const text = new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.codePointAt(0)));
    const { sub, id, userId } = JSON.parse(text);
    const user = sub ?? id ?? userId;
    return user === undefined ? null : String(user);
  } catch {
    return null;
  }
}

function ask(id) {
  const welcome = byId('welcome');
  const form = welcome.querySelector('form');
  AVATARS.forEach(({ face, address }, index) => {
    const input = h('input', { type: 'radio', name: 'avatar', value: address, checked: index === 0 });
    const image = h('img', { className: 'avatar', src: address, alt: face });
    byId('avatars').append(h('label', { className: 'face' }, input, image));
  });
  welcome.hidden = false;
  byId('name').value = id ?? '';
  byId('name').focus();
  return new Promise((resolve) => {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const given = new FormData(form);
      const name = given.get('name').trim();
      if (!name) return;
      welcome.hidden = true;
      resolve({ id: id ?? newId('user'), name, avatar: given.get('avatar') });
    });
  });
}

function faceOf(id) {
  const sum = [...id].reduce((sum, character) => sum + character.codePointAt(0), 0);
  return AVATARS[sum % AVATARS.length].address;
}

/** A unique id. */
export function newId(kind) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${kind}-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
