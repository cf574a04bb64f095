// Who is known by which name and face, and who is online.

export class People {
  #users = new Map();

  /** `{ id, name, avatar, online }`, also of somebody who was never met. */
  get(id) {
    return this.#users.get(id) ?? { id, name: id, avatar: null, online: false };
  }

  has(id) {
    return this.#users.has(id);
  }

  get online() {
    return [...this.#users.values()].filter(({ online }) => online);
  }

  /** Learns about a user; what is `null` or missing stays as it was. */
  meet({ id, name, avatar, online }) {
    const known = this.get(id);
    this.#users.set(id, { id, name: name || known.name, avatar: avatar ?? known.avatar, online: online ?? known.online });
  }

  /** Nobody is online until it is said again. */
  leave() {
    for (const user of this.#users.values()) user.online = false;
  }
}
