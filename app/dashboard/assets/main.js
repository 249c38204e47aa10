/** The dashboard: who is signed in, where they are, and the frame around what they see. */
import { BACKGROUND, Unreachable, call, whenEnded } from "./door.js";
import { Confirm } from "./dialogs.js";
import { desk as deskOf, Desk } from "./desk.js";
import { Frame } from "./frame.js";
import { Idle, arrived, left } from "./idle.js";
import { SignIn, StepUp } from "./signin.js";
import { Trouble } from "./parts.js";
import { usePlace } from "./places.js";
import { html, render, useEffect, useMemo, useRef, useState } from "./html.js";

const others = new BroadcastChannel("hellojohn-dashboard");
const SAID_MS = 6_000;
const ALMOST_MS = 1_000;
const IDLE = "You were signed out after a while without activity.";
const ENDED = "Your session has ended. Sign in to go on where you were.";

function App() {
  const here = usePlace();
  const [session, set] = useState(undefined); // not known yet; null: nobody
  const [why, explain] = useState(null);
  const [problem, fail] = useState(null);
  const leave = (reason) => (explain(reason), set(reason ? null : undefined)); // with no reason the document itself goes
  const enter = (found) => (explain(null), set(arrived(found)));
  const read = (headers) => call("GET", "/session", { headers }).then(
    (found) => set((was) => was && arrived(found)),
    () => {}, // what ended is dealt with below, what is away comes back
  );
  const look = async () => {
    fail(null);
    try {
      set(arrived(await call("GET", "/session")));
    } catch (error) {
      if (error.status !== 401) fail(error);
      else set(null);
    }
  };
  useEffect(() => {
    const elsewhere = () => leave("You have signed out in another tab.");
    const restored = (event) => event.persisted && (set(undefined), look());
    const hidden = (event) => event.persisted && set(undefined);
    whenEnded(() => set((was) => (was && explain(left(was) < ALMOST_MS ? IDLE : ENDED), null)));
    others.addEventListener("message", elsewhere);
    addEventListener("pageshow", restored);
    addEventListener("pagehide", hidden);
    look();
  }, []);
  if (problem) return html`<main class="signin"><${Trouble} problem=${problem} again=${look} /></main>`;
  if (session === undefined) return null;
  if (session === null) return html`<${SignIn} why=${why} enter=${enter} />`;
  return html`<${Inside} key=${`${session.kind} ${session.name}`} here=${here} session=${session}
    leave=${leave} renew=${() => read()} check=${() => read(BACKGROUND)} />`;
}

function Inside({ here, session, leave, renew, check }) {
  const [question, ask] = useState(null);
  const [stepping, step] = useState(null);
  const [told, tell] = useState("");
  const [tenant, name] = useState(null);
  const timer = useRef(0);
  const acts = useMemo(() => {
    const fresh = () => new Promise((done) => step({ done: (good) => (step(null), good && renew(), done(good)) }));
    const change = async (method, path, options) => {
      try {
        return await call(method, path, options);
      } catch (error) {
        if (error.code !== "fresh_sign_in_required" || !(await fresh())) throw error;
        return await call(method, path, options);
      }
    };
    const say = (text) => {
      clearTimeout(timer.current);
      tell(text);
      timer.current = setTimeout(() => tell(""), SAID_MS);
    };
    return { change, say, confirm: ask };
  }, []);
  const id = here.tenant;
  useEffect(() => {
    if (session.kind !== "admin" || !id) return name(null);
    const stop = new AbortController();
    call("GET", `/v1/admin/tenants/${id}`, { signal: stop.signal }).then(name, () => {});
    return () => stop.abort();
  }, [id]);
  const shown = session.kind === "admin" ? id && { id, name: tenant?.id === id ? tenant.name : "" } : session.tenant;
  const desk = useMemo(() => deskOf({ session, tenant: shown || null }, acts), [session, shown?.id, shown?.name]);
  const signOut = async () => {
    try {
      await call("DELETE", "/session");
    } catch (error) {
      if (error instanceof Unreachable) return acts.say("The server cannot be reached: you are still signed in.");
    }
    others.postMessage("signed out");
    leave(null);
    location.replace("/dashboard"); // nothing of the visit stays in this document
  };
  return html`<${Desk.Provider} value=${desk}>
    <${Frame} here=${here} signOut=${signOut} />
    ${question && html`<${Confirm} ...${question} close=${() => ask(null)} />`}
    ${stepping && html`<${StepUp} session=${session} done=${stepping.done} />`}
    <${Idle} session=${session} signOut=${signOut} renew=${renew} check=${check} />
    <div class="told" role="status">${told && html`<p>${told}</p>`}</div>
  <//>`;
}

render(html`<${App} />`, document.getElementById("app"));
