/**
 * Requests made of the API's own description, for the fuzz tests: bodies that a schema allows, and bodies that miss it in one
 * place or several. Owns the way from JSON Schema to fast-check; knows no route. Not part of the image.
 */
import * as fc from 'fast-check';

/** The part of JSON Schema that the description uses. */
export interface SchemaNode {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly SchemaNode[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | SchemaNode;
  readonly items?: SchemaNode;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: string;
}

/** Values for properties whose meaning no schema tells, by name; half of the time they are taken instead. */
export type Meanings = Readonly<Record<string, fc.Arbitrary<unknown>>>;

/** What programs send by mistake, or to see what happens. */
const WRONG: readonly unknown[] = [
  null,
  true,
  '',
  ' ',
  'a',
  0,
  -1,
  0.5,
  1e300,
  -1e300,
  2 ** 53,
  [],
  {},
  [[]],
  [{}],
  '\u0000',
  '\ud800',
  '🦙',
  { __proto__: null, constructor: 1 },
  'x'.repeat(5000),
];
const wrong = fc.oneof(fc.constantFrom(...WRONG), fc.jsonValue({ maxDepth: 3 }));

/**
 * @param faults share of the values that are replaced by something else, 0 to 1
 * @returns values of a schema
 */
export function valuesOf(schema: SchemaNode, meanings: Meanings, faults: number, name = ''): fc.Arbitrary<unknown> {
  const sound = soundValues(schema, meanings, faults);
  const meant = meanings[name];
  const values = meant ? fc.oneof(meant, sound) : sound;
  if (faults === 0) return values;
  const weight = Math.max(1, Math.round(1 / faults) - 1);
  return fc.oneof({ arbitrary: values, weight }, { arbitrary: wrong, weight: 1 });
}

function soundValues(schema: SchemaNode, meanings: Meanings, faults: number): fc.Arbitrary<unknown> {
  if ('const' in schema) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((one) => valuesOf(one, meanings, faults)));
  switch (schema.type) {
    case 'string': {
      if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern));
      const minLength = schema.minLength ?? 0;
      return fc.string({ unit: 'binary', minLength, maxLength: Math.min(schema.maxLength ?? 20, minLength + 20) });
    }
    case 'integer':
      return fc.oneof(
        fc.integer({ min: schema.minimum ?? -3, max: Math.min(schema.maximum ?? 40, (schema.minimum ?? -3) + 40) }),
        fc.constantFrom(schema.minimum ?? -(2 ** 31), schema.maximum ?? 2 ** 31),
      );
    case 'number':
      return fc.double({ min: schema.minimum ?? -1e6, max: schema.maximum ?? 1e6, noNaN: true });
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array': {
      const minLength = schema.minItems ?? 0;
      const items = schema.items ? valuesOf(schema.items, meanings, faults) : fc.jsonValue({ maxDepth: 1 });
      return fc.array(items, { minLength, maxLength: Math.min(schema.maxItems ?? 3, minLength + 3) });
    }
    case 'object':
      return objects(schema, meanings, faults);
    default:
      return fc.jsonValue({ maxDepth: 2 });
  }
}

function objects(schema: SchemaNode, meanings: Meanings, faults: number): fc.Arbitrary<unknown> {
  const { properties = {}, required = [], additionalProperties } = schema;
  const rest = typeof additionalProperties === 'object' ? additionalProperties : undefined;
  if (Object.keys(properties).length === 0)
    return fc.dictionary(
      fc.oneof(fc.constantFrom('1', '2', 'type', 'properties'), fc.string({ maxLength: 5 })),
      rest ? valuesOf(rest, meanings, faults) : fc.jsonValue({ maxDepth: 2 }),
      { maxKeys: 3 },
    );
  const entries = Object.entries(properties).map(
    ([key, node]) => [key, valuesOf(node, meanings, faults, key)] as const,
  );
  // Most requests set few of the many properties.
  const optional = entries.filter(([key]) => !required.includes(key)).map(([key]) => key);
  const all = Object.fromEntries(entries);
  return fc
    .subarray(optional, { maxLength: Math.min(optional.length, 3) })
    .chain((chosen) => fc.record(Object.fromEntries([...required, ...chosen].map((key) => [key, all[key] ?? wrong]))))
    .chain((value) =>
      faults === 0 || required.length === 0
        ? fc.constant(value)
        : fc.oneof(
            { arbitrary: fc.constant(value), weight: Math.round(1 / faults) },
            {
              arbitrary: fc.constantFrom(...required).map((key) => ({ ...value, [key]: undefined })),
              weight: 1,
            },
          ),
    );
}
