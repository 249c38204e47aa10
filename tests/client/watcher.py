"""`python -m tests.client.watcher url tenant_id api_key issuer redis_url token`: say how a verdict changes."""

from __future__ import annotations

import asyncio
import sys
import time

from app.client.verifier import Verifier
from tests.client.acts import code


async def main() -> None:
    url, tenant_id, api_key, issuer, redis_url, token = sys.argv[1:]
    last, last_ok = "", 0.0
    async with Verifier(
        url=url,
        tenant_id=tenant_id,
        api_key=api_key,
        issuer=issuer,
        redis_url=redis_url or None,
        on_stale="refuse",
        max_staleness=2.5,
    ) as verifier:
        while True:
            now = time.time()
            verdict = await code(verifier, token)
            if verdict != last:
                print(verdict, last_ok, flush=True)
                last = verdict
            if verdict == "ok":
                last_ok = now
            await asyncio.sleep(0)


if __name__ == "__main__":
    asyncio.run(main())
