/** Properties that the schemas of several APIs share. Each description completes "… must be …". */
import { type TSchema, Type } from 'typebox';

export const number = (minimum: number, maximum: number) =>
  Type.Number({ minimum, maximum, description: `a number from ${minimum} to ${maximum}` });
export const integer = (minimum: number, description: string) => Type.Integer({ minimum, description });
export const flag = Type.Boolean({ description: 'true or false' });
export const text = Type.String({ description: 'a text' });
export const modelName = Type.String({ minLength: 1, description: 'the name of a model' });
export const oneOf = <const Values extends readonly string[]>(values: Values) =>
  Type.Unsafe<Values[number]>({
    type: 'string',
    enum: [...values],
    description: `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`,
  });
/** Python's clients send null for what they do not set. */
export const nullable = <Schema extends TSchema>(schema: Schema) => {
  const { description } = schema as { description?: string };
  return Type.Union([schema, Type.Null()], description === undefined ? {} : { description });
};
export const anyObject = Type.Object({}, { description: 'an object' });

/** Texts that end an answer. */
export const stops = (description: string) =>
  Type.Union(
    [
      Type.String({ minLength: 1, maxLength: 1024 }),
      Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { maxItems: 16 }),
    ],
    { description },
  );

/** A tool in OpenAI's form, which is Ollama's too. */
export const Tool = Type.Object(
  {
    type: Type.Optional(Type.String({ description: 'function' })),
    function: Type.Object(
      {
        name: Type.String({
          pattern: '^[\\w.-]{1,64}$',
          description: 'a name of up to 64 letters, digits, _, . and -',
        }),
        description: Type.Optional(nullable(text)),
        parameters: Type.Optional(nullable(Type.Object({}, { description: 'a JSON schema' }))),
        strict: Type.Optional(nullable(flag)),
      },
      { description: 'an object with a name and parameters' },
    ),
  },
  { description: 'a function: {"type": "function", "function": {"name": …, "parameters": …}}' },
);
