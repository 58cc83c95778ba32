/**
 * Grammars as data, and how they are written in GBNF. Owns escaping and the question whether a rule can ever end; knows
 * nothing of JSON.
 */

export type Node =
  | { readonly kind: 'text'; readonly text: string }
  /** A class of characters in GBNF's own notation, such as `[0-9]`. */
  | { readonly kind: 'class'; readonly gbnf: string }
  | { readonly kind: 'sequence'; readonly parts: readonly Node[] }
  /** Without options it matches nothing at all. */
  | { readonly kind: 'choice'; readonly options: readonly Node[] }
  | { readonly kind: 'repeat'; readonly node: Node; readonly min: number; readonly max: number }
  | { readonly kind: 'rule'; readonly name: string };

/** llama.cpp refuses more repetitions than 2000, and counts every part of what is repeated. */
export const MOST_REPETITIONS = 2000;

export const text = (value: string): Node => ({ kind: 'text', text: value });
export const characters = (gbnf: string): Node => ({ kind: 'class', gbnf });
export const sequence = (...parts: readonly Node[]): Node => ({ kind: 'sequence', parts });
export const choice = (...options: readonly Node[]): Node => ({ kind: 'choice', options });
export const rule = (name: string): Node => ({ kind: 'rule', name });
/** @param max Infinity for no limit */
export const repeat = (node: Node, min: number, max: number): Node => ({ kind: 'repeat', node, min, max });
export const optional = (node: Node): Node => repeat(node, 0, 1);
export const NOTHING: Node = { kind: 'choice', options: [] };

/**
 * @param rules the first is `root`
 * @returns undefined when `root` can never come to an end
 */
export function writeGbnf(rules: ReadonlyMap<string, Node>): string | undefined {
  const ending = endingRules(rules);
  if (!ending.has('root')) return undefined;
  const writer = new Writer(ending);
  for (const [name, node] of rules) if (ending.has(name)) writer.add(name, node);
  return writer.lines.join('\n');
}

/** Names of the rules from which there is a way to the end. */
function endingRules(rules: ReadonlyMap<string, Node>): Set<string> {
  const ending = new Set<string>();
  for (let before = -1; before !== ending.size; ) {
    before = ending.size;
    for (const [name, node] of rules) if (!ending.has(name) && ends(node, ending)) ending.add(name);
  }
  return ending;
}

function ends(node: Node, ending: ReadonlySet<string>): boolean {
  switch (node.kind) {
    case 'text':
    case 'class':
      return true;
    case 'sequence':
      return node.parts.every((part) => ends(part, ending));
    case 'choice':
      return node.options.some((option) => ends(option, ending));
    case 'repeat':
      return node.min === 0 || ends(node.node, ending);
    default:
      return ending.has(node.name);
  }
}

class Writer {
  readonly lines: string[] = [];
  readonly #ending: ReadonlySet<string>;
  #repeated = 0;

  constructor(ending: ReadonlySet<string>) {
    this.#ending = ending;
  }

  add(name: string, node: Node): void {
    this.lines.push(`${name} ::= ${this.#write(node)}`);
  }

  /** Ways without an end are left out: a model that took one could only run into the limit. */
  #write(node: Node): string {
    switch (node.kind) {
      case 'text':
        return `"${Array.from(node.text, escape).join('')}"`;
      case 'class':
        return node.gbnf;
      case 'rule':
        return node.name;
      case 'sequence':
        return node.parts.length === 0 ? '""' : node.parts.map((part) => this.#write(part)).join(' ');
      case 'choice': {
        const options = node.options.filter((option) => ends(option, this.#ending));
        const [only] = options;
        return options.length === 1 && only
          ? this.#write(only)
          : `(${options.map((option) => this.#write(option)).join(' | ')})`;
      }
      default: {
        const { min, max } = node;
        if (max === 0 || !ends(node.node, this.#ending)) return '""';
        if (min === 1 && max === 1) return this.#write(node.node);
        return `${this.#repeatable(node.node)}${times(min, max)}`;
      }
    }
  }

  /** What is repeated gets a name, so that it counts as one part. */
  #repeatable(node: Node): string {
    if (node.kind === 'class' || node.kind === 'rule') return this.#write(node);
    const name = `repeated-${this.#repeated++}`;
    this.add(name, node);
    return name;
  }
}

function times(min: number, max: number): string {
  if (max === Number.POSITIVE_INFINITY) return min === 0 ? '*' : `{${min},}`;
  return min === 0 && max === 1 ? '?' : `{${min},${max}}`;
}

function escape(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === '"' || character === '\\') return `\\${character}`;
  return code < 0x20 || code === 0x7f ? `\\x${code.toString(16).padStart(2, '0')}` : character;
}
