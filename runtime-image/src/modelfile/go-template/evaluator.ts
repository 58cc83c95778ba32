/**
 * Runs a parsed template over values. Owns scopes, pipelines and the loops; bounds the work, because templates come from
 * model files.
 */
import { type Clock, functionNamed, type GoFunction, LAZY } from './functions.ts';
import { TemplateError } from './lexer.ts';
import type { Command, Node, Operand, Pipeline, Tree } from './parser.ts';
import { bare, isMap, isTrue, printed, Struct, sortedKeys, typeOf, type Value } from './values.ts';

/** Templates that call templates that call templates. */
const DEEPEST = 100;
/** Nodes that one prompt may take; a conversation of ten thousand messages takes a tenth. */
const MOST_STEPS = 5_000_000;

class Leave extends Error {
  readonly kind: 'break' | 'continue';

  constructor(kind: 'break' | 'continue') {
    super(kind);
    this.kind = kind;
  }
}

interface Variable {
  readonly name: string;
  value: Value;
}

/** @throws TemplateError */
export function evaluate(tree: Tree, data: Value, now: Clock = Date.now): string {
  return new Evaluation(tree, now).run(tree.body, data);
}

/** Whether every function that a template calls is there. @throws TemplateError naming the first that is not */
export function checkFunctions(tree: Tree): void {
  const operand = (one: Operand | Pipeline): void => {
    if (one.type === 'pipeline') return pipeline(one);
    if (one.type === 'chain') return operand(one.of);
    if (one.type === 'function' && !functionNamed(one.name))
      throw new TemplateError(`the function ${one.name} is not defined`);
  };
  const pipeline = (one: Pipeline): void => {
    for (const command of one.commands) command.forEach(operand);
  };
  const nodes = (list: readonly Node[]): void => {
    for (const node of list) {
      if ('pipeline' in node && node.pipeline) pipeline(node.pipeline);
      if ('body' in node) {
        nodes(node.body);
        nodes(node.otherwise ?? []);
      }
    }
  };
  nodes(tree.body);
  for (const body of tree.templates.values()) nodes(body);
}

class Evaluation {
  readonly #tree: Tree;
  readonly #now: Clock;
  #out: string[] = [];
  #variables: Variable[] = [];
  #depth = 0;
  #steps = 0;

  constructor(tree: Tree, now: Clock) {
    this.#tree = tree;
    this.#now = now;
  }

  run(body: readonly Node[], data: Value): string {
    this.#variables = [{ name: '$', value: data }];
    this.#list(body, data);
    return this.#out.join('');
  }

  #list(nodes: readonly Node[], dot: Value): void {
    const before = this.#variables.length;
    try {
      for (const node of nodes) this.#node(node, dot);
    } finally {
      this.#variables.length = before;
    }
  }

  #node(node: Node, dot: Value): void {
    if (++this.#steps > MOST_STEPS) throw new TemplateError('the template takes too long');
    switch (node.type) {
      case 'text':
        this.#out.push(node.text);
        return;
      case 'action': {
        const value = this.#pipeline(node.pipeline, dot);
        if (node.pipeline.names.length === 0) this.#out.push(printed(value));
        return;
      }
      case 'template':
        return this.#call(node.name, node.pipeline ? this.#pipeline(node.pipeline, dot) : undefined);
      case 'break':
      case 'continue':
        throw new Leave(node.type);
      default: {
        const before = this.#variables.length;
        try {
          if (node.type === 'range') return this.#range(node, dot);
          const value = this.#pipeline(node.pipeline, dot);
          if (isTrue(value)) this.#list(node.body, node.type === 'with' ? value : dot);
          else if (node.otherwise) this.#list(node.otherwise, dot);
        } finally {
          this.#variables.length = before;
        }
      }
    }
  }

  #range(node: Extract<Node, { readonly type: 'range' | 'if' | 'with' }>, dot: Value): void {
    const { names, assigns } = node.pipeline;
    const value = bare(this.#pipeline({ ...node.pipeline, names: [] }, dot));
    if (typeof value === 'bigint' && names.length > 1)
      throw new TemplateError('a range over a number has one variable');
    const entries = entriesOf(value);
    // As Go does: whoever looks behind the loop sees what it went over.
    if (entries.length === 0) {
      for (const name of names) this.#set(name, value, assigns);
      if (node.otherwise) this.#list(node.otherwise, dot);
      return;
    }
    const before = this.#variables.length;
    for (const [key, item] of entries) {
      const [first, second] = names;
      if (first !== undefined) this.#set(first, second === undefined ? item : key, assigns);
      if (second !== undefined) this.#set(second, item, assigns);
      try {
        this.#list(node.body, item);
      } catch (error) {
        if (!(error instanceof Leave)) throw error;
        if (error.kind === 'break') break;
      } finally {
        this.#variables.length = before;
      }
    }
  }

  #call(name: string, dot: Value): void {
    const body = this.#tree.templates.get(name);
    if (!body) throw new TemplateError(`there is no template ${JSON.stringify(name)}`);
    if (++this.#depth > DEEPEST) throw new TemplateError('templates call each other without end');
    const outer = this.#variables;
    this.#variables = [{ name: '$', value: dot }];
    this.#list(body, dot);
    this.#variables = outer;
    this.#depth--;
  }

  #pipeline({ names, assigns, commands }: Pipeline, dot: Value): Value {
    let value: Value;
    commands.forEach((command, index) => {
      value = this.#command(command, dot, index > 0 ? [value] : []);
    });
    for (const name of names) this.#set(name, value, assigns);
    return value;
  }

  #set(name: string, value: Value, assigns: boolean): void {
    if (!assigns) {
      this.#variables.push({ name, value });
      return;
    }
    const known = this.#variables.findLast((one) => one.name === name);
    if (known) known.value = value;
  }

  /** @param final the result of the command before, which comes last among the arguments */
  #command(command: Command, dot: Value, final: readonly Value[]): Value {
    const [first, ...rest] = command;
    if (!first) throw new TemplateError('a value is missing');
    if (first.type === 'function') {
      const called = functionNamed(first.name);
      if (!called) throw new TemplateError(`the function ${first.name} is not defined`);
      if (LAZY.includes(first.name)) return this.#lazy(called, first.name, rest, dot, final);
      return called([...rest.map((one) => this.#operand(one, dot)), ...final], this.#now);
    }
    if (first.type === 'literal' && first.value === null) throw new TemplateError('nil is no value to begin with');
    const value = this.#operand(first, dot);
    if (rest.length > 0 || final.length > 0) throw new TemplateError('a value that is no function got arguments');
    return value;
  }

  /** The first argument that decides is the result; those behind it are not looked at. */
  #lazy(called: GoFunction, name: string, rest: readonly Operand[], dot: Value, final: readonly Value[]): Value {
    const args: Value[] = [];
    for (const one of rest) {
      const value = this.#operand(one, dot);
      if (isTrue(value) === (name === 'or')) return value;
      args.push(value);
    }
    if (args.length + final.length === 0) throw new TemplateError(`${name} takes at least one argument`);
    const all = [...args, ...final];
    // Those before did not decide.
    return called([all.at(-1)], this.#now);
  }

  #operand(operand: Operand | Pipeline, dot: Value): Value {
    if (++this.#steps > MOST_STEPS) throw new TemplateError('the template takes too long');
    switch (operand.type) {
      case 'literal':
        return operand.value;
      case 'dot':
        return dot;
      case 'field':
        return fieldsOf(dot, operand.path);
      case 'variable': {
        const variable = this.#variables.findLast((one) => one.name === operand.name);
        return fieldsOf(variable?.value, operand.path);
      }
      case 'function':
        return this.#command([operand], dot, []);
      case 'pipeline':
        return this.#pipeline(operand, dot);
      default:
        return fieldsOf(this.#operand(operand.of, dot), operand.path);
    }
  }
}

function fieldsOf(start: Value, path: readonly string[]): Value {
  // Nothing has nothing in it; a field that is nothing is another matter.
  if (start === null || start === undefined) return undefined;
  let value: Value = start;
  for (const name of path) {
    const inner = bare(value);
    if (inner instanceof Struct) {
      if (!Object.hasOwn(inner.fields, name)) throw new TemplateError(`there is no field ${name} in ${inner.type}`);
      value = inner.fields[name];
    } else if (inner === null || inner === undefined) throw new TemplateError(`nothing has no field ${name}`);
    else if (isMap(inner)) value = Object.hasOwn(inner, name) ? inner[name] : undefined;
    else throw new TemplateError(`there is no field ${name} in ${typeOf(inner)}`);
  }
  return value;
}

/** What a range goes over, with its keys. */
function entriesOf(value: Value): (readonly [Value, Value])[] {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.map((item: Value, index) => [BigInt(index), item] as const);
  if (typeof value === 'bigint' && value > MOST_STEPS) throw new TemplateError('the template takes too long');
  if (typeof value === 'bigint')
    return Array.from({ length: Math.max(0, Number(value)) }, (_, index) => [BigInt(index), BigInt(index)] as const);
  if (isMap(value)) return sortedKeys(value).map((key) => [key, value[key]] as const);
  throw new TemplateError(`range cannot go over a ${typeOf(value)}`);
}
