import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GrammarError } from '../engine.ts';
import { checkGbnf } from './gbnf.ts';
import { schemaRules, schemaToGbnf } from './json-schema.ts';
import type { Node } from './rules.ts';

const ajv = new Ajv2020({ strict: false, allErrors: false });
(formats as unknown as (ajv: Ajv2020) => void)(ajv);

/** Walks through a grammar by the dice of `next`, which gives whole numbers below its argument. */
function speak(rules: ReadonlyMap<string, Node>, next: (below: number) => number): string {
  const walk = (node: Node, depth: number): string => {
    switch (node.kind) {
      case 'text':
        return node.text;
      case 'class':
        return oneOf(node.gbnf, next);
      case 'sequence':
        return node.parts.map((part) => walk(part, depth)).join('');
      case 'choice': {
        // Deep down the last options that end soonest: `value` lists its containers first.
        const option = node.options[depth > 12 ? node.options.length - 1 : next(node.options.length)];
        if (!option) throw new Error('a choice of nothing');
        return walk(option, depth + 1);
      }
      case 'repeat': {
        const most = depth > 12 ? node.min : Math.min(node.max, node.min + 3);
        const times = node.min + next(most - node.min + 1);
        return Array.from({ length: times }, () => walk(node.node, depth + 1)).join('');
      }
      default: {
        const found = rules.get(node.name);
        if (!found) throw new Error(`no rule ${node.name}`);
        return walk(found, depth + 1);
      }
    }
  };
  return walk({ kind: 'rule', name: 'root' }, 0);
}

const SAMPLES = [
  'a',
  'b',
  '$',
  '@',
  'c',
  'x',
  'A',
  'é',
  ' ',
  '7',
  '🦙',
  'Z',
  '"',
  '\\',
  '0',
  '-',
  '1',
  '9',
  '3',
  't',
  '_',
  '.',
  '\t',
  '+',
  'E',
  'f',
  '8',
  '5',
];

function oneOf(gbnf: string, next: (below: number) => number): string {
  const escaped = gbnf.replace(/\\U([0-9a-f]{8})/g, (_, hex: string) => `\\u{${hex.replace(/^0+/, '')}}`);
  const pattern = new RegExp(escaped.replace(/\[(\^?)\[/, '[$1\\['), 'u');
  const fitting = [...SAMPLES, ...Array.from('0123456789abcdef/')].filter((sample) => pattern.test(sample));
  const found = fitting[next(fitting.length)];
  if (found === undefined) throw new Error(`nothing for ${gbnf}`);
  return found;
}

const person = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 20 },
    age: { type: 'integer', minimum: 0, maximum: 130 },
    mail: { type: 'string', format: 'email' },
    tags: { type: 'array', items: { enum: ['a', 'b'] }, minItems: 1, maxItems: 3 },
  },
  required: ['name', 'tags'],
  additionalProperties: false,
};

const SCHEMAS: Readonly<Record<string, unknown>> = {
  anything: true,
  'any object': { type: 'object' },
  'properties, some of them required': person,
  'only optional ones': { type: 'object', properties: { a: { type: 'null' }, b: {}, c: { type: 'boolean' } } },
  'required ones that are not described': { type: 'object', required: ['a', 'b'], properties: { b: { const: 1 } } },
  'additional ones': {
    type: 'object',
    properties: { ab: { type: 'integer' }, abc: { type: 'integer' }, x: { type: 'null' }, 'é"': { type: 'null' } },
    required: ['ab'],
    additionalProperties: { type: 'string' },
  },
  'a map': { type: 'object', additionalProperties: { type: 'number' }, minProperties: 1 },
  'nothing inside': { type: 'object', additionalProperties: false },
  'several types': { type: ['string', 'null', 'integer'], minimum: 5 },
  'enum and const': {
    anyOf: [{ enum: ['x"y', 2, null, { a: [1] }, '\n'] }, { const: 'z' }, { type: 'string', enum: ['q', 1] }],
  },
  lists: { type: 'array', items: { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 2 }, minItems: 1 },
  'a tuple': { type: 'array', prefixItems: [{ type: 'string' }, { type: 'integer' }], items: false, minItems: 2 },
  'a tuple with more': {
    type: 'array',
    prefixItems: [{ type: 'string' }, { type: 'null' }],
    items: { type: 'boolean' },
    minItems: 3,
    maxItems: 5,
  },
  'a tuple that may stop': { type: 'array', prefixItems: [{ type: 'string' }, { type: 'null' }], maxItems: 4 },
  'no items': { type: 'array', maxItems: 0 },
  formats: {
    type: 'object',
    properties: Object.fromEntries(
      ['date', 'time', 'date-time', 'uuid', 'ipv4', 'hostname', 'email', 'uri'].map((format) => [
        format,
        { type: 'string', format },
      ]),
    ),
    required: ['date', 'time', 'date-time', 'uuid', 'ipv4', 'hostname', 'email', 'uri'],
  },
  'a tree': {
    $ref: '#/$defs/node',
    $defs: {
      node: {
        type: 'object',
        properties: {
          value: { type: 'number' },
          children: { type: 'array', items: { $ref: '#/$defs/node' }, maxItems: 2 },
        },
        required: ['value'],
        additionalProperties: false,
      },
    },
  },
  'alternatives told apart by a constant': {
    oneOf: [
      { type: 'object', properties: { kind: { const: 'a' }, n: { type: 'integer' } }, required: ['kind', 'n'] },
      { type: 'object', properties: { kind: { const: 'b' }, s: { type: 'string' } }, required: ['kind'] },
      { type: 'null' },
    ],
  },
  'an intersection': {
    allOf: [
      { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] },
      { $ref: '#/$defs/named' },
      { properties: { a: { minimum: 3 } } },
    ],
    $defs: { named: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } },
  },
  'conditions beside alternatives': { type: 'integer', minimum: 3, anyOf: [{ maximum: 9 }, { minimum: 20 }] },
  patterns: {
    type: 'array',
    prefixItems: [
      '^[A-Z]{2,3}-\\d+$',
      'a|b\\.c',
      '^(?:x|y"z)*[^a-c\\d]?\\\\$',
      '^[\\w.+-]+@[\\]"é-ü]{2}$',
      '^\\S\\D.\\n[ -~]$',
      '\\$',
      '',
    ].map((pattern) => ({ type: 'string', pattern })),
    minItems: 7,
    items: false,
  },
  'what zod writes': {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    properties: {
      n: { type: 'integer', minimum: -9007199254740991, maximum: 9007199254740991 },
      o: { anyOf: [{ type: 'string' }, { type: 'null' }], default: null },
    },
    required: ['n', 'o'],
    additionalProperties: false,
  },
};

describe('whatever the grammar lets through satisfies the schema:', () => {
  test.each(Object.entries(SCHEMAS))('%s', (_, schema) => {
    const rules = schemaRules(schema);
    expect(() => checkGbnf(schemaToGbnf(schema))).not.toThrow();
    const valid = ajv.compile(schema as object);
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(1_000_000)), (dice) => {
        const said = speak(rules, (below) => (below <= 1 ? 0 : (dice.next().value ?? 0) % below));
        const value: unknown = JSON.parse(said);
        if (!valid(value)) throw new Error(`${said}: ${ajv.errorsText(valid.errors)}`);
      }),
      { numRuns: 60 },
    );
  });

  test('numbers between any bounds', () => {
    const bound = fc.integer({ min: -12_000, max: 12_000 });
    const setup = fc.record({
      type: fc.constantFrom('integer', 'number'),
      low: fc.option(fc.tuple(fc.constantFrom('minimum', 'exclusiveMinimum'), bound), { nil: undefined }),
      high: fc.option(fc.tuple(fc.constantFrom('maximum', 'exclusiveMaximum'), bound), { nil: undefined }),
      dice: fc.infiniteStream(fc.nat(1_000_000)),
    });
    fc.assert(
      fc.property(setup, ({ type, low, high, dice }) => {
        const schema = { type, ...(low ? { [low[0]]: low[1] } : {}), ...(high ? { [high[0]]: high[1] } : {}) };
        try {
          schemaToGbnf(schema);
        } catch {
          // Refused: then there must be nothing to say. A number lies between any two whole ones.
          const room = (high?.[1] ?? 0) - (low?.[1] ?? 0);
          expect(room).toBeLessThan(type === 'integer' ? 2 : 1);
          return;
        }
        const said = speakSome(schema, dice);
        if (said !== undefined)
          expect(ajv.validate(schema, JSON.parse(said)), `${said} for ${JSON.stringify(schema)}`).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

/** A walk may lead into a choice of nothing, which GBNF leaves out. */
function speakSome(schema: unknown, dice: Iterator<number>): string | undefined {
  try {
    return speak(schemaRules(schema), (below) => (below <= 1 ? 0 : ((dice.next().value as number) ?? 0) % below));
  } catch {
    return undefined;
  }
}

describe('refused, with the keyword and what to do:', () => {
  test.each<readonly [unknown, string | undefined, string]>([
    [{ type: 'string', pattern: '^(?=a)' }, 'pattern', '#: this "pattern" is not supported: it looks ahead'],
    [{ type: 'string', pattern: '^a|b$' }, 'pattern', 'put the alternatives in brackets'],
    [{ type: 'string', pattern: '(a)\\1' }, 'pattern', '\\1 is unknown here'],
    [{ type: 'string', pattern: '(a' }, 'pattern', 'its brackets do not match'],
    [{ type: 'string', pattern: 'a', maxLength: 3 }, 'maxLength', 'not supported beside pattern'],
    [{ type: 'object', properties: { a: { not: {} } } }, 'not', '#/properties/a: "not" is not supported: leave it out'],
    [
      { type: 'object', patternProperties: {} },
      'patternProperties',
      '#: "patternProperties" is not supported: leave it out',
    ],
    [{ type: 'array', uniqueItems: true }, 'uniqueItems', '#: "uniqueItems" is not supported: leave it out'],
    [{ type: 'number', multipleOf: 0.1 }, 'multipleOf', '#: "multipleOf" is not supported: leave it out'],
    [{ type: 'number', minimum: 0.5 }, 'minimum', '#: "minimum" must be a whole number, and 0.5 is none'],
    [{ type: 'integer', minimum: 3, maximum: 2 }, 'minimum', '#: no number lies between the bounds'],
    [{ type: 'array', minItems: 3, maxItems: 2 }, 'minItems', '#: minItems is more than maxItems'],
    [{ type: 'string', minLength: 3000 }, 'minLength', '#: minLength may be 2000 at most'],
    [{ type: 'string', format: 'idn-email' }, 'format', '#: the format "idn-email" is not supported'],
    [{ enum: [] }, 'enum', '#: "enum" leaves no value'],
    [{ type: 'strnig' }, 'type', '#: there is no type "strnig"'],
    [{ $ref: '#/$defs/x' }, '$ref', '#: $ref "#/$defs/x" leads nowhere'],
    [{ $ref: 'http://elsewhere' }, '$ref', '#: $ref "http://elsewhere" is not in this schema: write #/$defs/…'],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, 'oneOf', '#/oneOf: the alternatives may overlap'],
    [{ type: 'object', maxProperties: 2 }, 'maxProperties', '#: maxProperties is not supported'],
    [{ enum: ['a'], minLength: 3 }, 'minLength', '#: "minLength" is not supported beside enum and const'],
    [false, undefined, 'no answer can satisfy the schema'],
    [
      { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] },
      undefined,
      'no answer can satisfy the schema',
    ],
    [{ allOf: [{ type: 'string' }, { type: 'null' }] }, undefined, 'no answer can satisfy the schema'],
    [{ $ref: '#' }, undefined, 'no answer can satisfy the schema'],
    ['a string', undefined, '# is no schema'],
    [JSON.parse(`${'{"items":'.repeat(200)}{}${'}'.repeat(200)}`), undefined, 'the schema is too large or too deep'],
  ])('%j', (schema, keyword, message) => {
    let thrown: unknown;
    try {
      schemaToGbnf(schema);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(GrammarError);
    expect((thrown as GrammarError).message).toContain(message);
    expect((thrown as GrammarError).keyword).toBe(keyword);
  });
});

test('a hundred optional properties make a grammar that grows with them, not with their square', () => {
  const sizes = [100, 200].map((count) => {
    const names = Array.from({ length: count }, (_, index) => [`p${index}`, { type: 'null' }]);
    return schemaToGbnf({ type: 'object', properties: Object.fromEntries(names) as object }).length;
  });
  expect((sizes[1] ?? 0) / (sizes[0] ?? 1)).toBeLessThan(2.5);
});
