import { annotations, labels, type TrafficReport } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import type { PatchIntent } from '../../execution/plan.ts';
import type { PodObject, ReplicaSetObject, ServiceObject } from '../observed.ts';
import { makeCandidateService, makeService } from '../resources/service.ts';
import { deployment, pod, replicaSet } from '../testing/objects.ts';
import { mergePatches } from './patches.ts';
import { planTraffic } from './plan-traffic.ts';
import { ALL_OPEN, type TrafficDecision, type TrafficInput } from './types.ts';

const SETTING = '{"weight":10,"address":"10.0.0.9:11434","revision":"new"}';

interface PodState {
  readonly traffic?: 'open' | 'closed' | 'none';
  /** Annotation; null: made before there was one. */
  readonly setting?: string | null;
  readonly ready?: boolean;
  /** What it says at /readyz; null: nobody has asked yet. */
  readonly says?: TrafficReport | null | 'no traffic';
  readonly going?: boolean;
}

let serial = 0;
function aPod(revision: string, state: PodState = {}) {
  const { traffic = 'open', setting = '{}', ready = true, says = {}, going = false } = state;
  const name = `chat-${revision}-${serial++}`;
  const made = pod(
    name,
    { phase: 'Running', conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
    revision,
  );
  const metadata = {
    ...made.metadata,
    labels: { ...made.metadata?.labels, ...(traffic === 'none' ? {} : { [labels.traffic]: traffic }) },
    ...(setting === null ? {} : { annotations: { [annotations.traffic]: setting } }),
    ...(going ? { deletionTimestamp: '2026-11-23T12:00:00Z' } : {}),
  };
  const report = says === 'no traffic' ? { at: 0 } : says === null ? undefined : { at: 0, traffic: says };
  return { pod: { ...made, metadata } as PodObject, report };
}

function aSet(revision: string, traffic: 'open' | 'closed' | 'none' = 'open'): ReplicaSetObject {
  const made = replicaSet(revision);
  const template = {
    ...made.spec?.template,
    metadata: traffic === 'none' ? {} : { labels: { [labels.traffic]: traffic } },
  };
  return { ...made, spec: { ...made.spec, template } } as ReplicaSetObject;
}

const service = (open: boolean) =>
  makeService(deployment(), open ? { [labels.traffic]: 'open' } : {}) as unknown as ServiceObject;
function candidate(ip: string | undefined = '10.0.0.9', revision = 'new'): ServiceObject {
  const made = makeCandidateService(deployment(), revision) as unknown as { spec: object };
  return { ...made, spec: { ...made.spec, clusterIP: ip } };
}

interface Scene {
  readonly pods?: readonly ReturnType<typeof aPod>[];
  readonly sets?: readonly ReplicaSetObject[];
  readonly main?: ServiceObject;
  readonly candidate?: ServiceObject;
  readonly decision?: TrafficDecision;
}

function plan({ pods = [], sets = [], main, candidate: second, decision = ALL_OPEN }: Scene) {
  const input: TrafficInput = {
    deployment: deployment(),
    sets,
    pods: pods.map((one) => one.pod),
    services: { main, candidate: second },
    decision,
    reports: new Map(pods.flatMap(({ pod: { metadata }, report }) => (report ? [[metadata?.uid ?? '', report]] : []))),
  };
  const made = planTraffic(input);
  return {
    made: made.apply.map(({ metadata }) => metadata.name),
    patch: made.patch.map((intent) => told(intent)),
    removed: made.remove.map(({ name }) => name),
    selects: made.selector[labels.traffic] === 'open',
    egress: made.egressToPeers,
    separated: made.separated,
    effective: made.effective,
    why: made.why,
    unable: made.unable,
  };
}

/** A patch in a few words. */
function told({ target, patch }: PatchIntent): string {
  const { metadata, spec } = patch as {
    metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
    spec?: { template: { metadata: { labels: Record<string, string> } } };
  };
  const label = (metadata ?? spec?.template.metadata)?.labels?.[labels.traffic];
  const setting = metadata?.annotations?.[annotations.traffic];
  const name = target.kind === 'Pod' ? target.name.replace(/-\d+$/, '') : `set ${target.name}`;
  return [name, ...(label === undefined ? [] : [label]), ...(setting === undefined ? [] : [setting])].join(' ');
}

const closed = (...revisions: string[]): TrafficDecision => ({ closed: new Set(revisions) });
const canary = (percent = 10): TrafficDecision => ({
  closed: new Set(['new']),
  weight: { candidate: 'new', percent },
});
const nothing = {
  made: [],
  patch: [],
  removed: [],
  selects: false,
  egress: false,
  separated: true,
  effective: true,
  why: undefined,
  unable: undefined,
};

describe('a deployment without closed revisions and weights costs nothing', () => {
  it.each<[string, Scene]>([
    ['when there is nothing yet', {}],
    ['with pods', { pods: [aPod('old'), aPod('new')], sets: [aSet('old'), aSet('new')], main: service(false) }],
    [
      'with pods that nobody has asked',
      { pods: [aPod('old', { says: null })], sets: [aSet('old')], main: service(false) },
    ],
  ])('%s', (_, scene) => {
    expect(plan(scene)).toEqual(nothing);
  });

  it('with pods from before there was any of this, which only a weight would ask something of', () => {
    const old = aPod('old', { traffic: 'none', setting: null, says: 'no traffic' });
    const { unable, ...rest } = plan({ pods: [old], sets: [aSet('old', 'none')], main: service(false) });
    expect({ ...rest, unable: undefined }).toEqual(nothing);
    expect(unable).toBe(
      'no part of the requests can be passed on by a pod of revision old, made before pods could pass requests on: roll out once with strategy Rolling, then weights can be had',
    );
  });

  it('once it had them: the Service goes on leading to open pods', () => {
    const scene = { pods: [aPod('old')], sets: [aSet('old')], main: service(true) };
    expect(plan(scene)).toEqual({ ...nothing, selects: true });
  });
});

describe('a revision is closed', () => {
  it('before it has pods: the Service is told first', () => {
    const scene = { pods: [aPod('old')], sets: [aSet('old')], main: service(false), decision: closed('new') };
    expect(plan(scene)).toEqual({
      ...nothing,
      selects: true,
      separated: false,
      why: 'the Service is being told which revisions it leads to',
    });
    expect(plan({ ...scene, main: service(true) })).toEqual({ ...nothing, selects: true });
  });

  it('beside pods and history from before there were labels: those get labels, then the Service is told', () => {
    const pods = [aPod('old', { traffic: 'none' }), aPod('old', { traffic: 'none', ready: false })];
    const sets = [aSet('old', 'none'), aSet('older', 'none')];
    const scene = { pods, sets, main: service(false), decision: closed('new') };
    expect(plan(scene)).toEqual({
      ...nothing,
      patch: ['set chat-old open', 'set chat-older open', 'chat-old open', 'chat-old open'],
      separated: false,
      why: 'pods are being labelled, so that the Service can tell revisions apart',
    });
  });

  it('in its ReplicaSet first of all, so that no pod of it comes open', () => {
    const scene = {
      pods: [aPod('old')],
      sets: [aSet('old'), aSet('new')],
      main: service(true),
      decision: closed('new'),
    };
    expect(plan(scene)).toMatchObject({ patch: ['set chat-new closed'], separated: false });
  });

  it('only while another one is seen to serve', () => {
    const sets = [aSet('old', 'closed'), aSet('new', 'closed')];
    const opening = [aPod('old'), aPod('new', { traffic: 'closed' })];
    expect(plan({ pods: opening, sets, main: service(true), decision: closed('old') })).toMatchObject({
      patch: ['set chat-new open', 'chat-new open'],
      separated: false,
      effective: false,
      why: 'revision old gets requests until another one serves',
    });
    const open = [aPod('old'), aPod('new')];
    expect(plan({ pods: open, sets, main: service(true), decision: closed('old') }).patch).toContain('chat-old closed');
    const unready = [aPod('old'), aPod('new', { ready: false })];
    expect(plan({ pods: unready, sets, main: service(true), decision: closed('old') }).patch).toEqual([
      'set chat-new open',
    ]);
  });

  it('at once where it does not serve anyway', () => {
    const scene = { pods: [aPod('new', { ready: false })], sets: [aSet('new', 'closed')], main: service(true) };
    expect(plan({ ...scene, decision: closed('new') }).patch).toEqual(['chat-new closed']);
  });

  it('and its pods are not called open before they are seen to be', () => {
    const scene = {
      pods: [aPod('old'), aPod('new', { traffic: 'closed' })],
      sets: [aSet('old'), aSet('new', 'closed')],
    };
    expect(plan({ ...scene, main: service(true) })).toEqual({
      ...nothing,
      selects: true,
      patch: ['set chat-new open', 'chat-new open'],
      effective: false,
      why: 'the Service is being told that it leads to more pods',
    });
  });

  it('pods that are going are left alone', () => {
    const pods = [aPod('old', { traffic: 'none', going: true }), aPod('old')];
    const scene = { pods, sets: [aSet('old')], main: service(false), decision: closed('new') };
    expect(plan(scene)).toMatchObject({ patch: [], selects: true });
  });
});

describe('a weight', () => {
  const sets = [aSet('old'), aSet('new', 'closed')];
  const fresh = aPod('new', { traffic: 'closed' });
  const main = service(true);
  const ready = { ...nothing, made: ['chat-candidate'], selects: true, egress: true };

  it('begins with an address for the candidate', () => {
    expect(plan({ pods: [aPod('old'), fresh], sets, main, decision: canary() })).toEqual({
      ...ready,
      effective: false,
      why: '1 of 2 pods pass requests on as asked',
    });
    const scene = { pods: [aPod('old'), fresh], sets, main, candidate: candidate('None'), decision: canary() };
    expect(plan(scene).patch).toEqual([]);
  });

  it('is told to open pods of every other revision, and holds when each says so', () => {
    const scene = { sets, main, candidate: candidate(), decision: canary() };
    expect(plan({ ...scene, pods: [aPod('old'), aPod('older'), fresh] })).toEqual({
      ...ready,
      patch: [`chat-old ${SETTING}`, `chat-older ${SETTING}`],
      effective: false,
      why: '1 of 3 pods pass requests on as asked',
    });
    const told = aPod('old', { setting: SETTING });
    expect(plan({ ...scene, pods: [told, fresh] })).toMatchObject({ patch: [], effective: false });
    const follows = aPod('old', { setting: SETTING, says: { weight: 10, revision: 'new' } });
    expect(plan({ ...scene, pods: [follows, fresh] })).toEqual(ready);
    const late = aPod('old', { setting: SETTING, says: { weight: 5, revision: 'new' } });
    expect(plan({ ...scene, pods: [follows, late, fresh] })).toMatchObject({
      effective: false,
      why: '2 of 3 pods pass requests on as asked',
    });
  });

  it('is told to a pod that comes later before it is ready', () => {
    const follows = aPod('old', { setting: SETTING, says: { weight: 10, revision: 'new' } });
    const pods = [follows, aPod('old', { ready: false, says: null }), fresh];
    expect(plan({ pods, sets, main, candidate: candidate(), decision: canary() })).toEqual({
      ...ready,
      patch: [`chat-old ${SETTING}`],
    });
  });

  it('changes', () => {
    const follows = aPod('old', { setting: SETTING, says: { weight: 10, revision: 'new' } });
    expect(plan({ pods: [follows, fresh], sets, main, candidate: candidate(), decision: canary(50) })).toMatchObject({
      patch: ['chat-old {"weight":50,"address":"10.0.0.9:11434","revision":"new"}'],
      effective: false,
    });
  });

  it('of 0 passes nothing on, and has the address ready', () => {
    expect(plan({ pods: [aPod('old'), fresh], sets, main, decision: canary(0) })).toEqual(ready);
  });

  it('of 100 with the candidate open is passed on by all but the candidate', () => {
    const decision: TrafficDecision = { closed: new Set(), weight: { candidate: 'new', percent: 100 } };
    const scene = { sets: [aSet('old'), aSet('new')], main, candidate: candidate(), decision };
    expect(plan({ ...scene, pods: [aPod('old'), aPod('new')] }).patch).toEqual([
      'chat-old {"weight":100,"address":"10.0.0.9:11434","revision":"new"}',
    ]);
  });

  it('for another candidate waits until the address is that of the other one', () => {
    const follows = aPod('old', { setting: SETTING, says: { weight: 10, revision: 'new' } });
    const decision: TrafficDecision = { closed: new Set(['newer']), weight: { candidate: 'newer', percent: 10 } };
    const scene = { pods: [follows], sets: [aSet('old')], main, decision };
    expect(plan({ ...scene, candidate: candidate() })).toMatchObject({
      made: ['chat-candidate'],
      patch: ['chat-old {}'],
    });
    expect(plan({ ...scene, candidate: candidate('10.0.0.9', 'newer') }).patch).toEqual([
      'chat-old {"weight":10,"address":"10.0.0.9:11434","revision":"newer"}',
    ]);
  });

  it('over IPv6 has brackets', () => {
    const scene = { pods: [aPod('old')], sets, main, candidate: candidate('fd00::9'), decision: canary() };
    expect(plan(scene).patch).toEqual(['chat-old {"weight":10,"address":"[fd00::9]:11434","revision":"new"}']);
  });

  it('is not had while the candidate cannot be reached, and the status can say why', () => {
    const says = { weight: 10, revision: 'new', problem: 'revision new at 10.0.0.9 port 11434: it answers 401' };
    const pods = [aPod('old', { setting: SETTING, says }), fresh];
    expect(plan({ pods, sets, main, candidate: candidate(), decision: canary() })).toEqual({
      ...ready,
      effective: false,
      why: 'revision new at 10.0.0.9 port 11434: it answers 401',
    });
  });

  it.each<[string, PodState, string]>([
    ['pods from before', { setting: null, says: 'no traffic' }, 'made before pods could pass requests on'],
    ['an image from before', { says: 'no traffic' }, 'with a server image from before servers could pass requests on'],
  ])('cannot be had with %s, which is said before it is asked for', (_, state, cause) => {
    const pods = [aPod('old', state), aPod('old', state)];
    const unable = `no part of the requests can be passed on by 2 pods of revision old, ${cause}: roll out once with strategy Rolling, then weights can be had`;
    expect(plan({ pods, sets, main, decision: closed('new') }).unable).toBe(unable);
    expect(plan({ pods, sets, main, candidate: candidate(), decision: canary() })).toMatchObject({
      unable,
      effective: false,
    });
  });

  it('the candidate’s own pods need nothing for it', () => {
    const pods = [
      aPod('old', { setting: SETTING, says: { weight: 10, revision: 'new' } }),
      aPod('new', { traffic: 'closed', says: 'no traffic' }),
    ];
    expect(plan({ pods, sets, main, candidate: candidate(), decision: canary() })).toEqual(ready);
  });

  it('ends with the pods, and the address goes when nobody uses it any more', () => {
    const scene = { sets: [aSet('old')], main, candidate: candidate() };
    const ended = { ...nothing, selects: true, egress: true };
    const passing = aPod('old', { setting: SETTING, says: { weight: 10, revision: 'new' } });
    expect(plan({ ...scene, pods: [passing] })).toEqual({
      ...ended,
      patch: ['chat-old {}'],
      effective: false,
      why: '0 of 1 pods answer all their requests again',
    });
    const told = aPod('old', { says: { weight: 10, revision: 'new' } });
    expect(plan({ ...scene, pods: [told] })).toMatchObject({ removed: [], effective: false, egress: true });
    const draining = aPod('old', { setting: SETTING, going: true });
    expect(plan({ ...scene, pods: [aPod('old'), draining] })).toMatchObject({ removed: [], effective: true });
    expect(plan({ ...scene, pods: [aPod('old')] })).toEqual({ ...ended, removed: ['chat-candidate'] });
    expect(plan({ sets: [aSet('old')], main, pods: [aPod('old')] })).toEqual({ ...nothing, selects: true });
  });
});

describe('what a new ReplicaSet says', () => {
  it('open or closed, and never a weight: it would outlive the address', () => {
    const made = planTraffic({
      deployment: deployment(),
      sets: [],
      pods: [],
      services: { main: undefined, candidate: candidate() },
      decision: canary(),
      reports: new Map(),
    });
    const annotated = { [annotations.traffic]: '{}' };
    expect(made.template('new')).toEqual({ labels: { [labels.traffic]: 'closed' }, annotations: annotated });
    expect(made.template('old')).toEqual({ labels: { [labels.traffic]: 'open' }, annotations: annotated });
  });
});

describe('patches of one object', () => {
  const target = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'a', namespace: 'demo' };

  it('become one, as strict as the strictest', () => {
    expect(
      mergePatches(
        [{ target, patch: { spec: { template: { metadata: { labels: { a: 'b' } } } } } }],
        [
          { target: { ...target, name: 'other' }, patch: { spec: { replicas: 1 } } },
          { target: { ...target, resourceVersion: '7' }, patch: { spec: { replicas: 2 }, metadata: { x: 1 } } },
        ],
      ),
    ).toEqual([
      {
        target: { ...target, resourceVersion: '7' },
        patch: { spec: { template: { metadata: { labels: { a: 'b' } } }, replicas: 2 }, metadata: { x: 1 } },
      },
      { target: { ...target, name: 'other' }, patch: { spec: { replicas: 1 } } },
    ]);
  });

  it('of two values the later holds, and null stays what it means', () => {
    expect(
      mergePatches([
        { target, patch: { metadata: { annotations: { a: '1', b: '2' } } } },
        { target, patch: { metadata: { annotations: { a: null } } } },
      ])[0]?.patch,
    ).toEqual({ metadata: { annotations: { a: null, b: '2' } } });
  });
});
