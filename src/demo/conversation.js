// What is known of one conversation.

export const LOBBY = 'lobby';

/** This many messages are kept of a conversation whose end is followed, at the least. */
const KEPT = 500;

class Conversation {
  isOpen;
  participants;
  /** Those that are loaded, in their order. */
  messages = [];
  lastMessage = null;
  /** Names by the ids of those who type. */
  typing = new Map();
  hasMore = false;
  /** Whether somebody wants to see it, and whether the newest messages are there. */
  wanted = false;
  loaded = false;
  loading = false;
  /** Whether the user was in it before this page came. */
  listed = false;
  /** Whether nobody reads far above the end, so that old messages may go. */
  follows = true;
  /** Only messages after this one may be unread. */
  since = '';
  /** How many unread messages there are beside those that are loaded. */
  beyond = 0;
  /** How many unread messages the server told of when it was asked last. */
  told = 0;

  constructor(id, { isOpen = false, participants = [] }) {
    this.id = id;
    this.isOpen = isOpen;
    this.participants = [...participants];
  }

  /** Puts messages to those that are there, and returns how many are new. */
  take(messages) {
    const known = this.messages;
    const before = known.length;
    for (const message of messages) {
      const at = known.findLastIndex(({ id }) => id <= message.id);
      if (known[at]?.id === message.id) known[at] = message;
      else known.splice(at + 1, 0, message);
    }
    const added = known.length - before;
    const last = known.at(-1);
    if (last && !(this.lastMessage?.id > last.id)) this.lastMessage = last;
    if (this.follows && known.length > 2 * KEPT) {
      known.splice(0, known.length - KEPT);
      this.hasMore = true;
    }
    return added;
  }

  /** Forgets what is loaded, because there is a gap. */
  forget() {
    this.messages = [];
    this.loaded = false;
    this.beyond = 0;
  }

  has(id) {
    return this.messages.some((message) => message.id === id);
  }

  /** Notes who has read these messages. */
  markRead(ids, reader) {
    const read = new Set(ids);
    for (const { id, readBy } of this.messages) {
      if (read.has(id) && !readBy.includes(reader)) readBy.push(reader);
    }
  }
}

/** All that are known, by id. */
export class Conversations extends Map {
  /** The one with this id, new if need be; participants that are known now replace those before. */
  open(id, { isOpen = false, participants = [] } = {}) {
    const known = this.get(id);
    if (!known) this.set(id, new Conversation(id, { isOpen, participants }));
    else if (participants.length > 0) Object.assign(known, { isOpen, participants: [...participants] });
    return this.get(id);
  }

  /** The one of these two people, if it has begun. */
  between(...users) {
    const isTheirs = ({ isOpen, participants }) =>
      !isOpen && participants.length === 2 && users.every((user) => participants.includes(user));
    return [...this.values()].find(isTheirs);
  }
}

/** The id of the conversation of two people, the same for both; ids have at most 128 bytes. */
export function directId(...users) {
  const id = `direct:${JSON.stringify(users.sort())}`;
  return new TextEncoder().encode(id).length <= 128 ? id : `direct:${hash(id)}`;
}

/** 128 bits of a text, good enough to tell conversations apart. */
function hash(text) {
  const words = [0x9e3779b9, 0x243f6a88, 0xb7e15162, 0xdeadbeef];
  for (const byte of new TextEncoder().encode(text)) {
    words.forEach((word, index) => {
      const mixed = Math.imul(word ^ byte ^ (words[(index + 1) % 4] >>> 15), 0x5bd1e995 + 2 * index);
      words[index] = (mixed ^ (mixed >>> 13)) >>> 0;
    });
  }
  return words.map((word) => word.toString(16).padStart(8, '0')).join('');
}
