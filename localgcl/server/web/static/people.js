// Who holds slots of a limit, and who waits for some.

import { duration, moment, number } from "./format.js";
import { clone, partsOf, setText, setTime } from "./parts.js";

class Table {
  constructor(table, template) {
    this.table = table;
    this.body = table.querySelector("tbody");
    this.template = template;
    this.rows = new Map();
  }

  // Show `people`; a row stays the same element for as long as it is about the same.
  show(people, now) {
    const keys = new Set(people.map((one) => this.keyOf(one)));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      if (row.element.contains(document.activeElement)) document.getElementById("main").focus();
      row.element.remove();
      this.rows.delete(key);
    }
    people.forEach((one, index) => {
      const key = this.keyOf(one);
      if (!this.rows.has(key)) this.rows.set(key, this.add(key));
      const row = this.rows.get(key);
      row.person = one;
      if (this.body.children[index] !== row.element) {
        this.body.insertBefore(row.element, this.body.children[index] ?? null);
      }
      this.fill(row.parts, one);
    });
    this.table.hidden = people.length === 0;
    this.tick(now);
  }

  add(key) {
    const element = clone(this.template);
    return { element, parts: partsOf(element), key };
  }

  fill(parts, one) {
    setText(parts.slots, number(one.slots));
    setText(parts.pid, one.pid ?? "-");
    setText(parts.user, one.user);
    setText(parts.command, one.command);
    parts.command.title = one.command;
    setText(parts.holder, one.holder ?? "-");
    setTime(parts.since, one.since, moment(new Date(one.since)));
  }

  tick(now) {
    for (const { parts, person } of this.rows.values()) {
      setText(parts.for, `(${duration(Math.max(0, now - Date.parse(person.since) / 1000))})`);
    }
  }
}

export class Holders extends Table {
  constructor(table, free) {
    super(table, "holder");
    this.free = free;
  }

  keyOf(one) {
    return one.lease;
  }

  add(key) {
    const row = super.add(key);
    row.parts.free.addEventListener("click", () => this.free(row.person));
    return row;
  }

  fill(parts, one) {
    super.fill(parts, one);
    parts.free.setAttribute("aria-label", `Free what ${one.pid ?? one.command} holds`);
  }
}

export class Waiters extends Table {
  constructor(table) {
    super(table, "waiter");
  }

  keyOf(one) {
    return one.position;
  }

  fill(parts, one) {
    super.fill(parts, one);
    setText(parts.position, number(one.position));
  }
}
