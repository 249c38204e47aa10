/** The frame around every view: where one can go, whose data it is, and the way out. */
import { Audit } from "./audit.js";
import { Keys } from "./keys.js";
import { Live } from "./live.js";
import { Overview } from "./overview.js";
import { Policy } from "./policy.js";
import { SessionPage } from "./session.js";
import { Sessions } from "./sessions.js";
import { SigningKeys } from "./signing.js";
import { Tenants } from "./tenants.js";
import { Text } from "./parts.js";
import { visible } from "/embed/words.js";
import { address, go } from "./places.js";
import { html, useEffect, useErrorBoundary, useRef } from "./html.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";

/** `scope`: what an API key needs. `where`: of the deployment, of one tenant, or of both. */
const VIEWS = [
  { view: "overview", title: "Overview", show: Overview, scope: "stats:read", where: "both" },
  { view: "sessions", title: "Sessions", show: Sessions, scope: "sessions:read", where: "tenant" },
  { view: "live", title: "Live", show: Live, scope: "events:read", where: "tenant" },
  { view: "policy", title: "Policy", show: Policy, scope: "config:read", where: "tenant" },
  { view: "tenants", title: "Tenants", show: Tenants, where: "deployment" },
  { view: "keys", title: "API keys", show: Keys, where: "tenant", admin: true },
  { view: "signing-keys", title: "Signing keys", show: SigningKeys, where: "deployment" },
  { view: "audit", title: "Audit log", show: Audit, scope: "audit:read", where: "both" },
];

export function Frame({ here, signOut }) {
  const desk = useDesk();
  const offered = VIEWS.filter((entry) => isFor(entry, desk));
  const entry = offered.find(({ view }) => view === here.view);
  const main = useRef(null);
  const spot = `${here.tenant} ${here.view} ${here.id}`;
  const first = useRef(true);
  useEffect(() => {
    document.title = `${entry?.title ?? "Not here"}${desk.tenant?.name ? ` – ${desk.tenant.name}` : ""} – HelloJohn`;
  }, [entry, desk.tenant?.name]);
  useEffect(() => {
    scrollTo(0, 0);
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    if (!first.current) return onceThere(main.current, "h1", (heading) => heading.focus({ preventScroll: true }));
    first.current = false;
  }, [spot]);
  const View = here.view === "sessions" && here.id ? SessionPage : (entry?.show ?? Nowhere);
  return html`<div class="frame">
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), main.current.focus())}>To the content</a>
    <header class="side">
      <a class="brand" href=${address({})}>
        <img src="/dashboard/assets/icon.svg" alt="" width="24" height="24" /> HelloJohn</a>
      ${desk.admin ? html`<${Chooser} here=${here} />` : html`<p class="whose"><${Text}>${desk.tenant.name}<//></p>`}
      <nav aria-label="Views">
        <ul>
          ${offered.map(({ view, title }) => html`<li key=${view}>
            <a href=${desk.to(view)} aria-current=${view === here.view ? "page" : undefined}>${title}</a>
          </li>`)}
        </ul>
      </nav>
      <div class="who">
        <p><span class="soft">Signed in as</span> <${Text}>${desk.session.name}<//></p>
        <button type="button" onClick=${signOut}>Sign out</button>
      </div>
    </header>
    <main id="main" ref=${main} tabindex="-1">
      <${Guarded} key=${spot}><${View} here=${here} /><//>
    </main>
  </div>`;
}

/** A view that fails while it is drawn takes nothing else with it. */
function Guarded({ children }) {
  const [failed, again] = useErrorBoundary((error) => reportError(error));
  if (!failed) return children;
  return html`<div class="note bad" role="alert">
    <p><strong>This page could not be shown</strong></p>
    <button type="button" onClick=${again}>Try again</button>
  </div>`;
}

/** Some views have their heading only when they have been read. */
function onceThere(root, selector, then) {
  const look = () => {
    const found = root.querySelector(selector);
    if (found) watcher.disconnect(), then(found);
  };
  const watcher = new MutationObserver(look);
  watcher.observe(root, { childList: true, subtree: true });
  look();
  return () => watcher.disconnect();
}

function isFor({ where, scope, admin }, desk) {
  if (where === "deployment") return desk.admin && !desk.tenant;
  if (where === "tenant" && !desk.tenant) return false;
  return admin ? desk.admin : desk.may(scope);
}

/** The tenant one looks at. A plain select: the first hundred, the rest are a page away. */
function Chooser({ here }) {
  const desk = useDesk();
  const found = useResource("/v1/admin/tenants?limit=100", { tenant: null, every: 60_000 });
  const tenants = found.data?.data ?? [];
  const listed = tenants.some(({ id }) => id === here.tenant);
  const chosen = (event) => {
    const tenant = event.target.value;
    if (tenant === "more") return go(address({ view: "tenants" }));
    const stays = VIEWS.some(({ view, where }) => view === here.view && (where === "both" || (tenant && where === "tenant")));
    go(address({ tenant: tenant || null, view: stays ? here.view : "overview" }));
  };
  return html`<div class="chooser">
    <label class="soft" for="tenant">Tenant</label>
    <select id="tenant" value=${here.tenant ?? ""} onChange=${chosen}>
      <option value="">All tenants</option>
      ${here.tenant && !listed && html`<option value=${here.tenant}>${visible(desk.tenant?.name || here.tenant)}</option>`}
      ${tenants.map(({ id, name }) => html`<option key=${id} value=${id}>${visible(name)}</option>`)}
      ${found.data?.pagination.has_more && html`<option value="more">More…</option>`}
    </select>
  </div>`;
}

function Nowhere() {
  const desk = useDesk();
  return html`<h1 tabindex="-1">Not here</h1>
    <p>${desk.admin && !desk.tenant ? "Choose a tenant to see that." : "There is no such page, or this key may not see it."}</p>
    <p><a href=${desk.to("overview")}>Overview</a></p>`;
}
