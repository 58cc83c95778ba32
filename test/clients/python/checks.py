"""What the check files share: the registry of checks, the server's address, and the report on standard output.

One JSON line for each check: {"name": ..., "ok": true} or {"name": ..., "ok": false, "error": ...}.
"""

import json
import os
import re
import time
import traceback
import urllib.request

URL = os.environ["SLM_URL"]
KEY = os.environ["SLM_KEY"]
MODEL = os.environ["SLM_MODEL"]

QUESTION = "Name the capital of France."
ANSWER = "The capital of France is Paris."
TOO_LONG = "one more word " * 1000

_checks = []


def check(name):
    """Registers a function; its name is what the test is called."""

    def register(function):
        _checks.append((name, function))
        return function

    return register


def run():
    for name, function in _checks:
        try:
            function()
            result = {"name": name, "ok": True}
        except BaseException:
            result = {"name": name, "ok": False, "error": traceback.format_exc(limit=-6)}
        print(json.dumps(result), flush=True)


def expect(actual, expected):
    assert actual == expected, f"got {actual!r}, expected {expected!r}"


def expect_error(kind, pattern, function):
    """Expects an exception of the client's own with a usable message; returns it."""
    try:
        function()
    except kind as error:
        assert re.search(pattern, str(error)), f"{str(error)!r} does not match {pattern!r}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def busy_slots():
    text = urllib.request.urlopen(f"{URL}/metrics").read().decode()
    return sum(float(value) for value in re.findall(r'^slm_slots\{.*state="busy".*\} (\S+)', text, re.M))


def expect_idle():
    """Waits until no request holds a slot."""
    deadline = time.monotonic() + 10
    while busy_slots() > 0:
        assert time.monotonic() < deadline, "a slot is still busy"
        time.sleep(0.02)
