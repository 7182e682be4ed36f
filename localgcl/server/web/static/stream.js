// The server's stream of changes, read while the tab is seen; a hidden one has no connection.
//
// Not by EventSource: that tells neither why it was refused nor that a server has gone silent.

import { refusal, whole } from "./api.js";

// The server says something every 15 seconds.
const SILENCE_MS = 40_000;

const RETRY_MS = [500, 1000, 2000, 4000];

// Calls `opened` at each connection, `changed` with each change, and `lost` at each loss, with the
// reason and with the time at which the server was heard last, if it ever was.
export function listen({ opened, changed, lost }) {
  let seen = null;
  let last = null;
  const heard = () => (last = new Date());

  function turn() {
    if (document.hidden) {
      seen?.abort();
      seen = null;
    } else if (seen === null) {
      seen = new AbortController();
      follow(seen.signal);
    }
  }

  async function follow(signal) {
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        await readStream(signal, heard, (event, data) => {
          tries = -1;
          if (event === "hello") opened();
          if (event === "change") changed(data);
        });
        throw new Error("The server has ended the connection.");
      } catch (error) {
        if (signal.aborted) return;
        lost(error.message, last);
      }
      await pause(RETRY_MS[Math.min(Math.max(tries, 0), RETRY_MS.length - 1)], signal);
    }
  }

  document.addEventListener("visibilitychange", turn);
  turn();
}

async function readStream(signal, heard, tell) {
  const connection = new AbortController();
  const { promise: broken, reject } = Promise.withResolvers();
  signal.addEventListener("abort", () => connection.abort(), { signal: connection.signal });
  let silence;
  const expect = () => {
    clearTimeout(silence);
    silence = setTimeout(() => reject(new Error("The server is silent.")), SILENCE_MS);
  };
  try {
    expect();
    const alive = () => (expect(), heard());
    await Promise.race([broken, readEvents(connection.signal, alive, tell)]);
  } finally {
    clearTimeout(silence);
    connection.abort();
  }
}

async function readEvents(signal, alive, tell) {
  let response;
  try {
    response = await fetch(whole("/ui/events"), { cache: "no-store", signal });
  } catch {
    throw new Error("The server does not answer.");
  }
  if (!response.ok) throw refusal(response.status, await response.text());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch {
      throw new Error("The connection broke.");
    }
    if (part.done) return;
    alive();
    const blocks = (text + part.value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) interpret(block, tell);
  }
}

// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
function interpret(block, tell) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (data.length) tell(event, JSON.parse(data.join("\n")));
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
