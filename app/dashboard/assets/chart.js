/** Bars over time, stacked: drawn by uPlot, named for who cannot see them, and there as a table as well. */
import uPlot from "./vendor/uplot.js";
import { count, many, short } from "./terms.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "./html.js";

const HEIGHT = 200;
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric" });
const both = new Intl.DateTimeFormat("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit" });

/**
 * @param {{title: string, times: number[], step: number, series: {name: string, kind: number, values: number[]}[]}} props
 *   `times`: epoch seconds, where each bar begins; `kind`: which colour.
 */
export function Bars({ title, times, step, series }) {
  const [at, point] = useState(null);
  const name = useId();
  const totals = series.map(({ values }) => values.reduce((sum, n) => sum + n, 0));
  const shown = at ?? null;
  const value = (i) => (shown === null ? totals[i] : series[i].values[shown]);
  const when = shown === null ? "in all" : span(times[shown], step);
  return html`<figure class="chart card">
    <figcaption id=${name}><h2>${title}</h2> <span class="soft">${when}</span></figcaption>
    <ul class="legend">
      ${series.map(({ name, kind }, i) => html`<li key=${name} class=${`kind-${kind}`}>
        <span class="swatch" aria-hidden="true"></span>${name} <strong>${count(value(i) ?? 0)}</strong>
      </li>`)}
    </ul>
    <${Plot} label=${`${title}: ${summary(series, totals)}`} times=${times} step=${step} series=${series} point=${point} />
    <details><summary>As a table</summary><${Numbers} title=${title} times=${times} step=${step} series=${series} /></details>
  </figure>`;
}

const summary = (series, totals) =>
  totals.some((n) => n) ? series.map(({ name }, i) => `${name} ${count(totals[i])}`).join(", ") : "none";

const span = (from, step) => `${both.format(from * 1_000)}–${clock.format((from + step) * 1_000)}`;

function Numbers({ title, times, step, series }) {
  const rows = times.map((time, i) => i).filter((i) => series.some(({ values }) => values[i])).reverse();
  if (!rows.length) return html`<p class="soft">Nothing in this time.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${`${title}, as a table`}><table>
    <thead><tr><th scope="col">Time</th>${series.map(({ name }) => html`<th scope="col" class="number" key=${name}>${name}</th>`)}</tr></thead>
    <tbody>${rows.map((i) => html`<tr key=${times[i]}>
      <th scope="row">${span(times[i], step)}</th>
      ${series.map(({ name, values }) => html`<td class="number" key=${name}>${count(values[i])}</td>`)}
    </tr>`)}</tbody>
  </table></div>`;
}

function Plot({ label, times, step, series, point }) {
  const box = useRef(null);
  const plot = useRef(null);
  const shape = `${step} ${times.length} ${series.map(({ kind }) => kind)}`;
  const scheme = useScheme();
  useLayoutEffect(() => {
    const made = new uPlot(options(box.current, step, series, point), stacked(times, series), box.current);
    plot.current = made;
    const fit = new ResizeObserver(([{ contentRect }]) => made.setSize({ width: Math.floor(contentRect.width), height: HEIGHT }));
    fit.observe(box.current);
    return () => (fit.disconnect(), made.destroy());
  }, [shape, scheme]);
  useEffect(() => plot.current.setData(stacked(times, series)), [times, series]);
  return html`<div class="plot" ref=${box} role="img" aria-label=${label}></div>`;
}

/** Sums from the bottom up. The highest is drawn first, the lower ones in front of it. */
function stacked(times, series) {
  const sums = [];
  for (const { values } of series) {
    const below = sums[sums.length - 1];
    sums.push(values.map((n, i) => n + (below ? below[i] : 0)));
  }
  return [times, ...sums.reverse()];
}

function options(box, step, series, point) {
  const style = getComputedStyle(box);
  const colour = (name) => style.getPropertyValue(name).trim();
  const bars = uPlot.paths.bars({ size: [0.8, 40], align: 1 });
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const time = (_, ticks) => ticks.map((at) => (at % 86_400 ? clock : day).format(at * 1_000));
  return {
    width: box.clientWidth || 300,
    height: HEIGHT,
    legend: { show: false },
    padding: [10, 8, 0, 0],
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { x: { range: (_, from, to) => [from, to + step] }, y: { range: (_, low, high) => [0, Math.max(4, high * 1.1)] } },
    axes: [
      { ...axis, size: 30, grid: { show: false }, values: time, space: 64 },
      { ...axis, size: 48, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6], values: (_, ticks) => ticks.map(short) },
    ],
    series: [{}, ...series.map(({ kind }) => ({ fill: colour(`--kind-${kind}`), width: 0, paths: bars, points: { show: false } })).reverse()],
    hooks: { setCursor: [(drawn) => point(drawn.cursor.idx ?? null)] },
  };
}

/** Changes with the colours of the system. */
function useScheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const [scheme, set] = useState(dark.matches);
  useEffect(() => {
    const changed = () => set(dark.matches);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  return scheme;
}

/** How much of a whole each name has: a table whose bars are only for the eye. */
export function Shares({ title, column, of, name }) {
  const rows = Object.entries(of).filter(([, n]) => n > 0).sort(([, one], [, other]) => other - one);
  const total = rows.reduce((sum, [, n]) => sum + n, 0);
  const top = rows.slice(0, 8);
  const rest = rows.slice(8).reduce((sum, [, n]) => sum + n, 0);
  if (rest) top.push([null, rest]);
  return html`<section class="card shares">
    <h2>${title}</h2>
    ${top.length === 0 ? html`<p class="soft">No active sessions.</p>` : html`<table>
      <thead class="unseen"><tr><th scope="col">${column}</th><th scope="col">Sessions</th><th scope="col">Share</th></tr></thead>
      <tbody>${top.map(([key, n]) => html`<tr key=${key}>
        <th scope="row">${key === null ? "Others" : name(key)}</th>
        <td class="bar"><span style=${{ width: `${(100 * n) / total}%` }}></span></td>
        <td class="number" title=${many(n, "session")}>${short(n)}</td>
      </tr>`)}</tbody>
    </table>`}
  </section>`;
}
