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

/** A user's face, or the initials of one who has none of this page's. */
export function avatar(user) {
  const name = user.name || user.id;
  const initials = h('span', { className: 'avatar initials', textContent: [...name][0].toUpperCase() });
  initials.dataset.hue = String(hue(user.id));
  initials.setAttribute('aria-hidden', 'true');
  // Any address could be written there, and this page asks no address that somebody else chose.
  if (!AVATARS.some(({ address }) => address === user.avatar)) return initials;
  const image = h('img', { className: 'avatar', src: user.avatar, alt: '' });
  image.addEventListener('error', () => image.replaceWith(initials), { once: true });
  return image;
}

/** One of eight colours, the same for the same user everywhere. */
function hue(id) {
  return [...id].reduce((sum, character) => (sum * 31 + character.codePointAt(0)) >>> 0, 7) % 8;
}

/** A text in which addresses are links. */
export function linked(text) {
  const pieces = text.split(/(https?:\/\/[^\s<>"]*[^\s<>".,;:!?')\]}])/g);
  return pieces.map((piece, index) => {
    // What the parentheses have caught stands at the odd places.
    if (index % 2 === 0) return piece;
    return h('a', { href: piece, textContent: piece, target: '_blank', rel: 'noopener noreferrer nofollow' });
  });
}

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const shortDate = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

export const timeOf = (timestamp) => time.format(new Date(timestamp));

export function dayOf(timestamp) {
  const days = Math.round((startOfDay(new Date()) - startOfDay(new Date(timestamp))) / 86_400_000);
  return days === 0 ? 'Today' : days === 1 ? 'Yesterday' : date.format(new Date(timestamp));
}

/** The time of today's messages, the day of older ones. */
export function shortTimeOf(timestamp) {
  return dayOf(timestamp) === 'Today' ? timeOf(timestamp) : shortDate.format(new Date(timestamp));
}

const startOfDay = (day) => new Date(day.getFullYear(), day.getMonth(), day.getDate());
