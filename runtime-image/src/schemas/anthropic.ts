/**
 * The bodies that Anthropic's messages API takes, as far as we honour them. Properties that are not named here pass, as
 * with OpenAI's; what would change the answer is refused in routes/anthropic.
 */
import { type Static, Type } from 'typebox';
import { anyObject, flag, integer, modelName, nullable, number, oneOf, text } from './fields.ts';

const TextBlocks = Type.Array(Type.Object({ type: Type.String(), text: Type.Optional(Type.String()) }));

const Block = Type.Object({
  type: Type.String(),
  text: Type.Optional(Type.String()),
  thinking: Type.Optional(Type.String()),
  id: Type.Optional(Type.String()),
  name: Type.Optional(Type.String()),
  input: Type.Optional(Type.Unknown()),
  tool_use_id: Type.Optional(Type.String()),
  content: Type.Optional(Type.Union([Type.String(), TextBlocks])),
});
export type Block = Static<typeof Block>;

const conversation = {
  model: modelName,
  messages: Type.Array(
    Type.Object(
      {
        role: oneOf(['user', 'assistant']),
        content: Type.Union([Type.String(), Type.Array(Block)], { description: 'a text or a list of blocks' }),
      },
      { description: 'a message: {"role": …, "content": …}' },
    ),
    { minItems: 1, description: 'a list of at least one message' },
  ),
  system: Type.Optional(Type.Union([Type.String(), TextBlocks], { description: 'a text or a list of blocks of text' })),
  tools: Type.Optional(
    Type.Array(
      Type.Object(
        {
          type: Type.Optional(nullable(Type.String())),
          name: Type.String({
            pattern: '^[\\w.-]{1,128}$',
            description: 'a name of up to 128 letters, digits, _, . and -',
          }),
          description: Type.Optional(nullable(text)),
          input_schema: Type.Optional(anyObject),
        },
        { description: 'a tool: {"name": …, "input_schema": {…}}' },
      ),
      { maxItems: 128, description: 'a list of up to 128 tools' },
    ),
  ),
  tool_choice: Type.Optional(
    Type.Object(
      {
        type: oneOf(['auto', 'any', 'tool', 'none']),
        name: Type.Optional(text),
        disable_parallel_tool_use: Type.Optional(flag),
      },
      { description: 'an object such as {"type": "auto"}' },
    ),
  ),
  thinking: Type.Optional(
    Type.Object({ type: oneOf(['enabled', 'disabled', 'adaptive']) }, { description: 'an object with a type' }),
  ),
};

export const CountRequest = Type.Object(conversation);
export type CountRequest = Static<typeof CountRequest>;

export const MessagesRequest = Type.Object({
  ...conversation,
  max_tokens: integer(1, 'a whole number of at least 1'),
  stop_sequences: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), {
      maxItems: 16,
      description: 'a list of up to 16 texts, of 1 to 1024 characters',
    }),
  ),
  stream: Type.Optional(flag),
  temperature: Type.Optional(number(0, 2)),
  top_p: Type.Optional(number(0, 1)),
  top_k: Type.Optional(integer(0, 'a whole number')),
});
export type MessagesRequest = Static<typeof MessagesRequest>;
