// The keys of a template that are in use: each has slots of its own.

import { number } from "./format.js";
import { clone, partsOf, setText } from "./parts.js";
import { showUsage } from "./usage.js";

export class Keys {
  constructor(section) {
    this.section = section;
    this.table = section.querySelector("table");
    this.body = section.querySelector("tbody");
    this.none = section.querySelector(".empty");
    this.rows = new Map();
  }

  // Show `keys`, null for what is no template; a row stays the same element while its key is there.
  show(keys) {
    this.section.hidden = keys === null;
    if (keys === null) return;
    const names = new Set(keys.map((key) => key.name));
    for (const [name, row] of this.rows) {
      if (names.has(name)) continue;
      if (row.element.contains(document.activeElement)) document.getElementById("main").focus();
      row.element.remove();
      this.rows.delete(name);
    }
    keys.forEach((key, index) => {
      if (!this.rows.has(key.name)) this.rows.set(key.name, rowOf(key));
      const { element, parts } = this.rows.get(key.name);
      if (this.body.children[index] !== element) {
        this.body.insertBefore(element, this.body.children[index] ?? null);
      }
      showUsage(parts.usage, key);
      setText(parts.waiting, key.waiting ? number(key.waiting) : "-");
    });
    this.table.hidden = keys.length === 0;
    this.none.hidden = keys.length > 0;
  }
}

function rowOf(key) {
  const element = clone("key");
  const parts = partsOf(element);
  setText(parts.name, key.name);
  parts.link.href = `/limits/${encodeURIComponent(key.name)}`;
  return { element, parts };
}
