// Who is in front of this page: from the address, else remembered, else asked.

import { AVATARS, byId, h } from './dom.js';

const KEY = 'radio-istic';

/** `{ id, name, avatar }`. `/?user=alice&name=Alice` is somebody else than the other windows. */
export async function identity() {
  const query = new URLSearchParams(location.search);
  const id = query.get('user');
  if (id) return { id, name: query.get('name') || id, avatar: query.get('avatar') ?? faceOf(id) };
  return remembered() ?? ask();
}

function remembered() {
  try {
    const me = JSON.parse(localStorage.getItem(KEY));
    return me && typeof me.id === 'string' && typeof me.name === 'string' ? me : null;
  } catch {
    return null;
  }
}

function ask() {
  const welcome = byId('welcome');
  const form = welcome.querySelector('form');
  AVATARS.forEach(({ face, address }, index) => {
    const input = h('input', { type: 'radio', name: 'avatar', value: address, checked: index === 0 });
    const image = h('img', { className: 'avatar', src: address, alt: face });
    byId('avatars').append(h('label', { className: 'face' }, input, image));
  });
  welcome.hidden = false;
  byId('name').focus();
  return new Promise((resolve) => {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      const given = new FormData(form);
      const name = given.get('name').trim();
      if (!name) return;
      const me = { id: newId('user'), name, avatar: given.get('avatar') };
      try {
        localStorage.setItem(KEY, JSON.stringify(me));
      } catch {
        // Without storage one is somebody new the next time.
      }
      welcome.hidden = true;
      resolve(me);
    });
  });
}

function faceOf(id) {
  const sum = [...id].reduce((sum, character) => sum + character.codePointAt(0), 0);
  return AVATARS[sum % AVATARS.length].address;
}

/** An id that nobody else has. */
export function newId(kind) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `${kind}-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
}
