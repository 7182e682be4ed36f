// What can be done with a limit, the same on both pages.

import * as api from "./api.js";
import { confirm, open } from "./dialogs.js";
import * as fields from "./fields.js";
import { count } from "./format.js";
import { fault, heal, tell } from "./notices.js";

const dialog = document.getElementById("edit");
const form = dialog.querySelector("form");

const NEW = ["name", "limit", "slot_decay_per_second", "window_seconds", "active"];
const ALL = [...NEW, "active_slots"];

export function create(done) {
  fill("New limit", "Create", {
    name: "",
    limit: "",
    slot_decay_per_second: 0,
    window_seconds: 0,
    active: true,
  });
  edit(NEW, done, async (values) => {
    await api.create(values);
    tell(`Created ${values.name}.`);
  });
}

// Change what was changed of a limit since it was shown, and leave the rest as it is by now.
export function update(limit, done) {
  // A rate is edited as it is shown. What a template has in use belongs to its keys.
  const { active_slots, ...rest } = { ...limit, slot_decay_per_second: limit.rate ?? 0 };
  const isTemplate = limit.keys !== null;
  fill(`Edit ${limit.name}`, "Save", isTemplate ? rest : { ...rest, active_slots });
  edit(isTemplate ? NEW : ALL, done, async (values) => {
    const changed = Object.entries(values).filter(([name, value]) => value !== limit[name]);
    if (!changed.length) return;
    await api.change(limit.id, Object.fromEntries(changed));
    tell(`Saved ${values.name}.`);
  });
}

function fill(title, action, values) {
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("[type=submit]").textContent = action;
  for (const name of ALL) {
    const field = form.elements[name];
    if (field.type === "checkbox") field.checked = values[name];
    else field.value = values[name] ?? "";
  }
  document.getElementById("edit-used-field").hidden = !("active_slots" in values);
}

function edit(names, done, save) {
  fields.show(form, {});
  open(dialog, {
    done,
    async submit() {
      const { values, faults } = fields.read(form, names);
      fields.show(form, faults);
      if (Object.keys(faults).length) throw new fields.Impossible(faults);
      await save(values);
    },
    refuse: (error) => fields.show(form, error.fields ?? {}),
  });
}

export async function toggle(limit, done) {
  const active = !limit.active;
  try {
    await api.change(limit.id, { active });
    heal(limit.id);
    tell(`${limit.name} is ${active ? "active" : "inactive, and passed by"}.`);
  } catch (error) {
    fault(`${limit.name} is ${active ? "inactive" : "active"} as before. ${error.message}`, limit.id);
  }
  done();
}

export function reset(limit, done) {
  confirm({
    title: `Free every slot of ${limit.name}?`,
    text:
      `${count(limit.active_slots, "slot is", "slots are")} in use. ` +
      "Who holds them is not stopped, and others take them from now on.",
    action: "Reset",
    async submit() {
      // A key is found by its name alone.
      await api.reset(limit.template === null ? limit.id : limit.name);
      tell(`Freed every slot of ${limit.name}.`);
    },
    done,
  });
}

export function remove(limit, done) {
  confirm({
    title: `Delete ${limit.name}?`,
    text:
      `${count(limit.active_slots, "slot is", "slots are")} in use and ` +
      `${count(limit.waiting, "request waits", "requests wait")}. ` +
      "Code that asks for it runs without this limit from then on, or fails where it is strict.",
    action: "Delete",
    submit: () => api.remove(limit.id),
    done: () => done(`Deleted ${limit.name}.`),
  });
}

export function free(holder, done) {
  const who = holder.pid === null ? holder.command : `process ${holder.pid} (${holder.command})`;
  const slots = `${count(holder.slots, "slot", "slots")} of ${holder.limit}`;
  confirm({
    title: `Free ${slots}?`,
    text:
      `Held by ${who}, which is not stopped. ` +
      "What the same lease holds of other limits is freed too.",
    action: "Free",
    async submit() {
      await api.free(holder.lease);
      tell(`Freed ${slots}.`);
    },
    done,
  });
}
