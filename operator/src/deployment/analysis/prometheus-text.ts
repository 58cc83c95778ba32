/**
 * Reads Prometheus' text format, as far as it is needed: samples of a few names with their labels. What serving pods write is not
 * trusted: a line that is none is left out. Pure.
 */

export interface MetricSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES: Readonly<Record<string, string>> = { '\\n': '\n', '\\"': '"', '\\\\': '\\' };

/** @param names of the samples that are wanted, with their suffixes such as `_bucket` */
export function readSamples(text: string, names: ReadonlySet<string>): MetricSample[] {
  const samples: MetricSample[] = [];
  for (const line of text.split('\n')) {
    const name = line.slice(0, nameEnd(line));
    if (!names.has(name)) continue;
    const match = LINE.exec(line.trimEnd());
    const value = numberOf(match?.[3]);
    if (match === null || value === undefined) continue;
    samples.push({ name, labels: labelsOf(match[2] ?? ''), value });
  }
  return samples;
}

/** Of a thousand lines only a few are wanted: the expression is for those. */
function nameEnd(line: string): number {
  const end = line.search(/[{ \t]/);
  return end < 0 ? line.length : end;
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name = '', value = ''] of text.matchAll(LABEL)) {
    labels[name] = value.replace(/\\[n"\\]/g, (escape) => ESCAPES[escape] ?? escape);
  }
  return labels;
}

function numberOf(text: string | undefined): number | undefined {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  const value = text === undefined || text === '' ? Number.NaN : Number(text);
  return Number.isNaN(value) ? undefined : value;
}
