"""The engine's process answers every input line with one line, and survives."""

import json
import subprocess
import sys

from contract_messages import messages_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fasttextdiff.contract import messages, requests

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3),
    max_leaves=6,
)
NUMBERS = st.integers(1, 2**80) | ANY_JSON
"""Numbers of requests; numbers without a job are answered too."""
NOISE = st.binary(min_size=1, max_size=40) | ANY_JSON.map(lambda value: json.dumps(value).encode())


@st.composite
def broken_requests(draw):
    """A request with one field too many, one missing, or one of another type."""
    kind = draw(st.sampled_from(list(requests.REQUESTS.values())))
    content = messages.request_fields(draw(st.integers(1, 9)), draw(messages_of(kind)))
    content["surplus"] = draw(ANY_JSON)
    content[draw(st.sampled_from(list(content)))] = draw(ANY_JSON)
    return json.dumps(content).encode()


def answers_to(lines):
    """All answers to these lines, after the hello; the process must end cleanly at the end of its input."""
    command = [sys.executable, "-m", "fasttextdiff", "worker"]
    process = subprocess.run(command, input=b"\n".join(lines), capture_output=True, check=True, timeout=120)
    hello, *answers = map(json.loads, process.stdout.splitlines())
    messages.require_hello(hello)
    return answers


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NOISE | broken_requests(), min_size=60, max_size=120))
def test_noise_and_broken_requests_get_one_line_each(lines):
    lines = [line.replace(b"\n", b" ") for line in lines]
    answers = answers_to(lines)
    assert len(answers) == sum(bool(line.strip()) for line in lines)
    assert {(answer["event"], answer["kind"]) for answer in answers} <= {("error", messages.USAGE)}
    assert not any("\n" in answer["message"] for answer in answers)
