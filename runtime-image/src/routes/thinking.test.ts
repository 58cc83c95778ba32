/** Thoughts in `<think>` tags, of models whose templates begin them and of models that begin them of their own accord. */
import { afterAll, describe, expect, test } from 'vitest';
import { call, makeTestServer } from './testing.ts';

const TEMPLATE =
  '{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}' +
  '{% if add_generation_prompt %}<|assistant|>{% endif %}';
/** Always begins a thought, and does not know how not to. */
const begins = makeTestServer({ chatTemplate: `${TEMPLATE}{% if add_generation_prompt %}<think>\n{% endif %}` });
/** Takes thoughts out of earlier answers, and leaves their beginning to the model. */
const leaves = makeTestServer({ chatTemplate: `${TEMPLATE}{# content.split('</think>') #}` });
afterAll(() => Promise.all([begins.app.close(), leaves.app.close()]));

const chat = async (server: typeof begins, body: object) => {
  const answer = await call(server.app, 'POST', '/v1/chat/completions', {
    model: 'chat',
    messages: [{ role: 'user', content: '<think>One.</think>Two.' }],
    max_tokens: 100,
    ...body,
  });
  return answer.body as { choices: { message: object }[]; usage: object };
};

describe('thoughts are told from the answer', () => {
  test('and counted', async () => {
    const { choices, usage } = await chat(begins, {});
    // The fake says back what it was told, from the eighth character on: it counts the template's last words as its own.
    expect(choices[0]?.message).toMatchObject({ content: 'Two.', reasoning_content: ': <think>One.' });
    expect(usage).toMatchObject({
      completion_tokens: 'id: <think>One.</think>Two.'.length - 2,
      completion_tokens_details: { reasoning_tokens: ': <think>One.</think>'.length },
    });
  });

  test('piece by piece', async () => {
    const { body } = await call(begins.app, 'POST', '/api/chat', {
      model: 'chat',
      messages: [{ role: 'user', content: 'One.</think>Two.' }],
    });
    const lines = String(body)
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { message: { content: string; thinking?: string } });
    expect(lines.map(({ message }) => message.thinking ?? '').join('')).toBe(': One.');
    expect(lines.map(({ message }) => message.content).join('')).toBe('Two.');
    // Never in one line: a client shows them in different places.
    expect(lines.filter(({ message }) => message.thinking && message.content)).toEqual([]);
  });
});

test('a thought that nobody wants is ended in the prompt, also for a template that knows no switch', async () => {
  const unwanted = await call(begins.app, 'POST', '/api/chat', {
    model: 'chat',
    messages: [{ role: 'user', content: 'Two, and three, and more of them.' }],
    stream: false,
    think: false,
  });
  const message = (unwanted.body as { message: { content: string; thinking?: string } }).message;
  expect(message.thinking).toBeUndefined();
  // The tag's end is part of what the fake takes for its own words.
  expect('You said: Two, and three, and more of them.'.endsWith(message.content)).toBe(true);
});

test('a model that may think and does not has said everything', async () => {
  const { choices, usage } = await chat(leaves, { messages: [{ role: 'user', content: 'Two.' }] });
  expect(choices[0]?.message).toMatchObject({ content: 'You said: Two.' });
  expect(usage).not.toHaveProperty('completion_tokens_details');
});
