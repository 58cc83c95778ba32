/** OpenAI's responses: texts, tools, and what needs a memory. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { asking, type ChatServer, events, makeChatServer, parameters, say } from '../testing-chat.ts';

let server: ChatServer;
beforeEach(() => {
  server = makeChatServer();
});
afterEach(() => server.app.close());
const post = (url: string, body: Record<string, unknown>) => server.post(url, body);

describe("OpenAI's responses", () => {
  test('a text, whole', async () => {
    expect(await post('/v1/responses', { input: 'Hi', instructions: 'Be brief.' })).toMatchInlineSnapshot(`
      {
        "created_at": 1795392000,
        "error": null,
        "id": "resp_ID",
        "incomplete_details": null,
        "instructions": "Be brief.",
        "max_output_tokens": null,
        "metadata": {},
        "model": "chat",
        "object": "response",
        "output": [
          {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "You said: Hi",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
        ],
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {
          "effort": null,
          "summary": null,
        },
        "status": "completed",
        "store": false,
        "temperature": 1,
        "text": {
          "format": {
            "type": "text",
          },
        },
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1,
        "truncation": "disabled",
        "usage": {
          "input_tokens": 17,
          "input_tokens_details": {
            "cached_tokens": 0,
          },
          "output_tokens": 12,
          "output_tokens_details": {
            "reasoning_tokens": 0,
          },
          "total_tokens": 29,
        },
      }
    `);
  });

  test('a text, streamed', async () => {
    const body = await post('/v1/responses', { input: say, stream: true, max_output_tokens: 2 });
    const short = events(body).map((one) => {
      const { response, ...rest } = one as { response?: { status: string; output: unknown[] } };
      return response ? { ...rest, response: { status: response.status, output: response.output } } : rest;
    });
    expect(short).toMatchInlineSnapshot(`
      [
        {
          "response": {
            "output": [],
            "status": "in_progress",
          },
          "sequence_number": 0,
          "type": "response.created",
        },
        {
          "response": {
            "output": [],
            "status": "in_progress",
          },
          "sequence_number": 1,
          "type": "response.in_progress",
        },
        {
          "item": {
            "content": [],
            "id": "msg_ID",
            "role": "assistant",
            "status": "in_progress",
            "type": "message",
          },
          "output_index": 0,
          "sequence_number": 2,
          "type": "response.output_item.added",
        },
        {
          "content_index": 0,
          "item_id": "msg_ID",
          "output_index": 0,
          "part": {
            "annotations": [],
            "logprobs": [],
            "text": "",
            "type": "output_text",
          },
          "sequence_number": 3,
          "type": "response.content_part.added",
        },
        {
          "content_index": 0,
          "delta": "Y",
          "item_id": "msg_ID",
          "logprobs": [],
          "output_index": 0,
          "sequence_number": 4,
          "type": "response.output_text.delta",
        },
        {
          "content_index": 0,
          "delta": "o",
          "item_id": "msg_ID",
          "logprobs": [],
          "output_index": 0,
          "sequence_number": 5,
          "type": "response.output_text.delta",
        },
        {
          "content_index": 0,
          "item_id": "msg_ID",
          "logprobs": [],
          "output_index": 0,
          "sequence_number": 6,
          "text": "Yo",
          "type": "response.output_text.done",
        },
        {
          "content_index": 0,
          "item_id": "msg_ID",
          "output_index": 0,
          "part": {
            "annotations": [],
            "logprobs": [],
            "text": "Yo",
            "type": "output_text",
          },
          "sequence_number": 7,
          "type": "response.content_part.done",
        },
        {
          "item": {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "Yo",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
          "output_index": 0,
          "sequence_number": 8,
          "type": "response.output_item.done",
        },
        {
          "response": {
            "output": [
              {
                "content": [
                  {
                    "annotations": [],
                    "logprobs": [],
                    "text": "Yo",
                    "type": "output_text",
                  },
                ],
                "id": "msg_ID",
                "role": "assistant",
                "status": "completed",
                "type": "message",
              },
            ],
            "status": "incomplete",
          },
          "sequence_number": 9,
          "type": "response.incomplete",
        },
      ]
    `);
  });

  test('calls of tools and their results', async () => {
    const offered = [{ type: 'function', name: 'weather', parameters }];
    const first = (await post('/v1/responses', { input: asking, tools: offered })) as { output: unknown[] };
    const second = (await post('/v1/responses', {
      input: [...asking, ...first.output, { type: 'function_call_output', call_id: 'call_ID', output: 'rain' }],
      tools: offered,
    })) as { output: unknown[] };
    expect([first.output, second.output]).toMatchInlineSnapshot(`
      [
        [
          {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "You said: ",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
          {
            "arguments": "{"city":"Oslo"}",
            "call_id": "call_ID",
            "id": "fc_ID",
            "name": "weather",
            "status": "completed",
            "type": "function_call",
          },
        ],
        [
          {
            "content": [
              {
                "annotations": [],
                "logprobs": [],
                "text": "You said: rain",
                "type": "output_text",
              },
            ],
            "id": "msg_ID",
            "role": "assistant",
            "status": "completed",
            "type": "message",
          },
        ],
      ]
    `);
  });

  test('what needs a memory is refused', async () => {
    expect(await post('/v1/responses', { input: 'a', previous_response_id: 'resp_1' })).toMatchInlineSnapshot(`
      {
        "error": {
          "code": "unsupported_parameter",
          "message": "nothing is stored here: send the whole conversation as input",
          "param": "previous_response_id",
          "type": "invalid_request_error",
        },
      }
    `);
  });
});
