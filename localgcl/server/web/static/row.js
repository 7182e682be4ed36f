// One limit's row in the table of all.

import { number, rate } from "./format.js";
import { clone, partsOf, setSwitch, setText } from "./parts.js";
import { showUsage } from "./usage.js";

export class Row {
  constructor(limit, handlers) {
    this.element = clone("row");
    this.parts = partsOf(this.element);
    const { link, active, edit, reset } = this.parts;
    link.href = `/limits/${encodeURIComponent(limit.id)}`;
    active.addEventListener("click", () => handlers.toggle(this.limit));
    edit.addEventListener("click", () => handlers.edit(this.limit));
    reset.addEventListener("click", () => handlers.reset(this.limit));
    this.parts.delete.addEventListener("click", () => handlers.delete(this.limit));
    this.show(limit);
  }

  show(limit) {
    this.limit = limit;
    const { name, usage, waiting, rate: shownRate, active } = this.parts;
    setText(name, limit.name);
    showUsage(usage, limit);
    setText(waiting, limit.waiting ? number(limit.waiting) : "-");
    waiting.classList.toggle("some", limit.waiting > 0);
    setText(shownRate, rate(limit));
    setSwitch(active, limit.name, limit.active);
    for (const action of ["edit", "reset", "delete"]) {
      const button = this.parts[action];
      button.setAttribute("aria-label", `${button.textContent} ${limit.name}`);
    }
    this.element.classList.toggle("inactive", !limit.active);
  }
}
