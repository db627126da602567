"""Notifications that really arrive: at a webhook, in a mailbox, through blocks of a real server."""

import email
import email.policy
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock, MattermostWebhook
from prefect.blocks.system import Secret
from pydantic import SecretStr, ValidationError

from tasks.markdown import plain
from tasks.notify import BODY_MAX, KINDS, SUBJECT_MAX, NotifySettings, notify, receivers

SECRET = "hunter2-token"
HOSTILE = (
    "<script>alert(1)</script> @channel <!here> [bill](http://evil.example) `rm` \x1b[2J\u202e&lt;"
)
NOT_PLAIN = "<>[]`@&\x1b\u202e"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it; answers with ``status``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, str]]] = []
        self.status = 200


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Mailbox(socketserver.ThreadingTCPServer):
    """As much of SMTP (RFC 5321, AUTH PLAIN) as a client needs to deliver a message."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Smtp)
        self.messages: list[EmailMessage] = []


class _Smtp(socketserver.StreamRequestHandler):
    server: Mailbox

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self) -> None:
        self._say("220 test")
        while line := self.rfile.readline():
            verb = line.split()[0].upper()
            if verb == b"EHLO":
                self._say("250-test")
                self._say("250 AUTH PLAIN LOGIN")
            elif verb == b"AUTH":
                self._say("235 welcome")
            elif verb == b"DATA":
                self._say("354 go on")
                self._receive()
                self._say("250 kept")
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _receive(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.server.messages.append(message)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    server = Mailbox()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that any library logs."""
    caplog.set_level(logging.DEBUG)
    return caplog


def json_url(web: Receiver) -> str:
    return f"json://user:{SECRET}@127.0.0.1:{web.server_port}/{SECRET}"


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_webhook_gets_plain_text_and_nobody_logs_its_address(
    web: Receiver, monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOCUS_NOTIFY_URLS", json_url(web))
    subject, body = f"LOCUS: {HOSTILE}\nBcc: x", f"gate models: {HOSTILE}\nsecond line"
    assert notify(NotifySettings(), "gate-failed", subject, body) == []
    [(path, got)] = web.got
    assert path == f"/{SECRET}"
    assert got["type"] == "failure"
    assert got["title"].startswith("LOCUS: \u2039script\u203aalert(1)")
    assert "\n" not in got["title"]
    assert got["message"].endswith("\nsecond line")
    for part in (got["title"], got["message"]):
        assert not set(part) & set(NOT_PLAIN)
    assert SECRET not in everything.text


def test_nobody_is_told_what_they_do_not_want_to_hear(
    web: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCUS_NOTIFY_URLS", json_url(web))
    only = NotifySettings(kinds=["drift"])
    assert [notify(only, kind, kind, "b") for kind in KINDS] == [[]] * len(KINDS)
    assert [got["title"] for _, got in web.got] == ["drift"]
    monkeypatch.delenv("LOCUS_NOTIFY_URLS")
    assert notify(NotifySettings(), "drift", "s", "b") == []
    assert len(web.got) == 1


def test_a_mailbox_gets_the_message(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    port = mailbox.server_address[1]
    monkeypatch.setenv(
        "MAIL", f"mailto://me:{SECRET}@127.0.0.1:{port}?from=me@a.example&to=ops@b.example"
    )
    failures = notify(NotifySettings(urls_env=["MAIL"]), "stale", "LOCUS: stale", HOSTILE)
    assert failures == []
    [message] = mailbox.messages
    assert message["subject"] == "LOCUS: stale"
    assert "ops@b.example" in message["to"]
    text = message.get_body(("plain", "html"))
    assert text is not None
    assert "alert(1)" in text.get_content()
    assert "<script" not in message.as_string()


def test_one_that_fails_keeps_no_other_from_hearing(
    web: Receiver, monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    dead = f"json://127.0.0.1:{closed_port()}/{SECRET}"
    addresses = [f"no-such-scheme://{SECRET}", dead, json_url(web), SECRET]
    monkeypatch.setenv("LOCUS_NOTIFY_URLS", "\n".join(addresses))
    settings = NotifySettings()
    assert receivers(settings) == 4
    failures = notify(settings, "retrain", "s", "b")
    assert [f.split(":")[0] for f in failures] == [
        f"address {n} of LOCUS_NOTIFY_URLS" for n in (1, 2, 4)
    ]
    assert len(web.got) == 1
    web.status = 500
    assert len(notify(settings, "retrain", "s", "b")) == 4
    assert SECRET not in everything.text + "".join(failures)
    assert "address 2 of LOCUS_NOTIFY_URLS: could not be sent" in everything.text


def test_other_logs_are_heard_again_afterwards(
    monkeypatch: pytest.MonkeyPatch, everything: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOCUS_NOTIFY_URLS", f"json://127.0.0.1:{closed_port()}")
    assert notify(NotifySettings(), "drift", "s", "b")
    logging.getLogger("httpx").warning("heard")
    assert "heard" in everything.text


@pytest.mark.slow
def test_blocks_of_a_real_server(
    prefect_api: str,
    web: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    everything: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("LOCUS_NOTIFY_URLS", raising=False)
    CustomWebhookNotificationBlock(
        name="ops",
        url=f"http://127.0.0.1:{web.server_port}/services/{SECRET}",
        json_data={"text": "{{subject}}\n{{body}}"},
    ).save("ops")
    MattermostWebhook(hostname="127.0.0.1", port=web.server_port, token=SecretStr(SECRET)).save(
        "chat"
    )
    Secret(value=SecretStr("x")).save("other")
    everything.clear()
    names = ["custom-webhook/ops", "mattermost-webhook/chat", "secret/other", "secret/none"]
    settings = NotifySettings(blocks=names)

    @flow
    def telling() -> list[str]:
        return notify(settings, "models-failed", "LOCUS: 2 models failed", f"org/m1\n{HOSTILE}")

    for tell in (telling, telling.fn):
        web.got.clear()
        failures = tell()
        assert [f.split(":")[0] for f in failures] == ["block secret/other", "block secret/none"]
        assert "sends no notifications" in failures[0]
        assert "prefect block ls" in failures[1]
        assert [path for path, _ in web.got] == [f"/services/{SECRET}", f"/hooks/{SECRET}"]
        for _, got in web.got:
            assert "LOCUS: 2 models failed" in got["text"]
            assert "\u2039script\u203aalert(1)" in got["text"]
            assert "<!here>" not in got["text"]
    web.status = 500
    assert [f.split(":")[0] for f in telling.fn()[:2]] == [f"block {name}" for name in names[:2]]
    assert SECRET not in everything.text


def test_what_is_sent_has_an_end(web: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCUS_NOTIFY_URLS", json_url(web))
    notify(NotifySettings(), "drift", "s" * 10_000, "b" * 100_000)
    [(_, got)] = web.got
    assert (len(got["title"]), len(got["message"])) == (SUBJECT_MAX, BODY_MAX)
    assert got["message"].endswith(" ...")


def test_plain_text_stays_as_it_is() -> None:
    text = "gate routing: 0.81, was 0.90 (p 0.001); org/model-1.5_b: Grüße 日本\n- next"
    assert plain(text) == text


def test_settings_take_names_and_no_addresses() -> None:
    wrong: dict[str, list[str]]
    for wrong in (
        {"urls_env": ["https://hooks.example/x"]},
        {"blocks": ["slack-webhook"]},
        {"kinds": ["weather"]},
        {"urls": ["json://x"]},
    ):
        with pytest.raises(ValidationError):
            NotifySettings.model_validate(wrong)
