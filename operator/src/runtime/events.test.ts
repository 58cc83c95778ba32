import { describe, expect, it } from 'vitest';
import { ApiError } from '../kube/errors.ts';
import { ConfigMap, type EventObject, Node } from '../kube/resource.ts';
import { makeEventRecorder } from './events.ts';
import { silentLogger } from './log.ts';
import { makeManualClock } from './testing/clocks.ts';

const map = { metadata: { name: 'a', namespace: 'ns', uid: 'u1', resourceVersion: '5' } };

function setUp(fail: (call: number) => ApiError | undefined = () => undefined) {
  const clock = makeManualClock(Date.UTC(2030, 0, 1));
  const created: EventObject[] = [];
  const patched: unknown[] = [];
  let calls = 0;
  const call = () => {
    const error = fail(++calls);
    return error === undefined ? Promise.resolve({} as never) : Promise.reject(error);
  };
  const recorder = makeEventRecorder({
    client: {
      create: (_type, object) => {
        created.push(object as unknown as EventObject);
        return call();
      },
      patch: (_type, _ref, _kind, patch) => {
        patched.push(patch);
        return call();
      },
    },
    log: silentLogger,
    controller: 'example.com/test',
    instance: 'pod-1',
    clock,
  });
  return { recorder, clock, created, patched };
}

function refusal(status: number, reason: string): ApiError {
  return new ApiError({ status, reason, message: reason, request: 'test' });
}

describe('event recorder', () => {
  it('writes an event as kubectl describe shows it', async () => {
    const { recorder, created } = setUp();
    recorder.record(ConfigMap, map, { type: 'Warning', reason: 'Broken', action: 'Copy', note: 'cannot copy' });
    await recorder.flush();
    expect(created).toMatchObject([
      {
        metadata: { namespace: 'ns' },
        eventTime: '2030-01-01T00:00:00.000000Z',
        reportingController: 'example.com/test',
        reportingInstance: 'pod-1',
        action: 'Copy',
        reason: 'Broken',
        type: 'Warning',
        note: 'cannot copy',
        regarding: { apiVersion: 'v1', kind: 'ConfigMap', name: 'a', namespace: 'ns', uid: 'u1', resourceVersion: '5' },
      },
    ]);
    expect(created[0]).not.toHaveProperty('series');
  });

  it('puts events about cluster-scoped objects into the default namespace', async () => {
    const { recorder, created } = setUp();
    recorder.record(Node, { metadata: { name: 'n1' } }, { reason: 'Seen', note: 'seen' });
    await recorder.flush();
    expect(created[0]?.metadata?.namespace).toBe('default');
  });

  it('makes a series of repetitions, written at once and then once a minute', async () => {
    const { recorder, clock, created, patched } = setUp();
    const repeat = async () => {
      recorder.record(ConfigMap, map, { reason: 'Again', note: 'same' });
      // Writing is behind: let it happen.
      await new Promise<void>((resolve) => setImmediate(resolve));
    };
    await repeat();
    clock.advance(1000);
    await repeat();
    for (let i = 0; i < 100; i++) {
      clock.advance(1000);
      await repeat();
    }
    expect(created).toHaveLength(1);
    expect(patched).toEqual([
      { series: { count: 2, lastObservedTime: '2030-01-01T00:00:01.000000Z' } },
      { series: { count: 62, lastObservedTime: '2030-01-01T00:01:01.000000Z' } },
    ]);
    await recorder.flush();
    expect(patched.at(-1)).toEqual({ series: { count: 102, lastObservedTime: '2030-01-01T00:01:41.000000Z' } });
  });

  it('begins anew after six quiet minutes, and when the server has forgotten the event', async () => {
    const { recorder, clock, created } = setUp((call) => (call === 3 ? refusal(404, 'NotFound') : undefined));
    recorder.record(ConfigMap, map, { reason: 'Again', note: 'same' });
    await recorder.flush();
    clock.advance(6 * 60_000);
    recorder.record(ConfigMap, map, { reason: 'Again', note: 'same' });
    await recorder.flush();
    expect(created).toHaveLength(2);
    recorder.record(ConfigMap, map, { reason: 'Again', note: 'same' });
    await recorder.flush();
    expect(created.at(-1)).toMatchObject({ series: { count: 2 } });
  });

  it('lets one object write a burst of 25 and no flood, and others all the same', async () => {
    const { recorder, created } = setUp();
    for (let i = 0; i < 100; i++) recorder.record(ConfigMap, map, { reason: 'Flap', note: `number ${i}` });
    recorder.record(ConfigMap, { metadata: { ...map.metadata, uid: 'u2' } }, { reason: 'Other', note: 'heard' });
    await recorder.flush();
    expect(created).toHaveLength(26);
    expect(new Set(created.map((event) => event.metadata?.name)).size).toBe(26);
  });

  it('never fails its caller, whatever the server says', async () => {
    const { recorder, created } = setUp((call) => (call === 1 ? refusal(403, 'Forbidden') : undefined));
    recorder.record(ConfigMap, map, { reason: 'One', note: 'refused' });
    recorder.record(ConfigMap, {}, { reason: 'Nameless', note: 'about nothing' });
    recorder.record(ConfigMap, map, { reason: 'Two', note: 'accepted' });
    await recorder.flush();
    expect(created.map((event) => event.reason)).toEqual(['One', 'Two']);
  });

  it('cuts notes to 1024 bytes without breaking a character', async () => {
    const { recorder, created } = setUp();
    recorder.record(ConfigMap, map, { reason: 'Long', note: 'é'.repeat(1000) });
    await recorder.flush();
    const note = created[0]?.note ?? '';
    expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1024);
    expect(note).toBe(`${'é'.repeat(510)}…`);
  });
});
