/** Who changed what: of one tenant, or the operator's own log. */
import { Badge, Code, Empty, Field, Loaded, Pages, Text, Time } from "./parts.js";
import { go } from "./places.js";
import { html } from "./html.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";

const ACTIONS = {
  "config.changed": "Policy changed",
  "session.updated": "Session changed",
  "sessions.updated": "All sessions of a user changed",
  "session.revoked": "Session ended",
  "sessions.revoked": "User or whole tenant signed out",
  "api_key.created": "API key made",
  "api_key.rotated": "API key rotated",
  "api_key.revoked": "API key revoked",
  "tenant.created": "Tenant made",
  "tenant.renamed": "Tenant renamed",
  "tenant.deleted": "Tenant deleted",
  "signing_key.rotated": "Signing key rotated",
  "signing_key.removed": "Signing key removed",
  "dashboard.signed_in": "Signed in to the dashboard",
  "dashboard.signed_out": "Signed out of the dashboard",
};

export function Audit({ here }) {
  const desk = useDesk();
  const [action, cursor] = [here.query.get("action") ?? "", here.query.get("cursor") ?? ""];
  const query = new URLSearchParams({ limit: 20, ...(action && { action }), ...(cursor && { cursor }) });
  const found = useResource(`/v1/admin/audit?${query}`);
  const link = (query) => desk.to("audit", null, { action, ...query });
  return html`<h1 tabindex="-1">Audit log</h1>
    <p class="soft">${desk.tenant ? "What was changed at this tenant, and by whom." : "What the operator changed that belongs to no tenant. Each tenant has a log of its own."}</p>
    <div class="tools">
      <${Field} id="action" label="What">
        <select id="action" value=${action} onChange=${(event) => go(link({ action: event.target.value }), { replace: true })}>
          <option value="">Everything</option>
          ${Object.entries(ACTIONS).map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}
        </select>
      <//>
    </div>
    <${Loaded} of=${found}>${({ data, intact, pagination }) => html`
      ${!intact && html`<p class="note bad" role="alert"><strong>This page is not intact:</strong> somebody has changed or removed entries of it in the store.</p>`}
      ${data.length ? html`<${Table} entries=${data} />` : html`<${Empty}><p><strong>Nothing on record.</strong></p><//>`}
      <${Pages} pagination=${pagination} first=${!cursor} link=${(cursor) => link({ cursor })} />`}<//>`;
}

const Table = ({ entries }) => html`<table class="list">
  <thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">By</th><th scope="col">Change</th></tr></thead>
  <tbody>${entries.map((entry) => html`<tr key=${entry.id}>
    <td><${Time} at=${entry.at} /></td>
    <td class="id"><${Badge} kind="plain"><${Text}>${ACTIONS[entry.action] ?? entry.action}<//><//><span class="under"><${Code}>${entry.target}<//></span></td>
    <td class="id" data-name="By">${entry.actor === "admin" ? "Operator" : html`<${Code}>${entry.actor}<//>`}</td>
    <td><${Change} before=${entry.before} after=${entry.after} /></td>
  </tr>`)}</tbody>
</table>`;

/** Only what differs. */
function Change({ before, after }) {
  const said = (value) => Array.isArray(value) ? value.join(", ") : (typeof value === "object" && value !== null ? JSON.stringify(value) : (value ?? "none"));
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  const differ = names.filter((name) => said(before?.[name]) !== said(after?.[name]));
  return html`<ul class="changes">${differ.map((name) => html`<li key=${name}>
    <span class="soft">${name.replaceAll("_", " ")}</span> ${before && html`<${Text}>${said(before[name])}<//> → `}<${Text}>${said(after?.[name])}<//>
  </li>`)}</ul>`;
}
