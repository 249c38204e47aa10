/** One session: what is known of it, what happened to it, and how to end it. */
import { deviceName } from "/embed/words.js";
import { Code, FullTime, Json, Loaded, Text } from "./parts.js";
import { State, Where } from "./sessions.js";
import { because, reason, spoken } from "./terms.js";
import { endAll, endOne } from "./ending.js";
import { html } from "./html.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";

const EVERY_MS = 5_000;

export function SessionPage({ here }) {
  const desk = useDesk();
  const path = `/v1/sessions/${encodeURIComponent(here.id)}`;
  const found = useResource(path, { every: EVERY_MS });
  if (found.problem?.status === 404) return html`<${Missing} id=${here.id} />`;
  return html`<p class="trail"><a href=${desk.to("sessions")}>Sessions</a></p>
    <${Loaded} of=${found}>${(session) => html`<${Facts} session=${session} again=${found.again} />
      <${Timeline} path=${`${path}/timeline`} session=${session} />`}<//>`;
}

function Missing({ id }) {
  const desk = useDesk();
  return html`<h1 tabindex="-1">No such session</h1>
    <p><${Code}>${id}<//> is not here: it never was, it belongs to another tenant, or it ended longer ago than ended sessions are kept.</p>
    <p><a href=${desk.to("sessions")}>All sessions</a></p>`;
}

function Facts({ session, again }) {
  const desk = useDesk();
  const living = session.status === "active" && desk.may("sessions:write");
  return html`<div class="head">
      <h1 tabindex="-1"><bdi>${deviceName(session)}</bdi></h1>
      ${living && html`<div class="actions">
        <button type="button" class="danger" onClick=${() => endOne(desk, session, again)}>Sign out…</button>
        <button type="button" class="danger quiet" onClick=${() => endAll(desk, session.user_id, again, session)}>Sign out the others…</button>
      </div>`}
    </div>
    <section class="card"><h2 class="unseen">What is known</h2><dl class="facts">
      <dt>State</dt><dd><${State} session=${session} /></dd>
      <dt>User</dt><dd><a href=${desk.to("sessions", null, { user: session.user_id })}><${Text}>${session.user_id}<//></a></dd>
      <dt>Session</dt><dd><${Code}>${session.id}<//></dd>
      <dt>Signed in</dt><dd><${FullTime} at=${session.created_at} /></dd>
      <dt>Last active</dt><dd><${FullTime} at=${session.last_active_at} /></dd>
      ${session.ended_at
        ? html`<dt>Ended</dt><dd><${FullTime} at=${session.ended_at} /></dd>`
        : html`<dt>Ends at the latest</dt><dd><${FullTime} at=${session.expires_at} /></dd>`}
      <dt>Place</dt><dd>${session.country || session.ip_address ? html`<${Where} session=${session} />` : "Unknown"}</dd>
      <dt>Device type</dt><dd>${session.device_type ? html`<${Text}>${session.device_type}<//>` : "Unknown"}</dd>
      <dt>User agent</dt><dd class="long">${session.user_agent ? html`<${Text}>${session.user_agent}<//>` : "Unknown"}</dd>
      ${session.org_id && html`<dt>Organisation</dt><dd><${Text}>${session.org_id}<//></dd>`}
      ${session.role && html`<dt>Role</dt><dd><${Text}>${session.role}<//></dd>`}
      ${session.mfa_verified !== undefined && html`<dt>Second factor</dt><dd>${session.mfa_verified ? "Verified" : "Not verified"}</dd>`}
      ${session.claims && html`<dt>Claims</dt><dd><${Json} of=${session.claims} /></dd>`}
      ${session.metadata && html`<dt>Metadata</dt><dd><${Json} of=${session.metadata} /></dd>`}
    </dl></section>`;
}

/** Asked again whenever the session has changed. */
function Timeline({ path, session }) {
  const found = useResource(path, { every: session.status === "active" ? EVERY_MS : 0 });
  return html`<section class="card"><h2>Timeline</h2>
    <${Loaded} of=${found}>${({ data }) => html`<ol class="timeline">
      ${data.map((entry, i) => html`<li key=${i} class=${entry.what === "ended" ? "end" : ""}>
        <p><strong>${title(entry)}</strong> ${by(entry.by)}</p>
        <p class="soft"><${FullTime} at=${entry.at} /></p>
        <${Detail} entry=${entry} session=${session} />
      </li>`)}
    </ol>`}<//>
  </section>`;
}

function title({ what, detail }) {
  if (what === "ended") return `Ended: ${reason(detail?.reason).toLowerCase()}`;
  if (what === "refreshed") return `Refreshed${detail?.count > 1 ? ` ${detail.count} times, the last` : ""}`;
  return { created: "Signed in", active: "Last active", claims_changed: "Claims changed" }[what] ?? what;
}

function by(who) {
  if (!who) return null;
  const known = { admin: "an operator", user: "the user", worker: "the worker" }[who];
  if (known) return html`<span class="soft">by ${known}</span>`;
  return html`<span class="soft">by ${who.startsWith("key:") ? "the key " : ""}<${Text}>${who.replace(/^key:/, "")}<//></span>`;
}

function Detail({ entry }) {
  const { reason: why, rule, count, ...more } = entry.detail ?? {};
  const words = Object.entries(more).filter(([, value]) => value !== null && value !== "");
  return html`
    ${entry.what === "ended" && html`<p>Because ${because(why)}.</p>`}
    ${rule && html`<p>${Object.entries(rule).map(([name, value]) => html`Under the rule <${Code}>${name}<//>: <${Text}>${spoken(value)}<//>. `)}</p>`}
    ${words.length > 0 && html`<p>${words.map(([name, value]) => html`<span class="pair"><span class="soft">${name.replaceAll("_", " ")}</span> <${Text}>${typeof value === "object" ? JSON.stringify(value) : value}<//></span> `)}</p>`}`;
}
