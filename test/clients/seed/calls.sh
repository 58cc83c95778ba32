#!/bin/sh
# Text, a conversation and a vector, with curl; one JSON object a line.
set -eu

curl -sS --fail-with-body -X POST "$ENDPOINT/api/generate" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "phi4:mini",
    "prompt": "Write a function that computes a factorial, and calls itself",
    "stream": false
  }'
echo

curl -sS --fail-with-body -X POST "$ENDPOINT/api/chat" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "qwen2.5:3b",
    "messages": [
      {"role": "system", "content": "You are a helpful assistant."},
      {"role": "user", "content": "What does edge computing mean?"}
    ],
    "stream": false
  }'
echo

curl -sS --fail-with-body -X POST "$ENDPOINT/api/embeddings" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "nomic-embed-text",
    "prompt": "Models at the edge answer where the question is asked"
  }'
echo
