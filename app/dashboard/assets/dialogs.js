/** Questions before something happens. The browser's own modal dialog keeps the focus inside and gives it back. */
import { visible } from "/embed/words.js";
import { Field, said } from "./parts.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "./html.js";

export function Dialog({ title, close, children }) {
  const ref = useRef(null);
  const name = useId();
  useLayoutEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      giveBack(before);
    };
  }, []);
  const cancelled = (event) => (event.preventDefault(), close?.());
  return html`<dialog ref=${ref} aria-labelledby=${name} onCancel=${cancelled}>
    <h2 id=${name}>${title}</h2>
    ${children}
  </dialog>`;
}

/** What had the focus may be gone with what was ended: then the page's heading is where to go on. */
function giveBack(before) {
  setTimeout(() => {
    if (document.querySelector("dialog[open]")) return;
    (before?.isConnected && before !== document.body ? before : document.querySelector("h1"))?.focus();
  });
}

/**
 * Says what will happen, and does it. With `phrase` one has to type it first.
 * @param {{title: string, text: unknown, action: string, phrase?: string, phraseLabel?: string, calm?: boolean,
 *   run: () => Promise<void>, close: () => void}} question
 */
export function Confirm({ title, text, action, phrase, phraseLabel, calm, run, close }) {
  const [typed, type] = useState("");
  const [busy, work] = useState(false);
  const [problem, fail] = useState(null);
  const id = useId();
  const submit = async (event) => {
    event.preventDefault();
    if (busy || (phrase !== undefined && typed !== phrase)) return;
    work(true);
    fail(null);
    try {
      await run();
      close();
    } catch (error) {
      fail(error);
      work(false);
    }
  };
  return html`<${Dialog} title=${title} close=${busy ? undefined : close}>
    <form onSubmit=${submit}>
      <div class="prose">${text}</div>
      ${phrase !== undefined &&
      html`<${Field} id=${id} label=${phraseLabel} help=${html`Type <strong><bdi>${visible(phrase)}</bdi></strong>`}>
        <input id=${id} value=${typed} autocomplete="off" spellcheck=${false} aria-describedby=${`${id}-help`}
          onInput=${(event) => type(event.target.value)} />
      <//>`}
      ${problem && html`<p class="wrong" role="alert">${said(problem)}</p>`}
      <div class="actions">
        <button type="button" onClick=${close} disabled=${busy} autofocus=${phrase === undefined}>Cancel</button>
        <button type="submit" class=${calm ? "main" : "danger"}
          disabled=${busy || (phrase !== undefined && typed !== phrase)}>${busy ? "Working…" : action}</button>
      </div>
    </form>
  <//>`;
}

/** The secret of a new key: here, now, and never again. */
export function Secret({ name, secret, close }) {
  const [copied, copy] = useState(false);
  const id = useId();
  const field = useRef(null);
  useEffect(() => field.current.select(), []);
  const take = async () => {
    field.current.select();
    try {
      await navigator.clipboard.writeText(secret);
      copy(true);
    } catch {
      copy(false); // it is selected: the keyboard copies it
    }
  };
  return html`<${Dialog} title="The new key">
    <div class="prose">
      <p>This is <strong><bdi>${visible(name)}</bdi></strong>. It is shown once: only a digest of it is kept.</p>
    </div>
    <${Field} id=${id} label="Key">
      <input id=${id} ref=${field} class="mono" readonly value=${secret} spellcheck=${false} />
    <//>
    <p class="soft" role="status">${copied ? "Copied." : ""}</p>
    <div class="actions">
      <button type="button" onClick=${take}>Copy</button>
      <button type="button" class="main" onClick=${close}>I have stored it</button>
    </div>
  <//>`;
}
