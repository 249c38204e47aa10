/** Where in the dashboard one is: the address holds everything, so that a reload, a link or a new sign-in lead back. */
import { useEffect, useState } from "./html.js";

const ROOT = "/dashboard";
const TENANT = /^tnt_[0-9A-Z]{26}$/;

/** @returns {{tenant: string | null, view: string, id: string | null, query: URLSearchParams}} */
export function place(url = new URL(location.href)) {
  const words = url.pathname.slice(ROOT.length).split("/").filter(Boolean).map(decoded);
  const tenant = words[0] === "tenants" && TENANT.test(words[1] ?? "") ? words.splice(0, 2)[1] : null;
  return { tenant, view: words[0] ?? "overview", id: words[1] ?? null, query: url.searchParams };
}

/** The address of a view. Empty values of `query` are left out. */
export function address({ tenant = null, view = "overview", id = null, query = {} }) {
  const words = [tenant && `tenants/${tenant}`, view === "overview" && !id ? null : view, id && encodeURIComponent(id)];
  const said = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return [ROOT, ...words.filter(Boolean)].join("/") + (said.size ? `?${said}` : "");
}

export function go(href, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href);
  dispatchEvent(new PopStateEvent("popstate"));
}

/** The place, kept up to date; links of the dashboard need no handler of their own. */
export function usePlace() {
  const [here, move] = useState(place);
  useEffect(() => {
    const moved = () => move(place());
    addEventListener("popstate", moved);
    document.addEventListener("click", followed);
    return () => {
      removeEventListener("popstate", moved);
      document.removeEventListener("click", followed);
    };
  }, []);
  return here;
}

function followed(event) {
  const link = event.target.closest?.("a[href]");
  const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
  if (!link || !plain || event.defaultPrevented || link.target || link.origin !== location.origin) return;
  if (link.pathname !== ROOT && !link.pathname.startsWith(`${ROOT}/`)) return;
  if (link.pathname.startsWith(`${ROOT}/oidc`)) return;
  event.preventDefault();
  go(link.href);
}

function decoded(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}
