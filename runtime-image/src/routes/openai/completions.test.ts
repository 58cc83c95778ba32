/** OpenAI's completions: several texts, echoes, log probabilities. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ChatServer, choices, makeChatServer } from '../testing-chat.ts';

let server: ChatServer;
beforeEach(() => {
  server = makeChatServer();
});
afterEach(() => server.app.close());
const post = (url: string, body: Record<string, unknown>) => server.post(url, body);

test("OpenAI's completions: several texts, echoes, log probabilities", async () => {
  expect([
    choices(await post('/v1/completions', { prompt: ['abc', 'abcd'], max_tokens: 2, echo: true })),
    choices(await post('/v1/completions', { prompt: [97, 98], max_tokens: 2, logprobs: 1 })),
    await post('/v1/completions', { prompt: 'a', suffix: 'b' }),
  ]).toMatchInlineSnapshot(`
    [
      [
        {
          "finish_reason": "length",
          "index": 0,
          "logprobs": null,
          "text": "abcef",
        },
        {
          "finish_reason": "length",
          "index": 1,
          "logprobs": null,
          "text": "abcdfg",
        },
      ],
      [
        {
          "finish_reason": "length",
          "index": 0,
          "logprobs": {
            "text_offset": [
              0,
              1,
            ],
            "token_logprobs": [
              -0.6931471805599453,
              -0.6931471805599453,
            ],
            "tokens": [
              "c",
              "d",
            ],
            "top_logprobs": [
              {
                "c": -0.6931471805599453,
              },
              {
                "d": -0.6931471805599453,
              },
            ],
          },
          "text": "cd",
        },
      ],
      {
        "error": {
          "code": "unsupported_parameter",
          "message": "this model does not support insert: leave suffix out",
          "param": "suffix",
          "type": "invalid_request_error",
        },
      },
    ]
  `);
});
