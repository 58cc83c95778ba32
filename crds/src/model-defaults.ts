/**
 * The Modelfile vocabulary of an SLMModel: settings that hold for every request that has none of its own. Owns the bounds: all of
 * it together travels in one variable of a pod's environment, which may have 128 KiB.
 */
import type { Static } from 'typebox';
import { integer, list, number, object, optional, text, word } from './schema.ts';

const parameters = object(
  {
    temperature: optional(
      number({ minimum: 0, maximum: 100, description: 'How freely tokens are chosen; 0 takes the likeliest.' }),
    ),
    top_k: optional(integer({ minimum: 0, maximum: 1_000_000, description: 'Tokens to choose from; 0 for all.' })),
    top_p: optional(number({ minimum: 0, maximum: 1, description: 'Share of probability to choose from.' })),
    min_p: optional(
      number({ minimum: 0, maximum: 1, description: 'Least probability, relative to the likeliest token.' }),
    ),
    seed: optional(
      integer({ minimum: 0, maximum: 4_294_967_294, description: 'The same seed gives the same answer.' }),
    ),
    num_predict: optional(
      integer({ minimum: -1, maximum: 16_777_216, description: 'Tokens of an answer; -1 for as many as fit.' }),
    ),
    stop: optional(
      list(text({ max: 256, min: 1, description: 'A text.' }), {
        max: 16,
        atomic: true,
        description: 'Texts that end an answer and do not appear in it.',
      }),
    ),
    repeat_penalty: optional(
      number({ minimum: 0.01, maximum: 10, description: 'Makes repetition less likely; 1 for nothing.' }),
    ),
    repeat_last_n: optional(
      integer({ minimum: -1, maximum: 16_777_216, description: 'Tokens to look back on; -1 for all, 0 for none.' }),
    ),
    presence_penalty: optional(
      number({ minimum: -2, maximum: 2, description: 'Makes tokens that appeared less likely.' }),
    ),
    frequency_penalty: optional(
      number({ minimum: -2, maximum: 2, description: 'The same, for each time they appeared.' }),
    ),
  },
  {
    description:
      "Options under Ollama's names, for requests of every API that have none of their own. The context length is the deployment's: engine.contextLength.",
    rules: [
      {
        rule: '!has(self.num_predict) || self.num_predict != 0',
        message: 'num_predict must be at least 1, or -1 for as many as fit',
      },
    ],
  },
);

/** Fields of SLMModel.spec. */
export const modelDefaultsFields = {
  parameters: optional(parameters),
  system: optional(text({ max: 8192, min: 1, description: 'System message of conversations that have none.' })),
  template: optional(
    text({
      max: 8192,
      min: 1,
      description:
        "Chat template in Go's syntax, as TEMPLATE of a Modelfile has it. Default: the model's own. One that cannot be parsed keeps new pods from starting, with the line that is to blame.",
    }),
  ),
  messages: optional(
    list(
      object(
        {
          role: word(['system', 'user', 'assistant'], { description: 'Who says it.' }),
          content: text({ max: 512, min: 1, description: 'What is said.' }),
        },
        { description: 'A message.' },
      ),
      { max: 16, atomic: true, description: 'Stand before every conversation, as examples.' },
    ),
  ),
  license: optional(
    text({ max: 4096, min: 1, description: 'Shown by /api/show: a name such as Apache-2.0, or the text.' }),
  ),
};

const ModelDefaults = object(modelDefaultsFields, { description: 'Settings of a model.' });
/** What of an SLMModel a server is told beside the bytes. */
export type ModelDefaults = Static<typeof ModelDefaults>;

/** Undefined where a model says nothing. */
export function modelDefaultsOf({
  parameters,
  system,
  template,
  messages,
  license,
}: ModelDefaults): ModelDefaults | undefined {
  const given = Object.entries({ parameters, system, template, messages, license }).filter(
    ([, value]) => value !== undefined,
  );
  return given.length === 0 ? undefined : (Object.fromEntries(given) as ModelDefaults);
}
