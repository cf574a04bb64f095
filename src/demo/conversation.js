// The state of one conversation.

export const LOBBY = 'lobby';

/** The least number of messages that are kept while the reader follows the end. */
const KEPT = 500;

class Conversation {
  isOpen;
  participants;
  /** The loaded messages, in their order. */
  messages = [];
  lastMessage = null;
  /** The names of the users who type, by id. */
  typing = new Map();
  hasMore = false;
  /** Whether the page needs its messages, and whether the newest ones are loaded. */
  wanted = false;
  loaded = false;
  loading = false;
  /** Whether the user was a participant before this page was loaded. */
  listed = false;
  /** Whether the reader is not far above the end, so that old messages may go. */
  follows = true;
  /** Only messages after this one may be unread. */
  since = '';
  /** The number of unread messages beside the loaded ones. */
  beyond = 0;
  /** The number of unread messages in the server's latest answer. */
  told = 0;

  constructor(id, { isOpen = false, participants = [] }) {
    this.id = id;
    this.isOpen = isOpen;
    this.participants = [...participants];
  }

  /** Adds messages, and returns the number of new ones. */
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

  /** Drops the loaded messages, because there is a gap. */
  forget() {
    this.messages = [];
    this.loaded = false;
    this.beyond = 0;
  }

  has(id) {
    return this.messages.some((message) => message.id === id);
  }

  /** Notes the reader of these messages. */
  markRead(ids, reader) {
    const read = new Set(ids);
    for (const { id, readBy } of this.messages) {
      if (read.has(id) && !readBy.includes(reader)) readBy.push(reader);
    }
  }
}

/** All known conversations, by id. */
export class Conversations extends Map {
  /** The conversation with this id, new if need be; known participants replace the earlier ones. */
  open(id, { isOpen = false, participants = [] } = {}) {
    const known = this.get(id);
    if (!known) this.set(id, new Conversation(id, { isOpen, participants }));
    else if (participants.length > 0) Object.assign(known, { isOpen, participants: [...participants] });
    return this.get(id);
  }

  /** The conversation of these two users, if it has begun. */
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
