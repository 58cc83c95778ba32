/**
 * The bodies that Ollama's API takes, as far as we honour them. Unknown properties at the top pass, as they do there;
 * unknown options are refused, because a misspelt one would silently change the answer.
 */
import { type Static, Type } from 'typebox';

const number = (minimum: number, maximum: number) =>
  Type.Optional(Type.Number({ minimum, maximum, description: `a number from ${minimum} to ${maximum}` }));
const anyNumber = Type.Optional(Type.Number({ description: 'a number' }));
const flag = Type.Optional(Type.Boolean({ description: 'true or false' }));
const integer = (minimum: number, description: string) => Type.Optional(Type.Integer({ minimum, description }));

export const Options = Type.Object(
  {
    temperature: number(0, 100),
    top_k: integer(0, 'a whole number, 0 for the whole vocabulary'),
    top_p: number(0, 1),
    min_p: number(0, 1),
    seed: Type.Optional(Type.Integer({ description: 'a whole number' })),
    num_predict: integer(-2, 'a whole number: tokens to generate, or -1 for as many as fit'),
    num_ctx: integer(1, 'a whole number of at least 1'),
    stop: Type.Optional(
      Type.Union(
        [
          Type.String({ minLength: 1, maxLength: 1024 }),
          Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { maxItems: 16 }),
        ],
        {
          description: 'a list of up to 16 texts, of 1 to 1024 characters',
        },
      ),
    ),
    repeat_penalty: number(0.01, 10),
    repeat_last_n: integer(-1, 'a whole number: tokens to look back on, -1 for all, 0 for none'),
    presence_penalty: number(-2, 2),
    frequency_penalty: number(-2, 2),
    // Known to Ollama; routes/ollama/options.ts says which values we take.
    typical_p: anyNumber,
    tfs_z: anyNumber,
    mirostat: anyNumber,
    mirostat_eta: anyNumber,
    mirostat_tau: anyNumber,
    penalize_newline: flag,
    num_keep: anyNumber,
    num_batch: anyNumber,
    num_gpu: anyNumber,
    main_gpu: anyNumber,
    num_thread: anyNumber,
    numa: flag,
    low_vram: flag,
    f16_kv: flag,
    logits_all: flag,
    vocab_only: flag,
    use_mmap: flag,
    use_mlock: flag,
  },
  { description: 'an object of options' },
);
export type Options = Static<typeof Options>;

/** What both endpoints take. */
const generation = {
  model: Type.String({ minLength: 1, description: 'the name of a model' }),
  stream: Type.Optional(Type.Boolean({ description: 'true or false' })),
  options: Type.Optional(Type.Object({}, { description: 'an object of options' })),
  keep_alive: Type.Optional(
    Type.Union([Type.Number(), Type.String({ pattern: '^-?(\\d+(\\.\\d+)?(ns|us|µs|ms|s|m|h))+$|^-?\\d+$' })], {
      description: 'a number of seconds or a duration such as "5m"',
    }),
  ),
};

export const ChatRequest = Type.Object({
  ...generation,
  messages: Type.Optional(
    Type.Array(
      Type.Object(
        {
          role: Type.Union(
            [Type.Literal('system'), Type.Literal('user'), Type.Literal('assistant'), Type.Literal('tool')],
            { description: 'system, user or assistant' },
          ),
          content: Type.Optional(Type.String({ description: 'a text' })),
        },
        { description: 'a message: {"role": …, "content": …}' },
      ),
      { description: 'a list of messages' },
    ),
  ),
});
export type ChatRequest = Static<typeof ChatRequest>;

export const GenerateRequest = Type.Object({
  ...generation,
  prompt: Type.Optional(Type.String({ description: 'a text' })),
  system: Type.Optional(Type.String({ description: 'a text' })),
  raw: Type.Optional(Type.Boolean({ description: 'true or false' })),
  context: Type.Optional(
    Type.Array(Type.Integer({ minimum: 0 }), { description: 'the list of tokens that an earlier answer brought' }),
  ),
});
export type GenerateRequest = Static<typeof GenerateRequest>;

export const ShowRequest = Type.Object({
  model: Type.Optional(Type.String({ minLength: 1, description: 'the name of a model' })),
  name: Type.Optional(Type.String({ minLength: 1, description: 'the name of a model' })),
});
