/**
 * "Your devices" for a page of your own: `<hellojohn-devices>` lists where the user is signed in, and signs devices out.
 *
 *   <script type="module" src="https://sessions.example/embed/devices.js"></script>
 *   <hellojohn-devices></hellojohn-devices>
 *   document.querySelector("hellojohn-devices").token = async () => accessToken;
 *
 * `token`: the user's access token, or a function that gives one; it is asked for each call, so that it may refresh. The
 * service must allow the page's origin (HELLOJOHN_ORIGINS) unless it is its own.
 * Events, which bubble: `signed-out` when the user has ended this very session, `session-ended` when it is found to have ended.
 * Colours follow the page: set `--devices-accent`, `--devices-line`, `--devices-danger`, `--devices-soft`.
 */
import { ago, countryName, deviceName, exact, visible } from "./words.js";

const LIMIT = 100;
const PATIENCE_MS = 10_000;

const STYLE = `
  :host { display: block; font: inherit; color: inherit; --accent: var(--devices-accent, LinkText); --soft: var(--devices-soft, color-mix(in srgb, currentColor 72%, transparent)); --line: var(--devices-line, color-mix(in srgb, currentColor 18%, transparent)); --danger: var(--devices-danger, light-dark(#b01c16, #ffa8a1)); }
  ul { list-style: none; margin: 0; padding: 0; }
  li { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: .5rem 1rem; padding: .8rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
  li:first-child { border-top: 0; }
  strong { font-weight: 600; }
  p { margin: 0; }
  .soft { color: var(--soft); font-size: .92em; }
  .here { margin-left: .5rem; font-size: .85em; font-weight: 600; border: 1px solid currentColor; border-radius: 999px; padding: 0 .5em; white-space: nowrap; }
  button { font: inherit; color: var(--danger); background: none; border: 1px solid currentColor; border-radius: 7px; padding: .35em .8em; cursor: pointer; }
  button.calm { color: inherit; }
  button:disabled { opacity: .6; cursor: default; }
  button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  .ask { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
  .all { margin-top: .9rem; }
  .wrong { color: var(--danger); }
`;

class Devices extends HTMLElement {
  #token = null;
  #root = this.attachShadow({ mode: "open" });
  #list = element("div");
  #said = element("p", { role: "status", class: "soft" });

  constructor() {
    super();
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    this.#root.adoptedStyleSheets = [sheet];
    this.#root.append(this.#list, this.#said);
  }

  /** The access token, or what gives it. Setting it reads the list. @param {string | (() => string | Promise<string>)} value */
  set token(value) {
    this.#token = value;
    if (this.isConnected) this.refresh();
  }

  connectedCallback() {
    if (Object.hasOwn(this, "token")) {
      const { token } = this; // set before this module was loaded
      delete this.token;
      this.#token = token;
    }
    if (this.#token) this.refresh();
  }

  /** Read the list anew. */
  async refresh() {
    this.#list.setAttribute("aria-busy", "true");
    try {
      const { data } = await this.#call("GET", `/v1/me/sessions?limit=${LIMIT}`);
      this.#show(data.sort((one, other) => other.current - one.current || other.last_active_at.localeCompare(one.last_active_at)));
    } catch (problem) {
      this.#fail(problem);
    }
    this.#list.removeAttribute("aria-busy");
  }

  #show(sessions) {
    const rows = sessions.map((session) => this.#row(session));
    const others = sessions.length - 1;
    const everywhere = others > 0 && this.#question("Sign out everywhere else", `Sign out ${others === 1 ? "the other device" : `the ${others} other devices`}?`, () =>
      this.#call("POST", "/v1/me/sessions/revoke", "The other devices are signed out."));
    this.#list.replaceChildren(element("ul", { "aria-label": "Your devices" }, ...rows), ...(everywhere ? [element("div", { class: "all" }, everywhere)] : []));
  }

  #row(session) {
    const name = deviceName(session);
    const where = [countryName(session.country), session.ip_address].filter(Boolean).map(visible).join(" · ");
    const active = session.current ? "Active now" : element("time", { datetime: session.last_active_at, title: exact(session.last_active_at) }, `Active ${ago(session.last_active_at)}`);
    const text = element("div", {},
      element("p", {}, element("strong", {}, element("bdi", {}, name)), ...(session.current ? [element("span", { class: "here" }, "This device")] : [])),
      element("p", { class: "soft" }, ...(where ? [element("bdi", {}, where), " · "] : []), active));
    const ask = session.current ? "Sign out here?" : `Sign out ${name}?`;
    return element("li", {}, text, this.#question("Sign out", ask, () => this.#end(session), `Sign out ${session.current ? "this device" : name}`));
  }

  async #end(session) {
    await this.#call("DELETE", `/v1/me/sessions/${session.current ? "current" : encodeURIComponent(session.id)}`, "The device is signed out.");
    if (session.current) this.#tell("signed-out");
    return session.current;
  }

  /** A button that asks back in its place before it acts. */
  #question(action, question, act, name = action) {
    const box = element("div", { class: "ask" });
    const first = element("button", { type: "button", "aria-label": name }, action);
    const yes = element("button", { type: "button" }, action);
    const no = element("button", { type: "button", class: "calm" }, "Cancel");
    const rest = () => box.replaceChildren(first);
    first.addEventListener("click", () => {
      box.replaceChildren(element("span", { role: "alert" }, question), yes, no);
      no.focus();
    });
    no.addEventListener("click", () => (rest(), first.focus()));
    yes.addEventListener("click", async () => {
      yes.disabled = no.disabled = true;
      try {
        if (await act() === true) return this.#list.replaceChildren();
        await this.refresh();
        this.#root.querySelector("button")?.focus();
      } catch (problem) {
        yes.disabled = no.disabled = false;
        rest();
        this.#fail(problem, true);
      }
    });
    rest();
    return box;
  }

  async #call(method, path, said = "") {
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    const base = new URL(this.getAttribute("src") ?? "/", import.meta.url).origin;
    const answer = await fetch(base + path, { method, headers: { Authorization: `Bearer ${token}` }, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(PATIENCE_MS) });
    const document = answer.status === 204 ? {} : await answer.json();
    if (!answer.ok) throw Object.assign(new Error(document.title), { status: answer.status });
    this.#said.textContent = said;
    return document;
  }

  #fail(problem, kept = false) {
    if (problem.status === 401) {
      this.#list.replaceChildren();
      this.#said.textContent = "You are signed out.";
      return this.#tell("session-ended");
    }
    const again = element("button", { type: "button", class: "calm" }, "Try again");
    again.addEventListener("click", () => this.refresh());
    const text = element("p", { class: "wrong", role: "alert" }, "Your devices cannot be reached at the moment. ", again);
    if (kept) this.#list.append(text);
    else this.#list.replaceChildren(text);
  }

  #tell(name) {
    this.dispatchEvent(new CustomEvent(name, { bubbles: true, composed: true }));
  }
}

/** Strings become text, never markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

customElements.define("hellojohn-devices", Devices);
