import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseChanges } from './changes.ts';
import { corednsObjects } from './coredns.ts';
import { parseImageList } from './images.ts';
import { MAX_NODES, makeInstance, placeNode } from './instance.ts';
import { macAddress, nodeRoutes, rangesOverlap } from './network.ts';
import { isFirstOfNamespace } from './node.ts';
import { nodeFiles } from './node-files.ts';
import { makeProgramImage, readImages } from './oci-archive.ts';
import { startedLeaseCheck } from './readiness.ts';

const instance = makeInstance('default', '/state/default', 0);

describe('places', () => {
  it('give two clusters nothing in common', () => {
    const other = makeInstance('other', '/state/other', 1);
    const ranges = ['nodeRange', 'podRange', 'serviceRange'] as const;
    for (const a of ranges) for (const b of ranges) expect(rangesOverlap(instance[a], other[b])).toBe(false);
    const names = ['folder', 'bridge', 'cgroup', 'hostAddress', 'dnsAddress', 'etcdPort', 'etcdPeerPort'] as const;
    for (const name of names) expect(instance[name]).not.toBe(other[name]);
  });

  it('keep every node inside of its cluster, in the last slot too', () => {
    const last = makeInstance('last', '/state/last', 15);
    for (const index of [1, MAX_NODES]) {
      const place = placeNode(last, index);
      expect(rangesOverlap(`${place.address}/32`, last.nodeRange)).toBe(true);
      expect(rangesOverlap(place.podRange, last.podRange)).toBe(true);
      // The kernel's limit for names of links.
      expect(place.link.length).toBeLessThanOrEqual(15);
    }
    expect(placeNode(last, 15).podRange).toBe('10.198.255.0/24');
  });

  it('tell every node the way to the pods of all others', () => {
    const routes = nodeRoutes(instance, placeNode(instance, 2));
    expect(routes).toHaveLength(MAX_NODES - 1);
    expect(routes[0]).toBe('10.198.1.0/24 via 10.197.0.11');
    expect(routes.join()).not.toContain('10.198.2.0/24');
  });
});

it.each([
  ['10.0.0.0/8', '10.197.0.0/24', true],
  ['10.197.0.0/24', '10.197.1.0/24', false],
  ['10.198.0.0/20', '10.198.15.0/24', true],
  ['10.198.0.0/20', '10.198.16.0/24', false],
  ['192.168.1.7', '192.168.1.7/32', true],
  ['0.0.0.0/0', '1.2.3.4', true],
])('ranges %s and %s overlap: %s', (a, b, expected) => {
  expect(rangesOverlap(a, b)).toBe(expected);
  expect(rangesOverlap(b, a)).toBe(expected);
});

it('macAddress is a valid address of our own making', () => {
  expect(macAddress('10.197.0.11')).toBe('02:73:0a:c5:00:0b');
});

describe('parseChanges', () => {
  const link = { kind: 'link', name: 'slm0' };
  const text = `{"boot":"a"}\n${JSON.stringify(link)}\n`;

  it('reads the list of this boot, and forgets that of an earlier one', () => {
    expect(parseChanges(text, 'a')).toEqual([link]);
    expect(parseChanges(text, 'b')).toEqual([]);
    expect(parseChanges('', 'a')).toEqual([]);
  });

  it('passes over a line that was cut off', () => {
    expect(parseChanges(`${text}{"kind":"li`, 'a')).toEqual([link]);
  });
});

describe('isFirstOfNamespace', () => {
  it.each([
    ['Name:\tbash\nNSpid:\t4711\t1\n', true],
    ['Name:\tkubelet\nNSpid:\t4712\t61\n', false],
    ['Name:\tunshare\nNSpid:\t4710\n', false],
    ['Name:\tinit\nNSpid:\t1\n', false],
  ])('of %j is %s', (status, expected) => {
    expect(isFirstOfNamespace(status)).toBe(expected);
  });
});

describe('image archives', () => {
  it('say which images they hold, and are the same bytes for the same inputs', async () => {
    const make = () =>
      makeProgramImage({ name: 'a.local/b:1', program: 'b', content: Buffer.from('program'), user: '1:1' });
    expect(make().equals(make())).toBe(true);
    const folder = await mkdtemp(path.join(tmpdir(), 'slm-archive-'));
    try {
      const file = path.join(folder, 'b.tar');
      await writeFile(file, make());
      expect(await readImages(file)).toEqual([
        { name: 'a.local/b:1', digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) as string },
      ]);
      await writeFile(file, Buffer.alloc(1024));
      expect(await readImages(file)).toEqual([]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('are compared with the table of ctr', () => {
    const table =
      'REF TYPE DIGEST SIZE\na.local/b:1 application/x sha256:aa 1.0 KiB\nsha256:bb application/x sha256:bb 1\n';
    expect(parseImageList(table).get('a.local/b:1')).toBe('sha256:aa');
    expect(parseImageList('REF TYPE\n').size).toBe(0);
  });
});

describe('nodeFiles', () => {
  const place = placeNode(instance, 2);
  const files = nodeFiles({ instance, place, authorityFile: '/state/ca.crt', cni: '/tools/cni', runc: '/tools/runc' });

  it('put the node into its own control group and pod range', () => {
    expect(JSON.parse(files['kubelet.json'] ?? '')).toMatchObject({
      cgroupRoot: '/slm-operator-default/n2',
      clusterDNS: ['10.199.0.10'],
    });
    expect(files['cni/10-slm.conflist']).toContain('"subnet": "10.198.2.0/24"');
    expect(files['containerd.toml']).toContain('BinaryName = "/tools/runc"');
  });

  it('leave the DNS service no server outside to ask', () => {
    expect(files['resolv.conf']).toBe('');
    expect(JSON.stringify(corednsObjects(instance))).not.toContain('forward');
  });
});

describe('startedLeaseCheck', () => {
  const since = '2026-01-01T00:00:10.000Z';
  const check = (status: string | undefined, renewTime?: string) =>
    startedLeaseCheck(
      {
        isReady: async () => true,
        get: async <T>(path: string) =>
          (path.includes('/leases/')
            ? { spec: renewTime === undefined ? {} : { renewTime } }
            : status && { status: { conditions: [{ type: 'Ready', status }] } }) as T,
      },
      'n1',
      since,
    )();

  it.each([
    ['a node that is not there', undefined, '2026-01-01T00:00:11.000000Z', false],
    ['a node that is not Ready', 'Unknown', '2026-01-01T00:00:11.000000Z', false],
    ['Ready from before the start', 'True', '2026-01-01T00:00:09.000000Z', false],
    ['Ready without a lease', 'True', undefined, false],
    ['Ready by news', 'True', '2026-01-01T00:00:10.500000Z', true],
  ])('takes %s', async (_, status, renewTime, expected) => {
    expect(await check(status, renewTime)).toBe(expected);
  });
});
