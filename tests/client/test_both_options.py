"""Options and rules of access in both clients: each has those of the other, and a wrong one never lets anyone in."""

from __future__ import annotations

import json
import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from app.client.asgi import SessionMiddleware
from app.client.blocking import BlockingVerifier
from app.client.depends import require_session
from app.client.options import Options, Settings
from app.client.verifier import Verifier
from tests.client.pairs import camel
from tests.client.probe import node
from tests.service import ROOT

JS_NAMES = {"jwks_max_age": "keys.cacheMaxAge", "jwks_cooldown": "keys.cooldownDuration"}
JS_NAMES |= {"jwks_timeout": "keys.timeoutDuration"}
PYTHON_ONLY, JS_ONLY = {"redis_url"}, {"fetch"}


def test_each_option_of_one_client_is_one_of_the_other(folder: Path) -> None:
    text = (ROOT / "app/client/js/index.d.ts").read_text()
    interfaces = dict(re.findall(r"interface (\w+Options) \{(.*?)\n\}", text, re.DOTALL))
    found = {name: set(re.findall(r"readonly (\w+)\??:", body)) for name, body in interfaces.items()}
    keys = {f"keys.{name}" for name in found["KeyOptions"]}
    python = {JS_NAMES.get(name, camel(name)) for name in Options.__annotations__.keys() - PYTHON_ONLY}
    assert python == (found["VerifierOptions"] - JS_ONLY - {"keys"}) | keys
    assert Settings.__annotations__.keys() == Options.__annotations__.keys()
    assert found["AccessOptions"] == signature(SessionMiddleware).parameters.keys() - {"app", "verifier"}


GOOD: dict[str, Any] = {"url": "http://127.0.0.1:9", "tenant_id": "tnt_1", "api_key": "sk_test_x"}
WRONG: list[tuple[str, Any]] = [
    ("unknown", 1), ("max_stale", 5), ("on_stale", "deny"), ("on_stale", 1), ("on_stale", ""),
    ("url", ""), ("url", " "), ("url", 5), ("url", "sessions.example"), ("url", "ftp://x"), ("url", "http://a b"),
    ("url", "http://user:secret@x"), ("url", "http://x/?a=1"), ("url", "http://x:secret"), ("url", "http://x\ny"),
    ("tenant_id", ""), ("tenant_id", "\n"), ("tenant_id", 7), ("tenant_id", "tnt 1"), ("tenant_id", None),
    ("api_key", ""), ("api_key", " \n"), ("api_key", 7), ("api_key", "sk\nx"), ("api_key", "sk_é"),
    ("issuer", 5), ("issuer", "a b"), ("max_staleness", 0), ("max_staleness", "10"), ("max_staleness", -1),
    ("max_staleness", True), ("max_staleness", None), ("report_every", -1), ("report_every", "5"),
    ("max_tokens", 1.5), ("max_tokens", -1), ("max_revocations", "1"), ("max_updates", None), ("max_updates", 0.5),
    ("start_timeout", -1), ("start_timeout", "x"),
]  # fmt: skip


@pytest.mark.parametrize("verifier", [Verifier, BlockingVerifier])
@pytest.mark.parametrize(("name", "value"), [*WRONG, ("jwks_max_age", 0), ("jwks_cooldown", "x"), ("redis_url", "x")])
def test_a_wrong_option_is_refused_by_its_name_in_python(verifier: Any, name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=name) as refused:
        verifier(**{**GOOD, name: value})
    assert "secret" not in str(refused.value)


def test_a_wrong_option_is_refused_by_its_name_in_node(folder: Path) -> None:
    good = {camel(name): value for name, value in GOOD.items()}
    tried = [[camel(name), {**good, camel(name): value}] for name, value in WRONG]
    tried += [
        ["cacheMaxage", {**good, "keys": {"cacheMaxage": 1}}],
        ["cacheMaxAge", {**good, "keys": {"cacheMaxAge": "1"}}],
    ]
    tried += [["fetch", {**good, "fetch": 5}], ["keys", {**good, "keys": 5}]]
    script = """
    import { createVerifier } from "session-client";
    for (const [name, options] of JSON.parse(process.argv[1])) {
      try { createVerifier(options); console.log("taken:", name, JSON.stringify(options[name])); }
      catch (problem) {
        const told = String(problem) + JSON.stringify(problem);
        if (!(problem instanceof TypeError) || !told.includes(name) || told.includes("secret")) console.log(name, told);
      }
    }
    for (const nothing of [undefined, null, "x", 5, [], new Map()]) {
      try { createVerifier(nothing); console.log("taken", nothing); }
      catch (problem) { if (!(problem instanceof TypeError)) console.log(problem); }
    }"""
    assert node("--input-type=module", "-e", script, json.dumps(tried), cwd=folder) == ""


def test_a_wrong_rule_of_access_never_lets_anyone_in_node(folder: Path) -> None:
    script = """
    import { createVerifier, requireSession, withSession } from "session-client";
    const verifier = createVerifier({ url: "http://127.0.0.1:9", tenantId: "t", apiKey: "k" });
    class Rules { role = "admin"; }
    const wrong = {
      role: [{ role: undefined }, { role: null }, { role: "" }, { role: " " }, { role: ["admin"] }, { role: 1 }],
      roles: [{ roles: ["admin"] }], Role: [{ Role: "admin" }],
      required: [{ required: undefined }, { required: 0 }, { required: "false" }, { required: null }],
      public: [{ public: "/health" }, { public: [1] }, { public: ["health"] }, { public: undefined }],
      options: [undefined, null, "admin", 5, ["admin"], new Map([["role", "admin"]]), new Rules(),
        Object.create({ role: "admin" }), () => {}],
    };
    for (const [name, all] of Object.entries(wrong)) for (const one of all) {
      const makes = [() => requireSession(verifier, one), () => withSession(verifier, () => new Response(), one)];
      for (const make of makes) {
        try { make(); console.log("taken:", name, one); }
        catch (problem) {
          if (!(problem instanceof TypeError && problem.message.includes(name))) console.log(name, problem);
        }
      }
    }
    const others = [
      () => requireSession(), () => requireSession({}), () => withSession(verifier), () => withSession(verifier, 5),
      () => requireSession(verifier, {}, { role: "admin" })];
    for (const make of others) {
      try { make(); console.log("taken:", String(make)); }
      catch (problem) { if (!(problem instanceof TypeError)) console.log(problem); }
    }"""
    assert node("--input-type=module", "-e", script, cwd=folder) == ""


RULES: list[tuple[str, Any]] = [
    ("role", ""), ("role", " "), ("role", 1), ("role", ["admin"]), ("roles", ["admin"]), ("required", 0),
    ("required", "false"), ("required", None), ("public", "/health"), ("public", [1]), ("public", ["health"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), RULES)
def test_a_wrong_rule_of_access_never_lets_anyone_in_python(name: str, value: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    made: list[Any] = [lambda verifier: SessionMiddleware(app, verifier, **{name: value})]
    if name != "public":
        made.append(lambda verifier: require_session(verifier, **{name: value}))
    for make in made:
        with pytest.raises((TypeError, ValueError), match=name):
            make(Verifier(**GOOD))
    for verifier in (None, object(), BlockingVerifier(**GOOD)):
        with pytest.raises(TypeError, match="verifier"):
            SessionMiddleware(app, verifier)  # type: ignore[arg-type]
