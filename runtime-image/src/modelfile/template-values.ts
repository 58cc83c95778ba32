/**
 * Messages and tools as Ollama's templates see them: structs with Go's field names, arguments and properties as maps in the
 * order of their keys. Pure.
 */
import type { ChatMessage, ToolCall } from '../chat-template.ts';
import { NIL_SLICE, Shown, Struct, type Value } from './go-template/values.ts';

type Fields = Readonly<Record<string, unknown>>;

/** A message that templates write down; those of the same role that follow each other are one. */
export interface Collated {
  readonly system: string;
  readonly messages: readonly ChatMessage[];
}

/** Merges messages as Ollama does: results of tools stay apart. */
export function collate(messages: readonly ChatMessage[]): Collated {
  const collated: ChatMessage[] = [];
  for (const message of messages) {
    const last = collated.at(-1);
    if (last?.role === message.role && message.role !== 'tool')
      collated[collated.length - 1] = { ...last, content: `${last.content}\n\n${message.content}` };
    else collated.push(message);
  }
  const system = messages.filter((message) => message.role === 'system').map((message) => message.content);
  return { system: system.join('\n\n'), messages: collated };
}

export function messageValue(message: ChatMessage): Struct {
  const given = (message.tool_calls ?? []).map(callValue);
  return new Struct('message', {
    Role: message.role,
    Content: message.content,
    Thinking: message.reasoning_content ?? '',
    Images: NIL_SLICE,
    ToolCalls: given.length === 0 ? NIL_SLICE : given,
    ToolName: message.name ?? '',
    ToolCallID: message.tool_call_id ?? '',
  });
}

function callValue({ id, function: called }: ToolCall, index: number): Struct {
  const { arguments: given } = called;
  return new Struct('call', {
    ID: id ?? '',
    Function: new Struct('function call', {
      Index: BigInt(index),
      Name: called.name,
      Arguments: new Shown(isObject(given) ? given : {}),
    }),
  });
}

/** Prints as JSON. */
export function toolsValue(tools: readonly unknown[]): Shown {
  return new Shown(tools.map(toolValue));
}

function toolValue(tool: unknown): Struct {
  const { type = 'function', items, function: given } = isObject(tool) ? tool : {};
  const { name = '', description = '', parameters } = isObject(given) ? given : {};
  const taken = parametersValue(isObject(parameters) ? parameters : {});
  const fields = { Name: name, Description: description, Parameters: taken };
  const called = new Struct('tool function', fields, { name, description, parameters: taken });
  return new Struct(
    'tool',
    { Type: type, Items: items, Function: called },
    { type, ...(items === undefined ? {} : { items }), function: called },
  );
}

function parametersValue({ type = '', $defs, items, required, properties }: Fields): Struct {
  const list = Array.isArray(required) ? (required as Value[]) : [];
  const known = new Shown(propertiesOf(properties));
  return new Struct(
    'tool parameters',
    { Type: type, Defs: $defs, Items: items, Required: list, Properties: known },
    {
      type,
      ...($defs === undefined ? {} : { $defs }),
      ...(items === undefined ? {} : { items }),
      ...(list.length === 0 ? {} : { required: list }),
      properties: known,
    },
  );
}

function propertiesOf(properties: unknown): Fields {
  if (!isObject(properties)) return {};
  return Object.fromEntries(
    Object.entries(properties).map(([key, one]) => [key, propertyValue(isObject(one) ? one : {})]),
  );
}

function propertyValue({ anyOf, type, items, description, enum: values, properties }: Fields): Struct {
  const types = (Array.isArray(type) ? type : type === undefined ? [] : [type]).map(String);
  const any = Array.isArray(anyOf) ? anyOf.map((one: unknown) => propertyValue(isObject(one) ? one : {})) : [];
  const choices = Array.isArray(values) ? (values as Value[]) : [];
  // Nested ones keep the order in which they were written.
  const nested = isObject(properties) ? new Struct('properties', propertiesOf(properties)) : undefined;
  return new Struct(
    'property',
    {
      AnyOf: any,
      Type: new Shown(types, types.length === 1 ? types[0] : types.length === 0 ? '' : `[${types.join(' ')}]`),
      Items: items,
      Description: description ?? '',
      Enum: choices,
      Properties: nested,
    },
    {
      ...(any.length === 0 ? {} : { anyOf: any }),
      ...(types.length === 0 ? {} : { type: types.length === 1 ? types[0] : types }),
      ...(items === undefined ? {} : { items }),
      ...(description === undefined || description === '' ? {} : { description }),
      ...(choices.length === 0 ? {} : { enum: choices }),
      ...(nested ? { properties: nested } : {}),
    },
  );
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
