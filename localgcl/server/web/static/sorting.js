// The orders in which limits can be listed; "-waiting" is by waiting, the most first.

const { compare } = new Intl.Collator(undefined, { numeric: true });

const KEYS = {
  used: (limit) => (limit.limit && limit.keys === null ? limit.active_slots / limit.limit : 0),
  waiting: (limit) => limit.waiting,
  rate: perSecond,
  active: (limit) => Number(limit.active),
};

function perSecond({ slot_decay_per_second: decay, limit, window_seconds: window }) {
  return window ? limit / window : decay;
}

export const ORDERS = new Set(["name", "-name", ...Object.keys(KEYS).flatMap((key) => [key, `-${key}`])]);

// Return the limits in order; those that are equal, by name.
export function inOrder(limits, order) {
  const sign = order.startsWith("-") ? -1 : 1;
  const key = KEYS[order.replace("-", "")];
  const byName = (a, b) => compare(a.name, b.name);
  if (!key) return limits.sort((a, b) => sign * byName(a, b));
  return limits.sort((a, b) => sign * (key(a) - key(b)) || byName(a, b));
}
