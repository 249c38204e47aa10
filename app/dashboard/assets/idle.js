/**
 * Nobody at the desk: when the idle time runs out the operator is signed out, with a minute's notice. It is the server
 * that ends the session, and it knows of every tab: one that sees no activity asks before it says anything.
 */
import { Dialog } from "./dialogs.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { pause } from "./resource.js";

const NOTICE_MS = 60_000;
const RENEW_MS = 30_000;
const LOOK_MS = 1_000;
const ASK_MS = 5_000;
const TOUCHES = ["pointerdown", "keydown", "wheel", "touchstart"];

/** A session as the server tells of it, with what this browser's clock is ahead of the server's (ms). */
export const arrived = (session) => ({ ...session, ahead: Date.now() - Date.parse(session.now) });

/** How long it will last, as far as this tab knows (ms). */
export const left = (session) => Date.parse(session.idle_until) + session.ahead - Date.now();

/** A touch renews the session at the server, now and then; what the page asks by itself, as with `check`, does not. */
export function Idle({ session, signOut, renew, check }) {
  const [, look] = useState(0);
  const [asked, ask] = useState(false);
  const renewed = useRef(Date.now());
  const rest = left(session);
  const due = rest <= NOTICE_MS;
  const stay = () => {
    renewed.current = Date.now();
    renew();
  };
  useEffect(() => {
    const touch = () => !due && Date.now() - renewed.current > RENEW_MS && stay();
    TOUCHES.forEach((name) => addEventListener(name, touch, { passive: true }));
    const timer = setInterval(() => look(Date.now()), LOOK_MS);
    return () => {
      TOUCHES.forEach((name) => removeEventListener(name, touch));
      clearInterval(timer);
    };
  }, [due]);
  useEffect(() => {
    if (!due) return ask(false);
    const stop = new AbortController();
    repeat(check, () => ask(true), stop.signal);
    return () => stop.abort();
  }, [due, rest <= 0]);
  if (!due || !asked) return null;
  return html`<${Dialog} title="Are you still there?" close=${stay}>
    <div class="prose">
      ${rest > 0
        ? html`<p>You will be signed out in <strong>${Math.ceil(rest / 1_000)} seconds</strong>.</p>`
        : html`<p>Asking the server whether you are still signed in.</p>`}
    </div>
    <div class="actions">
      <button type="button" onClick=${signOut}>Sign out now</button>
      <button type="button" class="main" onClick=${stay} autofocus>Stay signed in</button>
    </div>
  <//>`;
}

async function repeat(check, checked, signal) {
  while (!signal.aborted) {
    await check();
    if (!signal.aborted) checked();
    await pause(ASK_MS, signal);
  }
}
