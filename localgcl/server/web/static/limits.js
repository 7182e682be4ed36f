// The page of all limits.

import * as actions from "./actions.js";
import * as api from "./api.js";
import { follow } from "./following.js";
import { count, number } from "./format.js";
import { tell } from "./notices.js";
import { setText } from "./parts.js";
import { Row } from "./row.js";
import { inOrder, ORDERS } from "./sorting.js";
import { stateOf } from "./usage.js";

const element = (id) => document.getElementById(id);
const table = element("limits");
const body = table.querySelector("tbody");
const search = element("search");
const by = element("by");

const rows = new Map();
let order = "name";

const refresh = follow(
  async () => show((await api.readAll()).limits),
  (change) => {
    for (const id of change.deleted) drop(id);
    for (const limit of change.limits) put(limit);
    settle({ live: true });
  },
);

function show(limits) {
  const known = new Set(limits.map((limit) => limit.id));
  for (const id of [...rows.keys()]) if (!known.has(id)) drop(id);
  for (const limit of limits) put(limit);
  settle({ live: true });
}

function put(limit) {
  const row = rows.get(limit.id);
  if (row) row.show(limit);
  else rows.set(limit.id, new Row(limit, handlers));
}

function drop(id) {
  rows.get(id)?.element.remove();
  rows.delete(id);
}

const handlers = {
  edit: (limit) => actions.update(limit, refresh),
  toggle: (limit) => actions.toggle(limit, refresh),
  reset: (limit) => actions.reset(limit, refresh),
  delete: (limit) => {
    const known = neighbour(limit.id);
    actions.remove(limit, (message) => {
      // The stream may have told of it before the answer came, and the row is gone by then.
      const next = rows.has(limit.id) ? neighbour(limit.id) : known;
      tell(message);
      drop(limit.id);
      settle();
      (next?.isConnected ? next : element("create")).focus();
      refresh();
    });
  },
};

// Where the focus goes when a row is no more.
function neighbour(id) {
  const row = rows.get(id)?.element;
  let next = row?.nextElementSibling;
  while (next?.hidden) next = next.nextElementSibling;
  next ??= row?.previousElementSibling;
  return next?.querySelector("a");
}

// Put the rows in order and say what there is.
function settle({ live = false } = {}) {
  const sorted = inOrder([...rows.values()].map((row) => row.limit), order);
  // What somebody points at or has the focus in does not move away by itself.
  const held = live && body.matches(":hover, :focus-within");
  sorted.forEach((limit, index) => {
    const row = rows.get(limit.id).element;
    if (!row.isConnected || (!held && body.children[index] !== row)) {
      body.insertBefore(row, body.children[index] ?? null);
    }
  });
  const wanted = search.value.trim().toLowerCase();
  let matching = 0;
  for (const row of rows.values()) {
    row.element.hidden = !row.limit.name.toLowerCase().includes(wanted);
    matching += row.element.hidden ? 0 : 1;
  }
  element("loading").hidden = true;
  element("tools").hidden = rows.size === 0;
  element("none").hidden = rows.size > 0;
  element("unmatched").hidden = rows.size === 0 || matching > 0;
  setText(element("unmatched").querySelector("bdi"), search.value.trim());
  table.hidden = matching === 0;
  setText(element("found"), wanted ? `${number(matching)} of ${number(rows.size)}` : "");
  setText(element("summary"), summary(sorted));
}

function summary(limits) {
  if (!limits.length) return "";
  const full = limits.filter((limit) => ["full", "over"].includes(stateOf(limit))).length;
  const waiting = limits.reduce((sum, limit) => sum + limit.waiting, 0);
  const parts = [count(limits.length, "limit", "limits")];
  if (full) parts.push(`${number(full)} full`);
  if (waiting) parts.push(`${number(waiting)} waiting`);
  return parts.join(", ");
}

// The address says what is searched and how it is sorted, so that back and a bookmark bring it back.
function sort(chosen) {
  order = ORDERS.has(chosen) ? chosen : "name";
  for (const header of table.querySelectorAll("[data-sort]")) {
    const column = header.dataset.sort;
    const direction = { [column]: "ascending", [`-${column}`]: "descending" }[order];
    if (direction) header.setAttribute("aria-sort", direction);
    else header.removeAttribute("aria-sort");
  }
  by.value = [...by.options].some((option) => option.value === order) ? order : "";
}

function keep() {
  const query = new URLSearchParams();
  if (search.value.trim()) query.set("search", search.value.trim());
  if (order !== "name") query.set("sort", order);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

const given = new URLSearchParams(location.search);
search.value = given.get("search") ?? "";
sort(given.get("sort"));

for (const header of table.querySelectorAll("[data-sort]")) {
  const column = header.dataset.sort;
  // Of numbers the largest are asked for first.
  const first = header.classList.contains("number") || column === "used" ? `-${column}` : column;
  const other = first === column ? `-${column}` : column;
  header.querySelector("button").addEventListener("click", () => {
    sort(order === first ? other : first);
    keep();
    settle();
  });
}
by.addEventListener("change", () => {
  sort(by.value);
  keep();
  settle();
});
search.addEventListener("input", () => {
  keep();
  settle();
});
element("clear").addEventListener("click", () => {
  search.value = "";
  keep();
  settle();
  search.focus();
});
element("create").addEventListener("click", () => actions.create(refresh));
body.addEventListener("pointerleave", () => settle({ live: true }));
body.addEventListener("focusout", () => setTimeout(() => settle({ live: true })));
