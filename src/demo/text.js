// The display of times and texts.

import { h } from './dom.js';

const ADDRESS = /https?:\/\/[^\s<>"]+/gi;
const CLOSING = { ')': '(', ']': '[', '}': '{' };

/** A text in which addresses are links. */
export function linked(text) {
  const pieces = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(ADDRESS)) {
    const address = trimmed(match);
    if (!URL.canParse(address)) continue;
    pieces.push(text.slice(end, index));
    pieces.push(h('a', { href: address, textContent: address, target: '_blank', rel: 'noopener noreferrer nofollow' }));
    end = index + address.length;
  }
  return [...pieces, text.slice(end)];
}

/** Without the sentence around it: a full stop, or a bracket that was opened before. */
function trimmed(address) {
  for (;;) {
    const last = address.at(-1);
    const opening = CLOSING[last];
    const isPunctuation = '.,;:!?\'’”*_'.includes(last);
    const isForeign = opening && count(address, opening) < count(address, last);
    if (!isPunctuation && !isForeign) return address;
    address = address.slice(0, -1);
  }
}

const count = (text, character) => text.split(character).length - 1;

const time = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const shortDate = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

export const timeOf = (timestamp) => time.format(new Date(timestamp));

const days = new Map();

/** The beginning of the day, in milliseconds; cached, because each message needs it each time. */
export function dayOf(timestamp) {
  let day = days.get(timestamp);
  if (day === undefined) {
    if (days.size > 5_000) days.clear();
    day = startOfDay(new Date(timestamp));
    days.set(timestamp, day);
  }
  return day;
}

/** The name of a day. */
export function dayName(day) {
  const ago = Math.round((startOfDay(new Date()) - day) / 86_400_000);
  return ago === 0 ? 'Today' : ago === 1 ? 'Yesterday' : date.format(day);
}

/** The time of today's messages, the day of older ones. */
export function shortTimeOf(timestamp) {
  return dayOf(timestamp) === startOfDay(new Date()) ? timeOf(timestamp) : shortDate.format(new Date(timestamp));
}

const startOfDay = (day) => new Date(day.getFullYear(), day.getMonth(), day.getDate()).getTime();
