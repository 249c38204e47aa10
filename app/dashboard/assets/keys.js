/** A tenant's API keys: made, shown once, rotated, revoked. */
import { Secret } from "./dialogs.js";
import { Badge, Code, Empty, Loaded, Text, Time } from "./parts.js";
import { NewKey, SCOPES } from "./newkey.js";
import { html, useState } from "./html.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";

export function Keys() {
  const desk = useDesk();
  const path = `/v1/admin/tenants/${desk.tenant.id}/api-keys`;
  const found = useResource(path);
  const [making, make] = useState(false);
  const [made, reveal] = useState(null);
  const shown = (key) => {
    reveal(key);
    found.again();
  };
  return html`<div class="head">
      <h1 tabindex="-1">API keys</h1>
      <button type="button" class="main" onClick=${() => make(true)}>New key…</button>
    </div>
    <p class="soft">What this tenant's backends sign their calls with. A key is shown once; only a digest of it is kept.</p>
    <${Loaded} of=${found}>${({ data }) => data.length
      ? html`<${Table} path=${path} keys=${data} again=${found.again} shown=${shown} />`
      : html`<${Empty}><p><strong>No keys.</strong></p><p class="soft">Make one for each backend: each can be revoked on its own.</p><//>`}<//>
    ${making && html`<${NewKey} path=${path} close=${() => make(false)} made=${(key) => (make(false), shown(key))} />`}
    ${made && html`<${Secret} name=${made.name} secret=${made.key} close=${() => reveal(null)} />`}`;
}

const Table = ({ path, keys, again, shown }) => html`<table class="list">
  <thead><tr><th scope="col">Name</th><th scope="col">May</th><th scope="col">Last used</th><th scope="col">Made</th><th scope="col">State</th>
    <th scope="col"><span class="unseen">Actions</span></th></tr></thead>
  <tbody>${keys.map((key) => html`<${Row} key=${key.id} path=${path} of=${key} again=${again} shown=${shown} />`)}</tbody>
</table>`;

function Row({ path, of, again, shown }) {
  const desk = useDesk();
  const state = stateOf(of);
  return html`<tr>
    <th scope="row"><${Text}>${of.name}<//><span class="under soft"><${Code}>${of.hint}<//></span></th>
    <td class="scopes">${of.scopes.length === SCOPES.length ? "Everything" : html`<${Text}>${of.scopes.join(", ")}<//>`}</td>
    <td data-name="Last used">${of.last_used_at ? html`<${Time} at=${of.last_used_at} />` : "Never"}</td>
    <td data-name="Made"><${Time} at=${of.created_at} /></td>
    <td><${Badge} kind=${state === "good" ? "good" : "plain"}>${state}<//>${of.expires_at && state === "good" && html` <span class="soft">ends <${Time} at=${of.expires_at} /></span>`}</td>
    <td class="act">${state === "good" && html`
      <button type="button" class="quiet" onClick=${() => rotate(desk, path, of, shown)} aria-label=${`Rotate ${of.name}`}>Rotate…</button>
      <button type="button" class="quiet" onClick=${() => revoke(desk, path, of, again)} aria-label=${`Revoke ${of.name}`}>Revoke…</button>`}</td>
  </tr>`;
}

function stateOf({ revoked_at: revoked, expires_at: expires }) {
  if (revoked) return "revoked";
  return expires && Date.parse(expires) <= Date.now() ? "expired" : "good";
}

function rotate(desk, path, { id, name }, shown) {
  desk.confirm({
    title: "Rotate this key?",
    text: html`<p>This makes a successor of <strong><${Text}>${name}<//></strong> and shows it once. The old key goes on for <strong>one day</strong>,
      so that you can put the new one in place; then it ends by itself.</p>`,
    action: "Make the successor",
    calm: true,
    run: async () => shown(await desk.change("POST", `${path}/${id}/rotate`, { body: {} })),
  });
}

function revoke(desk, path, { id, name, last_used_at: used }, again) {
  desk.confirm({
    title: "Revoke this key?",
    text: html`<p>Every call with <strong><${Text}>${name}<//></strong> is refused within a second. ${used
      ? html`It was last used <${Time} at=${used} />.` : "It was never used."} Sessions are not touched. It cannot be undone.</p>`,
    action: "Revoke the key",
    run: async () => {
      await desk.change("DELETE", `${path}/${id}`);
      desk.say("The key is revoked.");
      again();
    },
  });
}
