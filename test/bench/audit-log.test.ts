import { expect, it } from 'vitest';
import { countByKind, isEventWrite, isLeaseWrite, parseWrite } from './audit-log.ts';

const line = (objectRef: object, rest: object = {}) =>
  JSON.stringify({
    stage: 'ResponseComplete',
    verb: 'patch',
    user: { username: 'system:serviceaccount:slm-system:slm-operator' },
    objectRef,
    responseStatus: { code: 201 },
    requestReceivedTimestamp: '2026-11-23T10:00:00.100000Z',
    stageTimestamp: '2026-11-23T10:00:00.104500Z',
    ...rest,
  });

it('reads who wrote what, when and with which answer', () => {
  const ref = { resource: 'replicasets', apiGroup: 'apps', namespace: 'team-1', name: 'chat-1-abc' };
  expect(parseWrite(line(ref))).toEqual({
    user: 'system:serviceaccount:slm-system:slm-operator',
    verb: 'patch',
    resource: 'replicasets.apps',
    namespace: 'team-1',
    name: 'chat-1-abc',
    code: 201,
    begun: Date.parse('2026-11-23T10:00:00.100Z'),
    ended: Date.parse('2026-11-23T10:00:00.104Z'),
  });
});

it('passes over what is no answered write of an object', () => {
  expect(parseWrite('')).toBeUndefined();
  expect(parseWrite(line({ resource: 'pods' }, { stage: 'Panic' }))).toBeUndefined();
  expect(parseWrite(line({ resource: 'pods' }, { objectRef: undefined }))).toBeUndefined();
});

it('counts by verb and resource, subresources apart, and knows leases and events', () => {
  const refs = [
    { resource: 'slmdeployments', apiGroup: 'slm.dev', subresource: 'status' },
    { resource: 'slmdeployments', apiGroup: 'slm.dev', subresource: 'status' },
    { resource: 'leases', apiGroup: 'coordination.k8s.io' },
    { resource: 'events', apiGroup: 'events.k8s.io' },
    { resource: 'services' },
  ];
  const writes = refs.flatMap((ref) => parseWrite(line(ref)) ?? []);
  expect(Object.fromEntries(countByKind(writes))).toEqual({
    'patch slmdeployments.slm.dev/status': 2,
    'patch leases.coordination.k8s.io': 1,
    'patch events.events.k8s.io': 1,
    'patch services': 1,
  });
  expect(writes.filter((write) => !isLeaseWrite(write) && !isEventWrite(write))).toHaveLength(3);
});
