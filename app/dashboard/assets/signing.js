/** The ring of keys that sign access tokens. */
import { Badge, Code, Loaded, Time } from "./parts.js";
import { html } from "./html.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";

const PATH = "/v1/admin/signing-keys";
const EVERY_MS = 30_000;
const STATES = {
  next: ["next", "plain", "published, so that every backend knows it before it signs"],
  active: ["active", "good", "signs new access tokens"],
  retired: ["retired", "plain", "signs no more; stays until the last token it signed has expired"],
};

export function SigningKeys() {
  const desk = useDesk();
  const found = useResource(PATH, { every: EVERY_MS, tenant: null });
  const rotate = () =>
    desk.confirm({
      title: "Rotate the signing key?",
      text: html`<p>This publishes a new key. It begins to sign once every backend can have read it, and the present one retires then.
        Nobody is signed out.</p>`,
      action: "Rotate",
      calm: true,
      run: async () => {
        await desk.change("POST", `${PATH}/rotate`);
        desk.say("The next key is published.");
        found.again();
      },
    });
  return html`<div class="head">
      <h1 tabindex="-1">Signing keys</h1>
      <button type="button" class="main" onClick=${rotate}>Rotate…</button>
    </div>
    <p class="soft">They sign the access tokens of all tenants. The worker rotates them by itself.</p>
    <${Loaded} of=${found}>${({ data }) => html`<table class="list">
      <thead><tr><th scope="col">Key</th><th scope="col">State</th><th scope="col">Signs from</th><th scope="col">Made</th>
        <th scope="col"><span class="unseen">Actions</span></th></tr></thead>
      <tbody>${data.map((key) => html`<${Row} key=${key.kid} of=${key} again=${found.again} />`)}</tbody>
    </table>`}<//>`;
}

function Row({ of, again }) {
  const desk = useDesk();
  const [word, kind, means] = STATES[of.state] ?? [of.state, "plain", ""];
  const remove = () =>
    desk.confirm({
      title: "Remove this key at once?",
      text: html`<p>For emergencies, such as a stolen key. <strong>Every access token that it signed is refused</strong> by this service at once and by
        backends as soon as they read the keys anew (within minutes). Sessions go on: each gets a new token with its next refresh.</p>
        ${of.state === "active" && html`<p>It is the active key: another one takes over at once.</p>`}`,
      action: "Remove the key",
      phrase: of.kid.slice(0, 8),
      phraseLabel: "The first eight characters of the key's id",
      run: async () => {
        await desk.change("DELETE", `${PATH}/${of.kid}`);
        desk.say("The key is removed.");
        again();
      },
    });
  return html`<tr>
    <th scope="row"><${Code}>${of.kid}<//></th>
    <td><${Badge} kind=${kind}>${word}<//> <span class="soft under">${means}</span></td>
    <td data-name="Signs from"><${Time} at=${of.sign_from} /></td>
    <td data-name="Made"><${Time} at=${of.created_at} /></td>
    <td class="act"><button type="button" class="quiet" onClick=${remove} aria-label=${`Remove key ${of.kid}`}>Remove…</button></td>
  </tr>`;
}
