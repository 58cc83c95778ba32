import type { SLMDeploymentSpec } from '@slm-operator/crds';
import { annotations, csi, labels } from '@slm-operator/crds';
import { expect, it, test } from 'vitest';
import type { ReplicaSetObject } from './observed.ts';
import { planDeployment } from './plan.ts';
import { config, deployment, model, now, observed, replicaSet } from './testing/objects.ts';

const elsewhere = model({}, { metadata: { name: 'smollm2', namespace: 'models', generation: 1 } });
const modelRef = { name: 'smollm2', namespace: 'models' };
const REVISION = 'aaaaaaaaaa';

function planFor(change: Partial<SLMDeploymentSpec>, sets: readonly ReplicaSetObject[], refused = true) {
  const plan = planDeployment(
    observed({
      deployment: deployment({ modelRef, ...change }, { currentRevision: REVISION }),
      model: elsewhere,
      sharing: refused ? 'refused' : 'allowed',
      replicaSets: sets,
    }),
    { now, config },
  );
  const conditions = plan.status?.conditions?.map(({ type, status, reason }) => `${type}=${status} ${reason}`);
  const sizes = (plan.patch ?? []).flatMap(({ target, patch }) => {
    const spec = patch['spec'] as { readonly replicas: number } | undefined;
    return spec === undefined ? [] : [[target.name, spec.replicas]];
  });
  return { plan, conditions, sizes, made: plan.apply.filter(({ kind }) => kind === 'ReplicaSet') };
}

const serving = replicaSet(REVISION, { desired: 2 });

it.each<[string, Partial<SLMDeploymentSpec>, unknown[]]>([
  ['keeps the pods that serve', { replicas: 2 }, []],
  ['gets no new pods by replicas', { replicas: 5 }, []],
  ['gets no pods of a new revision', { replicas: 2, engine: { contextLength: 1024 } }, []],
  ['may be made smaller', { replicas: 1 }, [[`chat-${REVISION}`, 1]]],
  ['may be scaled to zero', { replicas: 0 }, [[`chat-${REVISION}`, 0]]],
])('a deployment that is let in no more %s', (_, spec, expected) => {
  const { sizes, made } = planFor(spec, [serving]);
  expect(sizes).toEqual(expected);
  expect(made).toEqual([]);
});

test('a deployment that is let in no more goes back to no revision of before, whose pods nodes would refuse', () => {
  const before = replicaSet('bbbbbbbbbb', { desired: 0, number: 0 });
  const { sizes, made } = planFor({ replicas: 2, rollbackTo: { revision: 'bbbbbbbbbb' } }, [serving, before]);
  expect([sizes, made]).toEqual([[], []]);
});

test('it is Stalled with who may use the model, and Available as long as pods serve', () => {
  const { plan, conditions } = planFor({ replicas: 2 }, [serving]);
  expect(conditions).toEqual(
    expect.arrayContaining([
      'Ready=False ModelNotAllowed',
      'Stalled=True ModelNotAllowed',
      'Available=True Available',
      'ModelReady=False ModelNotAllowed',
    ]),
  );
  expect(plan.status?.statusText).toMatch(/^SLMModel models\/smollm2 may be used from namespace models only/);
  expect(plan.outcome).toMatchObject({ outcome: 'stalled', reason: 'ModelNotAllowed' });
});

test('a deployment that was never let in has no ReplicaSet', () => {
  const { made, conditions } = planFor({ replicas: 2 }, []);
  expect(made).toEqual([]);
  expect(conditions).toContain('Available=False Unavailable');
});

test('a deployment that is let in says on its ReplicaSet where the model is, and asks the node for it by its own name', () => {
  const { made } = planFor({ replicas: 1 }, [], false);
  const [set] = made as unknown as ReplicaSetObject[];
  expect(set?.metadata?.annotations).toMatchObject({
    [annotations.modelNamespace]: 'models',
    [annotations.modelRevision]: 'a1b2c3d4e5',
  });
  expect(set?.metadata?.labels?.[labels.model]).toBe('smollm2');
  expect(set?.spec?.template?.spec?.volumes?.[0]?.csi?.volumeAttributes?.[csi.attributes.model]).toBe('models/smollm2');
});

test('status says where the model is', () => {
  expect(planFor({}, [serving], false).plan.status?.modelName).toBe('models/smollm2');
});

test('the namespace in a reference makes no other revision of a model of the same namespace', () => {
  const nameIn = (namespace: string | undefined) => {
    const ref = { name: 'smollm2', ...(namespace === undefined ? {} : { namespace }) };
    const plan = planDeployment(observed({ deployment: deployment({ modelRef: ref }) }), { now, config });
    return plan.apply.find(({ kind }) => kind === 'ReplicaSet')?.metadata.name;
  };
  expect(nameIn('demo')).toBe(nameIn(undefined));
});
