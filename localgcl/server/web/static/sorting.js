// The orders in which limits can be listed; "-waiting" is by waiting, the most first.

const { compare } = new Intl.Collator(undefined, { numeric: true });

const KEYS = {
  used: (limit) => (limit.limit ? limit.active_slots / limit.limit : 0),
  waiting: (limit) => limit.waiting,
  decay: (limit) => limit.slot_decay_per_second,
  active: (limit) => Number(limit.active),
};

export const ORDERS = new Set(["name", "-name", ...Object.keys(KEYS).flatMap((key) => [key, `-${key}`])]);

// Return the limits in order; those that are equal, by name.
export function inOrder(limits, order) {
  const sign = order.startsWith("-") ? -1 : 1;
  const key = KEYS[order.replace("-", "")];
  const byName = (a, b) => compare(a.name, b.name);
  if (!key) return limits.sort((a, b) => sign * byName(a, b));
  return limits.sort((a, b) => sign * (key(a) - key(b)) || byName(a, b));
}
