/**
 * The bodies that Ollama's API takes, as far as we honour them. Unknown properties at the top pass, as they do there;
 * unknown options are refused, because a misspelt one would silently change the answer.
 */
import { type Static, Type } from 'typebox';
import {
  flag as flagField,
  modelName,
  nullable,
  number as numberField,
  oneOf,
  stops,
  Tool,
  text,
  integer as wholeNumber,
} from './fields.ts';

const number = (minimum: number, maximum: number) => Type.Optional(numberField(minimum, maximum));
const anyNumber = Type.Optional(Type.Number({ description: 'a number' }));
const flag = Type.Optional(flagField);
const integer = (minimum: number, description: string) => Type.Optional(wholeNumber(minimum, description));

export const Options = Type.Object(
  {
    temperature: number(0, 100),
    top_k: integer(0, 'a whole number, 0 for the whole vocabulary'),
    top_p: number(0, 1),
    min_p: number(0, 1),
    seed: Type.Optional(Type.Integer({ description: 'a whole number' })),
    num_predict: integer(-2, 'a whole number: tokens to generate, or -1 for as many as fit'),
    num_ctx: integer(1, 'a whole number of at least 1'),
    stop: Type.Optional(stops('a list of up to 16 texts, of 1 to 1024 characters')),
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
    num_keep: integer(-1, 'a whole number: tokens at the beginning to keep, -1 for the whole prompt'),
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

/** What every endpoint takes. */
const common = {
  model: modelName,
  options: Type.Optional(Type.Object({}, { description: 'an object of options' })),
  keep_alive: Type.Optional(
    Type.Union(
      [
        Type.Number(),
        // Go's durations, and bare seconds in quotes.
        Type.String({ pattern: '^[-+]?((\\d+\\.?\\d*|\\.\\d+)(ns|us|µs|μs|ms|s|m|h))+$|^[-+]?\\d+$' }),
      ],
      { description: 'a number of seconds or a duration such as "5m"' },
    ),
  ),
};

/** What both generating endpoints take. */
const generation = {
  ...common,
  stream: flag,
  format: Type.Optional(
    Type.Union([Type.Literal(''), Type.Literal('json'), Type.Object({})], { description: '"json" or a JSON schema' }),
  ),
  think: Type.Optional(
    Type.Union([Type.Boolean(), oneOf(['low', 'medium', 'high'])], { description: 'true, false, low, medium or high' }),
  ),
  truncate: flag,
  shift: flag,
  logprobs: flag,
  top_logprobs: Type.Optional(Type.Integer({ minimum: 0, maximum: 20, description: 'a whole number from 0 to 20' })),
};

export const ChatRequest = Type.Object({
  ...generation,
  tools: Type.Optional(Type.Array(Tool, { maxItems: 128, description: 'a list of up to 128 functions' })),
  messages: Type.Optional(
    Type.Array(
      Type.Object(
        {
          role: Type.Union(
            [Type.Literal('system'), Type.Literal('user'), Type.Literal('assistant'), Type.Literal('tool')],
            { description: 'system, user, assistant or tool' },
          ),
          content: Type.Optional(nullable(text)),
          thinking: Type.Optional(nullable(text)),
          tool_name: Type.Optional(nullable(text)),
          tool_call_id: Type.Optional(nullable(text)),
          tool_calls: Type.Optional(
            nullable(
              Type.Array(
                Type.Object({
                  id: Type.Optional(nullable(text)),
                  function: Type.Object({ name: text, arguments: Type.Optional(Type.Unknown()) }),
                }),
                { description: 'a list of calls: {"function": {"name": …, "arguments": {…}}}' },
              ),
            ),
          ),
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
  prompt: Type.Optional(text),
  suffix: Type.Optional(text),
  system: Type.Optional(text),
  template: Type.Optional(text),
  raw: flag,
  context: Type.Optional(
    Type.Array(Type.Integer({ minimum: 0 }), { description: 'the list of tokens that an earlier answer brought' }),
  ),
});
export type GenerateRequest = Static<typeof GenerateRequest>;

export const ShowRequest = Type.Object({
  model: Type.Optional(text),
  // The older name of the same; Ollama's Go package always sends it, mostly empty.
  name: Type.Optional(text),
  verbose: flag,
});

export const EmbedRequest = Type.Object({
  ...common,
  input: Type.Optional(
    Type.Union([Type.String(), Type.Array(Type.String(), { maxItems: 2048 })], {
      description: 'a text or a list of up to 2048 texts',
    }),
  ),
  truncate: flag,
  dimensions: Type.Optional(wholeNumber(0, 'a whole number')),
});

/** The older endpoint for one text. */
export const EmbeddingsRequest = Type.Object({ ...common, prompt: Type.Optional(text) });
