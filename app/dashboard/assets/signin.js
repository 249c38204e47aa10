/** The way in: with a key, or through the operator's identity provider. */
import { call } from "./door.js";
import { Dialog } from "./dialogs.js";
import { Field, said } from "./parts.js";
import { html, useEffect, useId, useRef, useState } from "./html.js";

/** The whole page. `why`: why one is here, if not by one's own wish. */
export function SignIn({ why, enter }) {
  const [oidc, offer] = useState(false);
  useEffect(() => {
    document.title = "Sign in – HelloJohn";
    call("GET", "/options").then((options) => offer(options.oidc), () => {});
  }, []);
  return html`<main class="signin">
    <div class="card">
      <p class="brand"><img src="/dashboard/assets/icon.svg" alt="" width="28" height="28" /> HelloJohn</p>
      <h1 tabindex="-1">Sign in</h1>
      ${why && html`<p class="note" role="status">${why}</p>`}
      <${KeyForm} enter=${enter} action="Sign in" />
      ${oidc && html`<p class="or">or</p><a class="button wide" href=${provider()}>Sign in with your organisation</a>`}
      <p class="soft">An admin key (<code>mk_live_…</code>) sees every tenant, a tenant's key (<code>sk_live_…</code>) its
        own. The key itself is not kept; you are signed out after 15 minutes without activity.</p>
    </div>
  </main>`;
}

/** Before what cannot be undone: the same credential once more. `done(true)` when it was good. */
export function StepUp({ session, done }) {
  return html`<${Dialog} title="Sign in again" close=${() => done(false)}>
    <div class="prose"><p>This needs a sign-in within the last ten minutes.</p></div>
    ${session.oidc
      ? html`<a class="button main wide" href=${provider()}>Continue with your organisation</a>`
      : html`<${KeyForm} enter=${() => done(true)} action="Continue" />`}
    <div class="actions"><button type="button" onClick=${() => done(false)}>Cancel</button></div>
  <//>`;
}

function KeyForm({ enter, action }) {
  const [problem, fail] = useState(null);
  const [busy, work] = useState(false);
  const [shown, show] = useState(false);
  const field = useRef(null);
  const id = useId();
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const key = field.current.value.trim();
    if (!key) return field.current.focus();
    work(true);
    fail(null);
    try {
      enter(await call("POST", "/session", { body: { key } }));
    } catch (error) {
      work(false);
      fail(error);
      field.current.select();
    }
  };
  return html`<form onSubmit=${submit}>
    <${Field} id=${id} label="Key" problem=${problem && refusal(problem)}>
      <div class="joined">
        <input id=${id} ref=${field} class="mono" type=${shown ? "text" : "password"} required spellcheck=${false}
          autocomplete="current-password" autocapitalize="off" aria-invalid=${problem ? "true" : undefined}
          aria-describedby=${problem ? `${id}-wrong` : undefined} />
        <button type="button" aria-pressed=${shown} onClick=${() => show(!shown)}>${shown ? "Hide" : "Show"}</button>
      </div>
    <//>
    <button type="submit" class="main wide" disabled=${busy}>${busy ? "Signing in…" : action}</button>
  </form>`;
}

const refusal = (problem) => (problem.code === "invalid_api_key" ? "This key is not valid." : said(problem));

const provider = () => `/dashboard/oidc?next=${encodeURIComponent(location.pathname + location.search)}`;
