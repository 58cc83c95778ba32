/** The reference page of the API, written from the schemas so that it cannot differ from them. Pure. */
import { GROUP, VERSION } from './contract.ts';
import { type Kind, kinds } from './kinds.ts';
import { reasons } from './reasons.ts';
import { type CelRule, toStructural } from './schema.ts';

interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly items?: Node;
  readonly additionalProperties?: Node;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxLength?: number;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-validations'?: readonly CelRule[];
}

function typeOf(node: Node): string {
  if (node.enum) return node.enum.join(' \\| ');
  if (node['x-kubernetes-int-or-string']) return 'integer or string';
  if (node.type === 'array') return `[]${node.items ? typeOf(node.items) : 'object'}`;
  if (node.additionalProperties) return `map of ${typeOf(node.additionalProperties)}`;
  return node.type ?? 'object';
}

function boundsOf(node: Node): string {
  const bounds: string[] = [];
  if (node.minimum !== undefined && node.maximum !== undefined) bounds.push(`${node.minimum} to ${node.maximum}`);
  else if (node.minimum !== undefined && node.minimum > 0) bounds.push(`at least ${node.minimum}`);
  if (node.maxItems !== undefined) bounds.push(`at most ${node.maxItems}`);
  if (node.maxLength !== undefined && !node.enum) bounds.push(`at most ${node.maxLength} characters`);
  return bounds.length > 0 ? ` *${bounds.join(', ')}*` : '';
}

function* rows(node: Node, path: string): Generator<string> {
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    const here = path ? `${path}.${name}` : name;
    const required = node.required?.includes(name) ? ', required' : '';
    yield `| \`${here}\` | ${typeOf(child)}${required} | ${child.description ?? ''}${boundsOf(child)} |`;
    yield* rows(child, here);
    if (child.items) yield* rows(child.items, `${here}[]`);
  }
}

function* rules(node: Node): Generator<string> {
  for (const rule of node['x-kubernetes-validations'] ?? []) yield `- ${rule.message}`;
  for (const child of [...Object.values(node.properties ?? {}), node.items, node.additionalProperties]) {
    if (child) yield* rules(child);
  }
}

function section(kind: Kind): string {
  const spec = toStructural(kind.spec) as Node;
  const status = toStructural(kind.status) as Node;
  const table = (node: Node, root: string) =>
    ['| field | type | meaning |', '|---|---|---|', ...rows(node, root)].join('\n');
  const refused = [...kind.rules.map((rule) => `- ${rule.message}`), ...new Set(rules(spec))];
  return [
    `## ${kind.kind}`,
    `${kind.description} ${kind.namespaced ? 'Namespaced' : 'Cluster-scoped'}; \`kubectl get ${kind.shortName}\`.`,
    '### spec',
    table(spec, ''),
    ...(refused.length > 0 ? ['### What admission says', refused.join('\n')] : []),
    '### status',
    table(status, ''),
  ].join('\n\n');
}

/** docs/spec/api.md. */
export function makeReference(): string {
  return [
    '# API reference',
    `Group \`${GROUP}\`, version \`${VERSION}\`. Written from \`crds/src\` by \`npm run generate\`.`,
    ...kinds.map(section),
    '## Reasons',
    'Every reason that a condition, an event, `blockedBy` or a cache entry may carry.',
    [
      '| reason | meaning |',
      '|---|---|',
      ...Object.entries(reasons).map(([name, text]) => `| ${name} | ${text} |`),
    ].join('\n'),
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n');
}
