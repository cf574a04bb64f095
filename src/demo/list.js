// A list that keeps its elements: an element that is pressed, focused or read is not made anew.

export class KeyedList {
  #list;
  /** The elements that are shown, by key, each with the signature it was made or updated with. */
  #shown = new Map();

  constructor(list) {
    this.#list = list;
  }

  /** The element with this key, if it is shown. */
  get(key) {
    return this.#shown.get(key)?.element;
  }

  /** The keys and elements in their order. */
  entries() {
    return [...this.#shown].map(([key, { element }]) => [key, element]);
  }

  clear() {
    this.#shown.clear();
    this.#list.replaceChildren();
  }

  /**
   * Shows these items, `{ key, signature, build, update }`, in their order. An item with a changed
   * signature is updated in its place, or built again if it has no `update`.
   */
  show(items) {
    const shown = new Map();
    const keys = new Set(items.map(({ key }) => key));
    // Obsolete elements are removed first, so that the others need not be moved.
    for (const [key, { element }] of this.#shown) if (!keys.has(key)) element.remove();
    let next = this.#list.firstChild;
    for (const { key, signature, build, update } of items) {
      const known = this.#shown.get(key);
      let element = known?.element;
      if (!known || (known.signature !== signature && !update)) {
        element = build();
        if (next && next === known?.element) next = next.nextSibling;
        known?.element.remove();
      }
      if (known?.signature !== signature) update?.(element);
      if (element === next) next = next.nextSibling;
      else this.#list.insertBefore(element, next);
      shown.set(key, { signature, element });
    }
    this.#shown = shown;
  }
}
