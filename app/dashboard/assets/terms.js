/** The service's words for people: why sessions end, what states things are in, sizes and durations. */

/** In the order in which charts stack them; each has its colour by place (`--kind-1` …). */
export const REASONS = {
  signed_out: ["Signed out", "the user signed out"],
  expired: ["Lifetime over", "the session reached its absolute lifetime"],
  idle_timeout: ["Inactive", "nobody used it for longer than the idle timeout"],
  evicted: ["Too many devices", "a newer sign-in took its place under the limit of sessions per user"],
  user_revoked: ["Signed out everywhere", "the user, or a backend for them, signed out all devices"],
  revoked: ["By a backend", "a backend revoked it"],
  admin: ["By an administrator", "an administrator revoked it"],
  tenant_revoked: ["Whole tenant", "all sessions of the tenant were ended at once"],
  refresh_token_reused: ["Suspected theft", "a refresh token that had been replaced was shown again"],
};

export const reason = (code) => REASONS[code]?.[0] ?? code ?? "Unknown";
export const because = (code) => REASONS[code]?.[1] ?? code ?? "the reason is not known";

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => whole.format(n);
export const short = (n) => (n < 10_000 ? whole.format(n) : compact.format(n));

/** "1 session", "2 sessions". */
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = n > 0 ? Math.min(units.length - 1, Math.floor(Math.log2(n) / 10)) : 0;
  return `${(n / 1024 ** power).toFixed(power && n / 1024 ** power < 10 ? 1 : 0)} ${units[power]}`;
}

/** Milliseconds as one would say them. */
export function lag(ms) {
  if (ms === null || ms === undefined) return "unknown";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1_000).toFixed(1)} s` : many(Math.round(ms / 60_000), "minute");
}

export const UNITS = { s: ["seconds", 1], m: ["minutes", 60], h: ["hours", 3_600], d: ["days", 86_400] };

/** "15m" → {number: 15, unit: "m"}. */
export const split = (duration) => ({ number: String(Number.parseInt(duration, 10)), unit: duration.slice(-1) });

/** "15m" → "15 minutes". */
export function spoken(duration) {
  const { number, unit } = split(String(duration));
  return UNITS[unit] ? many(Number(number), UNITS[unit][0].slice(0, -1)) : String(duration);
}
