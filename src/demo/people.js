// The known users with their names and faces, and their presence.

export class People {
  #users = new Map();

  /** `{ id, name, avatar, online }`, also of an unknown user. */
  get(id) {
    return this.#users.get(id) ?? { id, name: id, avatar: null, online: false };
  }

  has(id) {
    return this.#users.has(id);
  }

  get online() {
    return [...this.#users.values()].filter(({ online }) => online);
  }

  /** Updates a user; fields that are `null` or missing stay the same. */
  meet({ id, name, avatar, online }) {
    const known = this.get(id);
    this.#users.set(id, { id, name: name || known.name, avatar: avatar ?? known.avatar, online: online ?? known.online });
  }

  /** Marks all users as offline, until the server reports them again. */
  leave() {
    for (const user of this.#users.values()) user.online = false;
  }
}
