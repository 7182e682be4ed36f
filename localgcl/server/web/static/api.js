// What the page asks of the server, and how a refusal reads.

const LIMITS = "/api/v2/concurrency_limits";

// An answer comes within milliseconds; what takes so long does not come.
const PATIENCE_MS = 20_000;

// A request that was refused: `fields` has a message for each field that is at fault.
export class Refusal extends Error {
  constructor(status, message, fields = {}) {
    super(message);
    this.status = status;
    this.fields = fields;
  }
}

export const readAll = () => call("GET", "/ui/limits");
export const read = (idOrName) => call("GET", `/ui/limits/${encodeURIComponent(idOrName)}`);
export const create = (values) => call("POST", `${LIMITS}/`, values);
export const change = (idOrName, values) =>
  call("PATCH", `${LIMITS}/${encodeURIComponent(idOrName)}`, values);
export const reset = (idOrName) => change(idOrName, { active_slots: 0 });
export const remove = (id) => call("DELETE", `${LIMITS}/${id}`);
export const free = (lease) => call("POST", `/ui/leases/${encodeURIComponent(lease)}/release`);

// Against the origin, for an address that was opened with a user and a password in it is none that
// can be fetched from.
export const whole = (path) => location.origin + path;

async function call(method, path, body) {
  const options = { method, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) };
  if (body !== undefined) {
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  let answer;
  try {
    response = await fetch(whole(path), options);
    answer = await response.text();
  } catch {
    throw new Refusal(0, "The server does not answer. See that localgcl serve runs, then try again.");
  }
  if (!response.ok) throw refusal(response.status, answer);
  return answer ? JSON.parse(answer) : null;
}

export function refusal(status, answer) {
  let said = {};
  try {
    said = JSON.parse(answer) ?? {};
  } catch {
    // Not from localgcl; the status says what there is to say.
  }
  const fields = {};
  for (const fault of Array.isArray(said.exception_detail) ? said.exception_detail : []) {
    const field = fault.loc?.[1];
    if (field !== undefined) fields[field] ??= sentence(fault.msg);
  }
  if (status === 409) fields.name = sentence(said.detail ?? "there is such a limit already");
  const message = said.detail ?? said.exception_message ?? `the server answered ${status}`;
  return new Refusal(status, sentence(message), fields);
}

function sentence(text) {
  const plain = String(text).replace(/^Value error, /, "");
  const whole = plain.charAt(0).toUpperCase() + plain.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
