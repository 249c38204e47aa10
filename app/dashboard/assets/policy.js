/** A tenant's policy: changed with open eyes, for a preview says how many sessions would end. */
import { call } from "./door.js";
import { Loaded, said } from "./parts.js";
import { SETTINGS } from "./settings.js";
import { UNITS, count, many, split, spoken } from "./terms.js";
import { html, useEffect, useState } from "./html.js";
import { pause, useResource } from "./resource.js";
import { useDesk } from "./desk.js";

const PATH = "/v1/admin/config";
const TYPING_MS = 350;

export function Policy() {
  const found = useResource(PATH);
  return html`<h1 tabindex="-1">Policy</h1>
    <p class="soft">A change is in force on every process within a second.</p>
    <${Loaded} of=${found}>${(config) => html`<${Form} key=${JSON.stringify(config)} config=${config} again=${found.again} />`}<//>`;
}

function Form({ config, again }) {
  const desk = useDesk();
  const [draft, write] = useState(config);
  const [problem, fail] = useState(null);
  const changed = SETTINGS.map(({ name }) => name).filter((name) => draft[name] !== config[name]);
  const body = Object.fromEntries(changed.map((name) => [name, draft[name]]));
  const preview = usePreview(desk, body);
  const wrong = problem ?? preview.problem;
  const set = (name, value) => {
    fail(null);
    write((was) => ({ ...was, [name]: value }));
  };
  const save = async () => {
    await desk.change("PATCH", PATH, { body });
    desk.say("The policy is changed.");
    again();
  };
  const submit = async (event) => {
    event.preventDefault();
    const ends = preview.data?.would_end.total ?? null;
    if (ends !== 0) {
      return desk.confirm({
        title: "Change the policy?",
        text: html`<ul>${changed.map((name) => html`<li key=${name}>${change(name, config[name], draft[name])}</li>`)}</ul>
          <p><strong>${ends === null ? "It could not be foreseen how many sessions this ends." : sentence(preview.data)}</strong></p>`,
        action: "Change it",
        run: save,
      });
    }
    try {
      await save();
    } catch (error) {
      fail(error);
    }
  };
  return html`<form class="policy" onSubmit=${submit}>
    ${SETTINGS.map((setting) => html`<${Setting} key=${setting.name} setting=${setting} value=${draft[setting.name]}
      before=${config[setting.name]} set=${(value) => set(setting.name, value)} locked=${!desk.may("config:write")}
      wrong=${wrong?.field === setting.name ? wrong : null} />`)}
    <div class=${`save card${changed.length ? " wanted" : ""}`} aria-live="polite">
      <p>${changed.length === 0 ? "No changes." : wrong ? html`<span class="wrong">${said(wrong)}</span>` : preview.data ? sentence(preview.data) : "Looking at what this would do…"}</p>
      <div class="actions">
        <button type="button" disabled=${!changed.length} onClick=${() => (fail(null), write(config))}>Discard</button>
        <button type="submit" class="main" disabled=${!changed.length || (wrong && !wrong.passing)}>Save</button>
      </div>
    </div>
  </form>`;
}

/** Asked a moment after the last keystroke. */
function usePreview(desk, body) {
  const key = JSON.stringify(body);
  const [state, set] = useState({ key: "{}", data: null, problem: null });
  useEffect(() => {
    if (key === "{}") return undefined;
    const stop = new AbortController();
    const ask = async () => {
      await pause(TYPING_MS, stop.signal);
      if (stop.signal.aborted) return;
      try {
        const data = await call("POST", `${PATH}/preview`, { body: JSON.parse(key), tenant: desk.tenantHeader, signal: stop.signal });
        set({ key, data, problem: null });
      } catch (problem) {
        if (!stop.signal.aborted) set({ key, data: null, problem });
      }
    };
    ask();
    return () => stop.abort();
  }, [key, desk.tenantHeader]);
  return state.key === key ? state : { data: null, problem: null };
}

const FORESEEN = { idle_timeout: "inactive for too long", evicted: "over the limit per user" };

/** "Would end about (± 40) 1,204 of 9,000 active sessions now: 1,000 inactive for too long, 204 over the limit per user." */
function sentence({ would_end: ends, active, exact }) {
  if (ends.total === 0) return `Ends none of the ${many(active, "active session")}.`;
  const about = exact ? "" : ends.margin ? `about (± ${count(ends.margin)}) ` : "about ";
  const parts = Object.entries(FORESEEN).filter(([code]) => ends[code]).map(([code, why]) => `${count(ends[code])} ${why}`);
  return `Would end ${about}${count(ends.total)} of ${many(active, "active session")} now: ${parts.join(", ")}.`;
}

const word = (name, value) => {
  const setting = SETTINGS.find((setting) => setting.name === name);
  if (value === null) return setting.none.toLowerCase();
  if (setting.choices) return setting.choices[value].toLowerCase();
  return typeof value === "number" ? count(value) : spoken(value);
};

const change = (name, from, to) =>
  html`${SETTINGS.find((setting) => setting.name === name).label}: ${word(name, from)} → <strong>${word(name, to)}</strong>`;

function Setting({ setting, value, before, set, locked, wrong }) {
  const { name, label, means, living, usual, low, high } = setting;
  const bounds = low !== undefined ? ` ${typeof low === "number" ? count(low) : spoken(low)} to ${typeof high === "number" ? count(high) : spoken(high)}.` : "";
  return html`<fieldset class=${`card setting${value === before ? "" : " changed"}`} disabled=${locked}>
    <legend>${label}</legend>
    <p class="help" id=${`${name}-help`}>${means}</p>
    <${Input} setting=${setting} value=${value} before=${before} set=${set} wrong=${wrong} />
    ${wrong && html`<p class="wrong" id=${`${name}-wrong`} role="alert">${said(wrong)}</p>`}
    <p class="soft">${bounds} Default: ${word(name, usual)}.</p>
    <p class="soft"><strong>Sessions that live:</strong> ${living}</p>
  </fieldset>`;
}

function Input({ setting, value, before, set, wrong }) {
  const { name, label, choices, none, usual } = setting;
  const described = { "aria-describedby": `${name}-help${wrong ? ` ${name}-wrong` : ""}`, "aria-invalid": wrong ? "true" : undefined };
  if (choices) {
    return Object.entries(choices).map(([code, title]) => html`<label class="choice" key=${code}>
      <input type="radio" name=${name} value=${code} checked=${value === code} onChange=${() => set(code)} /> ${title}</label>`);
  }
  const start = before ?? usual ?? (name === "idle_timeout" ? "30m" : 5);
  return html`
    ${none && html`<label class="choice"><input type="checkbox" checked=${value === null} onChange=${(event) => set(event.target.checked ? null : start)} /> ${none}</label>`}
    ${value !== null && (typeof start === "number"
      ? html`<input type="number" min="1" step="1" class="small" aria-label=${label} ...${described} value=${value} onInput=${(event) => set(Number(event.target.value))} />`
      : html`<${Duration} label=${label} value=${value} set=${set} described=${described} />`)}`;
}

function Duration({ label, value, set, described }) {
  const { number, unit } = split(value);
  const put = (number, unit) => set(Number(number) === 0 ? "0s" : `${Math.trunc(Number(number))}${unit}`);
  return html`<div class="joined small">
    <input type="number" min="0" step="1" aria-label=${`${label}, number`} ...${described} value=${number} onInput=${(event) => put(event.target.value, unit)} />
    <select aria-label=${`${label}, unit`} value=${unit} onChange=${(event) => put(number, event.target.value)}>
      ${Object.entries(UNITS).map(([letter, [title]]) => html`<option key=${letter} value=${letter}>${title}</option>`)}
    </select>
  </div>`;
}
