/** The form for a new API key. */
import { Dialog } from "./dialogs.js";
import { Field, said } from "./parts.js";
import { html, useId, useState } from "./html.js";
import { useDesk } from "./desk.js";

export const SCOPES = [
  "sessions:read",
  "sessions:write",
  "sessions:verify",
  "events:read",
  "config:read",
  "config:write",
  "stats:read",
  "audit:read",
  "keys:rotate",
];
const LIVES = { "": "Does not expire", "7d": "7 days", "30d": "30 days", "90d": "90 days", "365d": "A year" };

export function NewKey({ path, close, made }) {
  const desk = useDesk();
  const id = useId();
  const [problem, fail] = useState(null);
  const [busy, work] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const scopes = form.getAll("scope");
    if (!scopes.length) return fail(new Error("A key that may do nothing is of no use: choose at least one."));
    work(true);
    fail(null);
    const body = {
      name: form.get("name").trim(),
      mode: form.get("mode"),
      scopes,
      ...(form.get("expires") && { expires_in: form.get("expires") }),
    };
    try {
      made(await desk.change("POST", path, { body }));
    } catch (error) {
      work(false);
      fail(error);
    }
  };
  return html`<${Dialog} title="New API key" close=${close}>
    <form onSubmit=${submit}>
      <${Field} id=${`${id}-name`} label="Name" help="Which backend will use it?">
        <input id=${`${id}-name`} name="name" required maxlength="128" autocomplete="off" autofocus />
      <//>
      <fieldset class="plain"><legend>Kind</legend>
        <label class="choice"><input type="radio" name="mode" value="live" defaultChecked /> Live (<code>sk_live_…</code>)</label>
        <label class="choice"><input type="radio" name="mode" value="test" /> Test (<code>sk_test_…</code>)</label>
      </fieldset>
      <fieldset class="plain columns"><legend>It may</legend>
        ${SCOPES.map((scope) => html`<label class="choice" key=${scope}><input type="checkbox" name="scope" value=${scope} defaultChecked /> <code>${scope}</code></label>`)}
      </fieldset>
      <${Field} id=${`${id}-expires`} label="Expires after">
        <select id=${`${id}-expires`} name="expires">${Object.entries(LIVES).map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}</select>
      <//>
      ${problem && html`<p class="wrong" role="alert">${said(problem)}</p>`}
      <div class="actions">
        <button type="button" onClick=${close}>Cancel</button>
        <button type="submit" class="main" disabled=${busy}>${busy ? "Working…" : "Make the key"}</button>
      </div>
    </form>
  <//>`;
}
