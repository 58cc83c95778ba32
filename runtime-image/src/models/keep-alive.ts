/**
 * How long a model stays loaded after its last request, as Ollama's clients and settings write it. Pure.
 */

/** Units of Go's durations, in milliseconds. */
const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

const DURATION = /^[-+]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;
const NUMBER = /^[-+]?\d+(?:\.\d+)?$/;

/**
 * Reads a number of seconds or a duration such as `1h30m`.
 * @returns milliseconds; Infinity for anything negative, which means for ever; undefined for what is neither
 */
export function parseKeepAlive(value: number | string): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? forEver(value * 1000) : undefined;
  const text = value.trim();
  if (NUMBER.test(text)) return forEver(Number(text) * 1000);
  if (!DURATION.test(text)) return undefined;
  let sum = 0;
  for (const [, number = '0', unit = 's'] of text.matchAll(/(\d+\.?\d*|\.\d+)([a-zµμ]+)/g))
    sum += Number(number) * (UNITS[unit] ?? 0);
  return forEver(text.startsWith('-') ? -sum : sum);
}

function forEver(ms: number): number {
  return ms < 0 ? Number.POSITIVE_INFINITY : ms;
}
