// The page of one limit.

import * as actions from "./actions.js";
import * as api from "./api.js";
import { Chart } from "./chart.js";
import { follow, whileSeen } from "./following.js";
import { count, duration, moment, number, rate } from "./format.js";
import { Keys } from "./keys.js";
import { carry } from "./notices.js";
import { partsOf, setSwitch, setText, setTime } from "./parts.js";
import { Holders, Waiters } from "./people.js";
import { Told } from "./told.js";
import { showUsage } from "./usage.js";

// Slots can change hands with no number changed, of which the stream does not tell.
const LOOK_MS = 5000;

const BEFORE_ANY_RELEASE = 2;

const HEARD_MS = 3000;

const element = (id) => document.getElementById(id);
const page = element("limit");
const parts = partsOf(page);
const chart = new Chart(element("chart"));
const holders = new Holders(element("holders"), (holder) => actions.free(holder, refresh));
const waiters = new Waiters(element("waiters"));
const keys = new Keys(element("key-section"));
const told = new Told(element("told"));

let key = decodeURIComponent(location.pathname.split("/").pop());
let limit = null;
let clock = { server: 0, here: 0 };

const now = () => clock.server + (performance.now() - clock.here) / 1000;

const refresh = follow(
  async () => {
    try {
      show(await api.read(key));
    } catch (error) {
      if (error.status !== 404) throw error;
      gone();
    }
  },
  (change) => {
    const isThis = (id) => limit === null || id === limit.id;
    // Of a key nothing is told but that its template has changed.
    const isIts = (one) => isThis(one.id) || one.name === limit.template;
    if (change.deleted.some(isThis) || change.limits.some(isIts)) refresh();
  },
);

function show(found) {
  limit = found;
  // By its id a limit is found under another name, too. A key has only its name.
  key = found.template === null ? found.id : found.name;
  clock = { server: found.now, here: performance.now() };
  element("loading").hidden = true;
  element("gone").hidden = true;
  page.hidden = false;
  document.title = `${limit.name} · localgcl`;
  setText(parts.name, limit.name);
  showUsage(parts.usage, limit);
  setText(parts.waiting, number(limit.waiting));
  setText(parts.rate, rate(limit));
  showPause(limit);
  showTemplate(limit);
  setText(parts.occupancy, occupancy(limit));
  setSwitch(parts.active, limit.name, limit.active);
  setTime(parts.updated, limit.updated, moment(new Date(limit.updated)));
  keys.show(limit.keys_in_use);
  setText(parts.keys, limit.keys || "");
  holders.show(limit.holders, limit.now);
  waiters.show(limit.waiters, limit.now);
  told.show(limit.events);
  setText(parts.held, limit.holders.length || "");
  setText(parts.queued, limit.waiters.length || "");
  element("no-holders").hidden = limit.holders.length > 0;
  setText(element("no-holders"), nobody(limit));
  element("no-waiters").hidden = limit.waiters.length > 0;
  chart.show(limit, limit.now);
  hear();
}

// A mean that no release has changed is the value with which it begins.
function occupancy({ avg_slot_occupancy_seconds: seconds }) {
  return seconds === BEFORE_ANY_RELEASE ? "-" : duration(seconds);
}

function showPause({ paused_until: until }) {
  parts.paused.closest("div").hidden = until === null;
  if (until === null) return;
  setTime(parts.paused, until, until.startsWith("9999") ? "it is resumed" : moment(new Date(until)));
}

function showTemplate({ template }) {
  parts.template.closest("div").hidden = template === null;
  setText(parts.template, template ?? "");
  parts.template.href = `/limits/${encodeURIComponent(template ?? "")}`;
  // What a key is allowed is its template's to say.
  for (const action of ["edit", "delete"]) parts[action].hidden = template !== null;
  parts.active.disabled = template !== null;
}

function nobody({ active_slots, slot_decay_per_second, window_seconds }) {
  if (!active_slots) return "Nobody.";
  return slot_decay_per_second || window_seconds
    ? "Nobody; the slots in use come back by themselves."
    : "Nobody; the slots in use were set by hand.";
}

function gone() {
  element("loading").hidden = true;
  element("gone").hidden = false;
  page.hidden = true;
  document.title = "No such limit · localgcl";
}

// What is seen at a glance is said too, and not more often than it can be listened to.
let heardAt = -Infinity;
let hearing = null;

function hear() {
  const text = `${count(limit.active_slots, "slot", "slots")} of ${number(limit.limit)} in use, ${number(limit.waiting)} waiting`;
  clearTimeout(hearing);
  if (element("heard").textContent === text) return;
  const say = () => {
    heardAt = performance.now();
    setText(element("heard"), text);
  };
  hearing = setTimeout(say, Math.max(0, heardAt + HEARD_MS - performance.now()));
}

parts.edit.addEventListener("click", () => actions.update(limit, refresh));
parts.reset.addEventListener("click", () => actions.reset(limit, refresh));
parts.active.addEventListener("click", () => actions.toggle(limit, refresh));
parts.delete.addEventListener("click", () =>
  actions.remove(limit, (message) => {
    carry(message);
    location.assign("/");
  }),
);

whileSeen(1000, () => {
  if (limit === null || page.hidden) return;
  chart.draw(now());
  holders.tick(now());
  waiters.tick(now());
});
whileSeen(LOOK_MS, () => limit !== null && !page.hidden && refresh());
