// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const number = (value) => whole.format(value);

// "1 slot", "5 slots".
export const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;

// How slots come back by themselves, as the command line shows it: "100/min", "5 in any 1 min".
export function rate({ limit, rate: text, window_seconds: seconds }) {
  return seconds ? `${number(limit)} in any ${exactly(seconds)}` : (text ?? "-");
}

const UNITS = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];

// A time in the largest unit that has a whole number of it: "90 s", "5 min".
export function exactly(seconds) {
  const [unit, length] = UNITS.find(([, one]) => seconds >= one && seconds % one === 0) ?? UNITS.at(-1);
  return `${seconds / length} ${unit}`;
}

// The two largest units: "4 s", "3 min 12 s", "2 h 5 min".
export function duration(seconds) {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  const rounded = Math.floor(seconds);
  const first = UNITS.findIndex(([, length]) => rounded >= length);
  const parts = [];
  let rest = rounded;
  for (const [unit, length] of UNITS.slice(first, first + 2)) {
    const of = Math.floor(rest / length);
    if (of) parts.push(`${of} ${unit}`);
    rest -= of * length;
  }
  return parts.join(" ");
}

// The time of day, with the day where that is another.
export function moment(date) {
  const today = date.toDateString() === new Date().toDateString();
  return today ? date.toLocaleTimeString() : date.toLocaleString();
}
