/**
 * Words of a template to a tree. Owns the grammar of Go's text/template; knows no function by name. Pure.
 */
import { lex, TemplateError, type Word } from './lexer.ts';

/** Something that has a value. */
export type Operand =
  | { readonly type: 'literal'; readonly value: string | number | bigint | boolean | null }
  | { readonly type: 'dot' }
  | { readonly type: 'field'; readonly path: readonly string[] }
  | { readonly type: 'variable'; readonly name: string; readonly path: readonly string[] }
  | { readonly type: 'function'; readonly name: string }
  | { readonly type: 'chain'; readonly of: Pipeline | Operand; readonly path: readonly string[] };

/** A function with its arguments, or a single operand. */
export type Command = readonly Operand[];

export interface Pipeline {
  readonly type: 'pipeline';
  /** Variables that take its value: one, or key and value of a range. */
  readonly names: readonly string[];
  /** `=` instead of `:=`. */
  readonly assigns: boolean;
  readonly commands: readonly Command[];
}

export interface Branch {
  readonly type: 'if' | 'with' | 'range';
  readonly pipeline: Pipeline;
  readonly body: readonly Node[];
  readonly otherwise: readonly Node[] | undefined;
}

export type Node =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'action'; readonly pipeline: Pipeline }
  | { readonly type: 'template'; readonly name: string; readonly pipeline: Pipeline | undefined }
  | { readonly type: 'break' | 'continue' }
  | Branch;

export interface Tree {
  readonly body: readonly Node[];
  /** By name, what `define` and `block` define. */
  readonly templates: ReadonlyMap<string, readonly Node[]>;
}

/** Nesting that no template of a person's has; it keeps the stack. */
const DEEPEST = 200;

/** @throws TemplateError */
export function parse(source: string): Tree {
  return new Parser(lex(source)).parse();
}

class Parser {
  readonly #words: readonly Word[];
  readonly #templates = new Map<string, readonly Node[]>();
  #at = 0;
  #depth = 0;
  #ranges = 0;
  /** Variables in sight. */
  #known: string[] = ['$'];

  constructor(words: readonly Word[]) {
    this.#words = words;
  }

  parse(): Tree {
    const { nodes, end } = this.#list(true);
    if (end !== undefined) this.#fail(`{{${end}}} has no beginning`);
    return { body: nodes, templates: this.#templates };
  }

  /** Nodes up to an `end` or `else`, whose word is consumed. */
  #list(top = false): { nodes: Node[]; end: 'end' | 'else' | undefined } {
    if (++this.#depth > DEEPEST) this.#fail('the template is nested too deeply');
    const before = this.#known.length;
    const nodes: Node[] = [];
    for (let word = this.#peek(); word !== undefined; word = this.#peek()) {
      if (word.kind === 'text') {
        this.#at++;
        nodes.push({ type: 'text', text: word.text });
        continue;
      }
      const keyword = word.kind === 'name' ? word.text : '';
      if (keyword === 'end' || keyword === 'else') {
        this.#at++;
        if (keyword === 'end') this.#close();
        this.#depth--;
        this.#known.length = before;
        return { nodes, end: keyword };
      }
      const node = this.#action(keyword, top && this.#depth === 1);
      if (node) nodes.push(node);
    }
    this.#depth--;
    return { nodes, end: undefined };
  }

  #action(keyword: string, top: boolean): Node | undefined {
    switch (keyword) {
      case 'if':
      case 'with':
      case 'range':
        this.#at++;
        return this.#branch(keyword);
      case 'define': {
        if (!top) this.#fail('define must not stand within another action');
        this.#at++;
        const name = this.#name();
        this.#close();
        this.#define(name);
        return undefined;
      }
      case 'block': {
        this.#at++;
        const name = this.#name();
        const pipeline = this.#pipeline();
        this.#close();
        this.#define(name);
        return { type: 'template', name, pipeline };
      }
      case 'template': {
        this.#at++;
        const name = this.#name();
        const pipeline = this.#peek()?.kind === 'end' ? undefined : this.#pipeline();
        this.#close();
        return { type: 'template', name, pipeline };
      }
      case 'break':
      case 'continue':
        this.#at++;
        if (this.#ranges === 0) this.#fail(`${keyword} stands outside of a range`);
        this.#close();
        return { type: keyword };
      default: {
        const pipeline = this.#pipeline();
        this.#close();
        return { type: 'action', pipeline };
      }
    }
  }

  #branch(type: Branch['type']): Branch {
    const before = this.#known.length;
    const pipeline = this.#pipeline(type === 'range');
    this.#close();
    if (type === 'range') this.#ranges++;
    const { nodes: body, end } = this.#list();
    if (type === 'range') this.#ranges--;
    const otherwise = end === 'else' ? this.#otherwise(type) : undefined;
    if (end === undefined) this.#fail(`{{${type}}} has no {{end}}`);
    this.#known.length = before;
    return { type, pipeline, body, otherwise };
  }

  #otherwise(type: Branch['type']): readonly Node[] {
    const word = this.#peek();
    if (word?.kind === 'name' && word.text === type && type !== 'range') {
      // `else if` is an `if` within the `else`, which shares its end.
      this.#at++;
      return [this.#branch(type)];
    }
    this.#close();
    const { nodes, end } = this.#list();
    if (end !== 'end') this.#fail(end === 'else' ? 'there is a second {{else}}' : `{{${type}}} has no {{end}}`);
    return nodes;
  }

  #define(name: string): void {
    const outer = this.#known;
    this.#known = ['$'];
    const ranges = this.#ranges;
    this.#ranges = 0;
    const { nodes, end } = this.#list();
    if (end !== 'end') this.#fail(`the template ${JSON.stringify(name)} has no {{end}}`);
    this.#known = outer;
    this.#ranges = ranges;
    this.#templates.set(name, nodes);
  }

  #pipeline(range = false): Pipeline {
    const { names, assigns } = this.#declaration(range);
    const commands: Command[] = [];
    do {
      const command = this.#command();
      const [first] = command;
      if (commands.length > 0 && first && ['literal', 'dot'].includes(first.type))
        this.#fail('a value cannot take the result of another: a function must follow |');
      commands.push(command);
      // Go lets a pipeline end with its pipe.
    } while (this.#mark('|') && !this.#atEnd());
    // Seen only by what follows it.
    if (!assigns) this.#known.push(...names);
    return { type: 'pipeline', names, assigns, commands };
  }

  #declaration(range: boolean): { names: string[]; assigns: boolean } {
    const start = this.#at;
    const names: string[] = [];
    for (let word = this.#peek(); word?.kind === 'variable'; word = this.#peek()) {
      this.#at++;
      names.push(word.text);
      if (this.#mark(':=')) return { names, assigns: false };
      if (this.#mark('=')) {
        for (const name of names) this.#check(name);
        return { names, assigns: true };
      }
      if (!range || names.length > 1 || !this.#mark(',')) break;
    }
    this.#at = start;
    return { names: [], assigns: false };
  }

  #command(): Command {
    const operands: Operand[] = [];
    for (let operand = this.#operand(); operand; operand = this.#operand()) operands.push(operand);
    if (operands.length === 0) this.#fail('a value is missing');
    const [first, ...rest] = operands;
    if (rest.length > 0 && first && (first.type === 'literal' || first.type === 'dot'))
      this.#fail('only a function takes arguments');
    return operands;
  }

  #operand(): Operand | undefined {
    const word = this.#peek();
    if (!word || word.kind === 'text' || word.kind === 'end') return undefined;
    if (word.kind === 'value') {
      this.#at++;
      return { type: 'literal', value: word.value };
    }
    if (word.kind === 'field') return { type: 'field', path: this.#path(true) };
    if (word.kind === 'variable') {
      this.#at++;
      this.#check(word.text);
      return { type: 'variable', name: word.text, path: this.#path() };
    }
    if (word.kind === 'name') {
      this.#at++;
      const constants = { true: true, false: false, nil: null } as const;
      if (Object.hasOwn(constants, word.text))
        return { type: 'literal', value: constants[word.text as keyof typeof constants] };
      const path = this.#path();
      const named: Operand = { type: 'function', name: word.text };
      return path.length === 0 ? named : { type: 'chain', of: named, path };
    }
    if (this.#mark('.')) return { type: 'dot' };
    if (!this.#mark('(')) return undefined;
    if (++this.#depth > DEEPEST) this.#fail('the template is nested too deeply');
    const pipeline = this.#pipeline();
    this.#depth--;
    if (!this.#mark(')')) this.#fail('a parenthesis is never closed');
    return { type: 'chain', of: pipeline, path: this.#path() };
  }

  /** Fields that follow without a space. */
  #path(apart = false): string[] {
    const path: string[] = [];
    let word = this.#peek();
    let joined = apart;
    while (word?.kind === 'field' && (joined || !word.apart)) {
      this.#at++;
      path.push(word.text);
      word = this.#peek();
      joined = false;
    }
    return path;
  }

  #check(name: string): void {
    if (!this.#known.includes(name)) this.#fail(`the variable ${name} is not defined`);
  }

  #name(): string {
    const word = this.#words[this.#at++];
    if (word?.kind === 'value' && typeof word.value === 'string') return word.value;
    return this.#fail('the name of a template must be a string');
  }

  #mark(text: string): boolean {
    const word = this.#peek();
    if (word?.kind !== 'mark' || word.text !== text) return false;
    this.#at++;
    return true;
  }

  #atEnd(): boolean {
    const word = this.#peek();
    return word === undefined || word.kind === 'end' || (word.kind === 'mark' && word.text === ')');
  }

  #close(): void {
    const word = this.#peek();
    if (word?.kind !== 'end') this.#fail('something follows where }} was expected');
    this.#at++;
  }

  #peek(): Word | undefined {
    return this.#words[this.#at];
  }

  #fail(message: string): never {
    const line = (this.#peek() ?? this.#words.at(-1))?.line ?? 1;
    throw new TemplateError(`line ${line}: ${message}`);
  }
}

/** Every field and variable that a template names, in small letters. */
export function identifiers(tree: Tree): Set<string> {
  const found = new Set<string>();
  const operand = (one: Operand | Pipeline): void => {
    if (one.type === 'pipeline') pipeline(one);
    else if (one.type === 'chain') {
      operand(one.of);
      for (const name of one.path) found.add(name.toLowerCase());
    } else if (one.type === 'field' || one.type === 'variable')
      for (const name of one.path) found.add(name.toLowerCase());
  };
  const pipeline = ({ commands }: Pipeline): void => {
    for (const command of commands) for (const one of command) operand(one);
  };
  const nodes = (list: readonly Node[]): void => {
    for (const node of list) {
      if (node.type === 'action') pipeline(node.pipeline);
      else if (node.type === 'template') {
        if (node.pipeline) pipeline(node.pipeline);
      } else if (node.type === 'if' || node.type === 'with' || node.type === 'range') {
        pipeline(node.pipeline);
        nodes(node.body);
        if (node.otherwise) nodes(node.otherwise);
      }
    }
  };
  nodes(tree.body);
  for (const body of tree.templates.values()) nodes(body);
  return found;
}
