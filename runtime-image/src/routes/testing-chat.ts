/**
 * What the tests of tools, thoughts and structured output share in every API: a server whose template knows them, and
 * requests. Not part of the image.
 */
import { call, makeTestServer, type TestServer } from './testing.ts';

/** Names tools and thinking, so that the server knows the model knows them; the fake answers with the last message. */
export const TEMPLATE =
  '{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}{# enable_thinking #}' +
  '{% for message in messages %}<|{{ message.role if message.role != "tool" else "user" }}|>{{ message.content }}<|end|>{% endfor %}' +
  '{% if add_generation_prompt %}<|assistant|>{% endif %}';

export interface ChatServer extends TestServer {
  /** Sends a body for the model. @returns the answer's body */
  post(url: string, body: Record<string, unknown>): Promise<unknown>;
}

/** A server for one test: what an earlier test left in the cache shows in the counts. */
export function makeChatServer(): ChatServer {
  const server = makeTestServer({ chatTemplate: TEMPLATE, contextLength: 2048 });
  return {
    ...server,
    post: async (url, body) => (await call(server.app, 'POST', url, { model: 'chat', ...body })).body,
  };
}

export const parameters = { type: 'object', properties: { city: { type: 'string' } } };
export const tools = [{ type: 'function', function: { name: 'weather', parameters } }];
export const CALL = '<tool_call>{"name":"weather","arguments":{"city":"Oslo"}}</tool_call>';
export const asking = [{ role: 'user', content: CALL }];
export const thought = [{ role: 'user', content: 'a</think>b' }];
export const say = [{ role: 'user', content: 'a' }];

/** The data of server-sent events, without what every one of them repeats. */
export function events(body: unknown): unknown[] {
  return [...String(body).matchAll(/^data: (.*)$/gm)].map(([, data = '']) => {
    if (data === '[DONE]') return data;
    const {
      id: _id,
      object: _object,
      created: _created,
      model: _model,
      ...rest
    } = JSON.parse(data) as Record<string, unknown>;
    return rest;
  });
}

/** What became of each choice. */
export function choices(body: unknown): unknown {
  return (body as { choices: unknown }).choices;
}
