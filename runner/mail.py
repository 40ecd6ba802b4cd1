"""Put notices into a mail and hand it to an SMTP server."""

from __future__ import annotations

import os
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from ledger.ids import TASK_PREFIX
from ledger.notices import Notice
from ledger.schedule import SCHEDULE_PREFIX

PASSWORD = "WORKLEDGER_SMTP_PASSWORD"
"""The variable that has the password: it stands in no file and in no setting."""
TIMEOUT_SECONDS = 30.0
MOST_TOLD = 50
MOST_SUBJECT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where mail goes, from whom and to whom."""

    host: str
    port: int
    sender: str
    to: Sequence[str]
    starttls: bool = False
    user: str | None = None


def send(server: MailServer, notices: Sequence[Notice], url: str) -> None:
    """Send one mail that tells of *notices* of the ledger at *url*.

    Raises:
        OSError: The server was not reached, refused the mail or broke off (`smtplib.SMTPException` is one).
    """
    message = compose(server, notices, url)
    with smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS) as smtp:
        if server.starttls:
            smtp.starttls(context=ssl.create_default_context())
        if server.user is not None:
            smtp.login(server.user, os.environ.get(PASSWORD, ""))
        smtp.send_message(message, server.sender, list(server.to))


def compose(server: MailServer, notices: Sequence[Notice], url: str) -> EmailMessage:
    """Return the mail: one notice by its own subject, several by their count and the names they are about."""
    message = EmailMessage()
    message["Subject"] = _subject(notices)
    message["From"] = server.sender
    message["To"] = ", ".join(server.to)
    message["Date"] = formatdate(notices[-1].at.timestamp())
    message["Message-ID"] = make_msgid(f"notice-{notices[-1].position}", domain="workledger.invalid")
    message["Auto-Submitted"] = "auto-generated"
    parts = [_text(one, url) for one in notices[:MOST_TOLD]]
    if len(notices) > MOST_TOLD:
        parts.append(f"and {len(notices) - MOST_TOLD:,} more: workledger --url {url} notices")
    message.set_content("\n\n".join(parts) + "\n")
    return message


def _subject(notices: Sequence[Notice]) -> str:
    if len(notices) == 1:
        text = notices[0].subject
    else:
        names = dict.fromkeys(one.name for one in notices)
        text = f"{len(notices)} notices: {', '.join(names)}"
    return text if len(text) <= MOST_SUBJECT else text[: MOST_SUBJECT - 1] + "…"


def _text(notice: Notice, url: str) -> str:
    lines = [notice.subject, notice.text, f"at {notice.at:%Y-%m-%d %H:%M:%S} UTC", ""]
    if notice.about.startswith(TASK_PREFIX):
        task_id = notice.about.removeprefix(TASK_PREFIX)
        lines += [f"workledger --url {url} task log {task_id}", f"workledger --url {url} task show {task_id}"]
    elif notice.about.startswith(SCHEDULE_PREFIX):
        lines.append(f"workledger --url {url} schedule history {notice.about.removeprefix(SCHEDULE_PREFIX)}")
    return "\n".join(lines)
