/** Find sessions: of a user, by their id, by state; newest first. */
import { countryName, deviceName } from "/embed/words.js";
import { Badge, Empty, Field, Loaded, Pages, Text, Time } from "./parts.js";
import { go } from "./places.js";
import { endAll, endOne, endTenant } from "./ending.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { reason } from "./terms.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";

const EVERY_MS = 2_000;
const SESSION = /^ses_0[0-9A-HJKMNP-TV-Z]{25}$/;
const USER = /^[^\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]{1,255}$/u;
const STATES = { active: "Active", revoked: "Revoked", expired: "Expired", all: "All" };

export function Sessions({ here }) {
  const desk = useDesk();
  const [user, cursor] = [here.query.get("user") ?? "", here.query.get("cursor") ?? ""];
  const asked = here.query.get("status");
  const status = asked in STATES ? asked : "active";
  const link = (query) => desk.to("sessions", null, { user, status: status === "active" ? "" : status, ...query });
  const query = new URLSearchParams({ status, limit: 20, ...(user && { user_id: user }), ...(cursor && { cursor }) });
  const found = useResource(`/v1/sessions?${query}`, { every: cursor ? 0 : EVERY_MS });
  const acted = useRef(false);
  const again = () => {
    acted.current = true;
    found.again();
  };
  useEffect(() => {
    if (acted.current && document.activeElement === document.body) document.querySelector("h1").focus(); // its row is gone
    acted.current = false;
  }, [found.data]);
  return html`<div class="head">
      <h1 tabindex="-1">${user ? html`Sessions of <${Text}>${user}<//>` : "Sessions"}</h1>
      ${desk.may("sessions:write") && (user
        ? html`<button type="button" class="danger quiet" onClick=${() => endAll(desk, user, again)}>Sign out everywhere…</button>`
        : html`<button type="button" class="danger quiet" onClick=${() => endTenant(desk, again)}>Sign out the whole tenant…</button>`)}
    </div>
    <div class="tools">
      <${Search} key=${user} user=${user} />
      <fieldset class="segments"><legend class="unseen">State</legend>
        ${Object.entries(STATES).map(([value, title]) => html`<label key=${value}>
          <input type="radio" name="status" value=${value} checked=${value === status}
            onChange=${() => go(link({ status: value === "active" ? "" : value }), { replace: true })} /><span>${title}</span>
        </label>`)}
      </fieldset>
    </div>
    <${Loaded} of=${found}>${({ data, pagination }) => html`
      ${data.length ? html`<${Table} key=${query.toString()} sessions=${data} user=${user} acted=${acted} again=${again} />` : html`<${None} user=${user} status=${status} />`}
      <${Pages} pagination=${pagination} first=${!cursor} link=${(cursor) => link({ cursor })} />`}<//>`;
}

/** One field for both: an id of a session leads to it, anything else is a user's. */
function Search({ user }) {
  const desk = useDesk();
  const [wrong, blame] = useState(null);
  const field = useRef(null);
  const submit = (event) => {
    event.preventDefault();
    const text = field.current.value; // blanks at its ends belong to a user id
    if (text && !USER.test(text)) return blame("A user id has 1 to 255 characters and no control characters.");
    blame(null);
    go(SESSION.test(text.trim()) ? desk.to("sessions", text.trim()) : desk.to("sessions", null, { user: text }));
  };
  return html`<form role="search" onSubmit=${submit}>
    <${Field} id="find" label="User id or session id" problem=${wrong}>
      <div class="joined">
        <input id="find" ref=${field} type="search" defaultValue=${user} autocomplete="off" autocapitalize="off" spellcheck=${false}
          placeholder="usr_… or ses_…" aria-invalid=${wrong ? "true" : undefined} aria-describedby=${wrong ? "find-wrong" : undefined} />
        <button type="submit">Find</button>
      </div>
    <//>
  </form>`;
}

const None = ({ user, status }) => html`<${Empty}>
  <p><strong>${status === "all" ? "No sessions" : `No ${STATES[status].toLowerCase()} sessions`}${user && " of this user"}.</strong></p>
  <p class="soft">${status === "active" && !user ? "They appear here as soon as a backend creates one." : "Ended sessions are kept for the retention time, 24 hours unless set otherwise."}</p>
<//>`;

/**
 * What is new waits while somebody points at a row or has the focus in one: nothing moves away under a hand. What they
 * did themselves (`acted`) is shown at once.
 */
function Table({ sessions, user, acted, again }) {
  const ref = useRef(null);
  const [shown, show] = useState(sessions);
  const known = useRef(new Set(sessions.map(({ id }) => id)));
  const ids = (list) => list.map(({ id }) => id).join();
  const held = ids(shown) !== ids(sessions) && !acted.current && ref.current?.matches(":hover, :focus-within");
  useEffect(() => {
    if (!held) show(sessions);
  }, [sessions, held]);
  const isNew = (id) => !known.current.has(id);
  const rows = held ? shown.map((row) => sessions.find(({ id }) => id === row.id) ?? { ...row, status: "not here any more" }) : sessions;
  return html`${held && html`<p class="note" role="status">
      The list has changed. <button type="button" onClick=${() => show(sessions)}>Show it as it is now</button></p>`}
    <table class="list" ref=${ref}>
      <thead><tr>
        ${!user && html`<th scope="col">User</th>`}
        <th scope="col">Device</th><th scope="col">Last active</th><th scope="col">Signed in</th><th scope="col">State</th>
        <th scope="col"><span class="unseen">Actions</span></th>
      </tr></thead>
      <tbody>${rows.map((session) => html`<${Row} key=${session.id} session=${session} user=${user} again=${again} fresh=${isNew(session.id)} />`)}</tbody>
    </table>`;
}

function Row({ session, user, again, fresh }) {
  const desk = useDesk();
  const active = session.status === "active";
  return html`<tr class=${fresh ? "fresh" : ""}>
    ${!user && html`<td class="id"><a href=${desk.to("sessions", null, { user: session.user_id })}><${Text}>${session.user_id}<//></a></td>`}
    <th scope="row"><a href=${desk.to("sessions", session.id)}><bdi>${deviceName(session)}</bdi></a><${Where} session=${session} /></th>
    <td data-name="Last active"><${Time} at=${session.last_active_at} /></td>
    <td data-name="Signed in"><${Time} at=${session.created_at} /></td>
    <td><${State} session=${session} /></td>
    <td class="act">${active && desk.may("sessions:write") && html`<button type="button" class="quiet"
      aria-label=${`Sign out ${deviceName(session)} of ${session.user_id}`}
      onClick=${() => endOne(desk, session, again)}>Sign out…</button>`}</td>
  </tr>`;
}

export function State({ session }) {
  if (session.status === "active") return html`<${Badge} kind="good">active<//>`;
  return html`<${Badge} kind="plain">${session.status}<//> ${session.end_reason && html`<span class="soft under">${reason(session.end_reason)}</span>`}`;
}

export function Where({ session }) {
  const words = [countryName(session.country), session.ip_address].filter(Boolean);
  return words.length > 0 && html`<span class="soft under"><${Text}>${words.join(" · ")}<//></span>`;
}
