import { annotations } from '@slm-operator/crds';
import { expect, it, test } from 'vitest';
import { modelStateOf } from '../model-state.ts';
import type { Observed, ReplicaSetObject } from '../observed.ts';
import { cache, config, deployment, digest, observed, replicaSet } from '../testing/objects.ts';
import { goalOf } from './goal.ts';
import { revisionStates } from './revision-states.ts';

const gone = `sha256:${'e'.repeat(64)}`;
const NEW = 'bbbbbbbbbb';
const OLD = 'aaaaaaaaaa';

function setOf(revision: string, number: number, pods: number, bytes: string, name: string): ReplicaSetObject {
  const set = replicaSet(revision, { number, desired: pods });
  const notes = { ...set.metadata?.annotations, [annotations.modelDigest]: bytes, [annotations.modelRevision]: name };
  return { ...set, metadata: { ...set.metadata, annotations: notes } };
}

/** A deployment that is told to go back to a revision whose sets have so many pods and are of this revision of the model. */
function goingBack(pods: number, bytes: string, name: string, more: Partial<Observed> = {}) {
  const back = observed({
    deployment: deployment({ rollbackTo: { revision: OLD } }, { currentRevision: NEW }),
    replicaSets: [setOf(NEW, 2, 2, digest, 'a1b2c3d4e5'), setOf(OLD, 1, pods, bytes, name)],
    ...more,
  });
  const state = modelStateOf(back.deployment, back.model);
  const { choice } = goalOf(back, state, revisionStates(back.replicaSets), undefined, config.serverImages);
  return [choice.revision, choice.why?.reason, choice.why?.message];
}

test('a revision whose bytes nobody has any more is not gone back to, and the one that serves stays', () => {
  const [revision, reason, message] = goingBack(0, gone, 'eeeeeeeeee');
  expect([revision, reason]).toEqual([NEW, 'RollbackTargetEvicted']);
  expect(message).toMatchInlineSnapshot(
    `"revision aaaaaaaaaa cannot be gone back to: its bytes, revision eeeeeeeeee of the model, are on no node, and model smollm2 does not list it any more (it keeps 10 revisions): put that version back into the model’s source; or name another revision in spec.rollbackTo, or remove it"`,
  );
});

it.each<[string, (string | undefined)[]]>([
  [
    'that the model lists, though no node holds its bytes now',
    goingBack(0, digest, 'a1b2c3d4e5', { caches: new Map() }),
  ],
  ['that has pods still, whatever the model lists', goingBack(1, gone, 'eeeeeeeeee')],
  [
    'whose bytes a node still holds for the namespace',
    goingBack(0, gone, 'eeeeeeeeee', {
      caches: new Map([
        [
          'n1',
          {
            ...cache('n1', { digest: gone }),
            spec: {
              wanted: [
                { digest: gone, size: 1, files: [], sources: [], models: ['demo/smollm2'], namespaces: ['demo'] },
              ],
            },
          },
        ],
      ]),
    }),
  ],
])('a revision is gone back to %s', (_, got) => {
  expect(got).toEqual([OLD, undefined, undefined]);
});

test('a revision of a model that is deleted is not gone back to when no node holds it', () => {
  const [revision, reason, message] = goingBack(0, gone, 'eeeeeeeeee', { model: undefined });
  expect([revision, reason]).toEqual([NEW, 'RollbackTargetEvicted']);
  expect(message).toContain('there is no SLMModel smollm2 any more');
});
