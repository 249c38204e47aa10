/** How it is going: who is signed in, what begins and ends, and whether the parts are well. */
import { countryName, visible } from "/embed/words.js";
import { Bars, Shares } from "./chart.js";
import { Badge, Loaded, Time } from "./parts.js";
import { REASONS, bytes, count, lag, reason } from "./terms.js";
import { go } from "./places.js";
import { html, useMemo } from "./html.js";
import { useDesk } from "./desk.js";
import { useResource } from "./resource.js";

const EVERY_MS = 2_000;
const SLOW_MS = 5_000;
const OLD_MS = 20_000;
const WINDOWS = { "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days" };
const DEVICES = {
  desktop: "Desktop",
  mobile: "Phone",
  tablet: "Tablet",
  tv: "TV",
  wearable: "Wearable",
  bot: "Bot",
  other: "Console or other",
  unknown: "Unknown",
};

export function Overview({ here }) {
  const desk = useDesk();
  const asked = here.query.get("window");
  const shown = asked in WINDOWS ? asked : "1h";
  const found = useResource(`/v1/admin/overview?window=${shown}`, { every: EVERY_MS });
  const choose = (event) => go(desk.to("overview", null, { window: event.target.value }), { replace: true });
  return html`<div class="head">
      <h1 tabindex="-1">Overview</h1>
      <label class="inline"><span class="soft">Show</span>
        <select value=${shown} onChange=${choose}>
          ${Object.entries(WINDOWS).map(([value, title]) => html`<option key=${value} value=${value}>${title}</option>`)}
        </select></label>
    </div>
    <${Loaded} of=${found}>${(data) => html`<${Figures} data=${data} window=${WINDOWS[shown].toLowerCase()} />`}<//>`;
}

function Figures({ data, window }) {
  const { series } = data;
  const created = sum(series.created);
  const ended = sum(Object.values(series.ended).map(sum));
  const charts = useMemo(() => drawn(series), [data]);
  return html`${isOld(data) && html`<p class="note warn" role="status">
      The worker is away: what lives was last counted ${data.counted_at ? html`<${Time} at=${data.counted_at} />` : "never"}.</p>`}
    <dl class="figures">
      <${Figure} name="Active now" value=${count(data.sessions.active)} big />
      <${Figure} name=${`Signed in, ${window}`} value=${count(created)} />
      <${Figure} name=${`Ended, ${window}`} value=${count(ended)} />
      ${data.sweep && html`<${Figure} name="Sweep lag" value=${lag(data.sweep.lag_ms)} bad=${data.sweep.lag_ms > SLOW_MS} />`}
      ${data.feed && html`<${Figure} name="Feed lag" value=${data.feed.lag_ms === null ? html`<span class="words">nobody follows</span>` : lag(data.feed.lag_ms)} bad=${data.feed.lag_ms > SLOW_MS} />`}
    </dl>
    <div class="charts">
      <${Bars} title="Signed in" ...${charts.created} />
      <${Bars} title="Ended, by reason" ...${charts.ended} />
    </div>
    <div class="charts">
      <${Shares} title="Active, by device" column="Device" of=${data.active_by_device} name=${(type) => DEVICES[type] ?? visible(type)} />
      <${Shares} title="Active, by country" column="Country" of=${data.active_by_country}
        name=${(code) => (code === "unknown" ? "Unknown" : countryName(code))} />
    </div>
    ${data.redis && html`<div class="charts"><${Redis} of=${data.redis} /><${Worker} of=${data.worker} sweep=${data.sweep} /></div>`}`;
}

const isOld = ({ at, counted_at: counted }) => !counted || Date.parse(at) - Date.parse(counted) > OLD_MS;

const sum = (numbers) => numbers.reduce((total, n) => total + n, 0);

/** Only reasons that occurred are drawn, in their fixed order and colour. */
function drawn({ from, step_s: step, created, ended }) {
  const begin = Date.parse(from) / 1_000;
  const times = created.map((_, i) => begin + i * step);
  const kinds = Object.keys(REASONS);
  const rows = kinds.filter((code) => sum(ended[code] ?? []) > 0).map((code) => ({
    name: reason(code),
    kind: kinds.indexOf(code) + 1,
    values: ended[code],
  }));
  const nothing = [{ name: "Ended", kind: 1, values: created.map(() => 0) }];
  return {
    created: { times, step, series: [{ name: "Sessions", kind: 0, values: created }] },
    ended: { times, step, series: rows.length ? rows : nothing },
  };
}

const Figure = ({ name, value, big, bad }) => html`<div class=${`card figure${big ? " big" : ""}`}>
  <dt>${name}</dt><dd>${value} ${bad && html`<${Badge} kind="bad">slow<//>`}</dd>
</div>`;

const Well = ({ ok }) => html`<${Badge} kind=${ok ? "good" : "bad"}>${ok ? "well" : "away"}<//>`;

const Redis = ({ of }) => html`<section class="card">
  <h2>Redis <${Well} ok=${of.ok} /></h2>
  <dl class="facts">
    <dt>Version</dt><dd>${visible(of.version)}</dd>
    <dt>Memory</dt><dd>${bytes(of.used_memory)}${of.max_memory ? ` of ${bytes(of.max_memory)}` : ", without a limit"}</dd>
    <dt>Connections</dt><dd>${count(of.clients)}</dd>
    <dt>Commands</dt><dd>${count(of.ops_per_s)} a second</dd>
    <dt>Answers in</dt><dd>${of.latency_ms?.toFixed(1)} ms</dd>
  </dl>
</section>`;

const Worker = ({ of, sweep }) => html`<section class="card">
  <h2>Worker <${Well} ok=${of?.ok} /></h2>
  <dl class="facts">
    <dt>Last seen</dt><dd>${of?.last_seen_at ? html`<${Time} at=${of.last_seen_at} />` : "never"}</dd>
    <dt>Last sweep</dt><dd>${sweep?.last_run_at ? html`<${Time} at=${sweep.last_run_at} />` : "never"}</dd>
  </dl>
  ${!of?.ok && html`<p class="soft">Nothing lives longer while it is away: it only records and announces what has ended.</p>`}
</section>`;
