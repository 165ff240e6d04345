"""Names of deployments and the host names that lead to them.

`<deployment>.<project>.<domain>` is permanent, `<branch>.<project>.<domain>` moves with the newest
deployment of the branch, `<project>.<domain>` is production. A branch's name is reduced to one
label of the DNS (RFC 1035 section 2.3.1).
"""

from __future__ import annotations

import re
from hashlib import sha256

from onetrip.release.records import ID, Content, encode

ID_SIZE = 10
"""Characters of a deployment's name: one in 10^9 that two of 1,000 deployments are alike."""

MAX_LABEL = 40
"""Longest label made from a branch, of the 63 that the DNS allows: longer ones end in a hash."""

_OTHER = re.compile(r"[^a-z0-9]+")


def deployment_id(project: str, content: Content) -> str:
    """Return the name of a deployment: the same content has the same name."""
    return sha256(project.encode() + b"\n" + encode(content)).hexdigest()[:ID_SIZE]


def branch_label(branch: str) -> str:
    """Return a branch as one label: `fix/api` is `fix-api`; "" stays ""."""
    label = _OTHER.sub("-", branch.lower()).strip("-")
    if not branch:
        return ""
    if not label or len(label) > MAX_LABEL:
        ending = sha256(branch.encode()).hexdigest()[:6]
        label = f"{label[: MAX_LABEL - 7].rstrip('-')}-{ending}".lstrip("-")
    # What looks like a deployment's name leads to a deployment.
    return f"{label}-branch" if ID.fullmatch(label) else label


def host_of(label: str, project: str, domain: str) -> str:
    """Return the host name of a deployment or branch."""
    return f"{label}.{project}.{domain}"


def production_host(project: str, domain: str) -> str:
    """Return the host name of a project's production."""
    return f"{project}.{domain}"
