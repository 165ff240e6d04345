"""Ordering a certificate, step by step (RFC 8555 section 7.4).

certbot's library `acme` makes and reads the messages (see `session`); waiting and giving up are
done here, on the node's clock. The library knows no TLS-ALPN-01, but the request that starts a
challenge is the same for every kind.
"""

from __future__ import annotations

import re

import requests
from acme import challenges, client, messages
from josepy.json_util import field

from onetrip.acme import keys
from onetrip.acme.session import MALFORMED, AccountSession, explain, in_thread, plain
from onetrip.acme.settings import AcmeSettings, Answers, Challenge, Suggestion
from onetrip.acme.storage import Storage
from onetrip.errors import AcmeError
from onetrip.timing import Clock, Deadline

ORDER_TIMEOUT = 180.0
"""Longest time from the order to the certificate, s."""

FIRST_POLL, LAST_POLL = 0.25, 5.0
"""Time between two looks at an order, s: the first one, doubled up to the last one."""

MAX_POLL = 30.0
"""Most of the authority's own wish for a longer one, s."""

LEAST_ASK, MOST_ASK = 60.0, 86400.0
"""Time between two questions when to renew, s (RFC 9773 section 4.3)."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")


class AcmeAuthority:
    """Orders certificates from one authority, as one account.

    Args:
        answers: where challenges are answered from.
        agent: how this program calls itself.
    """

    def __init__(
        self, settings: AcmeSettings, storage: Storage, answers: Answers, clock: Clock, agent: str
    ) -> None:
        self._settings = settings
        self._answers = answers
        self._clock = clock
        self._session = AccountSession(settings, storage, clock, agent)

    async def order(self, domain: str, replaced: bytes | None = None) -> bytes:
        """See `Authority`."""
        try:
            return await self._order(await self._session.connect(), domain, replaced)
        except AcmeError:
            self._session.forget()
            raise
        except MALFORMED as error:
            raise explain(error, False, None) from error

    async def suggest(self, chain: bytes) -> Suggestion:
        """See `Authority`."""
        found = await self._session.connect()
        at, ask_at = await self._session.call(lambda: found.renewal_time(chain))
        ask_after = ask_at.timestamp() - self._clock.wall()
        return Suggestion(
            at.timestamp() if at is not None else None, min(max(ask_after, LEAST_ASK), MOST_ASK)
        )

    async def _order(self, found: client.ClientV2, domain: str, replaced: bytes | None) -> bytes:
        key = await in_thread(lambda: keys.new_key(self._settings.key_type))
        request = keys.make_request(key, domain)
        order = await self._begin(found, domain, request, replaced)
        deadline = Deadline.after(ORDER_TIMEOUT, self._clock)
        for authorization in order.authorizations:
            if authorization.body.status != messages.STATUS_VALID:
                await self._prove(found, authorization, domain, deadline)
        body = (await self._session.call(lambda: found.begin_finalization(order))).body
        chain = await self._wait_for_chain(found, order.uri, body, deadline)
        return keys.encode_key(key) + keys.check_chain(chain, key, domain)

    async def _begin(
        self, found: client.ClientV2, domain: str, request: bytes, replaced: bytes | None
    ) -> messages.OrderResource:
        known = keys.renewal_id(replaced) if replaced is not None else None
        if known is not None and getattr(found.directory, "renewalInfo", None) is not None:
            try:
                return await self._replace(found, domain, request, known)
            except AcmeError as error:
                # Replaced already, or issued to another account: then it is an order like any.
                if error.reason not in ("refused", "malformed"):
                    raise
        return await self._session.call(lambda: found.new_order(request))

    async def _replace(
        self, found: client.ClientV2, domain: str, request: bytes, known: str
    ) -> messages.OrderResource:
        """Order what is to replace a known certificate; the library's own order cannot say so."""
        name = messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=domain)
        wanted = _Replacement(identifiers=[name], replaces=known)
        reply = await self._session.post(found, found.directory["newOrder"], wanted)
        body = messages.Order.from_json(reply.json())
        authorizations = []
        for url in body.authorizations:
            read = await self._session.post(found, url, None)
            proof = messages.Authorization.from_json(read.json())
            authorizations.append(messages.AuthorizationResource(body=proof, uri=url))
        return messages.OrderResource(
            body=body,
            uri=reply.headers["Location"],
            authorizations=authorizations,
            csr_pem=request,
        )

    async def _prove(
        self,
        found: client.ClientV2,
        authorization: messages.AuthorizationResource,
        domain: str,
        deadline: Deadline,
    ) -> None:
        body = self._pick(authorization, domain)
        challenge = self._challenge(body, domain)
        ready = challenges.HTTP01Response(key_authorization=challenge.key_authorization)
        try:
            await self._answers.put(challenge)
            await self._session.post(found, body.uri, ready)
            await self._wait_for_proof(found, authorization, domain, deadline)
        finally:
            self._answers.take(challenge)

    async def _wait_for_proof(
        self,
        found: client.ClientV2,
        authorization: messages.AuthorizationResource,
        domain: str,
        deadline: Deadline,
    ) -> None:
        pause = FIRST_POLL
        while True:
            current, reply = await self._session.call(lambda: found.poll(authorization))
            if current.body.status == messages.STATUS_VALID:
                return
            if current.body.status not in (messages.STATUS_PENDING, messages.STATUS_PROCESSING):
                raise _unproven(current, domain)
            pause = await self._pause(pause, reply, deadline, f"{domain} was not validated")

    def _pick(
        self, authorization: messages.AuthorizationResource, domain: str
    ) -> messages.ChallengeBody:
        body = authorization.body
        if body.identifier.value.lower() != domain:
            raise ValueError("authorization for another name")
        offered = [each.chall.to_json().get("type") for each in body.challenges]
        if self._settings.challenge not in offered:
            raise AcmeError(
                f"the authority offers {plain(', '.join(map(str, offered)))} for {domain}, "
                f"not {self._settings.challenge}",
                reason="refused",
            )
        picked: messages.ChallengeBody = body.challenges[offered.index(self._settings.challenge)]
        return picked

    def _challenge(self, body: messages.ChallengeBody, domain: str) -> Challenge:
        token = body.chall.to_json()["token"]
        if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
            raise ValueError("token is not base64url")
        answer = f"{token}.{self._session.thumbprint}"
        return Challenge(domain, self._settings.challenge, token, answer)

    async def _wait_for_chain(
        self, found: client.ClientV2, url: str, body: messages.Order, deadline: Deadline
    ) -> bytes:
        pause = FIRST_POLL
        reply: requests.Response | None = None
        while body.status != messages.STATUS_VALID or body.certificate is None:
            if body.status == messages.STATUS_INVALID:
                raise explain(body.error or ValueError("order failed"), False, None)
            pause = await self._pause(pause, reply, deadline, "the order was not fulfilled")
            reply = await self._session.post(found, url, None)
            body = messages.Order.from_json(reply.json())
        chain: bytes = (await self._session.post(found, body.certificate, None)).content
        return chain

    async def _pause(
        self, pause: float, reply: requests.Response | None, deadline: Deadline, late: str
    ) -> float:
        """Wait before another look; return how long the wait after it is."""
        wanted = self._session.seconds(reply) if reply is not None else None
        wait = pause if wanted is None else min(max(wanted, pause), MAX_POLL)
        if wait >= deadline.remaining(self._clock):
            raise AcmeError(f"{late} within {ORDER_TIMEOUT:g} s", reason="timeout")
        await self._clock.sleep(wait)
        return min(2 * pause, LAST_POLL)


class _Replacement(messages.NewOrder):
    """A new order that names the certificate it replaces (RFC 9773 section 5)."""

    replaces: str = field("replaces")


def _unproven(found: messages.AuthorizationResource, domain: str) -> AcmeError:
    told = [each.error for each in found.body.challenges if each.error is not None]
    detail = plain(str(told[0])) if told else f"its authorization is {found.body.status.name}"
    return AcmeError(f"{domain} was not validated: {detail}", reason="challenge")
