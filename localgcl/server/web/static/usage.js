// Slots in use, as a bar with a cell for each slot where those can be told apart.

import { count, number } from "./format.js";
import { setText } from "./parts.js";

const MAX_CELLS = 16;

export function showUsage(element, limit) {
  const slots = element.querySelector(".slots");
  const isTemplate = limit.keys !== null;
  slots.hidden = isTemplate; // each of its keys has slots of its own
  const share = limit.limit ? Math.min(1, limit.active_slots / limit.limit) : 0;
  slots.style.setProperty("--share", share);
  slots.style.setProperty("--cells", limit.limit);
  slots.classList.toggle("cells", limit.limit > 1 && limit.limit <= MAX_CELLS);
  const of = isTemplate ? `in ${count(limit.keys, "key", "keys")}` : `/ ${number(limit.limit)}`;
  setText(element.querySelector(".count"), `${number(limit.active_slots)} ${of}`);
  const state = stateOf(limit);
  element.dataset.state = state;
  setText(element.querySelector(".state"), state);
}

// In one word, what is out of the ordinary.
export function stateOf(limit) {
  if (!limit.active) return "inactive";
  if (limit.paused_until) return "paused";
  if (limit.limit === 0) return "closed";
  if (limit.keys !== null) return "";
  if (limit.active_slots > limit.limit) return "over";
  return limit.active_slots === limit.limit ? "full" : "";
}
