// What clients elsewhere have told of slots that they took and gave back.

import { moment, number } from "./format.js";
import { clone, partsOf, setText, setTime } from "./parts.js";

export class Told {
  constructor(section) {
    this.section = section;
    this.body = section.querySelector("tbody");
    this.shown = "";
  }

  // Show `events`, the latest first; who reads them keeps the place as long as nothing is new.
  show(events) {
    const text = JSON.stringify(events);
    if (text === this.shown) return;
    this.shown = text;
    this.body.replaceChildren(...[...events].reverse().map(rowOf));
    this.section.hidden = events.length === 0;
  }
}

function rowOf({ occurred, event, slots }) {
  const row = clone("event");
  const parts = partsOf(row);
  const at = new Date(occurred);
  if (Number.isNaN(at.getTime())) setText(parts.occurred, occurred);
  else setTime(parts.occurred, at.toISOString(), moment(at));
  setText(parts.event, event);
  setText(parts.slots, /^\d+$/.test(slots) ? number(Number(slots)) : slots);
  return row;
}
