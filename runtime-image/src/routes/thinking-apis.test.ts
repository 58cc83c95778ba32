/** Thoughts, in each API's own words. */
import { expect, test } from 'vitest';
import { call, makeTestServer } from './testing.ts';
import { choices, TEMPLATE, thought } from './testing-chat.ts';

test('a template that ends within a thought', async () => {
  const thinker = makeTestServer({ chatTemplate: `${TEMPLATE}{% if add_generation_prompt %}<think>\n{% endif %}` });
  const ask = async (url: string, body: Record<string, unknown>) =>
    (await call(thinker.app, 'POST', url, { model: 'chat', stream: false, max_tokens: 100, ...body })).body as Record<
      string,
      unknown
    >;
  const [ollama, openai, anthropic] = await Promise.all(
    ['/api/chat', '/v1/chat/completions', '/v1/messages'].map((url) => ask(url, { messages: thought })),
  );
  // The fake counts the template's last words as its own.
  expect([ollama?.['message'], choices(openai), anthropic?.['content']]).toMatchInlineSnapshot(`
    [
      {
        "content": "b",
        "role": "assistant",
        "thinking": ": a",
      },
      [
        {
          "finish_reason": "stop",
          "index": 0,
          "logprobs": null,
          "message": {
            "content": "b",
            "reasoning_content": ": a",
            "refusal": null,
            "role": "assistant",
          },
        },
      ],
      [
        {
          "signature": "",
          "thinking": ": a",
          "type": "thinking",
        },
        {
          "text": "b",
          "type": "text",
        },
      ],
    ]
  `);
  await thinker.app.close();
});
