/** What ends and changes sessions, as it happens. */
import { visible } from "/embed/words.js";
import { Badge, Empty, Field, Text, Time, Trouble } from "./parts.js";
import { REASONS, because, count, lag, reason } from "./terms.js";
import { follow } from "./stream.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { useDesk } from "./desk.js";

const MOST = 500;
const TYPES = { "session.revoked": "Revoked", "session.expired": "Expired", "session.updated": "Changed", "tenant.revoked": "Whole tenant" };

export function Live() {
  const desk = useDesk();
  const feed = useFeed(desk.tenantHeader);
  const [text, find] = useState("");
  const [kind, choose] = useState("");
  const shown = feed.events.filter((event) => matches(event, text.trim(), kind));
  return html`<div class="head">
      <h1 tabindex="-1">Live</h1>
      <p class="state" role="status">${feed.paused ? html`<${Badge} kind="plain">paused<//>` : html`<${Connection} feed=${feed} />`}</p>
    </div>
    <div class="tools">
      <${Field} id="live-find" label="User or session contains">
        <input id="live-find" type="search" value=${text} autocomplete="off" spellcheck=${false} onInput=${(event) => find(event.target.value)} />
      <//>
      <${Field} id="live-kind" label="What">
        <select id="live-kind" value=${kind} onChange=${(event) => choose(event.target.value)}>
          <option value="">Everything</option>
          <optgroup label="Kind">${Object.entries(TYPES).map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}</optgroup>
          <optgroup label="Reason">${Object.keys(REASONS).map((code) => html`<option key=${code} value=${code}>${reason(code)}</option>`)}</optgroup>
        </select>
      <//>
      <div class="actions">
        <button type="button" aria-pressed=${feed.paused} onClick=${feed.turn}>
          ${feed.paused ? `Go on${feed.waiting ? ` (${count(feed.waiting)} new)` : ""}` : "Pause"}</button>
        <button type="button" onClick=${feed.clear} disabled=${!feed.events.length}>Clear</button>
      </div>
    </div>
    ${feed.problem && html`<${Trouble} problem=${feed.problem} />`}
    ${shown.length ? html`<${Events} events=${shown} />` : html`<${Quiet} some=${feed.events.length > 0} />`}`;
}

/** Newest first, the last 500. While paused what comes waits its turn; many at once are drawn as one. */
function useFeed(tenant) {
  const [state, set] = useState({ events: [], waiting: 0, paused: false, live: null, lag: null, problem: null });
  const paused = useRef(false);
  const kept = useRef([]);
  const drawing = useRef(0);
  const draw = () => {
    drawing.current = 0;
    const fresh = kept.current;
    if (paused.current) return set((was) => ({ ...was, waiting: fresh.length }));
    kept.current = [];
    set((was) => ({ ...was, events: [...fresh.reverse(), ...was.events].slice(0, MOST), waiting: 0 }));
  };
  useEffect(() => {
    const stop = new AbortController();
    follow({
      tenant,
      signal: stop.signal,
      state: (word, problem) => set((was) => ({ ...was, live: word === "live", problem: problem?.passing ? null : (problem ?? null) })),
      event: (type, data) => {
        if (type === "heartbeat") return set((was) => ({ ...was, lag: data.lag_ms }));
        kept.current = [...kept.current, type === "reset" ? { type, id: `reset-${Date.now()}`, occurred_at: new Date().toISOString() } : data].slice(-MOST);
        drawing.current ||= requestAnimationFrame(draw);
      },
    });
    return () => (stop.abort(), cancelAnimationFrame(drawing.current));
  }, [tenant]);
  const turn = () => {
    paused.current = !paused.current;
    set((was) => ({ ...was, paused: paused.current }));
    draw();
  };
  return { ...state, turn, clear: () => set((was) => ({ ...was, events: [] })) };
}

function Connection({ feed }) {
  if (feed.live === null) return html`<${Badge} kind="plain">connecting<//>`;
  if (!feed.live) return html`<${Badge} kind="bad">interrupted<//> <span class="soft">connecting again; nothing is missed</span>`;
  return html`<${Badge} kind="good">live<//> ${feed.lag !== null && html`<span class="soft">${lag(feed.lag)} behind</span>`}`;
}

function matches(event, text, kind) {
  if (kind && event.type !== kind && event.reason !== kind) return false;
  return !text || [event.user_id, event.session_id].some((id) => id?.includes(text));
}

const Quiet = ({ some }) => html`<${Empty}>
  <p><strong>${some ? "Nothing of that kind yet." : "Nothing has happened yet."}</strong></p>
  <p class="soft">Ends and changes of sessions appear here as they happen, from now on.</p>
<//>`;

const Events = ({ events }) => html`<table class="list feed">
  <thead><tr><th scope="col">When</th><th scope="col">What</th><th scope="col">User</th><th scope="col">Session</th></tr></thead>
  <tbody>${events.map((event) => html`<${Row} key=${event.id} event=${event} />`)}</tbody>
</table>`;

function Row({ event }) {
  const desk = useDesk();
  const kind = event.type === "session.updated" ? "plain" : "bad";
  return html`<tr>
    <td><${Time} at=${event.occurred_at} /></td>
    <td><${Badge} kind=${kind}>${TYPES[event.type] ?? visible(event.type)}<//> <span class="soft under" title=${event.reason && because(event.reason)}>${what(event)}</span></td>
    <td class="id">${event.user_id && html`<a href=${desk.to("sessions", null, { user: event.user_id })}><${Text}>${event.user_id}<//></a>`}</td>
    <td class="id">${event.session_id && html`<a class="mono" href=${desk.to("sessions", event.session_id)} aria-label=${`Session ${event.session_id}`}>…${event.session_id.slice(-8)}</a>`}</td>
  </tr>`;
}

function what(event) {
  if (event.type === "reset") return "The feed began anew: some events were lost or are no longer kept";
  if (event.type !== "session.updated") return reason(event.reason);
  const { org_id: org, role, mfa_verified: verified, claims } = event;
  const said = [org && `organisation ${org}`, role && `role ${role}`];
  if (verified !== undefined) said.push(verified ? "second factor verified" : "no second factor");
  if (claims && Object.keys(claims).length) said.push(`claims ${JSON.stringify(claims)}`);
  return visible(said.filter(Boolean).join(", "));
}
