/** All tenants, for the operator. */
import { visible } from "/embed/words.js";
import { Dialog } from "./dialogs.js";
import { Code, Empty, Field, Loaded, Pages, Text, Time, said } from "./parts.js";
import { address, go } from "./places.js";
import { html, useId, useState } from "./html.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";
import { spoken } from "./terms.js";

const PATH = "/v1/admin/tenants";

export function Tenants({ here }) {
  const desk = useDesk();
  const cursor = here.query.get("cursor") ?? "";
  const found = useResource(`${PATH}?limit=50${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
  const [editing, edit] = useState(null); // a tenant, or {} for a new one
  return html`<div class="head">
      <h1 tabindex="-1">Tenants</h1>
      <button type="button" class="main" onClick=${() => edit({})}>New tenant…</button>
    </div>
    <${Loaded} of=${found}>${({ data, pagination }) => html`
      ${data.length ? html`<${Table} tenants=${data} edit=${edit} again=${found.again} />` : html`<${Empty}><p><strong>No tenants.</strong></p><p class="soft">A tenant owns users, keys and one policy.</p><//>`}
      <${Pages} pagination=${pagination} first=${!cursor} link=${(cursor) => address({ view: "tenants", query: { cursor } })} />`}<//>
    ${editing && html`<${Name} tenant=${editing} close=${() => edit(null)} done=${(text) => (edit(null), desk.say(text), found.again())} />`}`;
}

const Table = ({ tenants, edit, again }) => html`<table class="list">
  <thead><tr><th scope="col">Name</th><th scope="col">Sessions live</th><th scope="col">Idle timeout</th><th scope="col">Made</th>
    <th scope="col"><span class="unseen">Actions</span></th></tr></thead>
  <tbody>${tenants.map((tenant) => html`<${Row} key=${tenant.id} tenant=${tenant} edit=${edit} again=${again} />`)}</tbody>
</table>`;

function Row({ tenant, edit, again }) {
  const desk = useDesk();
  const { id, name, config } = tenant;
  const remove = () =>
    desk.confirm({
      title: "Delete this tenant?",
      text: html`<p>This ends <strong><${Text}>${name}<//></strong> with <strong>all its sessions and keys</strong>, at once. Its backends are refused.
        It cannot be undone.</p>`,
      action: "Delete the tenant",
      phrase: name,
      phraseLabel: "Name of the tenant",
      run: async () => {
        await desk.change("DELETE", `${PATH}/${id}`, { headers: { "X-Confirm": encodeURIComponent(name) } });
        desk.say("The tenant is deleted.");
        again();
      },
    });
  return html`<tr>
    <th scope="row"><a href=${address({ tenant: id })}><${Text}>${name}<//></a><span class="under soft"><${Code}>${id}<//></span></th>
    <td data-name="Sessions live">${spoken(config.session_duration)}</td>
    <td data-name="Idle timeout">${config.idle_timeout ? spoken(config.idle_timeout) : "None"}</td>
    <td data-name="Made"><${Time} at=${tenant.created_at} /></td>
    <td class="act">
      <button type="button" class="quiet" onClick=${() => edit(tenant)} aria-label=${`Rename ${visible(name)}`}>Rename…</button>
      <button type="button" class="quiet" onClick=${remove} aria-label=${`Delete ${visible(name)}`}>Delete…</button></td>
  </tr>`;
}

function Name({ tenant, close, done }) {
  const desk = useDesk();
  const id = useId();
  const [problem, fail] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const body = { name: new FormData(event.target).get("name").trim() };
    try {
      if (tenant.id) {
        await desk.change("PATCH", `${PATH}/${tenant.id}`, { body });
        return done("The tenant is renamed.");
      }
      const made = await desk.change("POST", PATH, { body });
      done("The tenant is made. It has the default policy and no keys yet.");
      go(address({ tenant: made.id, view: "keys" })); // what it needs next; the list may be long
    } catch (error) {
      fail(error);
    }
  };
  return html`<${Dialog} title=${tenant.id ? "Rename the tenant" : "New tenant"} close=${close}>
    <form onSubmit=${submit}>
      <${Field} id=${id} label="Name" problem=${problem && said(problem)}>
        <input id=${id} name="name" required maxlength="128" autocomplete="off" defaultValue=${tenant.name ?? ""} autofocus />
      <//>
      <div class="actions">
        <button type="button" onClick=${close}>Cancel</button>
        <button type="submit" class="main">${tenant.id ? "Rename" : "Make the tenant"}</button>
      </div>
    </form>
  <//>`;
}
