/** What every view needs to know and may do: who is signed in, whose data is looked at, and how to change it. */
import { createContext, useContext } from "./html.js";
import { address } from "./places.js";

export const Desk = createContext(null);
export const useDesk = () => useContext(Desk);

/**
 * @param {{session: object, tenant: {id: string, name: string} | null}} who
 * @param {{change: Function, confirm: Function, say: Function}} acts
 */
export function desk({ session, tenant }, acts) {
  const admin = session.kind === "admin";
  const tenantHeader = admin && tenant ? tenant.id : undefined;
  return {
    ...acts,
    session,
    admin,
    tenant,
    tenantHeader,
    may: (scope) => admin || session.scopes === null || session.scopes.includes(scope),
    to: (view, id, query) => address({ tenant: admin && tenant ? tenant.id : null, view, id, query }),
    change: (method, path, options = {}) => acts.change(method, path, { tenant: tenantHeader, ...options }),
  };
}
