/**
 * The bodies that OpenAI's API takes, as far as we honour them. Properties that are not named here pass: the real API
 * grows by the month, and clients send what they know. What is named in routes/openai/refusals.ts is refused.
 */
import { type Static, Type } from 'typebox';

const number = (minimum: number, maximum: number) =>
  Type.Number({ minimum, maximum, description: `a number from ${minimum} to ${maximum}` });
const integer = (minimum: number, description: string) => Type.Integer({ minimum, description });

/** What both endpoints take. */
const generation = {
  model: Type.String({ minLength: 1, description: 'the name of a model' }),
  stream: Type.Optional(Type.Boolean({ description: 'true or false' })),
  stream_options: Type.Optional(
    Type.Object(
      { include_usage: Type.Optional(Type.Boolean({ description: 'true or false' })) },
      { description: 'an object such as {"include_usage": true}' },
    ),
  ),
  temperature: Type.Optional(number(0, 2)),
  top_p: Type.Optional(number(0, 1)),
  max_tokens: Type.Optional(integer(1, 'a whole number of at least 1')),
  stop: Type.Optional(
    Type.Union(
      [
        Type.String({ minLength: 1, maxLength: 1024 }),
        Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { maxItems: 16 }),
      ],
      {
        description: 'a text or a list of up to 16 texts, of 1 to 1024 characters',
      },
    ),
  ),
  seed: Type.Optional(Type.Integer({ description: 'a whole number' })),
  presence_penalty: Type.Optional(number(-2, 2)),
  frequency_penalty: Type.Optional(number(-2, 2)),
  logit_bias: Type.Optional(
    Type.Object(
      {},
      {
        additionalProperties: Type.Number({ minimum: -100, maximum: 100 }),
        description: 'an object of token ids with numbers from -100 to 100',
      },
    ),
  ),
  n: Type.Optional(Type.Integer({ minimum: 1, maximum: 128, description: 'a whole number from 1 to 128' })),
  // What llama.cpp's own server takes beyond OpenAI.
  top_k: Type.Optional(integer(0, 'a whole number, 0 for the whole vocabulary')),
  min_p: Type.Optional(number(0, 1)),
  repeat_penalty: Type.Optional(number(0.01, 10)),
  repeat_last_n: Type.Optional(integer(-1, 'a whole number: tokens to look back on, -1 for all, 0 for none')),
};

const Content = Type.Union(
  [Type.String(), Type.Array(Type.Object({ type: Type.String(), text: Type.Optional(Type.String()) })), Type.Null()],
  { description: 'a text, or a list of parts such as {"type": "text", "text": "…"}' },
);

export const ChatCompletionRequest = Type.Object({
  ...generation,
  messages: Type.Array(
    Type.Object(
      {
        role: Type.Union(
          [
            Type.Literal('system'),
            Type.Literal('developer'),
            Type.Literal('user'),
            Type.Literal('assistant'),
            Type.Literal('tool'),
            Type.Literal('function'),
          ],
          { description: 'system, developer, user or assistant' },
        ),
        content: Type.Optional(Content),
      },
      { description: 'a message: {"role": …, "content": …}' },
    ),
    { minItems: 1, description: 'a list of at least one message' },
  ),
  max_completion_tokens: Type.Optional(integer(1, 'a whole number of at least 1')),
});
export type ChatCompletionRequest = Static<typeof ChatCompletionRequest>;

export const CompletionRequest = Type.Object({
  ...generation,
  prompt: Type.Union([Type.String(), Type.Array(Type.String(), { minItems: 1, maxItems: 1 })], {
    description: 'a text',
  }),
  echo: Type.Optional(Type.Boolean({ description: 'true or false' })),
});
export type CompletionRequest = Static<typeof CompletionRequest>;
export type GenerationFields = Omit<CompletionRequest, 'prompt'>;
