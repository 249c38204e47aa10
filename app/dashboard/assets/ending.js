/** The ways to end sessions, each with the question that says what will happen. */
import { deviceName } from "/embed/words.js";
import { call } from "./door.js";
import { Text } from "./parts.js";
import { count, many } from "./terms.js";
import { html } from "./html.js";

const AT_ONCE = html`<p>It is in force at once for every backend that asks this service or follows its events. One that only
  checks signatures may go on accepting an access token until that expires. It cannot be undone: the user has to sign in again.</p>`;

export function endOne(desk, session, again) {
  desk.confirm({
    title: "Sign out this device?",
    text: html`<p>This ends the session of <${Text}>${session.user_id}<//> on <strong><bdi>${deviceName(session)}</bdi></strong>,
      and no other.</p>${AT_ONCE}`,
    action: "Sign out",
    run: async () => {
      await desk.change("DELETE", `/v1/sessions/${session.id}?reason=admin`);
      desk.say("The device is signed out.");
      again();
    },
  });
}

/** All of a user's, or all but `kept`. */
export async function endAll(desk, user, again, kept = null) {
  const sessions = await living(desk, user);
  const number = sessions && sessions.n - (kept ? 1 : 0);
  const of = sessions && `${sessions.more ? "more than " : ""}${many(number, "session")}`;
  desk.confirm({
    title: kept ? "Sign out the other devices?" : "Sign out everywhere?",
    text: html`<p>This ends <strong>${of ?? "the sessions"}</strong> of <${Text}>${user}<//>${kept
      ? html`: all but the one on <strong><bdi>${deviceName(kept)}</bdi></strong>.`
      : ", on all devices."}</p>${AT_ONCE}`,
    action: kept ? "Sign out the others" : "Sign out everywhere",
    run: async () => {
      const body = { user_id: user, reason: "admin", ...(kept && { except_session_id: kept.id }) };
      const { revoked } = await desk.change("POST", "/v1/sessions/revoke", { body });
      desk.say(`${many(revoked, "session")} ended.`);
      again();
    },
  });
}

export async function endTenant(desk, again) {
  const stats = await call("GET", "/v1/admin/stats", { tenant: desk.tenantHeader }).catch(() => null);
  const { name } = desk.tenant;
  desk.confirm({
    title: "Sign out the whole tenant?",
    text: html`<p>This ends <strong>${stats ? `all ${count(stats.active)}` : "all"} sessions of all users</strong> of
      <strong> <${Text}>${name}<//></strong>.</p>${AT_ONCE}`,
    action: "Sign out everyone",
    phrase: name,
    phraseLabel: "Name of the tenant",
    run: async () => {
      const headers = { "X-Confirm": encodeURIComponent(name) };
      const { revoked } = await desk.change("POST", "/v1/sessions/revoke", { body: { all: true }, headers });
      desk.say(`${many(revoked, "session")} ended.`);
      again();
    },
  });
}

/** How many a user has: exact up to a hundred. */
async function living(desk, user) {
  const query = new URLSearchParams({ user_id: user, status: "active", limit: 100 });
  try {
    const { data, pagination } = await call("GET", `/v1/sessions?${query}`, { tenant: desk.tenantHeader });
    return { n: data.length, more: pagination.has_more };
  } catch {
    return null;
  }
}
