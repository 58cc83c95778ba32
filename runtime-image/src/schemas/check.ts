/**
 * Checks a request body against its schema and says in words what to change. Owns the sentence; the schemas own the
 * rules, and each property's description completes "… must be …".
 */
import type { Static, TSchema } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { ApiError } from '../api-error.ts';

const compiled = new WeakMap<object, Validator>();

/**
 * @param body what the client sent, parsed; a property that is null counts as absent, as both APIs have it
 * @throws ApiError (400)
 */
export function checkBody<Schema extends TSchema>(schema: Schema, body: unknown): Static<Schema> {
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new ApiError(400, 'the request body must be a JSON object');
  const value = Object.fromEntries(Object.entries(body).filter(([, property]) => property !== null));
  let validator = compiled.get(schema);
  if (!validator) {
    validator = Compile(schema);
    compiled.set(schema, validator);
  }
  if (validator.Check(value)) return value as Static<Schema>;
  const [first] = validator.Errors(value);
  if (!first) throw new ApiError(400, 'the request body is not valid');
  if (first.keyword === 'required') {
    const missing = (first.params as { requiredProperties?: readonly string[] }).requiredProperties?.[0] ?? '';
    const param = join(first.instancePath, missing);
    throw new ApiError(400, `${param} is required`, { param, code: 'missing_required_parameter' });
  }
  const { path, expected } = describe(schema, first.instancePath);
  const param = join(path);
  throw new ApiError(400, `${param} ${expected === undefined ? first.message : `must be ${expected}`}`, {
    param,
    code: 'invalid_value',
  });
}

interface SchemaNode {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
}

/** Follows a JSON pointer into the schema as far as descriptions go: a union is described as a whole. */
function describe(schema: TSchema, pointer: string): { path: string; expected: string | undefined } {
  let node: SchemaNode | undefined = schema;
  let path = '';
  for (const key of pointer.split('/').slice(1)) {
    const next: SchemaNode | undefined = node?.properties?.[key] ?? node?.items;
    if (next === undefined) break;
    node = next;
    path += `/${key}`;
  }
  return { path: path || pointer, expected: node?.description };
}

/** `/messages/0/role` as people write it: `messages[0].role`. */
function join(pointer: string, last?: string): string {
  const keys = [...pointer.split('/').slice(1), ...(last === undefined ? [] : [last])];
  return keys.map((key, index) => (/^\d+$/.test(key) ? `[${key}]` : index === 0 ? key : `.${key}`)).join('');
}
