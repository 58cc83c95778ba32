"""A script that asks for text with nothing but `requests`: once in one piece, once as it is written."""

import json
import os

import requests

ENDPOINT = os.environ["ENDPOINT"] + "/api/generate"

body = {
    "model": "phi4:mini",
    "prompt": "Write a Python function that returns the n-th Fibonacci number",
    "system": "You help people who write Python. You answer with short, readable code.",
    "stream": False,
    "options": {"temperature": 0.2, "top_p": 0.95, "num_predict": 1024},
}

whole = requests.post(ENDPOINT, json=body).json()
print(json.dumps({"name": "one piece", "ok": whole["done"] and whole["response"] != ""}))


def stream():
    body["stream"] = True
    with requests.post(ENDPOINT, json=body, stream=True) as response:
        for line in response.iter_lines():
            if not line:
                continue
            chunk = json.loads(line)
            if "response" in chunk:
                yield chunk["response"]
            if chunk.get("done", False):
                return


pieces = list(stream())
print(json.dumps({"name": "stream", "ok": len(pieces) > 5 and "".join(pieces) != ""}))
