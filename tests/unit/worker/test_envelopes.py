"""What is taken for the envelope of a message, and what is dropped."""

import base64
import json
from queue import Empty
from typing import Any

import pytest
from kombu import Connection

from worker.envelopes import read_envelope

BODY = '[[], {"job": "a"}, {}]'


def envelope(body: str, encoding: Any) -> str:
    properties = {"delivery_tag": "1", "delivery_info": {}, "body_encoding": encoding}
    return json.dumps(
        {
            "body": body,
            "headers": {},
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": properties,
        }
    )


@pytest.mark.parametrize("encoding", ["base64", "utf-8", "UTF-8", None])
def test_what_kombu_sends_with_any_encoding_is_a_message(encoding: str | None) -> None:
    body = base64.b64encode(BODY.encode()).decode() if encoding == "base64" else BODY

    message = read_envelope(envelope(body, encoding))

    with Connection("memory://") as connection:
        read = connection.channel().message_to_python(message)
        assert read.decode() == json.loads(BODY)


@pytest.mark.parametrize(
    "text",
    [
        envelope("abc", "base64"),
        envelope(BODY, "rot13"),
        envelope(BODY, 8),
        envelope(BODY, ["utf-8"]),
        "no JSON",
        "[" * 100_000,
        '"a word"',
        "[]",
        "{}",
    ],
)
def test_what_kombu_cannot_read_is_as_if_it_were_not_there(text: str) -> None:
    with pytest.raises(Empty):
        read_envelope(text)
