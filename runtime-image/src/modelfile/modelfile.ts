/**
 * What a Modelfile says, as settings of a model; and the way back to text. Owns the meaning of the instructions, reads no
 * file.
 */
import { type Static, Type } from 'typebox';
import { ApiError } from '../api-error.ts';
import { checkBody } from '../schemas/check.ts';
import type { Options } from '../schemas/ollama.ts';
import { type ModelDefaults, NO_DEFAULTS } from './defaults.ts';
import { checkFunctions } from './go-template/evaluator.ts';
import { parse } from './go-template/parser.ts';
import { checkParameters, parameterValue } from './parameters.ts';
import { ModelfileError, parseInstructions } from './parser.ts';

export interface Modelfile {
  /** A path or the name of a model; undefined where none is given. */
  readonly from: string | undefined;
  readonly defaults: ModelDefaults;
}

const ROLES = ['system', 'user', 'assistant'] as const;

/** Names of llama.cpp's and Foundry Local's that Modelfiles use for Ollama's. */
const OTHER_NAMES: Readonly<Record<string, string>> = { context_length: 'num_ctx', ctx_size: 'num_ctx' };

/** @throws ModelfileError */
export function readModelfile(text: string): Modelfile {
  let from: string | undefined;
  let template: string | undefined;
  let system: string | undefined;
  const parameters: Record<string, unknown> = {};
  const stops: string[] = [];
  const messages: { role: (typeof ROLES)[number]; content: string }[] = [];
  const license: string[] = [];
  const adapters: string[] = [];
  for (const { name, key = '', value, line } of parseInstructions(text)) {
    switch (name) {
      case 'FROM':
        if (from !== undefined) throw new ModelfileError(line, 'there is a second FROM: one model is enough');
        from = value;
        break;
      case 'PARAMETER': {
        const parameter = OTHER_NAMES[key.toLowerCase()] ?? key.toLowerCase();
        if (parameter === 'stop') stops.push(value);
        const read = parameter === 'stop' ? stops : parameterValue(parameter, value);
        atLine(line, () => checkParameters({ [parameter]: read }));
        parameters[parameter] = read;
        break;
      }
      case 'TEMPLATE':
        checkTemplate(value, (message) => new ModelfileError(line, message));
        template = value;
        break;
      case 'SYSTEM':
        system = value;
        break;
      case 'ADAPTER':
        adapters.push(value);
        break;
      case 'MESSAGE': {
        const role = ROLES.find((one) => one === key.toLowerCase());
        if (!role) throw new ModelfileError(line, `the role of MESSAGE must be ${ROLES.join(', ')}, not ${key}`);
        messages.push({ role, content: value });
        break;
      }
      case 'LICENSE':
        license.push(value);
        break;
      case 'REQUIRES':
        // A version of Ollama; this server has its own.
        break;
      default:
        throw new ModelfileError(
          line,
          `${name} names a program inside Ollama, which this server has not: write a TEMPLATE`,
        );
    }
  }
  const defaults: ModelDefaults = {
    parameters: atLine(1, () => checkParameters(parameters)),
    ...(system ? { system } : {}),
    ...(template ? { template } : {}),
    messages,
    license,
    adapters,
  };
  return { from, defaults };
}

/** The same as JSON, as Ollama's create endpoint and this server's settings have it. */
export const DefaultsFields = Type.Object({
  parameters: Type.Optional(Type.Object({}, { description: 'an object of parameters' })),
  system: Type.Optional(Type.String({ description: 'a text' })),
  template: Type.Optional(Type.String({ description: "a text in the syntax of Go's templates" })),
  messages: Type.Optional(
    Type.Array(
      Type.Object({
        role: Type.Union([Type.Literal('system'), Type.Literal('user'), Type.Literal('assistant')], {
          description: 'system, user or assistant',
        }),
        content: Type.String({ description: 'a text' }),
      }),
      { description: 'a list of messages: {"role": …, "content": …}' },
    ),
  ),
  license: Type.Optional(
    Type.Union([Type.String(), Type.Array(Type.String())], { description: 'a text or a list of texts' }),
  ),
});

/** @throws ApiError (400) */
export function readDefaults(fields: unknown): ModelDefaults {
  const given: Static<typeof DefaultsFields> = checkBody(DefaultsFields, fields);
  const { parameters, system, template, messages, license } = given;
  if (template) checkTemplate(template, (message) => new ApiError(400, message, { param: 'template' }));
  return {
    ...NO_DEFAULTS,
    parameters: checkParameters((parameters ?? {}) as Record<string, unknown>),
    ...(system ? { system } : {}),
    ...(template ? { template } : {}),
    messages: messages ?? [],
    license: license === undefined ? [] : typeof license === 'string' ? [license] : license,
  };
}

/** The settings of a model made from another: its own win, lists of messages and adapters replace as a whole. */
export function inherited(own: ModelDefaults, base: ModelDefaults): ModelDefaults {
  const template = own.template ?? base.template;
  const system = own.system ?? base.system;
  return {
    parameters: { ...base.parameters, ...own.parameters },
    ...(template === undefined ? {} : { template }),
    ...(system === undefined ? {} : { system }),
    messages: own.messages.length > 0 ? own.messages : base.messages,
    license: own.license.length > 0 ? own.license : base.license,
    adapters: own.adapters.length > 0 ? own.adapters : base.adapters,
  };
}

/** Text of a Modelfile that says the same. */
export function writeModelfile(
  from: string,
  { template, system, parameters, adapters, messages, license }: ModelDefaults,
): string {
  const lines = [`FROM ${from}`];
  if (template !== undefined) lines.push(`TEMPLATE ${quoted(template)}`);
  if (system !== undefined) lines.push(`SYSTEM ${quoted(system)}`);
  for (const adapter of adapters) lines.push(`ADAPTER ${adapter}`);
  for (const [name, value] of parameterList(parameters))
    lines.push(`PARAMETER ${name} ${typeof value === 'string' ? quoted(value) : String(value)}`);
  for (const { role, content } of messages) lines.push(`MESSAGE ${role} ${quoted(content)}`);
  for (const text of license) lines.push(`LICENSE ${quoted(text)}`);
  return `${lines.join('\n')}\n`;
}

/** Each parameter by itself; of several stop texts, each. */
export function parameterList(parameters: Options): readonly (readonly [string, unknown])[] {
  return Object.entries(parameters).flatMap(([name, value]) =>
    Array.isArray(value) ? value.map((one) => [name, one] as const) : [[name, value] as const],
  );
}

/** @throws what `refusal` makes of a sentence */
function checkTemplate(text: string, refusal: (message: string) => Error): void {
  try {
    checkFunctions(parse(text));
  } catch (error) {
    throw refusal(`the template cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function quoted(text: string): string {
  if (text.includes('\n') || text.includes('"')) return `"""${text}"""`;
  return text === '' || /^\s|\s$/.test(text) ? `"${text}"` : /\s|^#/.test(text) ? `"${text}"` : text;
}

function atLine<T>(line: number, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof ApiError) throw new ModelfileError(line, error.message);
    throw error;
  }
}
