// Small helpers to build elements. Text is always set as text, never as HTML.

const FACES = ['fox', 'cat', 'bear', 'owl', 'frog', 'chick', 'whale', 'robot'];
export const AVATARS = FACES.map((face) => ({ face, address: `/demo/avatars/${face}.svg` }));

/** An element with properties and children: `h('p', { className: 'hint' }, 'Hello')`. */
export function h(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Sets a text if it differs: a new text is announced and laid out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A user's face, or the initials if the avatar is none of this page's. */
export function avatar(user) {
  const name = user.name || user.id;
  const initials = h('span', { className: 'avatar initials', textContent: [...name][0].toUpperCase() });
  initials.dataset.hue = String(hue(user.id));
  initials.setAttribute('aria-hidden', 'true');
  // The avatar may be any address, and this page requests no address that another user chose.
  if (!AVATARS.some(({ address }) => address === user.avatar)) return initials;
  const image = h('img', { className: 'avatar', src: user.avatar, alt: '' });
  image.addEventListener('error', () => image.replaceWith(initials), { once: true });
  return image;
}

/** One of eight colours, the same for the same user everywhere. */
function hue(id) {
  return [...id].reduce((sum, character) => (sum * 31 + character.codePointAt(0)) >>> 0, 7) % 8;
}
