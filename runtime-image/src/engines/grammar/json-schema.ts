/**
 * JSON Schema to GBNF. Every text of the grammar is JSON that satisfies the schema; where a schema allows more than can be
 * said, the grammar allows less: properties come in the schema's order, and none that it does not name unless it says
 * so. What cannot be held to is refused by its keyword.
 */
import { GrammarError } from '../engine.ts';
import { integers, LARGEST, reals } from './numbers.ts';
import { patternNode } from './pattern.ts';
import {
  characters,
  choice,
  MOST_REPETITIONS,
  NOTHING,
  type Node,
  optional,
  repeat,
  rule,
  sequence,
  text,
  writeGbnf,
} from './rules.ts';
import {
  excludes,
  hasType,
  intersect,
  isSchema,
  keywordsOf,
  namesOf,
  type Schema,
  typeOf,
  typesOf,
} from './schema-sets.ts';
import { FORMATS, keyOtherThan, STRING_CHARACTER } from './strings.ts';

const TYPES = ['object', 'array', 'string', 'number', 'boolean', 'null'] as const;
/** Schemas inside a schema, references counted each time they are written out. */
const MOST_SCHEMAS = 5000;
const DEEPEST = 64;
/** Characters of the grammar; llama.cpp reads this much in a few milliseconds. */
const LONGEST = 500_000;
const ENDLESS = Number.POSITIVE_INFINITY;
const NO_BOUNDS = { min: -ENDLESS, max: ENDLESS, minExclusive: false, maxExclusive: false };

/** Space that may follow a bracket or comma: none, one, or a new line with its indentation. */
const SPACE = rule('space');

/**
 * @param schema `true`, or an object
 * @throws GrammarError naming the keyword
 */
export function schemaToGbnf(schema: unknown): string {
  const grammar = writeGbnf(schemaRules(schema));
  if (grammar === undefined)
    throw new GrammarError('no answer can satisfy the schema: it allows nothing, or nothing that ends', undefined, '#');
  if (grammar.length > LONGEST)
    throw new GrammarError('the schema is too large: split it, or say less of it', undefined, '#');
  return grammar;
}

/** The same as rules, `root` first. @throws GrammarError */
export function schemaRules(schema: unknown): ReadonlyMap<string, Node> {
  return new SchemaGrammar(schema).rules;
}

class SchemaGrammar {
  readonly #rules = new Map<string, Node>();
  readonly #document: unknown;
  /** Names of the rules of references. */
  readonly #references = new Map<string, string>();
  #schemas = 0;
  #depth = 0;

  constructor(schema: unknown) {
    this.#document = schema;
    this.#rules.set('root', NOTHING);
    this.#rules.set('space', optional(choice(text(' '), sequence(text('\n'), repeat(characters('[ \\t]'), 0, 20)))));
    this.#rules.set('char', STRING_CHARACTER);
    this.#rules.set('string', sequence(text('"'), repeat(rule('char'), 0, ENDLESS), text('"')));
    this.#rules.set('number', reals(NO_BOUNDS));
    this.#rules.set('integer', integers({ ...NO_BOUNDS, min: -LARGEST, max: LARGEST }));
    this.#rules.set('boolean', choice(text('true'), text('false')));
    this.#rules.set('null', text('null'));
    this.#rules.set('object', objectOf([], rule('string'), rule('value')));
    this.#rules.set('array', arrayOf([], rule('value'), 0, ENDLESS));
    this.#rules.set('value', choice(...TYPES.map((type) => rule(type))));
    this.#rules.set('root', this.#node(schema, '#'));
  }

  get rules(): ReadonlyMap<string, Node> {
    return this.#rules;
  }

  #node(schema: unknown, path: string): Node {
    if (schema === true) return rule('value');
    if (schema === false) return NOTHING;
    if (!isSchema(schema))
      throw new GrammarError(`${path} is no schema: write an object, true or false`, undefined, path);
    if (++this.#schemas > MOST_SCHEMAS || this.#depth > DEEPEST)
      throw new GrammarError(`${path}: the schema is too large or too deep`, undefined, path);
    this.#depth++;
    const node = this.#combined(schema, path);
    this.#depth--;
    return node;
  }

  #combined(schema: Schema, path: string): Node {
    for (const name of ['$ref', 'allOf', 'anyOf', 'oneOf'] as const) {
      const value = schema[name];
      if (value === undefined) continue;
      const { [name]: _, ...rest } = schema;
      const alone = keywordsOf(rest).length === 0;
      if (name === '$ref') {
        const target = targetOf(value, path);
        if (alone) return this.#reference(target, path);
        return this.#node(this.#meet(rest, this.#resolve(target, path), name, path), path);
      }
      if (!Array.isArray(value) || value.length === 0)
        throw new GrammarError(`${path}/${name} must be a list of schemas`, name, path);
      const branches: readonly unknown[] = value;
      if (name === 'allOf')
        return this.#node(
          branches.reduce((all, one) => this.#meet(all, one, name, path), rest),
          path,
        );
      if (name === 'oneOf') this.#checkOneOf(branches, path);
      return choice(
        ...branches.map((branch, index) =>
          this.#node(alone ? branch : this.#meet(rest, branch, name, path), `${path}/${name}/${index}`),
        ),
      );
    }
    return this.#plain(schema, path);
  }

  /** What both allow; references are followed as far as it takes. */
  #meet(a: unknown, b: unknown, keyword: string, path: string): unknown {
    if (a === false || b === false) return false;
    const [one, other] = [this.#follow(a, path), this.#follow(b, path)];
    if (one === false || other === false) return false;
    if (!isSchema(one)) return other;
    if (!isSchema(other)) return one;
    return intersect(one, other, keyword, path);
  }

  /** A schema without a reference at its top. */
  #follow(schema: unknown, path: string): unknown {
    let current = schema;
    for (let hops = 0; isSchema(current) && current['$ref'] !== undefined; hops++) {
      if (hops > DEEPEST) throw new GrammarError(`${path}: the references go round in circles`, '$ref', path);
      const { $ref, ...rest } = current;
      const target = this.#resolve(targetOf($ref, path), path);
      current = keywordsOf(rest).length === 0 || !isSchema(target) ? target : intersect(rest, target, '$ref', path);
    }
    return current;
  }

  #reference(target: string, path: string): Node {
    const known = this.#references.get(target);
    if (known !== undefined) return rule(known);
    const name = `ref-${this.#references.size}`;
    const schema = this.#resolve(target, path);
    this.#references.set(target, name);
    this.#rules.set(name, NOTHING);
    this.#rules.set(name, this.#node(schema, target));
    return rule(name);
  }

  #resolve(target: string, path: string): unknown {
    if (target !== '#' && !target.startsWith('#/'))
      throw new GrammarError(`${path}: $ref "${target}" is not in this schema: write #/$defs/…`, '$ref', path);
    let current: unknown = this.#document;
    for (const part of target.split('/').slice(1)) {
      const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      const inner: unknown =
        typeof current === 'object' && current !== null && Object.hasOwn(current, key)
          ? (current as Schema)[key]
          : undefined;
      if (inner === undefined) throw new GrammarError(`${path}: $ref "${target}" leads nowhere`, '$ref', path);
      current = inner;
    }
    return current;
  }

  #checkOneOf(branches: readonly unknown[], path: string): void {
    const resolve = (schema: unknown) => this.#follow(schema, path);
    branches.forEach((a, index) => {
      for (const b of branches.slice(index + 1))
        if (!excludes(a, b, resolve) || !excludes(b, a, resolve))
          throw new GrammarError(
            `${path}/oneOf: the alternatives may overlap: give them different types or a property with different constants, or use anyOf`,
            'oneOf',
            path,
          );
    });
  }

  /** A schema without $ref, allOf, anyOf and oneOf. */
  #plain(schema: Schema, path: string): Node {
    const keywords = keywordsOf(schema);
    const refuse = (allowed: readonly string[], where: string) => {
      const keyword = keywords.find((name) => !allowed.includes(name) && !isHarmless(name, schema[name]));
      if (keyword !== undefined)
        throw new GrammarError(`${path}: "${keyword}" is not supported${where}: leave it out`, keyword, path);
    };
    const values = schema['const'] === undefined ? schema['enum'] : [schema['const']];
    if (values !== undefined) {
      if (!Array.isArray(values)) throw new GrammarError(`${path}: enum must be a list`, 'enum', path);
      refuse(['const', 'enum', 'type'], ' beside enum and const');
      const keyword = schema['const'] === undefined ? 'enum' : 'const';
      const listed = Array.isArray(schema['enum'])
        ? (schema['enum'] as unknown[]).map((value) => JSON.stringify(value))
        : undefined;
      const fitting = (values as readonly unknown[])
        .filter((value) => hasType(typeOf(value), typesOf(schema)))
        .map((value) => JSON.stringify(value))
        .filter((value) => listed === undefined || listed.includes(value));
      if (fitting.length === 0) throw new GrammarError(`${path}: "${keyword}" leaves no value`, keyword, path);
      return choice(...[...new Set(fitting)].map(text));
    }
    const types = typesOf(schema) ?? impliedTypes(keywords);
    for (const type of types)
      if (type !== 'integer' && !(TYPES as readonly string[]).includes(type))
        throw new GrammarError(`${path}: there is no type "${type}"`, 'type', path);
    const allowed = new Set(types.flatMap((type) => KEYWORDS[type] ?? []));
    refuse(['type', ...allowed, ...(typesOf(schema) ? Object.values(KEYWORDS).flat() : [])], '');
    return choice(...types.map((type) => this.#typed(type, schema, path)));
  }

  #typed(type: string, schema: Schema, path: string): Node {
    switch (type) {
      case 'object':
        return this.#object(schema, path);
      case 'array':
        return this.#array(schema, path);
      case 'string':
        return this.#string(schema, path);
      case 'number':
      case 'integer':
        return numberNode(type, schema, path);
      default:
        return rule(type);
    }
  }

  #object(schema: Schema, path: string): Node {
    const { properties, additionalProperties: more } = schema;
    if (properties !== undefined && !isSchema(properties))
      throw new GrammarError(`${path}/properties must be an object`, 'properties', path);
    const required = namesOf(schema['required']);
    const names = new Set([...Object.keys(properties ?? {}), ...required]);
    const least = countOf(schema, 'minProperties', path) ?? 0;
    const most = countOf(schema, 'maxProperties', path) ?? ENDLESS;
    const open = more !== false && (more !== undefined || names.size === 0);
    if (least > Math.max(required.length, open && names.size === 0 ? 1 : 0))
      throw new GrammarError(
        `${path}: minProperties is not supported: name the properties in "required"`,
        'minProperties',
        path,
      );
    if (most < names.size || (most !== ENDLESS && open))
      throw new GrammarError(
        `${path}: maxProperties is not supported: name the properties, and set additionalProperties to false`,
        'maxProperties',
        path,
      );
    if (names.size === 0 && !open) return sequence(text('{'), SPACE, text('}'));
    const members = [...names].map((name) => {
      const own = properties?.[name];
      const inner = `${path}/properties/${name}`;
      // A name that is required and not described falls under additionalProperties.
      const value = this.#node(own ?? more ?? true, inner);
      return { node: member(text(JSON.stringify(name)), value), required: required.includes(name) };
    });
    const rest = open ? this.#node(more ?? true, `${path}/additionalProperties`) : undefined;
    const node = objectOf(members, names.size === 0 ? rule('string') : keyOtherThan([...names]), rest, least, (tail) =>
      this.#named('tail', tail),
    );
    return this.#named('object', node);
  }

  #array(schema: Schema, path: string): Node {
    const old = Array.isArray(schema['items']);
    const first = old ? schema['items'] : (schema['prefixItems'] ?? []);
    if (!Array.isArray(first))
      throw new GrammarError(`${path}/prefixItems must be a list of schemas`, 'prefixItems', path);
    const least = countOf(schema, 'minItems', path) ?? 0;
    const most = countOf(schema, 'maxItems', path) ?? ENDLESS;
    if (least > most) throw new GrammarError(`${path}: minItems is more than maxItems`, 'minItems', path);
    if (least > MOST_REPETITIONS)
      throw new GrammarError(`${path}: minItems may be ${MOST_REPETITIONS} at most`, 'minItems', path);
    if (schema['uniqueItems'] === true && most > 1)
      throw new GrammarError(`${path}: "uniqueItems" is not supported: leave it out`, 'uniqueItems', path);
    const others = old ? schema['additionalItems'] : schema['items'];
    const prefix = (first as readonly unknown[]).map((item, index) =>
      this.#node(item, `${path}/${old ? 'items' : 'prefixItems'}/${index}`),
    );
    // After a tuple nothing more is said: then nothing more is written, unless the count asks for it.
    const open = others !== false && (others !== undefined || prefix.length === 0 || least > prefix.length);
    const rest = open ? this.#named('item', this.#node(others ?? true, `${path}/items`)) : NOTHING;
    return this.#named('array', arrayOf(prefix, rest, least, open ? most : Math.min(most, prefix.length)));
  }

  #string(schema: Schema, path: string): Node {
    const least = countOf(schema, 'minLength', path) ?? 0;
    const most = countOf(schema, 'maxLength', path) ?? ENDLESS;
    const { format, pattern } = schema;
    if (pattern !== undefined) {
      const beside = ['format', 'minLength', 'maxLength'].find((name) => schema[name] !== undefined);
      if (typeof pattern !== 'string') throw new GrammarError(`${path}: "pattern" must be a text`, 'pattern', path);
      if (beside !== undefined)
        throw new GrammarError(`${path}: "${beside}" is not supported beside pattern: leave it out`, beside, path);
      return sequence(text('"'), patternNode(pattern, path), text('"'));
    }
    if (format !== undefined) {
      const known = typeof format === 'string' ? FORMATS.get(format) : undefined;
      if (!known)
        throw new GrammarError(
          `${path}: the format ${JSON.stringify(format)} is not supported; known are ${[...FORMATS.keys()].join(', ')}`,
          'format',
          path,
        );
      if (least > 0 || most !== ENDLESS)
        throw new GrammarError(
          `${path}: minLength and maxLength are not supported beside format`,
          least > 0 ? 'minLength' : 'maxLength',
          path,
        );
      return sequence(text('"'), known, text('"'));
    }
    if (least > most) throw new GrammarError(`${path}: minLength is more than maxLength`, 'minLength', path);
    if (least > MOST_REPETITIONS)
      throw new GrammarError(`${path}: minLength may be ${MOST_REPETITIONS} at most`, 'minLength', path);
    if (least === 0 && most === ENDLESS) return rule('string');
    return sequence(text('"'), repeat(rule('char'), least, limited(most)), text('"'));
  }

  /** Names what is used once or often: llama.cpp's stacks stay small, and the text too. */
  #named(kind: string, node: Node): Node {
    const name = `${kind}-${this.#rules.size}`;
    this.#rules.set(name, node);
    return rule(name);
  }
}

/** Which keywords a type obeys. */
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties'],
  array: ['items', 'prefixItems', 'additionalItems', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'format', 'pattern'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf', 'format'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf', 'format'],
};

/** Without a type, keywords of one type say which is meant: the others would make no sense of them. */
function impliedTypes(keywords: readonly string[]): readonly string[] {
  const implied = ['object', 'array', 'string', 'number'].filter((type) =>
    keywords.some((name) => KEYWORDS[type]?.includes(name) && name !== 'format'),
  );
  if (implied.length > 0) return implied;
  return keywords.includes('format') ? ['string'] : TYPES;
}

/** Keywords whose value asks for nothing. */
function isHarmless(name: string, value: unknown): boolean {
  if (name === 'uniqueItems' || name === 'unevaluatedProperties' || name === 'unevaluatedItems') return value === false;
  return name === '$anchor' || name === 'contentMediaType' || name === 'contentEncoding';
}

function targetOf(reference: unknown, path: string): string {
  if (typeof reference === 'string') return reference;
  throw new GrammarError(`${path}/$ref must be a text`, '$ref', path);
}

function member(key: Node, value: Node): Node {
  return sequence(key, text(':'), optional(text(' ')), value);
}

/**
 * @param more what other keys may hold; undefined for none
 * @param least members at least, where none is named
 * @param name gives what follows a member a name: written out in each place it would grow with the square
 */
function objectOf(
  members: readonly { node: Node; required: boolean }[],
  key: Node,
  more: Node | undefined,
  least = 0,
  name = (tail: Node) => tail,
): Node {
  const comma = sequence(text(','), SPACE);
  const other = more ? member(key, more) : undefined;
  // From the last member to the first: what may follow when something stands before, and when nothing does.
  let following: Node = other ? repeat(sequence(comma, other), 0, ENDLESS) : sequence();
  let beginning: Node = other ? sequence(other, following) : sequence();
  if (other && least === 0) beginning = optional(beginning);
  for (const { node, required } of members.toReversed()) {
    const after = name(following);
    const begun = sequence(node, after);
    beginning = required ? begun : name(choice(begun, beginning));
    following = sequence(required ? sequence(comma, node) : optional(sequence(comma, node)), after);
  }
  return sequence(text('{'), SPACE, beginning, SPACE, text('}'));
}

function arrayOf(prefix: readonly Node[], item: Node, least: number, most: number): Node {
  const comma = sequence(text(','), SPACE);
  const limit = Math.min(most, prefix.length);
  let tail: Node = sequence();
  if (most > prefix.length && prefix.length > 0)
    tail = repeat(sequence(comma, item), Math.max(0, least - prefix.length), limited(most - prefix.length));
  for (let index = limit - 1; index >= 0; index--) {
    const one = prefix[index] ?? NOTHING;
    const part = index === 0 ? sequence(one, tail) : sequence(comma, one, tail);
    tail = index < least ? part : optional(part);
  }
  if (prefix.length === 0 && most > 0) {
    const some = sequence(item, repeat(sequence(comma, item), Math.max(0, least - 1), limited(most - 1)));
    tail = least === 0 ? optional(some) : some;
  }
  return sequence(text('['), SPACE, tail, SPACE, text(']'));
}

function numberNode(type: string, schema: Schema, path: string): Node {
  const bound = (name: string) => {
    const value = schema[name];
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isFinite(value))
      throw new GrammarError(`${path}: "${name}" must be a number`, name, path);
    if (type === 'integer') return /min/i.test(name) ? Math.ceil(value) : Math.floor(value);
    if (!Number.isInteger(value))
      throw new GrammarError(`${path}: "${name}" must be a whole number, and ${value} is none`, name, path);
    return value;
  };
  if (schema['multipleOf'] !== undefined && !(type === 'integer' && schema['multipleOf'] === 1))
    throw new GrammarError(`${path}: "multipleOf" is not supported: leave it out`, 'multipleOf', path);
  const [min, max] = [bound('minimum') ?? -ENDLESS, bound('maximum') ?? ENDLESS];
  const [above, below] = [bound('exclusiveMinimum') ?? -ENDLESS, bound('exclusiveMaximum') ?? ENDLESS];
  // An exclusive bound between two integers was rounded to one that may be taken.
  const fraction = (name: string) => type === 'integer' && !Number.isInteger(schema[name]);
  const bounds = {
    min: Math.max(min, above),
    max: Math.min(max, below),
    minExclusive: above >= min && above !== -ENDLESS && !fraction('exclusiveMinimum'),
    maxExclusive: below <= max && below !== ENDLESS && !fraction('exclusiveMaximum'),
  };
  if (bounds.min > bounds.max)
    throw new GrammarError(
      `${path}: no number lies between the bounds`,
      min === bounds.min ? 'minimum' : 'exclusiveMinimum',
      path,
    );
  if (bounds.min === -ENDLESS && bounds.max === ENDLESS) return rule(type);
  return type === 'integer' ? integers(bounds) : reals(bounds);
}

function countOf(schema: Schema, name: string, path: string): number | undefined {
  const value = schema[name];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  throw new GrammarError(`${path}: "${name}" must be a whole number from 0 on`, name, path);
}

/** Less than was allowed is allowed too. */
function limited(most: number): number {
  return most === ENDLESS ? ENDLESS : Math.min(most, MOST_REPETITIONS);
}
