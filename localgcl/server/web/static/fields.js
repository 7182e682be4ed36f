// What may be typed for a limit, and why something else may not: as `localgcl/_base/checks.py` has it.

const MAX_NAME_LENGTH = 255;
const MAX_SLOTS = Number.MAX_SAFE_INTEGER; // 2^53 - 1, as on the command line
const FORBIDDEN = /[/%&><]/gu;
const CONTROL = /[\p{Cc}\p{Cs}]/u;

class Fault extends Error {}

// Why a form as a whole cannot be sent: `fields` has a message for each that is at fault.
export class Impossible extends Error {
  constructor(fields) {
    super("This cannot be saved.");
    this.fields = fields;
  }
}

const READERS = {
  name: readName,
  limit: readWhole,
  slot_decay_per_second: readRate,
  active_slots: readWhole,
};

// Return what the fields say, or `faults`: a message for each that says nothing possible.
export function read(form, names) {
  const values = {};
  const faults = {};
  for (const name of names) {
    const field = form.elements[name];
    try {
      values[name] = field.type === "checkbox" ? field.checked : READERS[name](field.value);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      faults[name] = error.message;
    }
  }
  return { values, faults };
}

// Show each message at its field, and go to the first; return whether there was a field for any.
export function show(form, faults) {
  let first = null;
  for (const field of form.elements) {
    const place = field.id && document.getElementById(`${field.id}-error`);
    if (!place) continue;
    const message = faults[field.name] ?? "";
    place.textContent = message;
    if (message) {
      field.setAttribute("aria-invalid", "true");
      first ??= field;
    } else {
      field.removeAttribute("aria-invalid");
    }
  }
  first?.focus();
  return first !== null;
}

function readName(text) {
  if (!text.trim()) throw new Fault("Give it a name.");
  const forbidden = new Set(text.match(FORBIDDEN));
  if (forbidden.size) throw new Fault(`A name cannot contain ${[...forbidden].join(" ")}.`);
  if (CONTROL.test(text)) throw new Fault("A name cannot contain control characters.");
  const length = [...text].length;
  if (length > MAX_NAME_LENGTH) {
    throw new Fault(`A name has at most ${MAX_NAME_LENGTH} characters; this has ${length}.`);
  }
  return text;
}

function readWhole(text) {
  const typed = text.trim();
  if (!/^\d+$/.test(typed)) throw new Fault("A whole number, 0 or more.");
  if (Number(typed) > MAX_SLOTS) throw new Fault(`At most ${MAX_SLOTS}.`);
  return Number(typed);
}

function readRate(text) {
  const typed = text.trim();
  if (!/^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(typed) || !Number.isFinite(Number(typed))) {
    throw new Fault("A number, 0 or more, such as 0.5.");
  }
  return Number(typed);
}
