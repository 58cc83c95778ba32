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
  { property: 'best_of', harmless: oneOf(1), message: 'best_of is not supported: leave it out, and use n' },
  { property: 'functions', harmless: empty, message: 'functions are not supported: use tools' },
  {
    property: 'function_call',
    harmless: oneOf('none', 'auto'),
    message: 'functions are not supported: use tool_choice',
  },
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
  { property: 'store', harmless: off, message: 'nothing is stored here: leave store out' },
  {
    property: 'verbosity',
    harmless: oneOf('medium'),
    message: 'verbosity is not supported: say in the messages how long the answer should be',
  },
];

/** @throws ApiError (400) for the first property that asks for what this server cannot do */
export function refuseUnsupported(body: Body): void {
  for (const { property, harmless, message } of REFUSALS) {
    const value = body[property];
    if (value === undefined || value === null || harmless(value)) continue;
    throw new ApiError(400, message, { param: property, code: 'unsupported_parameter' });
  }
}
