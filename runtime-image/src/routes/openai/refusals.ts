/**
 * What OpenAI's API has and this server does not, yet: refused by name, because an ignored setting is a wrong answer.
 */
import { ApiError } from '../../api-error.ts';

type Body = Readonly<Record<string, unknown>>;

interface Refusal {
  readonly property: string;
  /** Values that ask for nothing. */
  readonly harmless: (value: unknown) => boolean;
  readonly message: string;
}

const empty = (value: unknown) => Array.isArray(value) && value.length === 0;
const never = () => false;
const off = (value: unknown) => value === false || value === 0;
const oneOf =
  (...values: unknown[]) =>
  (value: unknown) =>
    values.includes(value);

const REFUSALS: readonly Refusal[] = [
  { property: 'n', harmless: oneOf(1), message: 'only one choice is generated: set n to 1 and repeat the request' },
  { property: 'best_of', harmless: oneOf(1), message: 'only one choice is generated: leave best_of out' },
  { property: 'tools', harmless: empty, message: 'tools are not supported yet: leave tools out' },
  { property: 'functions', harmless: empty, message: 'functions are not supported: leave functions out' },
  {
    property: 'tool_choice',
    harmless: oneOf('none', 'auto'),
    message: 'tools are not supported yet: leave tool_choice out',
  },
  {
    property: 'function_call',
    harmless: oneOf('none', 'auto'),
    message: 'functions are not supported: leave function_call out',
  },
  {
    property: 'response_format',
    harmless: (value) => (value as { type?: unknown } | null)?.type === 'text',
    message: 'structured output is not supported yet: leave response_format out or use {"type": "text"}',
  },
  { property: 'logprobs', harmless: off, message: 'logprobs are not supported yet: leave logprobs out' },
  { property: 'top_logprobs', harmless: off, message: 'logprobs are not supported yet: leave top_logprobs out' },
  { property: 'audio', harmless: never, message: 'audio is not supported: leave audio out' },
  {
    property: 'modalities',
    harmless: (value) => Array.isArray(value) && value.every((one) => one === 'text'),
    message: 'only text is generated: leave modalities out or use ["text"]',
  },
  { property: 'prediction', harmless: never, message: 'predicted output is not supported: leave prediction out' },
  {
    property: 'web_search_options',
    harmless: never,
    message: 'web search is not supported: leave web_search_options out',
  },
  {
    property: 'reasoning_effort',
    harmless: oneOf('none'),
    message: 'reasoning_effort is not supported yet: leave it out',
  },
  { property: 'suffix', harmless: oneOf(''), message: 'text after the answer is not supported yet: leave suffix out' },
  { property: 'store', harmless: off, message: 'nothing is stored here: leave store out' },
  { property: 'grammar', harmless: never, message: 'grammars are not supported yet: leave grammar out' },
];

/** @throws ApiError (400) for the first property that asks for what this server cannot do */
export function refuseUnsupported(body: Body): void {
  for (const { property, harmless, message } of REFUSALS) {
    const value = body[property];
    if (value === undefined || value === null || harmless(value)) continue;
    throw new ApiError(400, message, { param: property, code: 'unsupported_parameter' });
  }
}
