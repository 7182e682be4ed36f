// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

export const number = (value) => whole.format(value);

// "1 slot", "5 slots".
export const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;

// Slots per second, as the command line shows them.
export const rate = (perSecond) => (perSecond === 0 ? "-" : `${precise.format(perSecond)}/s`);

// The two largest units: "4 s", "3 min 12 s", "2 h 5 min".
export function duration(seconds) {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const rounded = Math.floor(seconds);
  const first = units.findIndex(([, length]) => rounded >= length);
  const parts = [];
  let rest = rounded;
  for (const [unit, length] of units.slice(first, first + 2)) {
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
