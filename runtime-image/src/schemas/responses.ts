/**
 * The body that OpenAI's responses API takes, as far as we honour it.
 */
import { type Static, Type } from 'typebox';
import { anyObject, flag, integer, modelName, nullable, number, oneOf, text } from './fields.ts';

const Item = Type.Object({
  type: Type.Optional(Type.String()),
  role: Type.Optional(oneOf(['system', 'developer', 'user', 'assistant'])),
  content: Type.Optional(
    nullable(
      Type.Union(
        [Type.String(), Type.Array(Type.Object({ type: Type.String(), text: Type.Optional(Type.String()) }))],
        { description: 'a text or a list of parts' },
      ),
    ),
  ),
  call_id: Type.Optional(text),
  name: Type.Optional(text),
  arguments: Type.Optional(text),
  output: Type.Optional(Type.Unknown()),
});
export type Item = Static<typeof Item>;

export const ResponsesRequest = Type.Object({
  model: modelName,
  input: Type.Union([Type.String(), Type.Array(Item, { minItems: 1 })], {
    description: 'a text or a list of at least one item',
  }),
  instructions: Type.Optional(text),
  stream: Type.Optional(flag),
  max_output_tokens: Type.Optional(integer(1, 'a whole number of at least 1')),
  temperature: Type.Optional(number(0, 2)),
  top_p: Type.Optional(number(0, 1)),
  metadata: Type.Optional(anyObject),
  text: Type.Optional(
    Type.Object(
      {
        format: Type.Optional(
          Type.Object(
            { type: oneOf(['text', 'json_object', 'json_schema']), schema: Type.Optional(anyObject) },
            { description: 'an object with a type' },
          ),
        ),
      },
      { description: 'an object with a format' },
    ),
  ),
  tools: Type.Optional(
    Type.Array(
      Type.Object(
        {
          type: Type.String(),
          name: Type.Optional(
            Type.String({ pattern: '^[\\w.-]{1,64}$', description: 'a name of up to 64 letters, digits, _, . and -' }),
          ),
          description: Type.Optional(nullable(text)),
          parameters: Type.Optional(nullable(anyObject)),
        },
        { description: 'a function: {"type": "function", "name": …, "parameters": …}' },
      ),
      { maxItems: 128, description: 'a list of up to 128 functions' },
    ),
  ),
  tool_choice: Type.Optional(
    Type.Union(
      [
        Type.Literal('none'),
        Type.Literal('auto'),
        Type.Literal('required'),
        Type.Object({ type: Type.Literal('function'), name: Type.String() }),
      ],
      { description: 'none, auto, required or {"type": "function", "name": …}' },
    ),
  ),
  parallel_tool_calls: Type.Optional(flag),
  truncation: Type.Optional(nullable(oneOf(['auto', 'disabled']))),
  reasoning: Type.Optional(
    Type.Object(
      { effort: Type.Optional(nullable(oneOf(['none', 'minimal', 'low', 'medium', 'high']))) },
      { description: 'an object with an effort' },
    ),
  ),
});
export type ResponsesRequest = Static<typeof ResponsesRequest>;
