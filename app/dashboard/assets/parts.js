/** Small parts that the views are made of. Data goes into them as text, and leaves as text. */
import { ago, exact, visible } from "/embed/words.js";
import { html, useEffect, useState } from "./html.js";

const AGE_MS = 10_000;

/** Data of others: isolated, so that no mark in it turns what stands beside it, and with nothing invisible. */
export const Text = ({ children }) => html`<bdi>${visible(children)}</bdi>`;

export const Code = ({ children }) => html`<code class="code"><bdi>${visible(children)}</bdi></code>`;

/** Plain words, exact on hover. */
export function Time({ at }) {
  useTick(AGE_MS);
  return at ? html`<time dateTime=${at} title=${exact(at)}>${ago(at)}</time>` : "–";
}

/** Both at once, for the page of one thing. */
export function FullTime({ at }) {
  useTick(AGE_MS);
  return at ? html`<time dateTime=${at}>${ago(at)} <span class="soft">${exact(at)}</span></time>` : "–";
}

function useTick(ms) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

export const Badge = ({ kind, children }) => html`<span class=${`badge ${kind}`}>${children}</span>`;

/** What `of` has read; until then that it is being read; and what went wrong, with a way to try again. */
export function Loaded({ of, children }) {
  if (of.data === null && of.problem === null) return html`<${Waiting} />`;
  if (of.data === null) return html`<${Trouble} problem=${of.problem} again=${of.again} />`;
  return html`${of.problem && html`<${Stale} since=${of.at} problem=${of.problem} />`} ${children(of.data)}`;
}

/** Says so only when it takes long enough to be noticed. */
function Waiting() {
  const [slow, turn] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => turn(true), 200);
    return () => clearTimeout(timer);
  }, []);
  return html`<p class="soft waiting" role="status" aria-busy="true">${slow ? "Loading…" : ""}</p>`;
}

export function Trouble({ problem, again }) {
  return html`<div class="note bad" role="alert">
    <p><strong>${said(problem)}</strong></p>
    ${problem.passing && html`<p>Trying again by itself.</p>`}
    ${problem.requestId && html`<p class="soft">Request <${Code}>${problem.requestId}<//></p>`}
    ${again && html`<button type="button" onClick=${again}>Try again</button>`}
  </div>`;
}

function Stale({ since, problem }) {
  return html`<p class="note warn" role="status">
    Not up to date: this is from <${Time} at=${since} />. ${said(problem)}; trying again.
  </p>`;
}

const TITLES = {
  insufficient_scope: "This key may not see that",
  store_unavailable: "The session store is away",
  tenant_not_found: "There is no such tenant, or no longer",
};

export const said = (problem) => TITLES[problem.code] ?? visible(problem.message);

/** Nothing here, and why that is so. */
export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

/** The links under a list. */
export function Pages({ pagination, first, link }) {
  if (first && !pagination.has_more) return null;
  return html`<nav class="pages" aria-label="Pages">
    ${!first && html`<a class="button" href=${link("")}>Newest</a>`}
    ${pagination.has_more && html`<a class="button" rel="next" href=${link(pagination.next_cursor)}>Older</a>`}
  </nav>`;
}

/** A label over its field, with help under it; `problem` is announced. */
export function Field({ id, label, help, problem, children }) {
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${help && html`<p class="help" id=${`${id}-help`}>${help}</p>`} ${children}
    ${problem && html`<p class="wrong" id=${`${id}-wrong`} role="alert">${problem}</p>`}
  </div>`;
}

export const Json = ({ of }) => html`<pre class="json"><bdi>${visible(JSON.stringify(of, null, 2))}</bdi></pre>`;
