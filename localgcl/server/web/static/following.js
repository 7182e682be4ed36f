// Keeping what is shown up with the server: read anew when there is reason to, and say when it fails.

import { moment } from "./format.js";
import { fault, heal } from "./notices.js";
import { listen } from "./stream.js";

const AGAIN_MS = 3000;

const connection = document.getElementById("connection");
const lostNotice = document.getElementById("lost");

// Calls `read` whenever all has to be read anew, and `changed` with each change in between.
// Returns what reads anew now.
export function follow(read, changed) {
  const refresh = oneAtATime(async () => {
    try {
      await read();
      heal("reading");
    } catch (error) {
      // Without a connection all is read anew once there is one.
      if (connection.dataset.state !== "live") return;
      fault(error.message, "reading");
      setTimeout(() => document.hidden || refresh(), AGAIN_MS);
    }
  });
  listen({
    opened() {
      show("live", "Live");
      refresh();
    },
    changed(change) {
      // What changes while all is being read may be missing in it.
      if (change.missed || refresh.isRunning()) refresh();
      else changed(change);
    },
    lost(reason, last) {
      const since = last ? ` What is shown is from ${moment(last)}.` : "";
      // Said once, and not at each try.
      if (connection.dataset.state !== "lost") {
        lostNotice.textContent = `${reason}${since} The page tries to connect again.`;
      }
      show("lost", "Not connected");
    },
  });
  return refresh;
}

function show(state, text) {
  if (connection.dataset.state === state) return;
  connection.dataset.state = state;
  connection.textContent = text;
  lostNotice.hidden = state !== "lost";
}

// Run `work` once for all who ask before it begins, and never twice at a time.
function oneAtATime(work) {
  let running = null;
  let next = null;
  const run = async () => {
    try {
      await work();
    } finally {
      running = next;
      next = null;
    }
  };
  const ask = () => {
    if (running === null) return (running = run());
    next ??= running.then(run);
    return next;
  };
  ask.isRunning = () => running !== null;
  return ask;
}

// Call `tick` so often while the tab is seen, and when it comes to be seen.
export function whileSeen(milliseconds, tick) {
  let timer = null;
  const turn = () => {
    clearInterval(timer);
    timer = document.hidden ? null : setInterval(tick, milliseconds);
    if (!document.hidden) tick();
  };
  document.addEventListener("visibilitychange", turn);
  turn();
}
