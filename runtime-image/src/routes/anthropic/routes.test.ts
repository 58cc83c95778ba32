/** Anthropic's messages: texts, tools, counting. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { asking, type ChatServer, makeChatServer, parameters, say } from '../testing-chat.ts';

let server: ChatServer;
beforeEach(() => {
  server = makeChatServer();
});
afterEach(() => server.app.close());
const post = (url: string, body: Record<string, unknown>) => server.post(url, body);

describe("Anthropic's messages", () => {
  test('a text, whole', async () => {
    expect(await post('/v1/messages', { messages: say, system: 'Be brief.', max_tokens: 50 })).toMatchInlineSnapshot(`
      {
        "content": [
          {
            "text": "You said: a",
            "type": "text",
          },
        ],
        "id": "msg_ID",
        "model": "chat",
        "role": "assistant",
        "stop_reason": "end_turn",
        "stop_sequence": null,
        "type": "message",
        "usage": {
          "cache_creation_input_tokens": 0,
          "cache_read_input_tokens": 0,
          "input_tokens": 16,
          "output_tokens": 11,
        },
      }
    `);
  });

  test('a call of a tool, streamed', async () => {
    const body = await post('/v1/messages', {
      messages: asking,
      tools: [{ name: 'weather', input_schema: parameters }],
      max_tokens: 200,
      stream: true,
    });
    expect(body).toMatchInlineSnapshot(`
      "event: message_start
      data: {"type":"message_start","message":{"id":"msg_ID","type":"message","role":"assistant","model":"chat","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":208,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}

      event: content_block_start
      data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Y"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"o"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"u"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" "}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"s"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"i"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"d"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":":"}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" "}}

      event: content_block_stop
      data: {"type":"content_block_stop","index":0}

      event: content_block_start
      data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_ID","name":"weather","input":{}}}

      event: content_block_delta
      data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"city\\":\\"Oslo\\"}"}}

      event: content_block_stop
      data: {"type":"content_block_stop","index":1}

      event: message_delta
      data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"input_tokens":208,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":79}}

      event: message_stop
      data: {"type":"message_stop"}

      "
    `);
  });

  test('results of tools, counted tokens and errors', async () => {
    const messages = [
      ...asking,
      { role: 'assistant', content: [{ type: 'tool_use', id: 'toolu_1', name: 'weather', input: { city: 'Oslo' } }] },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: 'rain' }] },
    ];
    expect([
      ((await post('/v1/messages', { messages, max_tokens: 50 })) as { content: unknown }).content,
      await post('/v1/messages/count_tokens', { messages: say }),
      await post('/v1/messages', { messages: say }),
      await post('/v1/messages', { model: 'claude', messages: say, max_tokens: 1 }),
    ]).toMatchInlineSnapshot(`
      [
        [
          {
            "text": "You said: rain",
            "type": "text",
          },
        ],
        {
          "input_tokens": 5,
        },
        {
          "error": {
            "message": "max_tokens is required",
            "type": "invalid_request_error",
          },
          "type": "error",
        },
        {
          "error": {
            "message": "model 'claude' not found: this server has chat, phi4:mini",
            "type": "not_found_error",
          },
          "type": "error",
        },
      ]
    `);
  });
});
