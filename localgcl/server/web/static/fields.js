// What may be typed for a limit, and why something else may not: as `localgcl/_base/checks.py` has it.

const MAX_NAME_LENGTH = 255;
const MAX_SLOTS = Number.MAX_SAFE_INTEGER; // 2^53 - 1, as on the command line
const FORBIDDEN = /[/%&><]/gu;
const NUMBER = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const UNIT_SECONDS = {
  s: 1, sec: 1, second: 1, seconds: 1,
  m: 60, min: 60, minute: 60, minutes: 60,
  h: 3600, hour: 3600, hours: 3600,
  d: 86_400, day: 86_400, days: 86_400,
};
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
  window_seconds: readWindow,
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

// Slots per second, as a number or as people write a rate: 100/min, 1/15min.
function readRate(text) {
  const [slots, period, ...more] = text.split("/");
  const seconds = period === undefined ? 1 : secondsIn(period, 1);
  const perSecond = numberIn(slots) / seconds;
  if (more.length || seconds === 0 || !Number.isFinite(perSecond)) {
    throw new Fault("A number per second, 0 or more, or a rate such as 100/min.");
  }
  return perSecond;
}

function readWindow(text) {
  const seconds = secondsIn(text);
  if (!Number.isFinite(seconds)) throw new Fault("A time such as 60 (seconds), 1min or 1d; 0 for none.");
  return seconds;
}

// Read 90, 1.5s or 5min; of a unit alone there are `alone`. NaN is none of these.
function secondsIn(text, alone = NaN) {
  const [, before, unit] = text.trim().match(/^(.*?)\s*([a-z]*)$/is);
  const length = unit ? UNIT_SECONDS[unit] : alone === 1 ? NaN : 1;
  return (before || !unit ? numberIn(before) : alone) * (length ?? NaN);
}

function numberIn(text) {
  const typed = text.trim();
  return NUMBER.test(typed) ? Number(typed) : NaN;
}
