/** Nobody at the desk: when the server's idle time runs out the operator is signed out, with a minute's notice. */
import { Dialog } from "./dialogs.js";
import { html, useEffect, useRef, useState } from "./html.js";

const NOTICE_MS = 60_000;
const RENEW_MS = 30_000;
const LOOK_MS = 1_000;
const TOUCHES = ["pointerdown", "keydown", "wheel", "touchstart"];

/** A touch renews the session at the server, now and then; what the page asks by itself does not. */
export function Idle({ session, signOut, renew }) {
  const [now, look] = useState(Date.now());
  const renewed = useRef(Date.now());
  const left = Math.min(Date.parse(session.idle_until), Date.parse(session.expires_at)) - now;
  const asking = left <= NOTICE_MS;
  const stay = () => {
    renewed.current = Date.now();
    renew();
  };
  useEffect(() => {
    const touch = () => !asking && Date.now() - renewed.current > RENEW_MS && stay();
    TOUCHES.forEach((name) => addEventListener(name, touch, { passive: true }));
    const timer = setInterval(() => look(Date.now()), LOOK_MS);
    return () => {
      TOUCHES.forEach((name) => removeEventListener(name, touch));
      clearInterval(timer);
    };
  }, [asking]);
  useEffect(() => {
    if (left <= 0) signOut("You were signed out after a while without activity.");
  }, [left <= 0]);
  if (!asking) return null;
  return html`<${Dialog} title="Are you still there?" close=${stay}>
    <div class="prose"><p>You will be signed out in <strong>${Math.max(0, Math.ceil(left / 1_000))} seconds</strong>.</p></div>
    <div class="actions">
      <button type="button" onClick=${() => signOut(null)}>Sign out now</button>
      <button type="button" class="main" onClick=${stay} autofocus>Stay signed in</button>
    </div>
  <//>`;
}
