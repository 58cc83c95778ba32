import { describe, expect, it } from 'vitest';
import { planDeployment } from '../plan.ts';
import { GPU } from '../testing/hardware-plans.ts';
import { cache, config, deployment, node, nodeWith, now, observed } from '../testing/objects.ts';

interface Made {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: {
    readonly replicas: number;
    readonly template: { readonly spec: Readonly<Record<string, unknown>> };
  };
}

/** What a plan makes for a deployment with a pod on each of two nodes, one of which has GPUs. */
function made(spec: Parameters<typeof deployment>[0]): Made[] {
  const nodes = [node('n1'), nodeWith('n2', GPU, 4)];
  const caches = new Map(nodes.map(({ name }) => [name, cache(name)]));
  const owner = deployment({ placement: { mode: 'PerNode' }, ...spec });
  const plan = planDeployment(observed({ deployment: owner, nodes, caches }), { now, config });
  return plan.apply as unknown as Made[];
}

describe('pods of a deployment with one on each node', () => {
  const [set] = made({ hardware: { preferred: 'cpu' } }).filter(({ kind }) => kind === 'ReplicaSet');

  it('keep to one a node of their revision, and go first where there is none', () => {
    expect(set?.spec.template.spec['affinity']).toMatchInlineSnapshot(`
      {
        "podAntiAffinity": {
          "preferredDuringSchedulingIgnoredDuringExecution": [
            {
              "podAffinityTerm": {
                "labelSelector": {
                  "matchLabels": {
                    "app.kubernetes.io/managed-by": "slm-operator",
                    "slm.dev/deployment": "chat",
                  },
                },
                "topologyKey": "kubernetes.io/hostname",
              },
              "weight": 100,
            },
          ],
          "requiredDuringSchedulingIgnoredDuringExecution": [
            {
              "labelSelector": {
                "matchLabels": {
                  "slm.dev/deployment": "chat",
                  "slm.dev/revision": "${set?.metadata.name.replace('chat-', '')}",
                },
              },
              "topologyKey": "kubernetes.io/hostname",
            },
          ],
        },
      }
    `);
    expect(set?.spec.template.spec['topologySpreadConstraints']).toEqual([]);
    expect(set?.metadata.annotations).toMatchObject({ 'slm.dev/placement': 'PerNode' });
  });

  it('stay on a node that nobody hears of', () => {
    expect(set?.spec.template.spec['tolerations']).toEqual([
      { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute' },
      { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute' },
    ]);
  });

  it('are as many as nodes, each on the best hardware of its node', () => {
    const sets = made({ hardware: { preferred: 'gpu', fallbackAfter: '0s' } }).filter(
      ({ kind }) => kind === 'ReplicaSet',
    );
    expect(sets.map(({ metadata, spec }) => [metadata.name.replace(/^chat-[0-9a-f]{10}/, ''), spec.replicas])).toEqual([
      ['-nvidia', 1],
      ['', 1],
    ]);
    expect(sets[1]?.spec.template.spec['affinity']).toMatchObject({
      nodeAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [
          {
            preference: {
              matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'NotIn', values: ['n2'] }],
            },
          },
        ],
      },
    });
  });

  it('have no PodDisruptionBudget, which would let a node wait for another', () => {
    expect(made({}).map(({ kind }) => kind)).not.toContain('PodDisruptionBudget');
  });
});
