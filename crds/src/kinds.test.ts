import { describe, expect, it } from 'vitest';
import { kinds, makeCrd } from './kinds.ts';
import { type Reason, reasons } from './reasons.ts';

interface Node {
  readonly [key: string]: unknown;
}

/** Every schema node of a CRD with its path, leaves included. */
function* walk(node: Node, path: string): Generator<[string, Node]> {
  yield [path, node];
  for (const [name, child] of Object.entries((node['properties'] as Record<string, Node>) ?? {})) {
    yield* walk(child, `${path}.${name}`);
  }
  for (const part of ['items', 'additionalProperties']) {
    const child = node[part];
    if (typeof child === 'object' && child !== null) yield* walk(child as Node, `${path}[]`);
  }
}

function schemaOf(kind: (typeof kinds)[number]): Node {
  const crd = makeCrd(kind) as { spec: { versions: { schema: { openAPIV3Schema: Node } }[] } };
  return crd.spec.versions[0]!.schema.openAPIV3Schema;
}

describe.each(kinds)('$kind', (kind) => {
  const nodes = [...walk(schemaOf(kind), kind.kind)].filter(([path]) => /\.(spec|status)/.test(path));

  it('explains every field', () => {
    const silent = nodes.filter(([, node]) => !node['description']).map(([path]) => path);
    expect(silent.filter((path) => !path.endsWith('[]'))).toEqual([]);
  });

  it('bounds every string, list and map, so that the cost of CEL rules stays small', () => {
    const unbounded = nodes
      .filter(
        ([, node]) =>
          (node['type'] === 'string' &&
            node['maxLength'] === undefined &&
            !node['enum'] &&
            node['format'] !== 'date-time') ||
          (node['type'] === 'array' && node['maxItems'] === undefined) ||
          (typeof node['additionalProperties'] === 'object' && node['maxProperties'] === undefined),
      )
      .map(([path]) => path);
    expect(unbounded).toEqual([]);
  });

  it('sets no default in a spec, since a default beside GitOps or an autoscaler is drift', () => {
    const defaults = nodes.filter(([, node]) => node['default'] !== undefined);
    expect(defaults.filter(([path]) => path !== `${kind.kind}.status`)).toEqual([]);
  });

  it('says of an object that people wait for that nobody has looked at it yet', () => {
    const [, status] = nodes.find(([path]) => path === `${kind.kind}.status`) ?? [];
    expect(status?.['default']).toEqual(kind.awaited ? { observedGeneration: -1 } : undefined);
  });

  it('has the status subresource, a short name and the category slm', () => {
    const crd = makeCrd(kind) as { spec: { names: Node; versions: { subresources: Node }[] } };
    expect(crd.spec.names['categories']).toEqual(['slm']);
    expect(crd.spec.names['shortNames']).toEqual([kind.shortName]);
    expect(crd.spec.versions[0]!.subresources).toHaveProperty('status');
  });
});

it('documents every reason in one sentence', () => {
  for (const [reason, sentence] of Object.entries(reasons) as [Reason, string][]) {
    expect(reason).toMatch(/^[A-Z][A-Za-z]+$/);
    expect(sentence).toMatch(/^[A-Za-z].*\.$/);
  }
});
