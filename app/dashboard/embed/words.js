/** Plain words for times, devices and places: shared by the dashboard and by what other pages embed. */

const SECOND = 1_000;
const UNITS = [
  ["year", 365 * 86_400],
  ["month", 30 * 86_400],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
const regions = new Intl.DisplayNames("en", { type: "region", fallback: "none" });

const BROWSERS = [
  ["Edge", /\bEdg(e|A|iOS)?\//],
  ["Opera", /\bOPR\//],
  ["Samsung Internet", /\bSamsungBrowser\//],
  ["Firefox", /\b(Firefox|FxiOS)\//],
  ["Chrome", /\b(Chrome|CriOS|Chromium)\//],
  ["Safari", /\bVersion\/[\d.]+.* Safari\//],
];
const SYSTEMS = [
  ["iPhone", /\biPhone\b/],
  ["iPad", /\biPad\b/],
  ["Android", /\bAndroid\b/],
  ["Windows", /\bWindows\b/],
  ["ChromeOS", /\bCrOS\b/],
  ["macOS", /\bMac OS X\b/],
  ["Linux", /\bLinux\b/],
];

/** Like "3 minutes ago" or "in 29 days". @param {string | number} at RFC 3339 or epoch milliseconds */
export function ago(at, now = Date.now()) {
  const seconds = (new Date(at).getTime() - now) / SECOND;
  if (Math.abs(seconds) < 5) return "just now";
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS[UNITS.length - 1];
  return relative.format(Math.trunc(seconds / size), unit);
}

/** To the second, with the zone. @param {string | number} at */
export const exact = (at) => moment.format(new Date(at));

/** "Chrome on Windows", or what little is known. @param {{user_agent: string | null, device_type: string | null}} session */
export function deviceName({ user_agent: agent, device_type: type }) {
  const found = (kinds) => kinds.find(([, form]) => form.test(agent ?? ""))?.[0];
  const [browser, system] = [found(BROWSERS), found(SYSTEMS)];
  if (browser && system) return `${browser} on ${system}`;
  if (browser || system) return browser ?? system;
  if (agent) return visible(agent.length > 48 ? `${agent.slice(0, 47)}…` : agent);
  return type ? visible(type[0].toUpperCase() + type.slice(1)) : "Unknown device";
}

/** @param {string | null} code ISO 3166-1 alpha-2 */
export function countryName(code) {
  if (!code) return null;
  try {
    return regions.of(code) ?? code;
  } catch {
    return visible(code);
  }
}

/**
 * Text with its invisible characters named: controls, escapes of terminals, marks that turn the direction of writing,
 * joiners without width. What is left can neither hide nor reorder anything. @param {unknown} text
 */
export const visible = (text) =>
  String(text).replace(
    /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu,
    (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
